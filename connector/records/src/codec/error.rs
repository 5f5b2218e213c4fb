//! Why bytes are not an answer event.

use thiserror::Error;

/// Stable snake_case words for [`DecodeError::reason`], as they stand in the `aligner.reason`
/// header, in records and in metrics. Once released, a word keeps its meaning.
pub mod reason {
    /// The record has a key but no value.
    pub const TOMBSTONE: &str = "tombstone";
    /// The bytes are not UTF-8.
    pub const INVALID_UTF8: &str = "invalid_utf8";
    /// The text is not JSON.
    pub const INVALID_JSON: &str = "invalid_json";
    /// JSON, but not an object.
    pub const NOT_AN_OBJECT: &str = "not_an_object";
    /// One name stands twice in the object: which one was meant cannot be told.
    pub const DUPLICATE_FIELD: &str = "duplicate_field";
    /// No question, or a null one.
    pub const MISSING_QUESTION: &str = "missing_question";
    /// No answer, or a null one.
    pub const MISSING_ANSWER: &str = "missing_answer";
    /// A question of white space only.
    pub const EMPTY_QUESTION: &str = "empty_question";
    /// An answer of white space only.
    pub const EMPTY_ANSWER: &str = "empty_answer";
    /// A field has another type than its schema says.
    pub const WRONG_TYPE: &str = "wrong_type";
    /// A number that is no instant in epoch milliseconds, or most likely counts another unit.
    pub const OUT_OF_RANGE: &str = "out_of_range";
    /// Not a datum of the schema that it names, or not framed as the registry's clients do.
    pub const INVALID_AVRO: &str = "invalid_avro";
    /// The registry does not know the schema that the bytes name, or refuses it alone.
    pub const UNKNOWN_SCHEMA: &str = "unknown_schema";

    /// Every word above.
    pub const ALL: [&str; 13] = [
        TOMBSTONE,
        INVALID_UTF8,
        INVALID_JSON,
        NOT_AN_OBJECT,
        DUPLICATE_FIELD,
        MISSING_QUESTION,
        MISSING_ANSWER,
        EMPTY_QUESTION,
        EMPTY_ANSWER,
        WRONG_TYPE,
        OUT_OF_RANGE,
        INVALID_AVRO,
        UNKNOWN_SCHEMA,
    ];
}

/// Bytes that are not an answer event, now or later: their record is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct DecodeError {
    /// One of the words in [`reason`].
    pub reason: &'static str,
    /// One sentence naming the field and the fix; never the record's text.
    pub message: String,
}

impl DecodeError {
    /// An error with its reason and message.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The error for a record without a value.
    pub fn tombstone() -> Self {
        Self::new(
            reason::TOMBSTONE,
            "the record has no value (a tombstone), so there is nothing to correct",
        )
    }
}
