//! Judges settings that are well typed: what contradicts itself, or cannot work.
//!
//! Opens no connection. Files that settings name are looked at, because a missing one would stop
//! the start a moment later.

use std::{net::ToSocketAddrs, path::Path};

use super::{Format, Problem, Settings};

/// Everything that is wrong, each problem with its key, its value and the fix.
pub fn check(settings: &Settings) -> Vec<Problem> {
    let mut found = Found::default();
    found.identity(settings);
    found.of_crates(settings);
    found.formats(settings);
    found.input(settings);
    found.aligner(settings);
    found.service(settings);
    found.0
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(
        &mut self,
        key: &str,
        value: impl Into<Option<String>>,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.0.push(Problem {
            key: key.to_owned(),
            value: value.into(),
            message: message.into(),
            fix: Some(fix.into()),
        });
    }

    fn file(&mut self, key: &str, path: &str) {
        if let Err(error) = std::fs::File::open(path) {
            self.add(
                key,
                path.to_owned(),
                format!("the file cannot be read: {error}"),
                "name a file that this user may read",
            );
        }
    }

    fn identity(&mut self, settings: &Settings) {
        let name = &settings.name.0;
        if !is_kafka_name(name) {
            self.add(
                "name",
                name.clone(),
                "a name has 1 to 200 of the characters a-z A-Z 0-9 . _ -",
                "choose for example moderation",
            );
        }
        if let Some(id) = &settings.kafka.instance_id
            && !is_kafka_name(&id.0)
        {
            self.add(
                "kafka.instance_id",
                id.0.clone(),
                "an instance id has 1 to 200 of the characters a-z A-Z 0-9 . _ -",
                "use the StatefulSet ordinal, such as 0",
            );
        }
    }

    /// The crates that use these sections know best what suits them.
    fn of_crates(&mut self, settings: &Settings) {
        for (name, path) in &settings.kafka.property_files {
            let key = format!("kafka.property_files.{name}");
            self.file(&key, path);
            if settings.kafka.properties.contains_key(name) {
                self.add(
                    &key,
                    path.clone(),
                    "the property is given twice",
                    format!("remove kafka.properties.{name}"),
                );
            }
        }
        let (kafka, topics) = super::kafka_sections(settings);
        let kafka = aligner_kafka::problems(&settings.name.0, &kafka, &topics)
            .into_iter()
            .map(|problem| (problem.key, problem.message));
        let pipeline = settings
            .pipeline
            .problems()
            .into_iter()
            .map(|problem| (format!("pipeline.{}", problem.key), problem.message));
        let written = serde_json::to_value(settings).expect("settings serialise");
        for (key, message) in kafka.chain(pipeline) {
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

    fn formats(&mut self, settings: &Settings) {
        let formats = &settings.formats;
        let avro = formats.answers == Format::Avro || formats.outputs == Format::Avro;
        let registry = &formats.schema_registry;
        match &registry.url {
            None if avro => self.add(
                "formats.schema_registry.url",
                None,
                "avro needs a Schema Registry",
                "set it, for example to http://localhost:8081, or use json",
            ),
            Some(url) if !url.starts_with("http://") && !url.starts_with("https://") => self.add(
                "formats.schema_registry.url",
                None,
                "the URL does not begin with http:// or https://",
                "write for example http://localhost:8081",
            ),
            _ => {}
        }
        if let Some(path) = &registry.password_file {
            self.file("formats.schema_registry.password_file", path);
            if registry.password.is_some() {
                self.add(
                    "formats.schema_registry.password_file",
                    path.clone(),
                    "the password is given twice",
                    "remove formats.schema_registry.password",
                );
            }
        }
    }

    fn input(&mut self, settings: &Settings) {
        let all = settings.input.fields.pointers();
        let any = all.iter().any(|(_, pointer)| pointer.is_some());
        for (name, pointer) in all {
            match pointer {
                None if any && matches!(name, "question" | "answer") => self.add(
                    &format!("input.fields.{name}"),
                    None,
                    "a mapping must say where question and answer lie",
                    format!("write for example {name}: /messages/0/content"),
                ),
                Some(pointer) if !pointer.is_empty() && !pointer.starts_with('/') => self.add(
                    &format!("input.fields.{name}"),
                    pointer.clone(),
                    "a JSON Pointer (RFC 6901) begins with /",
                    format!(
                        "write /{}",
                        pointer.trim_start_matches('$').replace('.', "/")
                    ),
                ),
                _ => {}
            }
        }
    }

    fn aligner(&mut self, settings: &Settings) {
        let aligner = &settings.aligner;
        match aligner.model.as_str() {
            "bundled" | "identity" | "marker" | "marker-all" => {}
            "remote" => {
                for (key, value) in [
                    ("aligner.remote.url", &aligner.remote.url),
                    ("aligner.remote.model", &aligner.remote.model),
                ] {
                    if value.is_none() {
                        self.add(
                            key,
                            None,
                            "aligner.model is remote",
                            "name the completions server and its model, for example \
                             http://vllm:8000/v1 and aligner-2b",
                        );
                    }
                }
            }
            path if Path::new(path).exists() => {}
            other => self.add(
                "aligner.model",
                other.to_owned(),
                "neither a built-in Aligner nor a file or folder that exists",
                "use bundled, identity, marker, marker-all, remote, or the path of a folder in \
                 Hugging Face layout",
            ),
        }
        for device in aligner.device.values() {
            let cuda = device
                .strip_prefix("cuda:")
                .is_some_and(|n| n.parse::<usize>().is_ok());
            if device != "cpu" && !cuda {
                self.add(
                    "aligner.device",
                    device.clone(),
                    "not a device",
                    "use cpu, cuda:0, or a list such as [cuda:0, cuda:1]",
                );
            } else if cuda && !cfg!(feature = "cuda") {
                self.add(
                    "aligner.device",
                    device.clone(),
                    "this binary was built without CUDA",
                    "use cpu, or build with `cargo build --release --features cuda`",
                );
            }
        }
        if aligner.threads == Some(0) {
            self.add(
                "aligner.threads",
                "0".to_owned(),
                "no threads",
                "use null for all cores",
            );
        }
        if aligner.max_new_tokens == 0 {
            self.add(
                "aligner.max_new_tokens",
                "0".to_owned(),
                "nothing could be decoded",
                "write 1024",
            );
        }
        if !(0.0..=2.0).contains(&aligner.temperature) {
            self.add(
                "aligner.temperature",
                aligner.temperature.to_string(),
                "a temperature lies between 0 (greedy) and 2",
                "write 0",
            );
        }
        if let Some(top_p) = aligner.top_p
            && !(top_p > 0.0 && top_p <= 1.0)
        {
            self.add(
                "aligner.top_p",
                top_p.to_string(),
                "a probability above 0 and up to 1",
                "write 0.95, or null",
            );
        }
        if let Some(profile) = &aligner.profile
            && !matches!(profile.as_str(), "paper" | "alpaca-eval")
        {
            self.file("aligner.profile", profile);
        }
        if let Some(path) = &aligner.remote.api_key_file {
            self.file("aligner.remote.api_key_file", path);
        }
    }

    fn service(&mut self, settings: &Settings) {
        let listen = &settings.service.listen;
        // A numeric address or a name with a port; looking a name up would open a connection.
        let (host, port) = listen.rsplit_once(':').unwrap_or((listen, ""));
        let numeric = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
        let valid = port.parse::<u16>().is_ok()
            && !host.is_empty()
            && (!numeric || listen.to_socket_addrs().is_ok());
        if !valid {
            self.add(
                "service.listen",
                listen.clone(),
                "an address is host:port",
                "write for example 127.0.0.1:8083, or 0.0.0.0:8083 in a container",
            );
        }
        let record_timeout_ms = settings.pipeline.record_timeout_ms;
        let needed = record_timeout_ms.saturating_mul(2);
        if settings.service.stall_timeout_ms <= needed {
            self.add(
                "service.stall_timeout_ms",
                settings.service.stall_timeout_ms.to_string(),
                "a record that never ends would restart the connector before it is given up",
                format!(
                    "set it above {needed}, twice pipeline.record_timeout_ms {record_timeout_ms}"
                ),
            );
        }
        if let Err(error) = settings
            .telemetry
            .log_level
            .parse::<tracing_subscriber::filter::Targets>()
        {
            self.add(
                "telemetry.log_level",
                settings.telemetry.log_level.clone(),
                error.to_string(),
                "write for example info, or info,aligner_kafka=debug",
            );
        }
    }
}

/// Kafka's rule for topic names, which suits group and client ids too.
fn is_kafka_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && !matches!(name, "." | "..")
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{OneOrMany, Secret};

    fn keys(settings: &Settings) -> Vec<String> {
        check(settings)
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(check(&Settings::default()), []);
    }

    #[test]
    fn an_answer_topic_may_not_be_an_output() {
        let mut settings = Settings::default();
        settings.topics.pairs = "llm.answers".to_owned();
        assert_eq!(keys(&settings), ["topics.pairs"]);
    }

    #[test]
    fn a_record_is_given_up_before_the_connector_is_restarted() {
        let mut settings = Settings::default();
        settings.pipeline.record_timeout_ms = 750_000;
        assert_eq!(keys(&settings), ["service.stall_timeout_ms"]);
        settings.service.stall_timeout_ms += 1;
        assert_eq!(check(&settings), []);
    }

    #[test]
    fn several_mistakes_are_reported_together() {
        let mut settings = Settings::default();
        settings.kafka.heartbeat_interval_ms = 5_000;
        settings
            .kafka
            .properties
            .insert("isolation.level".into(), Secret::new("x"));
        settings.topics.answers.clear();
        settings.aligner.model = "/no/such/folder".to_owned();
        settings.aligner.device = OneOrMany::One("gpu".to_owned());
        settings.aligner.max_new_tokens = 0;
        settings.service.listen = "8083".to_owned();
        assert_eq!(
            keys(&settings),
            [
                "kafka.heartbeat_interval_ms",
                "topics.answers",
                "kafka.properties.isolation.level",
                "aligner.model",
                "aligner.device",
                "aligner.max_new_tokens",
                "service.listen",
            ]
        );
    }

    #[test]
    fn a_mapping_needs_question_and_answer_as_pointers() {
        let mut settings = Settings::default();
        settings.input.fields.question = Some("messages.0.content".to_owned());
        let problems = check(&settings);
        assert_eq!(problems[0].key, "input.fields.question");
        assert_eq!(
            problems[0].fix.as_deref(),
            Some("write /messages/0/content")
        );
        assert_eq!(problems[1].key, "input.fields.answer");
    }

    #[test]
    fn avro_needs_a_registry() {
        let mut settings = Settings::default();
        settings.formats.outputs = Format::Avro;
        assert_eq!(keys(&settings), ["formats.schema_registry.url"]);
    }
}
