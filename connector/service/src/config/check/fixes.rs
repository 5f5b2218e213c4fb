//! What to do about what the crates refuse that use `kafka`, `topics` and `pipeline`.
//!
//! They say it in one sentence with what is wrong, for whoever has nothing but that. Here it gets a
//! line of its own, and where they know less about how it was written, other words.

use serde_json::Value;

use crate::config::Settings;

/// What is refused by its name, whatever its value.
const REFUSED: &str = "cannot be set here";

/// What is wrong, and the fix where the sentence has one.
pub(super) fn parted(sentence: &str) -> (String, Option<String>) {
    let refused = sentence.strip_prefix(REFUSED);
    if let Some(reason) = refused.and_then(|rest| rest.strip_prefix(": ")) {
        return match reason.rsplit_once("; ") {
            Some((reason, fix)) => (format!("{REFUSED}: {reason}"), Some(fix.to_owned())),
            None if reason.starts_with("set ") => (REFUSED.to_owned(), Some(reason.to_owned())),
            None => (sentence.to_owned(), Some("remove it".to_owned())),
        };
    }
    // Its words are its own.
    if sentence.starts_with("librdkafka ") {
        return (sentence.to_owned(), None);
    }
    // A value may have the signs that part a sentence; it stands in quotes.
    let from = sentence.rfind('"').map_or(0, |at| at + 1);
    let mut signs = ["; ", ": set it "].into_iter();
    match signs.find_map(|sign| sentence[from..].rfind(sign)) {
        Some(at) => {
            let (fault, fix) = sentence.split_at(from + at);
            (fault.to_owned(), Some(fix[2..].to_owned()))
        }
        None => (sentence.to_owned(), None),
    }
}

/// What to write instead, where that is known better here.
pub(super) fn better(
    settings: &Settings,
    key: &str,
    value: Option<&Value>,
    fault: &str,
) -> Option<String> {
    if key == "kafka.heartbeat_interval_ms" {
        let session = settings.kafka.session_timeout_ms;
        let quarter = (session / 4).max(1);
        return Some(format!(
            "set it to {quarter}, a quarter of kafka.session_timeout_ms {session}"
        ));
    }
    if key.starts_with("topics.") && fault.contains(" is also topics.") {
        return Some("name another topic".to_owned());
    }
    if key.starts_with("topics.answers[") {
        let topic = value.and_then(Value::as_str)?;
        return topic.contains(['[', ']', '"', '\'', ';', ' ']).then(|| {
            "write several topics as [a, b], or as a,b in a variable or after --set".to_owned()
        });
    }
    let values = aligner_kafka::named_values(property(key)?)?;
    Some(format!("use one of {values}"))
}

/// What to do where nothing else says it.
pub(super) fn usual(key: &str) -> Option<&'static str> {
    if property(key).is_some() {
        return Some("see librdkafka's CONFIGURATION.md for its properties and their values");
    }
    match key {
        "kafka.fetch_buffer_bytes" => Some("set it to 1048576 or more"),
        _ if key.starts_with("topics.") => {
            Some("name a topic by 1 to 249 of the characters a-z A-Z 0-9 . _ -")
        }
        _ => None,
    }
}

/// The property that a key gives.
fn property(key: &str) -> Option<&str> {
    let mut maps = ["kafka.properties.", "kafka.property_files."].into_iter();
    maps.find_map(|map| key.strip_prefix(map))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, check::check};

    #[test]
    fn a_sentence_is_parted_where_its_fix_begins_and_never_within_a_value() {
        for (sentence, fault, fix) in [
            (
                "is empty; name the pipeline",
                "is empty",
                "name the pipeline",
            ),
            (
                "is 3, below retry_backoff_ms 500: set it to 500 or more",
                "is 3, below retry_backoff_ms 500",
                "set it to 500 or more",
            ),
            (
                "\"a; b\" is a pattern; name each topic",
                "\"a; b\" is a pattern",
                "name each topic",
            ),
            ("\"a; b\" has characters", "\"a; b\" has characters", ""),
            (
                "cannot be set here: offsets are committed; remove it",
                "cannot be set here: offsets are committed",
                "remove it",
            ),
            (
                "cannot be set here: set kafka.group_id",
                "cannot be set here",
                "set kafka.group_id",
            ),
            (
                "cannot be set here: exactly once needs all of them",
                "cannot be set here: exactly once needs all of them",
                "remove it",
            ),
            ("librdkafka says: a; b", "librdkafka says: a; b", ""),
        ] {
            let (told, mended) = parted(sentence);
            assert_eq!(told, fault);
            assert_eq!(mended.unwrap_or_default(), fix, "{sentence}");
        }
    }

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
