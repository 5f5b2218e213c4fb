//! Reads the layers, refuses unknown keys, and reports every badly typed value at once.
//!
//! Serde stops at the first mistake, so each given value is tried on its own: the defaults with
//! just that value replaced must deserialise. What passes one by one passes together.

use std::path::PathBuf;

use config::{Config, Environment, File};
use serde_json::{Map, Value};

use super::{Problem, Problems, Settings, check::check};

/// Sections whose keys are the user's own.
const FREE_MAPS: [&str; 2] = ["kafka.properties", "kafka.property_files"];

/// Keys whose values are not repeated in messages.
const SECRETS: [&str; 4] = [
    "kafka.properties.",
    "formats.schema_registry.password",
    "aligner.remote.api_key",
    "formats.schema_registry.url",
];

/// Where settings come from, the later winning.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// A YAML or TOML file.
    pub file: Option<PathBuf>,
    /// `ALIGNER__SECTION__KEY` variables, as (name, value).
    pub environment: Vec<(String, String)>,
    /// Dotted keys from command-line flags.
    pub flags: Vec<(String, String)>,
}

/// Reads the settings: merges the layers, types every value, and judges the whole.
///
/// # Errors
/// With every problem there is. A value that cannot be typed is reported and then left at its
/// default, so that what else is wrong is found as well.
pub fn read(layers: &Layers) -> Result<Settings, Problems> {
    let given = merge(layers).map_err(|problem| Problems(vec![problem]))?;
    let defaults = serde_json::to_value(Settings::default()).expect("settings serialise");
    let mut settings = defaults.clone();
    let mut problems = Vec::new();
    for (path, value) in leaves(&given, &defaults) {
        match fit(&defaults, &path, value) {
            Ok(value) => set(&mut settings, &path, value),
            Err(problem) => problems.push(problem),
        }
    }
    let settings =
        serde_json::from_value(settings).expect("values that fit one by one fit together");
    problems.extend(check(&settings));
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(Problems(problems))
    }
}

fn merge(layers: &Layers) -> Result<Value, Problem> {
    let mut builder = Config::builder();
    if let Some(path) = &layers.file {
        builder = builder.add_source(File::from(path.as_path()));
    }
    let (properties, variables): (Vec<_>, Vec<_>) = layers
        .environment
        .iter()
        .filter(|(name, _)| name.starts_with("ALIGNER__"))
        .map(|(name, value)| (name, Value::String(value.clone())))
        .partition(|(name, _)| property(name).is_some());
    let variables = variables
        .into_iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    builder = builder.add_source(
        Environment::with_prefix("ALIGNER")
            .prefix_separator("__")
            .separator("__")
            .source(Some(variables)),
    );
    let unreadable = |error: config::ConfigError| Problem {
        key: "--config".to_owned(),
        value: layers.file.as_ref().map(|path| path.display().to_string()),
        message: error.to_string(),
        fix: Some("give a readable YAML or TOML file, such as config/connector.yaml".to_owned()),
    };
    let mut given = builder
        .build()
        .and_then(Config::try_deserialize::<Value>)
        .map_err(unreadable)?;
    for (name, value) in properties {
        set(
            &mut given,
            &property(name).expect("partitioned by it"),
            value,
        );
    }
    for (key, value) in &layers.flags {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        set(&mut given, &path, Value::String(value.clone()));
    }
    Ok(given)
}

/// Shells allow no dots in names, and librdkafka's properties have no underscores: in
/// `ALIGNER__KAFKA__PROPERTIES__SASL_PASSWORD` the last part stands for `sasl.password`.
fn property(variable: &str) -> Option<[String; 3]> {
    const MAPS: [(&str, &str); 2] = [
        ("ALIGNER__KAFKA__PROPERTIES__", "properties"),
        ("ALIGNER__KAFKA__PROPERTY_FILES__", "property_files"),
    ];
    MAPS.iter().find_map(|(prefix, map)| {
        let name = variable
            .strip_prefix(prefix)?
            .to_lowercase()
            .replace('_', ".");
        Some(["kafka".to_owned(), (*map).to_owned(), name])
    })
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
                    path.push(key.clone());
                    if free {
                        found.push((path.clone(), value));
                    } else {
                        walk(value, known.get(key), path, found);
                    }
                    path.pop();
                }
            }
            // An empty section in YAML is null: nothing was said.
            (Value::Null, Some(Value::Object(_))) => {}
            _ => found.push((path.clone(), given)),
        }
    }
    let mut found = Vec::new();
    walk(given, Some(defaults), &mut Vec::new(), &mut found);
    found
}

/// The value as it fits into the settings at `path`, or what is wrong with it.
fn fit(defaults: &Value, path: &[String], value: &Value) -> Result<Value, Problem> {
    let key = path.join(".");
    if let Some(unknown) = unknown(defaults, path) {
        return Err(unknown);
    }
    let mut refusal = None;
    for candidate in candidates(value) {
        let mut trial = defaults.clone();
        set(&mut trial, path, candidate.clone());
        match serde_json::from_value::<Settings>(trial) {
            Ok(_) => return Ok(candidate),
            Err(error) => refusal = refusal.or(Some(error.to_string())),
        }
    }
    let default = path.iter().try_fold(defaults, |value, key| value.get(key));
    Err(Problem {
        value: Some(shown(&key, value)),
        message: if is_secret(&key) {
            "the value is not of the expected type".to_owned()
        } else {
            refusal.expect("there is at least one candidate")
        },
        fix: Some(match default {
            Some(default) if !default.is_null() => format!("write for example {key}: {default}"),
            _ => "see config/connector.yaml".to_owned(),
        }),
        key,
    })
}

/// A text, from the environment or quoted, may stand for a number, a boolean or a list.
fn candidates(value: &Value) -> Vec<Value> {
    let mut candidates = vec![value.clone()];
    if let Value::String(text) = value {
        candidates.extend(serde_json::from_str::<Value>(text).ok());
        candidates.push(Value::Array(
            text.split(',')
                .map(|part| Value::String(part.trim().to_owned()))
                .collect(),
        ));
    }
    candidates
}

fn unknown(defaults: &Value, path: &[String]) -> Option<Problem> {
    let mut known = defaults;
    for (depth, key) in path.iter().enumerate() {
        let parent = path[..depth].join(".");
        if FREE_MAPS.contains(&parent.as_str()) {
            return None;
        }
        let Some(next) = known.get(key) else {
            return Some(Problem {
                key: path[..=depth].join("."),
                value: None,
                message: "there is no such key".to_owned(),
                fix: Some(nearest(defaults, &path[..=depth])),
            });
        };
        known = next;
    }
    None
}

fn nearest(defaults: &Value, path: &[String]) -> String {
    let written = path.join(".");
    let mut keys = Vec::new();
    collect_keys(defaults, &mut String::new(), &mut keys);
    let last = path.last().expect("a path is never empty");
    let distance = |known: &String| {
        let tail = known
            .rsplit('.')
            .next()
            .expect("split gives one part at least");
        // Either the whole path is misspelt, or the key stands in the wrong section.
        let whole = strsim::normalized_damerau_levenshtein(known, &written);
        let key = strsim::normalized_damerau_levenshtein(tail, last) - 0.1;
        whole.max(key)
    };
    keys.into_iter()
        .map(|known| (distance(&known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.5)
        .map_or_else(
            || "remove it; config/connector.yaml lists every key".to_owned(),
            |(_, known)| format!("did you mean {known}?"),
        )
}

fn collect_keys(value: &Value, path: &mut String, keys: &mut Vec<String>) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        let length = path.len();
        if length > 0 {
            path.push('.');
        }
        path.push_str(key);
        keys.push(path.clone());
        collect_keys(value, path, keys);
        path.truncate(length);
    }
}

fn set(target: &mut Value, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut target = target;
    for key in parents {
        if !target.is_object() {
            *target = Value::Object(Map::new());
        }
        target = target
            .as_object_mut()
            .expect("made an object above")
            .entry(key.clone())
            .or_insert(Value::Null);
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    target
        .as_object_mut()
        .expect("made an object above")
        .insert(last.clone(), value);
}

fn is_secret(key: &str) -> bool {
    SECRETS.iter().any(|secret| key.starts_with(secret))
}

fn shown(key: &str, value: &Value) -> String {
    if is_secret(key) {
        "[redacted]".to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(extension: &str, text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new()
            .suffix(extension)
            .tempfile()
            .expect("temporary file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    fn layers(file: &tempfile::NamedTempFile) -> Layers {
        Layers {
            file: Some(file.path().to_owned()),
            ..Layers::default()
        }
    }

    #[test]
    fn flags_beat_environment_beats_file_beats_defaults() {
        let file = file(
            ".yaml",
            "name: from-file\nkafka: {bootstrap_servers: 'file:1'}\n",
        );
        let mut layers = layers(&file);
        assert_eq!(
            read(&layers).expect("valid").kafka.bootstrap_servers,
            "file:1"
        );
        layers.environment = vec![(
            "ALIGNER__KAFKA__BOOTSTRAP_SERVERS".to_owned(),
            "env:1".to_owned(),
        )];
        assert_eq!(
            read(&layers).expect("valid").kafka.bootstrap_servers,
            "env:1"
        );
        layers.flags = vec![("kafka.bootstrap_servers".to_owned(), "flag:1".to_owned())];
        let settings = read(&layers).expect("valid");
        assert_eq!(settings.kafka.bootstrap_servers, "flag:1");
        assert_eq!(settings.name.0, "from-file");
        assert_eq!(settings.topics.corrections, "llm.corrections");
    }

    #[test]
    fn toml_takes_the_same_keys() {
        let file = file(
            ".toml",
            "name = \"t\"\n[topics]\nanswers = [\"a\", \"b\"]\n",
        );
        assert_eq!(
            read(&layers(&file)).expect("valid").topics.answers,
            ["a", "b"]
        );
    }

    #[test]
    fn variables_stand_for_numbers_lists_and_dotted_properties() {
        let layers = Layers {
            environment: vec![
                (
                    "ALIGNER__ALIGNER__MAX_NEW_TOKENS".to_owned(),
                    "64".to_owned(),
                ),
                ("ALIGNER__TOPICS__ANSWERS".to_owned(), "a, b".to_owned()),
                ("ALIGNER__KAFKA__INSTANCE_ID".to_owned(), "0".to_owned()),
                (
                    "ALIGNER__KAFKA__PROPERTIES__SASL_PASSWORD".to_owned(),
                    "12345".to_owned(),
                ),
            ],
            ..Layers::default()
        };
        let settings = read(&layers).expect("valid");
        assert_eq!(settings.aligner.max_new_tokens, 64);
        assert_eq!(settings.topics.answers, ["a", "b"]);
        assert_eq!(
            settings.kafka.instance_id,
            Some(crate::config::InstanceId("0".to_owned()))
        );
        assert_eq!(settings.kafka.properties["sasl.password"].expose(), "12345");
    }

    #[test]
    fn dotted_properties_of_a_file_stay_whole() {
        let file = file(
            ".yaml",
            "kafka:\n  properties:\n    ssl.ca.location: ca.pem\n    \
                                  fetch.wait.max.ms: 10\n",
        );
        let settings = read(&layers(&file)).expect("valid");
        assert_eq!(
            settings.kafka.properties["ssl.ca.location"].expose(),
            "ca.pem"
        );
        assert_eq!(
            settings.kafka.properties["fetch.wait.max.ms"].expose(),
            "10"
        );
    }

    #[test]
    fn every_unknown_key_and_wrong_type_is_reported_at_once_with_the_nearest_key() {
        let file = file(
            ".yaml",
            "kafak: {bootstrap_servers: x}\nkafka: {delivery: exactly-once, instanceid: 1}\n\
             aligner: {max_new_tokens: many}\n",
        );
        let Problems(problems) = read(&layers(&file)).expect_err("four problems");
        let keys: Vec<&str> = problems
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "aligner.max_new_tokens",
                "kafak",
                "kafka.delivery",
                "kafka.instanceid"
            ]
        );
        assert_eq!(problems[1].fix.as_deref(), Some("did you mean kafka?"));
        assert_eq!(
            problems[3].fix.as_deref(),
            Some("did you mean kafka.instance_id?")
        );
        assert!(
            problems[2].message.contains("`exactly_once`"),
            "{}",
            problems[2].message
        );
        assert_eq!(problems[0].value.as_deref(), Some("\"many\""));
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_repeated() {
        let file = file(".yaml", "kafka: {properties: {sasl.password: [hunter2]}}\n");
        let problems = read(&layers(&file)).expect_err("a list is no password");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let layers = Layers {
            file: Some("no/such.yaml".into()),
            ..Layers::default()
        };
        let problems = read(&layers).expect_err("no file");
        assert!(problems.to_string().contains("no/such.yaml"), "{problems}");
    }
}
