//! Settings that somebody wrote, and that others would leave without effect.
//!
//! A default may well have none: nobody counts on it.

use std::collections::BTreeMap;

use super::{Found, Problem, Settings};
use crate::config::{Aligner, Format, ModelChoice};

/// Those among the keys that were written.
pub fn without_effect(settings: &Settings, written: &[String]) -> Vec<Problem> {
    let is_written = |key: &str| written.iter().any(|known| known == key);
    let mut found = Found::default();
    let (leaving, closing) = (
        settings.kafka.close_timeout_ms,
        settings.pipeline.close_timeout_ms,
    );
    if is_written("kafka.close_timeout_ms") && u64::from(leaving) > closing {
        found.add(
            "kafka.close_timeout_ms",
            leaving.to_string(),
            format!("the pipeline waits no longer than pipeline.close_timeout_ms {closing}"),
            format!(
                "set it to {closing} or less, or pipeline.close_timeout_ms to {leaving} or more"
            ),
        );
    }
    // Properties in files are not read here: what one of them says of the protocol does not count.
    let properties = crate::config::properties(settings, &BTreeMap::new());
    let (kafka, _) = crate::config::kafka_sections(settings, properties);
    if kafka.brokers_decide_on_sessions() {
        for (key, value, broker) in [
            (
                "kafka.session_timeout_ms",
                settings.kafka.session_timeout_ms,
                "group.consumer.session.timeout.ms",
            ),
            (
                "kafka.heartbeat_interval_ms",
                settings.kafka.heartbeat_interval_ms,
                "group.consumer.heartbeat.interval.ms",
            ),
        ] {
            if is_written(key) {
                found.add(
                    key,
                    value.to_string(),
                    "with kafka.properties.group.protocol consumer the brokers decide this",
                    format!("remove it and set their {broker}, or remove group.protocol"),
                );
            }
        }
    }
    for unread in unread(settings) {
        for key in unread.keys.into_iter().filter(|key| is_written(key)) {
            found.add(key, None, unread.because.clone(), unread.fix);
        }
    }
    found.0
}

/// Keys that nothing reads as the others stand.
struct Unread {
    /// Those that say something else than their default.
    keys: Vec<&'static str>,
    because: String,
    fix: &'static str,
}

fn unread(settings: &Settings) -> Vec<Unread> {
    let (aligner, usual) = (&settings.aligner, Aligner::default());
    let model = &aligner.model;
    let mut found = Vec::new();
    if *model != ModelChoice::Remote {
        let remote = &aligner.remote;
        found.push(Unread {
            keys: those([
                ("aligner.remote.url", remote.url.is_some()),
                ("aligner.remote.model", remote.model.is_some()),
                (
                    "aligner.remote.add_special_tokens",
                    remote.add_special_tokens.is_some(),
                ),
                ("aligner.remote.api_key", remote.api_key.is_some()),
                ("aligner.remote.api_key_file", remote.api_key_file.is_some()),
            ]),
            because: format!("aligner.model is {model}, and asks no completions server"),
            fix: "write aligner.model: remote, or leave this out",
        });
    }
    if !model.has_weights() {
        found.push(Unread {
            keys: those([
                ("aligner.device", aligner.device != usual.device),
                ("aligner.dtype", aligner.dtype != usual.dtype),
                ("aligner.threads", aligner.threads != usual.threads),
                (
                    "aligner.speculation",
                    aligner.speculation != usual.speculation,
                ),
                (
                    "aligner.history_tokens",
                    aligner.history_tokens != usual.history_tokens,
                ),
                ("aligner.kv_tokens", aligner.kv_tokens != usual.kv_tokens),
            ]),
            because: format!("aligner.model is {model}, and has no weights in this process"),
            fix: "leave this out, or name another aligner.model",
        });
    }
    if matches!(model, ModelChoice::StandIn(_)) {
        found.push(Unread {
            keys: those([("aligner.profile", aligner.profile.is_some())]),
            because: format!("aligner.model is {model}, and has no prompt"),
            fix: "leave this out, or name another aligner.model",
        });
    }
    if aligner.temperature <= 0.0 {
        found.push(Unread {
            keys: those([
                ("aligner.top_p", aligner.top_p.is_some()),
                ("aligner.seed", aligner.seed != usual.seed),
            ]),
            because: "aligner.temperature is 0, which is greedy: nothing is sampled".to_owned(),
            fix: "set aligner.temperature above 0, or leave this out",
        });
    }
    let formats = &settings.formats;
    if formats.answers == Format::Json && formats.outputs == Format::Json {
        let registry = &formats.schema_registry;
        found.push(Unread {
            keys: those([
                ("formats.schema_registry.url", registry.url.is_some()),
                (
                    "formats.schema_registry.username",
                    registry.username.is_some(),
                ),
                (
                    "formats.schema_registry.password",
                    registry.password.is_some(),
                ),
                (
                    "formats.schema_registry.password_file",
                    registry.password_file.is_some(),
                ),
                (
                    "formats.schema_registry.ca_file",
                    registry.ca_file.is_some(),
                ),
                (
                    "formats.schema_registry.certificate_file",
                    registry.certificate_file.is_some(),
                ),
                (
                    "formats.schema_registry.key_file",
                    registry.key_file.is_some(),
                ),
            ]),
            because: "formats.answers and formats.outputs are json, which asks no Schema Registry"
                .to_owned(),
            fix: "set one of them to avro, or leave this out",
        });
    }
    found
}

/// The keys of which it holds.
fn those<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter()
        .filter_map(|(key, holds)| holds.then_some(key))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn keys(settings: &Settings, written: &[&str]) -> Vec<String> {
        let written: Vec<_> = written.iter().map(|key| (*key).to_owned()).collect();
        without_effect(settings, &written)
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    #[test]
    fn leaving_the_group_may_take_no_longer_than_closing_everything() {
        const KEY: &str = "kafka.close_timeout_ms";
        let mut settings = Settings::default();
        settings.pipeline.close_timeout_ms = 3_000;
        assert!(keys(&settings, &["pipeline.close_timeout_ms"]).is_empty());
        assert_eq!(keys(&settings, &[KEY]), [KEY]);
        let problems = without_effect(&settings, &[KEY.to_owned()]);
        assert_eq!(problems[0].value.as_deref(), Some("5000"));
        assert!(
            problems[0]
                .message
                .contains("pipeline.close_timeout_ms 3000")
        );
        settings.kafka.close_timeout_ms = 3_000;
        assert!(keys(&settings, &[KEY]).is_empty());
    }

    #[test]
    fn sessions_that_the_brokers_decide_on_are_not_set_here() {
        let both = ["kafka.session_timeout_ms", "kafka.heartbeat_interval_ms"];
        let mut settings = Settings::default();
        assert!(keys(&settings, &both).is_empty());
        for (protocol, refused) in [("classic", &both[..0]), ("Consumer", &both[..])] {
            settings
                .kafka
                .properties
                .insert("group.protocol".to_owned(), Secret::new(protocol));
            assert_eq!(keys(&settings, &both), refused, "{protocol}");
            assert!(keys(&settings, &[]).is_empty(), "{protocol}");
        }
    }

    #[test]
    fn what_is_meant_for_a_server_or_for_weights_needs_a_model_that_has_them() {
        const URL: &str = "aligner.remote.url";
        const PROFILE: &str = "aligner.profile";
        const DTYPE: &str = "aligner.dtype";
        let mut settings = Settings::default();
        let aligner = &mut settings.aligner;
        aligner.remote.url = Some("http://vllm:8000/v1".to_owned());
        aligner.profile = Some("paper".to_owned());
        aligner.dtype = aligner_engine::Dtype::F32;
        for (model, refused) in [
            ("bundled", vec![URL]),
            ("remote", vec![DTYPE]),
            ("identity", vec![URL, DTYPE, PROFILE]),
        ] {
            settings.aligner.model = ModelChoice::from(model.to_owned());
            let found = keys(&settings, &[PROFILE, URL, DTYPE]);
            assert_eq!(found, refused, "{model}");
            let written_with_defaults = ["aligner.device", "aligner.remote.model"];
            assert!(
                keys(&settings, &written_with_defaults).is_empty(),
                "{model}"
            );
        }
    }

    #[test]
    fn a_sampler_needs_a_temperature_and_a_registry_avro() {
        const URL: &str = "formats.schema_registry.url";
        let sampler = ["aligner.top_p", "aligner.seed"];
        let mut settings = Settings::default();
        assert!(keys(&settings, &sampler).is_empty(), "defaults say nothing");
        settings.aligner.top_p = Some(0.9);
        settings.aligner.seed = 7;
        assert_eq!(keys(&settings, &sampler), sampler);
        settings.aligner.temperature = 0.5;
        assert!(keys(&settings, &sampler).is_empty());

        settings.formats.schema_registry.url = Some("http://ada:hunter2@host".to_owned());
        assert_eq!(keys(&settings, &[URL]), [URL]);
        let problems = without_effect(&settings, &[URL.to_owned()]);
        assert!(!format!("{problems:?}").contains("hunter2"));
        settings.formats.answers = Format::Avro;
        assert!(keys(&settings, &[URL]).is_empty());
    }
}
