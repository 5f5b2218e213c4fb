//! Where the fields of an answer event stand in somebody else's log.
//!
//! Nobody logs in our schema. A field map names, for each field, the place in a JSON document that
//! holds it, as a JSON Pointer (RFC 6901), so that an existing log is read as it is.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{
    draft::{Draft, Kind, Places, Slot},
    error::DecodeError,
};
use crate::AnswerEvent;

/// A place in a JSON document (RFC 6901), such as `/choices/0/message/content`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPointer(String);

/// A text that is not a JSON Pointer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonPointerError {
    /// The empty pointer means the whole document, which is no field.
    #[error("a pointer must name a place within the document, such as /answer, and is empty")]
    Empty,
    /// No leading slash.
    #[error("pointer {0:?} must begin with a slash, as in /choices/0/message/content")]
    NoSlash(String),
    /// A tilde that stands for nothing.
    #[error("pointer {0:?} has a ~ that is followed by neither 0 (for ~) nor 1 (for /)")]
    Escape(String),
}

impl JsonPointer {
    /// Parses a pointer.
    ///
    /// # Errors
    /// If it is empty, has no leading slash, or holds an escape other than `~0` and `~1`.
    pub fn new(text: impl Into<String>) -> Result<Self, JsonPointerError> {
        let text = text.into();
        if text.is_empty() {
            return Err(JsonPointerError::Empty);
        }
        if !text.starts_with('/') {
            return Err(JsonPointerError::NoSlash(text));
        }
        if text
            .split('~')
            .skip(1)
            .any(|tail| !tail.starts_with(['0', '1']))
        {
            return Err(JsonPointerError::Escape(text));
        }
        Ok(Self(text))
    }

    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for JsonPointer {
    type Error = JsonPointerError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<JsonPointer> for String {
    fn from(pointer: JsonPointer) -> Self {
        pointer.0
    }
}

/// Pointers to the fields of an answer event; in configuration a map of field names to pointers.
///
/// `question` and `answer` must be there and point to strings. The others are optional, in the map
/// and in each document. `event_id`, `conversation_id` and `user_id` may also point to integers,
/// since many logs number their rows. A `created_at` written without fraction and exponent is
/// epoch milliseconds, any other number is epoch seconds. `metadata_json` may point to anything;
/// what is not a string is written out again as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    try_from = "BTreeMap<String, String>",
    into = "BTreeMap<String, String>"
)]
pub struct FieldMap {
    /// To what the user asked.
    pub question: JsonPointer,
    /// To what the upstream model answered.
    pub answer: JsonPointer,
    /// To the producer's id.
    pub event_id: Option<JsonPointer>,
    /// To the name of the upstream model.
    pub upstream_model: Option<JsonPointer>,
    /// To the time of the answer.
    pub created_at: Option<JsonPointer>,
    /// To the conversation's id.
    pub conversation_id: Option<JsonPointer>,
    /// To the user's id.
    pub user_id: Option<JsonPointer>,
    /// To anything else worth keeping.
    pub metadata_json: Option<JsonPointer>,
}

/// A field map that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FieldMapError {
    /// A name that no answer event has.
    #[error("{field:?} is not a field of an answer event; the nearest is {nearest:?}")]
    UnknownField {
        /// The name as written.
        field: String,
        /// The most similar name that exists.
        nearest: &'static str,
    },
    /// `question` or `answer` is not mapped.
    #[error("{field:?} is not mapped: give the JSON Pointer to it, such as {field}: {example}")]
    Missing {
        /// The name of the field.
        field: &'static str,
        /// What a pointer looks like.
        example: &'static str,
    },
    /// A value that is not a pointer.
    #[error("{field}: {source}")]
    Pointer {
        /// The name of the field.
        field: &'static str,
        /// What is wrong with its pointer.
        source: JsonPointerError,
    },
}

const FIELDS: [&str; 8] = [
    "question",
    "answer",
    "event_id",
    "upstream_model",
    "created_at",
    "conversation_id",
    "user_id",
    "metadata_json",
];

impl TryFrom<BTreeMap<String, String>> for FieldMap {
    type Error = FieldMapError;

    fn try_from(mut map: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        let mut take = |field: &'static str| {
            map.remove(field)
                .map(JsonPointer::new)
                .transpose()
                .map_err(|source| FieldMapError::Pointer { field, source })
        };
        let [
            question,
            answer,
            event_id,
            upstream_model,
            created_at,
            conversation_id,
            user_id,
            metadata_json,
        ] = FIELDS.map(&mut take);
        // Before what is missing: a misspelt name is the likelier cause of both.
        if let Some(field) = map.into_keys().next() {
            let nearest = nearest(&field);
            return Err(FieldMapError::UnknownField { field, nearest });
        }
        Ok(Self {
            question: question?.ok_or(FieldMapError::Missing {
                field: "question",
                example: "/messages/0/content",
            })?,
            answer: answer?.ok_or(FieldMapError::Missing {
                field: "answer",
                example: "/choices/0/message/content",
            })?,
            event_id: event_id?,
            upstream_model: upstream_model?,
            created_at: created_at?,
            conversation_id: conversation_id?,
            user_id: user_id?,
            metadata_json: metadata_json?,
        })
    }
}

impl From<FieldMap> for BTreeMap<String, String> {
    fn from(map: FieldMap) -> Self {
        FIELDS
            .into_iter()
            .filter_map(|field| Some((field.to_owned(), map.pointer(field)?.as_str().to_owned())))
            .collect()
    }
}

impl Places for FieldMap {
    fn place(&self, field: &'static str) -> String {
        match self.pointer(field) {
            Some(pointer) => format!("{field} (at {pointer})"),
            None => field.to_owned(),
        }
    }
}

impl FieldMap {
    fn pointer(&self, field: &str) -> Option<&JsonPointer> {
        match field {
            "question" => Some(&self.question),
            "answer" => Some(&self.answer),
            "event_id" => self.event_id.as_ref(),
            "upstream_model" => self.upstream_model.as_ref(),
            "created_at" => self.created_at.as_ref(),
            "conversation_id" => self.conversation_id.as_ref(),
            "user_id" => self.user_id.as_ref(),
            "metadata_json" => self.metadata_json.as_ref(),
            _ => None,
        }
    }

    /// The answer event that a document holds.
    pub(super) fn event(&self, document: &Value) -> Result<AnswerEvent, DecodeError> {
        let find =
            |pointer: Option<&JsonPointer>| pointer.and_then(|p| document.pointer(p.as_str()));
        Draft {
            question: text(find(Some(&self.question))),
            answer: text(find(Some(&self.answer))),
            event_id: id(find(self.event_id.as_ref())),
            upstream_model: text(find(self.upstream_model.as_ref())),
            created_at: instant(find(self.created_at.as_ref())),
            conversation_id: id(find(self.conversation_id.as_ref())),
            user_id: id(find(self.user_id.as_ref())),
            metadata_json: metadata(find(self.metadata_json.as_ref())),
            duplicate: None,
        }
        .finish(self)
    }
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Null | Value::Bool(_) => Kind::Bool,
        Value::Number(_) => Kind::Number,
        Value::String(_) => Kind::Text,
        Value::Array(_) => Kind::Array,
        Value::Object(_) => Kind::Object,
    }
}

fn text(value: Option<&Value>) -> Slot<String> {
    match value {
        None => Slot::Absent,
        Some(Value::Null) => Slot::Null,
        Some(Value::String(text)) => Slot::Is(text.clone()),
        Some(other) => Slot::Wrong(kind(other)),
    }
}

fn id(value: Option<&Value>) -> Slot<String> {
    match value {
        Some(Value::Number(number)) if !number.is_f64() => Slot::Is(number.to_string()),
        other => text(other),
    }
}

fn instant(value: Option<&Value>) -> Slot<i64> {
    /// 9999-12-31T23:59:59.999Z: what warehouses take for a timestamp.
    const LATEST: f64 = 253_402_300_799_999.0;
    match value {
        None => Slot::Absent,
        Some(Value::Null) => Slot::Null,
        Some(Value::Number(number)) if number.is_f64() => {
            let millis = number.as_f64().unwrap_or(f64::NAN) * 1000.0;
            if millis.abs() <= LATEST {
                #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
                Slot::Is(millis.round() as i64)
            } else {
                Slot::OutOfRange
            }
        }
        Some(Value::Number(number)) => number.as_i64().map_or(Slot::OutOfRange, Slot::Is),
        Some(other) => Slot::Wrong(kind(other)),
    }
}

fn metadata(value: Option<&Value>) -> Slot<String> {
    match value {
        None => Slot::Absent,
        Some(Value::Null) => Slot::Null,
        Some(Value::String(text)) => Slot::Is(text.clone()),
        Some(other) => Slot::Is(other.to_string()),
    }
}

/// The field whose name takes the fewest edits.
fn nearest(name: &str) -> &'static str {
    FIELDS
        .into_iter()
        .min_by_key(|field| edits(name, field))
        .expect("there are fields")
}

/// Levenshtein distance.
fn edits(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let substitute = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::json::decode_mapped, reason};

    fn map(json: &str) -> FieldMap {
        serde_json::from_str(json).expect("a field map")
    }

    fn refusal(json: &str) -> String {
        serde_json::from_str::<FieldMap>(json)
            .expect_err("not a field map")
            .to_string()
    }

    const CHAT: &str =
        r#"{"question":"/messages/0/content","answer":"/choices/0/message/content"}"#;

    #[test]
    fn a_chat_log_is_read_as_it_is() {
        let map = map(
            r#"{"question":"/messages/0/content","answer":"/choices/0/message/content",
                "event_id":"/id","upstream_model":"/model","created_at":"/startTime",
                "conversation_id":"/trace~1id","user_id":"/user","metadata_json":"/usage"}"#,
        );
        let log = br#"{"id":"chatcmpl-22","trace/id":7,"model":"gpt-4o","startTime":1766000068.28,
            "user":null,"usage":{"total_tokens":12},"messages":[{"role":"user","content":"Q"}],
            "choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"A"}}]}"#;
        assert_eq!(
            decode_mapped(log, &map).expect("valid"),
            AnswerEvent {
                event_id: Some("chatcmpl-22".into()),
                question: "Q".into(),
                answer: "A".into(),
                upstream_model: Some("gpt-4o".into()),
                created_at: Some(1_766_000_068_280),
                conversation_id: Some("7".into()),
                user_id: None,
                metadata_json: Some(r#"{"total_tokens":12}"#.into()),
            }
        );
    }

    #[test]
    fn a_value_that_is_missing_or_no_string_names_its_pointer() {
        let map = map(CHAT);
        let error = |log: &str| {
            let error = decode_mapped(log.as_bytes(), &map).expect_err("invalid");
            (error.reason, error.message)
        };
        assert_eq!(
            error(r#"{"messages":[{"content":"Q"}]}"#),
            (
                reason::MISSING_ANSWER,
                "answer (at /choices/0/message/content) is missing: write a string there".into()
            )
        );
        assert_eq!(
            error(r#"{"messages":[{"content":[{"text":"Q"}]}]}"#),
            (
                reason::WRONG_TYPE,
                "question (at /messages/0/content) is an array: write a string".into()
            )
        );
        assert_eq!(error("7").0, reason::NOT_AN_OBJECT);
        assert_eq!(error("{").0, reason::INVALID_JSON);
    }

    #[test]
    fn integers_are_milliseconds_and_other_numbers_are_seconds() {
        let map = map(r#"{"question":"/q","answer":"/a","created_at":"/t"}"#);
        let created_at = |number: &str| {
            let log = format!(r#"{{"q":"Q","a":"A","t":{number}}}"#);
            decode_mapped(log.as_bytes(), &map).map(|event| event.created_at)
        };
        assert_eq!(created_at("1766000068280"), Ok(Some(1_766_000_068_280)));
        assert_eq!(created_at("1766000068.0"), Ok(Some(1_766_000_068_000)));
        assert_eq!(created_at("1.5e9"), Ok(Some(1_500_000_000_000)));
        assert_eq!(created_at("null"), Ok(None));
        for (number, expected) in [
            ("1e300", reason::OUT_OF_RANGE),
            ("18446744073709551615", reason::OUT_OF_RANGE),
            (r#""2026-04-09T23:00:17Z""#, reason::WRONG_TYPE),
        ] {
            assert_eq!(created_at(number).expect_err("no instant").reason, expected);
        }
    }

    #[test]
    fn a_mistaken_map_is_refused_with_the_nearest_name_or_the_pointers_fault() {
        assert_eq!(
            refusal(r#"{"question":"/q","answr":"/a"}"#),
            r#""answr" is not a field of an answer event; the nearest is "answer""#
        );
        assert_eq!(
            refusal(r#"{"question":"/q","answer":"/a","conversation":"/c"}"#),
            r#""conversation" is not a field of an answer event; the nearest is "conversation_id""#
        );
        assert_eq!(
            refusal(r#"{"question":"/q"}"#),
            r#""answer" is not mapped: give the JSON Pointer to it, such as answer: /choices/0/message/content"#
        );
        assert_eq!(
            refusal(r#"{"question":"q","answer":"/a"}"#),
            r#"question: pointer "q" must begin with a slash, as in /choices/0/message/content"#
        );
        assert!(refusal(r#"{"question":"/a~2","answer":"/a"}"#).contains('~'));
        assert!(refusal(r#"{"question":"","answer":"/a"}"#).contains("is empty"));
    }

    #[test]
    fn a_map_is_written_as_it_is_read() {
        let read = map(CHAT);
        let written = serde_json::to_string(&read).expect("serialisable");
        assert_eq!(map(&written), read);
    }
}
