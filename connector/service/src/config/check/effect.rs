//! Settings that somebody wrote, and that others would leave without effect.
//!
//! A default may well have none: nobody counts on it.

use super::{Found, Problem, Settings};

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
    let protocol = settings.kafka.properties.get("group.protocol");
    if protocol.is_some_and(|protocol| protocol.expose().eq_ignore_ascii_case("consumer")) {
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
    found.0
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
}
