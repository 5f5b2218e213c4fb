//! Judges settings that are well typed: what contradicts itself, or cannot work.
//!
//! Opens no connection. Files that settings name are looked at, because a missing one would stop
//! the start a moment later.

mod aligner;
mod checkpoint;
mod effect;
mod fixes;
mod formats;
mod kafka;
mod sasl;
mod telemetry;
mod tls;
mod tokens;

use std::net::ToSocketAddrs;

pub use self::{checkpoint::no_tokenizer, effect::without_effect};

use super::{Problem, Secret, Settings};

/// Everything that is wrong, each problem with its key, its value and the fix.
pub fn check(settings: &Settings) -> Vec<Problem> {
    let mut found = Found::default();
    found.identity(settings);
    found.kafka_and_pipeline(settings);
    found.formats(settings);
    found.input(settings);
    found.aligner(settings);
    found.service(settings);
    found.telemetry(settings);
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

    /// The secret in a file, where it can be read.
    fn secret(&mut self, key: &str, path: &str) -> Option<Secret> {
        match super::secret_in(path) {
            Ok(secret) if secret.expose().is_empty() => {
                self.add(
                    key,
                    path.to_owned(),
                    "the file is empty",
                    "write the secret into it",
                );
                None
            }
            Ok(secret) => Some(secret),
            Err(error) => {
                self.add(
                    key,
                    path.to_owned(),
                    format!("the file cannot be read: {}", error.root_cause()),
                    "name a text file that this user may read",
                );
                None
            }
        }
    }

    fn identity(&mut self, settings: &Settings) {
        let name = &settings.name.0;
        if !aligner_kafka::is_topic_name(name) {
            self.add(
                "name",
                name.clone(),
                "a name has 1 to 249 of the characters a-z A-Z 0-9 . _ -",
                "choose for example moderation",
            );
        }
        if let Some(id) = &settings.kafka.instance_id
            && !aligner_kafka::is_topic_name(&id.0)
        {
            self.add(
                "kafka.instance_id",
                format!("{:?}", id.0),
                "an instance id has 1 to 249 of the characters a-z A-Z 0-9 . _ -",
                "use the StatefulSet ordinal, such as 0",
            );
        }
        if let Some(id) = &settings.kafka.instance_id
            && id.0.starts_with("replay-")
        {
            self.add(
                "kafka.instance_id",
                format!("{:?}", id.0),
                "the transactional ids of `replay` are <name>-replay-<reason>: a replay would take \
                 this instance's place",
                "begin it otherwise",
            );
        }
        if let Some(group) = &settings.kafka.group_id {
            let fault = if group.trim().is_empty() {
                Some("a group needs a name")
            } else if group.contains(char::is_control) {
                Some("a group's name has no control characters")
            } else {
                None
            };
            if let Some(fault) = fault {
                self.add(
                    "kafka.group_id",
                    format!("{group:?}"),
                    fault,
                    "name one, or write null for connect-<name>",
                );
            }
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
        let needed = record_timeout_ms.saturating_mul(3);
        if settings.service.stall_timeout_ms <= needed {
            self.add(
                "service.stall_timeout_ms",
                settings.service.stall_timeout_ms.to_string(),
                "records that never end would restart the connector before one is given up",
                format!(
                    "set it above {needed}, three times pipeline.record_timeout_ms {record_timeout_ms}"
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{InstanceId, ModelChoice, OneOrMany, Problems};

    pub(super) fn keys(settings: &Settings) -> Vec<String> {
        check(settings)
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    /// Settings with these of librdkafka's properties.
    pub(super) fn given(properties: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        settings.kafka.properties = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::new(*value)))
            .collect();
        settings
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
    fn no_instance_has_an_id_that_a_replay_would_claim() {
        let mut settings = Settings::default();
        for (id, problems) in [("replay-invalid_json", 1), ("0-replay-", 0)] {
            settings.kafka.instance_id = Some(InstanceId(id.to_owned()));
            assert_eq!(keys(&settings).len(), problems, "{id}");
        }
    }

    #[test]
    fn control_characters_are_refused_by_the_key_that_has_them_and_shown_as_signs() {
        for (key, value) in [
            ("kafka.group_id", "a\0b"),
            ("kafka.instance_id", "a\0b"),
            ("kafka.bootstrap_servers", "a\0b:9092"),
            ("topics.answers[0]", "a\0b"),
            ("topics.pairs", "a\0b"),
        ] {
            let mut settings = Settings::default();
            let written = value.to_owned();
            match key {
                "kafka.group_id" => settings.kafka.group_id = Some(written),
                "kafka.instance_id" => settings.kafka.instance_id = Some(InstanceId(written)),
                "kafka.bootstrap_servers" => settings.kafka.bootstrap_servers = written,
                "topics.pairs" => settings.topics.pairs = written,
                _ => settings.topics.answers = vec![written],
            }
            let problems = check(&settings);
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert_eq!(problems[0].key, key);
            assert!(!Problems(problems).to_string().contains('\0'), "{key}");
        }
        let mut settings = Settings::default();
        settings.kafka.bootstrap_servers = "a:9092,\nb:9092\n".to_owned();
        assert_eq!(check(&settings), [], "as a block of YAML ends");
    }

    #[test]
    fn a_record_is_given_up_before_the_connector_is_restarted() {
        let mut settings = Settings::default();
        settings.pipeline.record_timeout_ms = 700_000;
        assert_eq!(keys(&settings), ["service.stall_timeout_ms"]);
        settings.service.stall_timeout_ms = 2_100_001;
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
        settings.aligner.model = ModelChoice::Named("/no/such/folder".to_owned());
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
    fn what_would_stop_the_start_later_is_found_here() {
        let secret = tempfile::NamedTempFile::new().expect("temporary file");
        std::fs::write(&secret, "hunter2\n").expect("written");
        let path = secret.path().display().to_string();
        let mut settings = Settings::default();
        settings.kafka.group_id = Some(" ".to_owned());
        for name in [
            "transactional.id",
            "sasl.pasword",
            "socket.keepalive.enable",
        ] {
            let file = if name == "sasl.pasword" {
                "/no/such/file"
            } else {
                &path
            };
            settings
                .kafka
                .property_files
                .insert(name.to_owned(), file.to_owned());
        }
        settings.formats.schema_registry.url = Some("http://ada:hunter2@host".to_owned());
        settings.aligner.profile = Some(path);
        settings.aligner.remote.url = Some("vllm:8000".to_owned());
        settings.aligner.remote.max_concurrency = 0;
        settings.aligner.remote.timeout_ms = 0;
        settings.service.stall_timeout_ms = 0;
        settings.telemetry.otlp_endpoint = Some("collector:4318".to_owned());
        assert_eq!(
            keys(&settings),
            [
                "kafka.group_id",
                "kafka.property_files.sasl.pasword",
                "kafka.property_files.transactional.id",
                "kafka.property_files.socket.keepalive.enable",
                "formats.schema_registry.url",
                "aligner.profile",
                "aligner.remote.url",
                "aligner.remote.max_concurrency",
                "aligner.remote.timeout_ms",
                "service.stall_timeout_ms",
                "telemetry.otlp_endpoint",
            ]
        );
        let problems = format!("{:?}", check(&settings));
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}
