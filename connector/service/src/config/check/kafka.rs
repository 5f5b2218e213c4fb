//! `kafka`, `topics` and `pipeline`: the crates that use these sections know best what suits them.

use super::{Found, Problem, Settings};

impl Found {
    pub(super) fn kafka_and_pipeline(&mut self, settings: &Settings) {
        let (mut kafka, topics) = crate::config::kafka_sections(settings);
        for (name, path) in &settings.kafka.property_files {
            let key = format!("kafka.property_files.{name}");
            if let Some(fault) = aligner_kafka::property_fault(name) {
                self.0.push(Problem {
                    key: key.clone(),
                    value: None,
                    message: fault,
                    fix: None,
                });
            } else if let Some(value) = self.secret(&key, path) {
                kafka
                    .properties
                    .insert(name.clone(), value.expose().to_owned());
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
        let from_file = |key: String, message| match key.strip_prefix("kafka.properties.") {
            // Whatever lies in a file may be a secret, and librdkafka repeats it.
            Some(name) if settings.kafka.property_files.contains_key(name) => (
                format!("kafka.property_files.{name}"),
                "librdkafka does not take the value in this file".to_owned(),
            ),
            _ => (key, message),
        };
        let kafka = aligner_kafka::problems(&settings.name.0, &kafka, &topics)
            .into_iter()
            .map(|problem| from_file(problem.key, problem.message));
        let pipeline = settings
            .pipeline
            .problems()
            .into_iter()
            .map(|problem| (format!("pipeline.{}", problem.key), problem.message));
        let written = serde_json::to_value(settings).expect("settings serialise");
        for (key, message) in kafka.chain(pipeline) {
            // Names were judged already, more strictly.
            if self.0.iter().any(|problem| problem.key == key) {
                continue;
            }
            let value = key
                .split(['.', '[', ']'])
                .filter(|part| !part.is_empty())
                .try_fold(&written, |value, part| match part.parse::<usize>() {
                    Ok(index) => value.get(index),
                    Err(_) => value.get(part),
                })
                .map(ToString::to_string);
            self.0.push(Problem {
                key,
                value,
                message,
                fix: None,
            });
        }
    }
}
