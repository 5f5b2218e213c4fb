//! Whether a single value fits where it is written, told without a secret.

use serde_json::Value;

use super::{Problem, Settings, known::unknown, layers::set, secret::is_shown, values::items};

/// Keys whose values are not repeated in messages, and the section of properties, of which some are.
const SECRETS: [&str; 6] = [
    PROPERTIES,
    "formats.schema_registry.password",
    "aligner.remote.api_key",
    "formats.schema_registry.url",
    "aligner.remote.url",
    "telemetry.otlp_endpoint",
];

const PROPERTIES: &str = "kafka.properties.";

/// The value as it fits into the settings at `path`, or what is wrong with it.
pub(super) fn fit(defaults: &Value, path: &[String], value: &Value) -> Result<Value, Problem> {
    let key = path.join(".");
    if let Some(unknown) = unknown(defaults, path) {
        return Err(unknown);
    }
    let default = path.iter().try_fold(defaults, |value, key| value.get(key));
    // Serde would take a list, too, as the values of the first keys.
    if let Some(section) = default.filter(|default| default.is_object()) {
        return Err(Problem {
            value: Some(shown(&key, value)),
            message: "this is a section, and has keys of its own".to_owned(),
            fix: Some(example(&key, section)),
            key,
        });
    }
    // `00123` and `1e3` are read as 123 and 1000: another password, of which brokers would only say
    // that it is wrong.
    if must_be_text(&key) && (value.is_number() || value.is_boolean()) {
        return Err(Problem {
            value: Some(shown(&key, value)),
            message: "this is not text, and may be read as another value than is written"
                .to_owned(),
            fix: Some("write it in quotes".to_owned()),
            key,
        });
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
    let refusal = refusal.expect("there is at least one candidate");
    let (fault, plain) = match plain(&key, &refusal) {
        Some((fault, fix)) => (fault, Some(fix)),
        None => (refusal, None),
    };
    Err(Problem {
        value: Some(shown(&key, value)),
        message: if is_secret(&key) {
            "a text belongs here".to_owned()
        } else {
            fault
        },
        fix: Some(match (plain, default) {
            _ if key == "kafka.bootstrap_servers" && value.is_array() => {
                format!("write several brokers as one text: {key}: \"a:9092,b:9092\"")
            }
            (Some(fix), Some(Value::Null)) => format!("{fix}, or null"),
            (Some(fix), _) => fix,
            (None, Some(default)) if !default.is_null() => {
                format!("write for example {key}: {default}")
            }
            _ => "see config/connector.yaml".to_owned(),
        }),
        key,
    })
}

/// What is wrong, and what to write, where serde speaks of a type of Rust's. Of these a default is no
/// example: it may be the opposite of what was meant, or another size.
fn plain(key: &str, refusal: &str) -> Option<(String, String)> {
    let told = |fault: &str, fix: &str| Some((fault.to_owned(), fix.to_owned()));
    let (_, expected) = refusal.rsplit_once("expected ")?;
    let most = match expected {
        "a boolean" => return told("this is neither true nor false", "write true or false"),
        "f64" => return told("this is no number", "write a number, such as 0.7"),
        "u16" => format!(" from 0 to {}", u16::MAX),
        "u32" => format!(" from 0 to {}", u32::MAX),
        "u64" | "usize" => " from 0 up".to_owned(),
        _ => return None,
    };
    let (of, example) = if key.ends_with("_ms") {
        (" of milliseconds", ", such as 1000 for a second")
    } else if key.contains("_bytes") {
        (" of bytes", ", such as 1048576 for a MiB")
    } else {
        ("", "")
    };
    Some((
        format!("this is no whole number{of}{most}"),
        format!("write a whole number{of}{most}{example}"),
    ))
}

/// How a key of a section is written: the first that says something by default, or else the first.
fn example(key: &str, section: &Value) -> String {
    fn leaf<'a>(
        key: &str,
        section: &'a Value,
        fits: fn(&Value) -> bool,
    ) -> Option<(String, &'a Value)> {
        section.as_object()?.iter().find_map(|(name, value)| {
            let key = format!("{key}.{name}");
            if value.is_object() {
                leaf(&key, value, fits)
            } else {
                fits(value).then_some((key, value))
            }
        })
    }
    match key {
        "kafka.properties" => format!("write for example {key}.security.protocol: \"ssl\""),
        "kafka.property_files" => {
            format!("write for example {key}.sasl.password: \"/run/secrets/kafka-password\"")
        }
        _ => leaf(key, section, |value| !value.is_null())
            .map(|(key, value)| format!("write for example {key}: {value}"))
            .or_else(|| {
                let (key, _) = leaf(key, section, |_| true)?;
                Some(format!("write {key} and others; see config/connector.yaml"))
            })
            .unwrap_or_else(|| "see config/connector.yaml".to_owned()),
    }
}

/// A text, from the environment or quoted, may stand for a number, a boolean or a list.
fn candidates(value: &Value) -> Vec<Value> {
    let mut candidates = vec![value.clone()];
    if let Value::String(text) = value {
        candidates.extend(serde_json::from_str::<Value>(text).ok());
        candidates.push(items(text).into());
    }
    candidates
}

fn is_secret(key: &str) -> bool {
    match key.strip_prefix(PROPERTIES) {
        Some(property) => !is_shown(property),
        None => SECRETS.iter().any(|secret| key.starts_with(secret)),
    }
}

/// Whether a value is a secret itself, of which every character counts.
fn must_be_text(key: &str) -> bool {
    ["formats.schema_registry.password", "aligner.remote.api_key"].contains(&key)
        || key
            .strip_prefix(PROPERTIES)
            .is_some_and(aligner_kafka::is_secret)
}

fn shown(key: &str, value: &Value) -> String {
    // What stands where a section belongs may be meant for any key of it.
    let holds_secrets = SECRETS
        .iter()
        .any(|secret| secret.starts_with(&format!("{key}.")));
    if is_secret(key) || holds_secrets {
        "[redacted]".to_owned()
    } else {
        value.to_string()
    }
}
