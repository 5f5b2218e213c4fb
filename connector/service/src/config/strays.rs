//! Variables that were meant for us, and lack an underscore.
//!
//! `ALIGNER_KAFKA_BOOTSTRAP_SERVERS` is not read, and the connector would start on a default. Only
//! a variable that spells a key of ours is taken for one. Others may begin with `ALIGNER_` for
//! reasons of their own, above all those that Kubernetes makes for a Service of such a name, as
//! `ALIGNER_CONNECTOR_SERVICE_HOST` and `ALIGNER_PORT_8083_TCP`: they are left alone.

use std::ffi::OsString;

use serde_json::Value;

use super::{Problem, layers::PREFIX, load::FREE_MAPS};

/// Every variable that spells a key in a `wanted` section, and is not read.
pub(super) fn problems(
    environment: &[(OsString, OsString)],
    defaults: &Value,
    wanted: impl Fn(&str) -> bool,
) -> Vec<Problem> {
    let keys = keys(defaults);
    environment
        .iter()
        .filter_map(|(name, _)| name.to_str())
        .filter_map(|name| Some((name, meant(name, &keys)?)))
        .filter(|(_, path)| wanted(&path[0]))
        .map(|(name, path)| Problem {
            key: name.to_owned(),
            // It may be a password.
            value: None,
            message: "a variable is read if two underscores stand after ALIGNER, and between a \
                      section and its key"
                .to_owned(),
            fix: Some(format!(
                "name it {PREFIX}{}, or unset it if it is not for the connector",
                path.join("__").to_uppercase()
            )),
        })
        .collect()
}

/// The key that a variable spells with its underscores in the wrong places, as the parts of the
/// variable that is read.
fn meant(name: &str, keys: &[String]) -> Option<Vec<String>> {
    let rest = name
        .strip_prefix("ALIGNER_")
        .filter(|_| !name.starts_with(PREFIX))?;
    let rest = flat(rest);
    // ALIGNER_MODEL may stand for aligner.model as a whole.
    let whole = format!("aligner_{rest}");
    let parts = |key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>();
    if let Some(key) = keys.iter().find(|key| {
        let key = flat(key);
        key == rest || key == whole
    }) {
        return Some(parts(key));
    }
    FREE_MAPS.iter().find_map(|map| {
        let property = rest.strip_prefix(&flat(map))?.strip_prefix('_')?;
        // What librdkafka does not know is no property, but perhaps a Service's.
        aligner_kafka::property_fault(&property.replace('_', "."))
            .is_none()
            .then(|| [parts(map), vec![property.to_owned()]].concat())
    })
}

/// Words in small letters, whatever separates them.
fn flat(name: &str) -> String {
    name.split(['_', '.'])
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("_")
        .to_lowercase()
}

/// Every key that has a value, dotted.
fn keys(defaults: &Value) -> Vec<String> {
    let Value::Object(map) = defaults else {
        return Vec::new();
    };
    map.iter()
        .flat_map(|(name, value)| match value {
            Value::Object(_) => keys(value)
                .into_iter()
                .map(|key| format!("{name}.{key}"))
                .collect::<Vec<_>>(),
            _ => vec![name.clone()],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn defaults() -> Value {
        serde_json::to_value(Settings::default()).expect("settings serialise")
    }

    fn found(name: &str) -> Vec<Problem> {
        problems(&[(name.into(), "x".into())], &defaults(), |_| true)
    }

    #[test]
    fn a_variable_that_lacks_an_underscore_is_refused_with_its_right_name() {
        for (written, right) in [
            (
                "ALIGNER_KAFKA_BOOTSTRAP_SERVERS",
                "ALIGNER__KAFKA__BOOTSTRAP_SERVERS",
            ),
            (
                "ALIGNER_KAFKA__BOOTSTRAP_SERVERS",
                "ALIGNER__KAFKA__BOOTSTRAP_SERVERS",
            ),
            ("ALIGNER_NAME", "ALIGNER__NAME"),
            ("ALIGNER_MODEL", "ALIGNER__ALIGNER__MODEL"),
            (
                "ALIGNER_ALIGNER_REMOTE_API_KEY",
                "ALIGNER__ALIGNER__REMOTE__API_KEY",
            ),
            (
                "ALIGNER_INPUT_FIELDS_ANSWER",
                "ALIGNER__INPUT__FIELDS__ANSWER",
            ),
            (
                "ALIGNER_KAFKA_PROPERTIES_SASL_PASSWORD",
                "ALIGNER__KAFKA__PROPERTIES__SASL_PASSWORD",
            ),
            (
                "ALIGNER_KAFKA_PROPERTY_FILES_SASL_PASSWORD",
                "ALIGNER__KAFKA__PROPERTY_FILES__SASL_PASSWORD",
            ),
        ] {
            let problems = found(written);
            assert_eq!(problems.len(), 1, "{written}: {problems:?}");
            assert_eq!(problems[0].key, written);
            assert_eq!(problems[0].value, None);
            let fix = problems[0].fix.as_deref().unwrap_or_default();
            assert!(fix.contains(&format!("name it {right},")), "{fix}");
        }
    }

    #[test]
    fn variables_that_are_read_or_belong_to_others_are_left_alone() {
        for name in [
            "ALIGNER__KAFKA__BOOTSTRAP_SERVERS",
            "ALIGNER__KAFKA_BOOTSTRAP_SERVERS",
            "ALIGNER_HOME",
            "ALIGNER_CONNECTOR_BIN",
            "ALIGNER_TEST_SEED",
            "ALIGNER_KAFKA",
            "ALIGNER_",
            "ALIGNER",
            "aligner_name",
            "MY_ALIGNER_NAME",
            "KAFKA_BOOTSTRAP_SERVERS",
        ] {
            assert_eq!(found(name), [], "{name}");
        }
    }

    #[test]
    fn no_service_of_kubernetes_is_taken_for_a_key_whatever_its_name() {
        let mut services: Vec<_> = keys(&defaults())
            .iter()
            .flat_map(|key| {
                let words: Vec<_> = key.split('.').map(str::to_owned).collect();
                (1..=words.len()).map(move |depth| format!("aligner_{}", words[..depth].join("_")))
            })
            .collect();
        services.extend(
            [
                "aligner",
                "aligner_connector",
                "aligner_kafka_properties",
                "aligner_kafka_property_files",
            ]
            .map(str::to_owned),
        );
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        for service in services {
            for ending in [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_HTTP",
                "PORT",
                "PORT_8083_TCP",
                "PORT_8083_TCP_PROTO",
                "PORT_8083_TCP_PORT",
                "PORT_8083_TCP_ADDR",
            ] {
                let name = format!("{}_{ending}", service.to_uppercase());
                environment.push((name.into(), "tcp://10.0.0.1:8083".into()));
            }
        }
        assert!(environment.len() > 500, "{}", environment.len());
        assert_eq!(problems(&environment, &defaults(), |_| true), []);
    }

    #[test]
    fn only_the_sections_that_are_read_matter() {
        let environment = [(
            OsString::from("ALIGNER_KAFKA_BOOTSTRAP_SERVERS"),
            OsString::from("kafka:9092"),
        )];
        let problems = problems(&environment, &defaults(), |section| section == "input");
        assert_eq!(problems, []);
    }
}
