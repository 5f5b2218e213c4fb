//! `kafka`, `topics` and `pipeline`: the crates that use these sections know best what suits them.

use std::collections::BTreeMap;

use aligner_kafka::Fault;
use serde_json::Value;

use super::{Found, Problem, Settings, fixes};
use crate::config::secret::is_shown;

impl Found {
    pub(super) fn kafka_and_pipeline(&mut self, settings: &Settings) {
        let servers = &settings.kafka.bootstrap_servers;
        if servers
            .split(',')
            .any(|server| server.trim().contains(char::is_control))
        {
            self.add(
                "kafka.bootstrap_servers",
                format!("{servers:?}"),
                "an address has no control characters",
                "write host:port of each broker, separated by commas",
            );
        }
        let mut from_files = BTreeMap::new();
        for (name, path) in &settings.kafka.property_files {
            let key = format!("kafka.property_files.{name}");
            if let Some(fault) = aligner_kafka::property_fault(name) {
                let usual = || fixes::usual(&key, None).map(str::to_owned);
                self.0.push(Problem {
                    fix: fault.fix.or_else(usual),
                    key: key.clone(),
                    value: None,
                    message: fault.message,
                });
            } else if let Some(value) = self.secret(&key, path) {
                from_files.insert(name.clone(), value);
            }
            if settings.kafka.properties.contains_key(name) {
                self.add(
                    &key,
                    path.clone(),
                    "the property is given twice",
                    format!("remove kafka.properties.{name}"),
                );
            }
        }
        let properties = crate::config::properties(settings, &from_files);
        self.sasl(settings, &properties);
        self.tls(settings, &properties);
        self.room_for_an_output(&properties, settings.pipeline.max_output_bytes);
        let (kafka, topics) = crate::config::kafka_sections(settings, properties);
        let from_file = |key: String, fault: Fault| match key.strip_prefix("kafka.properties.") {
            // Whatever lies in a file may be a secret, and librdkafka repeats it.
            Some(name) if settings.kafka.property_files.contains_key(name) => (
                format!("kafka.property_files.{name}"),
                "librdkafka does not take the value in this file".to_owned(),
                None,
            ),
            _ => (key, fault.message, fault.fix),
        };
        let kafka = aligner_kafka::problems(&settings.name.0, &kafka, &topics)
            .into_iter()
            .map(|problem| from_file(problem.key, problem.fault));
        let pipeline = settings.pipeline.problems().into_iter().map(|problem| {
            let key = format!("pipeline.{}", problem.key);
            (key, problem.message, Some(problem.fix))
        });
        let written = serde_json::to_value(settings).expect("settings serialise");
        let judged = self.0.len();
        for (key, message, fix) in kafka.chain(pipeline) {
            // Names were judged before, more strictly, and other keys with what to do.
            if self.0[..judged].iter().any(|problem| problem.key == key) {
                continue;
            }
            let value = value(settings, &written, &key);
            let usual = || fixes::usual(&key, value.as_ref()).map(str::to_owned);
            self.0.push(Problem {
                fix: fixes::named(&key).or(fix).or_else(usual),
                value: value.map(|value| value.to_string()),
                key,
                // It may repeat a value as it is written.
                message: message.replace(char::is_control, "\u{fffd}"),
            });
        }
    }

    /// An output that librdkafka has no room for is never delivered.
    fn room_for_an_output(
        &mut self,
        properties: &BTreeMap<String, String>,
        max_output_bytes: usize,
    ) {
        const KEY: &str = "queue.buffering.max.kbytes";
        let given = properties.get(KEY);
        let Some(kbytes) = given.and_then(|value| value.trim().parse::<usize>().ok()) else {
            return;
        };
        if kbytes.saturating_mul(1_024) < max_output_bytes {
            self.add(
                &format!("kafka.properties.{KEY}"),
                kbytes.to_string(),
                format!(
                    "that is less than one output may have, pipeline.max_output_bytes {max_output_bytes}"
                ),
                format!("use {} or more, or remove it", max_output_bytes.div_ceil(1_024)),
            );
        }
    }
}

/// The value at a key; of properties one that may be shown, as it was written.
fn value(settings: &Settings, written: &Value, key: &str) -> Option<Value> {
    if let Some(name) = key.strip_prefix("kafka.properties.") {
        let value = settings.kafka.properties.get(name)?;
        return Some(if is_shown(name) {
            value.expose().into()
        } else {
            "[redacted]".into()
        });
    }
    if key == "kafka.properties" {
        // Of all of them together the problem says what is wrong.
        return None;
    }
    key.split(['.', '[', ']'])
        .filter(|part| !part.is_empty())
        .try_fold(written, |value, part| match part.parse::<usize>() {
            Ok(index) => value.get(index),
            Err(_) => value.get(part),
        })
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, check::check};

    #[test]
    fn a_buffer_that_cannot_hold_an_output_is_too_small() {
        let key = "queue.buffering.max.kbytes";
        let mut settings = Settings::default();
        let mut found = |kbytes: &str| {
            let given = &mut settings.kafka.properties;
            given.insert(key.to_owned(), Secret::new(kbytes));
            let found = check(&settings).into_iter();
            found
                .map(|problem| (problem.key, problem.fix))
                .collect::<Vec<_>>()
        };
        let fix = Some("use 2048 or more, or remove it".to_owned());
        assert_eq!(found("2047"), [(format!("kafka.properties.{key}"), fix)]);
        assert_eq!(found("2048"), []);
    }

    fn given(name: &str, value: &str) -> Settings {
        let mut settings = Settings::default();
        settings
            .kafka
            .properties
            .insert(name.to_owned(), Secret::new(value));
        settings
    }

    #[test]
    fn a_value_without_a_meaning_is_refused_with_those_that_librdkafka_takes() {
        for name in [
            "broker.address.family",
            "client.dns.lookup",
            "compression.codec",
            "compression.type",
            "group.protocol",
            "metadata.recovery.strategy",
            "partitioner",
            "security.protocol",
            "ssl.endpoint.identification.algorithm",
        ] {
            let values = aligner_kafka::named_values(name).expect("its values are words");
            let problems = check(&given(name, "nonsense"));
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!(problems[0].key, format!("kafka.properties.{name}"));
            assert_eq!(problems[0].fix, Some(format!("use one of {values}")));
            for value in values
                .split(", ")
                .filter(|value| !value.starts_with("sasl_"))
            {
                assert_eq!(check(&given(name, value)), [], "{name}: {value}");
            }
        }
    }

    #[test]
    fn a_property_is_shown_unless_it_is_a_secret_or_perhaps_a_misspelt_one() {
        for (name, value, shown) in [
            ("acks", "1", "\"1\""),
            ("isolation.level", "x", "\"x\""),
            ("fetch.wait.max.ms", "-7", "\"-7\""),
            ("security.protocol", "nonsense", "\"nonsense\""),
            ("sasl.jaas.config", "hunter2", "\"[redacted]\""),
            ("sasl.pasword", "hunter2", "\"[redacted]\""),
        ] {
            let problems = check(&given(name, value));
            let key = format!("kafka.properties.{name}");
            let problem = problems.iter().find(|problem| problem.key == key);
            let problem = problem.unwrap_or_else(|| panic!("{name}: {problems:?}"));
            assert_eq!(problem.value.as_deref(), Some(shown), "{name}");
            assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_with_one_topic_is_told() {
        let mut settings = Settings::default();
        settings.topics.corrections = "a b".to_owned();
        settings.topics.pairs = "a b".to_owned();
        let problems = check(&settings);
        let keys: Vec<_> = problems.iter().map(|problem| &*problem.key).collect();
        let expected = ["topics.corrections", "topics.pairs", "topics.pairs"];
        assert_eq!(keys, expected, "{problems:?}");
        assert_eq!(problems[2].fix.as_deref(), Some("name another topic"));
    }

    #[test]
    fn a_topic_with_the_signs_of_a_list_is_told_how_lists_are_written() {
        let mut settings = Settings::default();
        settings.topics.answers = vec!["'a'".to_owned(), "b".to_owned()];
        let problems = check(&settings);
        assert_eq!(problems.len(), 1, "{problems:?}");
        let fix = problems[0].fix.as_deref().unwrap_or_default();
        assert!(fix.contains("a,b"), "{fix}");
    }
}
