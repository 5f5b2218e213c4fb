//! An input record that has no correction, with the cause in its headers.
//!
//! Headers are Kafka Connect's own, so that its tools understand them
//! (apache/kafka, `connect/runtime/…/errors/DeadLetterQueueReporter.java`).

use std::sync::Arc;

use crate::SourcePosition;

/// The stage that could not handle the record, as the `__connect.errors.stage` header names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Bytes to answer event (Connect's own word for it).
    ValueConverter,
    /// Inference.
    Infer,
    /// Answer event to output bytes, the broker's size limit included.
    Encode,
}

impl Stage {
    /// The header's value.
    fn as_str(self) -> &'static str {
        match self {
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::Infer => "INFER",
            Self::Encode => "ENCODE",
        }
    }

    /// What was at work, for `__connect.errors.class.name`.
    fn executing(self) -> &'static str {
        match self {
            Self::ValueConverter => "io.alignerconnector.AnswerEventConverter",
            Self::Infer => "io.alignerconnector.Aligner",
            Self::Encode => "io.alignerconnector.OutputEncoder",
        }
    }

    /// What went wrong there, for `__connect.errors.exception.class.name`.
    fn exception(self) -> &'static str {
        match self {
            Self::ValueConverter => "io.alignerconnector.DecodeError",
            Self::Infer => "io.alignerconnector.AlignError",
            Self::Encode => "io.alignerconnector.EncodeError",
        }
    }
}

/// Why and where a record failed. Its original key and value travel unchanged beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record came from.
    pub source: SourcePosition,
    /// When it was logged, as Kafka has it, epoch milliseconds. The dead letter's own timestamp is
    /// when it was given up: with the old one, a topic's retention could drop it at once.
    pub logged_at: Option<i64>,
    /// Id of the answer event, where it could be read.
    pub event_id: Option<Arc<str>>,
    /// Name of the model that answered, where it could be read.
    pub upstream_model: Option<Arc<str>>,
    /// The stage that failed.
    pub stage: Stage,
    /// A stable snake_case word, for `aligner.reason`.
    pub reason: &'static str,
    /// One sentence that a person can act on; never the record's text.
    pub message: String,
}

/// The header that holds the record's topic.
pub const TOPIC_HEADER: &str = "__connect.errors.topic";

/// The header that holds the record's partition.
pub const PARTITION_HEADER: &str = "__connect.errors.partition";

/// The header that holds the record's offset.
pub const OFFSET_HEADER: &str = "__connect.errors.offset";

/// The header that holds the name of the connector that gave the record up.
pub const CONNECTOR_HEADER: &str = "__connect.errors.connector.name";

/// The header that holds the sentence about the cause.
pub const MESSAGE_HEADER: &str = "__connect.errors.exception.message";

/// The header that holds the reason.
pub const REASON_HEADER: &str = "aligner.reason";

/// The header that holds the record's own timestamp, in decimal epoch milliseconds.
const LOGGED_AT_HEADER: &str = "aligner.logged_at";

/// The header that holds the id of the answer event.
const EVENT_ID_HEADER: &str = "aligner.event_id";

/// The header that holds the name of the model that answered.
const UPSTREAM_MODEL_HEADER: &str = "aligner.upstream_model";

/// Most bytes of an id or a name in a header. Longer ones are left out, since headers stay where a letter
/// has room for nothing else, and half an id is none.
const MAX_NAME_BYTES: usize = 256;

impl DeadLetter {
    /// The headers that name the cause, to be added to the record's own.
    ///
    /// `connector` is the connector's name and `task` the number of its task, as in Connect.
    pub fn headers(&self, connector: &str, task: u32) -> Vec<(String, Vec<u8>)> {
        let Self {
            source,
            logged_at,
            event_id,
            upstream_model,
            stage,
            reason,
            message,
        } = self;
        let names = [
            (EVENT_ID_HEADER, event_id),
            (UPSTREAM_MODEL_HEADER, upstream_model),
        ];
        let named = names.into_iter().filter_map(|(header, name)| {
            let name = name.as_deref()?;
            (name.len() <= MAX_NAME_BYTES).then(|| (header, name.to_owned()))
        });
        // Ours has no frames: one line in the place where Connect's viewers look for the story.
        let trace = format!("{}: {message}", stage.exception());
        let connect = [
            (TOPIC_HEADER, source.topic.to_string()),
            (PARTITION_HEADER, source.partition.to_string()),
            (OFFSET_HEADER, source.offset.to_string()),
            (CONNECTOR_HEADER, connector.to_owned()),
            ("__connect.errors.task.id", task.to_string()),
            ("__connect.errors.stage", stage.as_str().to_owned()),
            ("__connect.errors.class.name", stage.executing().to_owned()),
            (
                "__connect.errors.exception.class.name",
                stage.exception().to_owned(),
            ),
            (MESSAGE_HEADER, message.clone()),
            ("__connect.errors.exception.stacktrace", trace),
        ];
        connect
            .into_iter()
            .chain([(REASON_HEADER, (*reason).to_owned())])
            .chain(logged_at.map(|at| (LOGGED_AT_HEADER, at.to_string())))
            .chain(named)
            .map(|(name, value)| (name.to_owned(), value.into_bytes()))
            .collect()
    }

    /// The key where the record's own cannot be it: `topic-partition-offset`.
    pub fn key(&self) -> Vec<u8> {
        self.source.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter() -> DeadLetter {
        DeadLetter {
            source: SourcePosition {
                topic: "llm.answers".into(),
                partition: 3,
                offset: 42,
            },
            logged_at: Some(1_766_000_068_280),
            event_id: Some("evt-1".into()),
            upstream_model: Some("m".repeat(MAX_NAME_BYTES).into()),
            stage: Stage::ValueConverter,
            reason: crate::reason::MISSING_ANSWER,
            message: "field \"answer\" is missing: write a string there".into(),
        }
    }

    #[test]
    fn headers_are_those_that_connect_writes_the_reason_the_time_and_whose_it_is() {
        let headers: Vec<_> = letter()
            .headers("moderation", 0)
            .into_iter()
            .map(|(name, value)| (name, String::from_utf8(value).expect("text")))
            .collect();
        let expected = [
            ("__connect.errors.topic", "llm.answers"),
            ("__connect.errors.partition", "3"),
            ("__connect.errors.offset", "42"),
            ("__connect.errors.connector.name", "moderation"),
            ("__connect.errors.task.id", "0"),
            ("__connect.errors.stage", "VALUE_CONVERTER"),
            (
                "__connect.errors.class.name",
                "io.alignerconnector.AnswerEventConverter",
            ),
            (
                "__connect.errors.exception.class.name",
                "io.alignerconnector.DecodeError",
            ),
            (
                "__connect.errors.exception.message",
                "field \"answer\" is missing: write a string there",
            ),
            (
                "__connect.errors.exception.stacktrace",
                "io.alignerconnector.DecodeError: field \"answer\" is missing: write a string there",
            ),
            ("aligner.reason", "missing_answer"),
            ("aligner.logged_at", "1766000068280"),
            ("aligner.event_id", "evt-1"),
            ("aligner.upstream_model", &"m".repeat(MAX_NAME_BYTES)),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_name_that_is_too_long_for_a_header_is_left_out_and_so_is_one_that_could_not_be_read() {
        let letter = DeadLetter {
            event_id: Some("e".repeat(MAX_NAME_BYTES + 1).into()),
            upstream_model: None,
            ..letter()
        };
        let headers = letter.headers("moderation", 0);
        let last = headers.last().map(|(name, _)| name.as_str());
        assert_eq!(last, Some(LOGGED_AT_HEADER));
    }

    #[test]
    fn the_key_where_there_is_none_is_the_records_position() {
        assert_eq!(letter().key(), b"llm.answers-3-42");
    }
}
