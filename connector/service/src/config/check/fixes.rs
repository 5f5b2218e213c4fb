//! What to do about keys of `kafka` and `topics` where the crate that refuses them does not say it: how a
//! list is written is known here only, and of properties librdkafka tells no more than that they are wrong.

use serde_json::Value;

/// All that can be written where values have names: said instead of a fix that speaks of one of them.
pub(super) fn named(key: &str) -> Option<String> {
    let values = aligner_kafka::named_values(property(key)?)?;
    Some(format!("use one of {values}"))
}

/// What to do where nothing else says it.
pub(super) fn usual(key: &str, value: Option<&Value>) -> Option<&'static str> {
    if property(key).is_some() {
        return Some("see librdkafka's CONFIGURATION.md for its properties and their values");
    }
    if !key.starts_with("topics.") {
        return None;
    }
    let topic = value.and_then(Value::as_str).unwrap_or_default();
    if key.starts_with("topics.answers[") && topic.contains(['[', ']', '"', '\'', ';', ' ']) {
        return Some("write several topics as [a, b], or as a,b in a variable or after --set");
    }
    Some("name a topic by 1 to 249 of the characters a-z A-Z 0-9 . _ -")
}

/// The property that a key gives.
fn property(key: &str) -> Option<&str> {
    let mut maps = ["kafka.properties.", "kafka.property_files."].into_iter();
    maps.find_map(|map| key.strip_prefix(map))
}

#[cfg(test)]
mod tests {
    use crate::config::{Secret, Settings, check::check};

    #[test]
    fn whatever_kafka_and_pipeline_refuse_has_its_fix_on_a_line_of_its_own() {
        let mut settings = Settings::default();
        settings.topics.answers = vec!["same".to_owned(), "a%b".to_owned()];
        settings.topics.corrections = "same".to_owned();
        settings.topics.pairs = String::new();
        let kafka = &mut settings.kafka;
        kafka.bootstrap_servers = "http://kafka:9092".to_owned();
        kafka.heartbeat_interval_ms = 5_000;
        kafka.close_timeout_ms = 5;
        kafka.fetch_buffer_bytes = 1;
        kafka.fetch_batch_records = 0;
        for (name, value) in [
            ("acks", "1"),
            ("group.id", "mine"),
            ("isolation.level", "read_committed"),
            ("fetch.wait.max.ms", "-7"),
            ("no.such.property", "x"),
            ("request.required.acks", "1"),
            ("socket.timeout.ms", "60000"),
        ] {
            kafka.properties.insert(name.to_owned(), Secret::new(value));
        }
        settings.pipeline.linger_ms = 86_400_000;
        settings.pipeline.max_attempts = 0;
        let mut problems = check(&settings);
        assert_eq!(problems.len(), 17, "{problems:?}");
        for problem in &problems {
            let fix = problem.fix.as_deref().unwrap_or_default();
            assert!(!fix.is_empty(), "{problem:?}");
            assert!(!problem.message.contains("; "), "{problem:?}");
            assert!(!problem.message.contains(": set"), "{problem:?}");
        }
        problems.retain(|problem| problem.key == "kafka.heartbeat_interval_ms");
        let fix = problems.remove(0).fix;
        let expected = "set it to 1500, a quarter of kafka.session_timeout_ms 6000";
        assert_eq!(fix.as_deref(), Some(expected));
        settings.kafka.bootstrap_servers = "kafka:0".to_owned();
        let fix = check(&settings).remove(0).fix;
        let expected = "write host:port of each broker, separated by commas";
        assert_eq!(fix.as_deref(), Some(expected));
    }
}
