//! Reads the layers, refuses unknown keys, and reports every badly typed value at once.
//!
//! Serde stops at the first mistake, so each given value is tried on its own: the defaults with
//! just that value replaced must deserialise. What passes one by one passes together.

use serde_json::Value;

use super::{
    Problems, Settings,
    check::{check, without_effect},
    fit::fit,
    layers::{Layers, set},
    strays,
};

/// Sections whose keys are the user's own.
pub(super) const FREE_MAPS: [&str; 2] = ["kafka.properties", "kafka.property_files"];

/// Reads the settings: merges the layers, types every value, and judges the whole.
///
/// # Errors
/// With every problem there is. A value that cannot be typed is reported and then left at its
/// default, so that what else is wrong is found as well.
pub fn read(layers: &Layers) -> Result<Settings, Problems> {
    read_where(layers, |_| true)
}

/// The same, of some sections alone, such as `input`; all others are as by default. What they say
/// is not judged: the files and secrets that they name may lie on other machines. Their keys and
/// types are, since a misspelt section is a mistake wherever it was meant to stand.
///
/// # Errors
/// With every problem there is.
pub fn read_sections(layers: &Layers, sections: &[&str]) -> Result<Settings, Problems> {
    read_where(layers, |section| sections.contains(&section))
}

fn read_where(layers: &Layers, wanted: impl Fn(&str) -> bool) -> Result<Settings, Problems> {
    let (given, mut problems) = layers.merged();
    let defaults = serde_json::to_value(Settings::default()).expect("settings serialise");
    problems.extend(strays::problems(&layers.environment, &defaults, &wanted));
    let mut settings = defaults.clone();
    let mut written = Vec::new();
    for (path, value) in leaves(&given, &defaults) {
        // Whoever has nothing but texts at hand means what files call so.
        let is_null = value == "null" && is_given_as_text(layers, &path.join("."));
        let value = if is_null { &Value::Null } else { value };
        match fit(&defaults, &path, value) {
            Ok(value) if path.first().is_some_and(|section| wanted(section)) => {
                set(&mut settings, &path, value);
                written.push(path.join("."));
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let settings =
        serde_json::from_value(settings).expect("values that fit one by one fit together");
    // Whoever tries another model by a flag or a variable leaves what the file says of its own.
    if is_given_as_text(layers, "aligner.model") {
        written.retain(|key| !key.starts_with("aligner."));
    }
    problems.extend(check(&settings));
    problems.extend(without_effect(&settings, &written));
    for problem in &mut problems {
        // Whoever looks for it in the file would not find it.
        if let Some(variable) = layers.variable(&problem.key) {
            problem.message += &format!(" (set by the variable {variable})");
        }
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(Problems(problems))
    }
}

/// Whether a flag or a variable has the last word on a key.
fn is_given_as_text(layers: &Layers, key: &str) -> bool {
    layers.flags.iter().any(|(flag, _)| flag == key) || layers.variable(key).is_some()
}

/// Every given value with its path; a mapping is descended into where the defaults have one.
fn leaves<'a>(given: &'a Value, defaults: &Value) -> Vec<(Vec<String>, &'a Value)> {
    fn walk<'a>(
        given: &'a Value,
        default: Option<&Value>,
        path: &mut Vec<String>,
        found: &mut Vec<(Vec<String>, &'a Value)>,
    ) {
        let free = FREE_MAPS.contains(&path.join(".").as_str());
        match (given, default) {
            (Value::Object(map), Some(Value::Object(known))) => {
                for (key, value) in map {
                    if free {
                        dotted(path, key, value, found);
                    } else {
                        path.push(key.clone());
                        walk(value, known.get(key), path, found);
                        path.pop();
                    }
                }
            }
            // An empty section in YAML is null: nothing was said.
            (Value::Null, Some(Value::Object(_))) => {}
            _ => found.push((path.clone(), given)),
        }
    }
    /// A mapping within spells a dotted name, as `sasl.username` without quotes does in TOML.
    fn dotted<'a>(
        map: &[String],
        name: &str,
        value: &'a Value,
        found: &mut Vec<(Vec<String>, &'a Value)>,
    ) {
        match value {
            Value::Object(parts) if !parts.is_empty() => {
                for (part, value) in parts {
                    dotted(map, &format!("{name}.{part}"), value, found);
                }
            }
            _ => found.push(([map, &[name.to_owned()]].concat(), value)),
        }
    }
    let mut found = Vec::new();
    walk(given, Some(defaults), &mut Vec::new(), &mut found);
    found
}

#[cfg(test)]
mod tests;
