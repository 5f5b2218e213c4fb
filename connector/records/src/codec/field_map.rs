//! Where the fields of an answer event stand in somebody else's log.
//!
//! Nobody logs in our schema. A field map names, for each field, the place in a JSON document that
//! holds it, so that an existing log is read as it is.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::{
    draft::{Draft, Kind, Places, Slot},
    error::DecodeError,
    pointer::{JsonPointer, JsonPointerError},
    time_unit::TimeUnit,
    tree::{Found, Tree},
};
use crate::AnswerEvent;

/// Pointers to the fields of an answer event; in configuration a map of field names to pointers.
///
/// `question` and `answer` must be there and point to texts, or to lists of content parts as chat
/// APIs write them: the texts of the parts are taken one after another, with a line break between
/// two where neither has white space, and parts of other kinds (images, calls of tools, thoughts)
/// are left out. Where a log holds null there, or no text, the event has an empty one: chat logs are full of
/// messages that only call tools.
///
/// The other fields are optional, in the map and in each document. `event_id`, `conversation_id`
/// and `user_id` may also point to integers, since many logs number their rows. `metadata_json`
/// may point to anything; what is not a string is written out again as JSON, each number as it
/// stands. A number at `created_at` counts `created_at_unit`s; where that is not given, one without
/// fraction and exponent is epoch milliseconds, any other epoch seconds. A text there is an instant
/// with an offset, as RFC 3339 writes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
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
    /// What the number there counts. Avro's timestamps bring a unit of their own.
    pub created_at_unit: Option<TimeUnit>,
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
                example: "/messages/role=user/content",
            })?,
            answer: answer?.ok_or(FieldMapError::Missing {
                field: "answer",
                example: "/choices/0/message/content",
            })?,
            event_id: event_id?,
            upstream_model: upstream_model?,
            created_at: created_at?,
            created_at_unit: None,
            conversation_id: conversation_id?,
            user_id: user_id?,
            metadata_json: metadata_json?,
        })
    }
}

impl Places for FieldMap {
    fn place(&self, field: &'static str) -> String {
        match self.pointer(field) {
            Some(pointer) => format!("{field} (at {pointer})"),
            None => field.to_owned(),
        }
    }

    fn instant(&self) -> &'static str {
        "a number in the unit that input.created_at_unit names, or date, time and offset as in \
         2026-04-09T23:00:17Z (RFC 3339), in the years 1 to 9999"
    }

    fn of_other_unit(&self, unit: TimeUnit, millis: i64) -> String {
        format!(
            "set input.created_at_unit to {}, or write epoch milliseconds, here {millis}",
            unit.name()
        )
    }

    fn texts_may_be_empty(&self) -> bool {
        true
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
    pub(super) fn event(&self, document: &Tree<'_>) -> Result<AnswerEvent, DecodeError> {
        self.draft(document).finish(self)
    }

    /// What stands at each field's place.
    pub(super) fn draft(&self, document: &Tree<'_>) -> Draft {
        let mut duplicate = None;
        let mut find = |field: &'static str| match self
            .pointer(field)
            .map_or(Found::Nothing, |at| at.find(document))
        {
            Found::One(value) => Some(value),
            Found::Nothing => None,
            Found::Twice => {
                duplicate.get_or_insert(field);
                None
            }
        };
        let mut draft = Draft {
            question: message(find("question")),
            answer: message(find("answer")),
            event_id: id(find("event_id")),
            upstream_model: text(find("upstream_model")),
            created_at: instant(find("created_at"), self.created_at_unit),
            conversation_id: id(find("conversation_id")),
            user_id: id(find("user_id")),
            metadata_json: metadata(find("metadata_json")),
            duplicate: None,
        };
        draft.duplicate = duplicate;
        draft
    }
}

fn kind(value: &Tree<'_>) -> Kind {
    match value {
        Tree::Null | Tree::Bool(_) => Kind::Bool,
        Tree::Foreign(kind) => *kind,
        Tree::Number(_) => Kind::Number,
        Tree::Text(_) => Kind::Text,
        Tree::Array(_) => Kind::Array,
        Tree::Object(_) => Kind::Object,
    }
}

/// A text, which is all that some fields take.
pub(super) fn text(value: Option<&Tree<'_>>) -> Slot<String> {
    match value {
        None => Slot::Absent,
        Some(Tree::Null) => Slot::Null,
        Some(Tree::Text(text)) => Slot::Is(text.to_string()),
        Some(other) => Slot::Wrong(kind(other)),
    }
}

/// A text, or the texts of content parts.
fn message(value: Option<&Tree<'_>>) -> Slot<String> {
    let Some(Tree::Array(parts)) = value else {
        return text(value);
    };
    let mut whole = String::new();
    for part in parts {
        match part {
            Tree::Text(text) => append(&mut whole, text),
            Tree::Object(_) => match part_text(part) {
                Ok(text) => append(&mut whole, text),
                Err(kind) => return Slot::Wrong(kind),
            },
            _ => return Slot::Wrong(Kind::Array),
        }
    }
    Slot::Is(whole)
}

/// Appends the text of a part, so that the last word before it and its first one stay two.
fn append(whole: &mut String, text: &str) {
    let is_joint = !whole.is_empty() && !text.is_empty();
    let is_apart = whole.ends_with(char::is_whitespace) || text.starts_with(char::is_whitespace);
    if is_joint && !is_apart {
        whole.push('\n');
    }
    whole.push_str(text);
}

/// The text of a content part, empty for parts of other kinds: OpenAI and Anthropic say `text`,
/// OpenAI's Responses API `input_text` and `output_text`, Google nothing, and `thought` of what a
/// model only thought, which nobody was told. OpenAI's Assistants API has the text one step further
/// in, at `value`, beside its annotations.
///
/// # Errors
///
/// What stands in place of the text, which is never left out without a word.
fn part_text<'t>(part: &'t Tree<'_>) -> Result<&'t str, Kind> {
    match part.member("type") {
        Found::Nothing => {}
        Found::One(Tree::Text(kind))
            if matches!(kind.as_ref(), "text" | "input_text" | "output_text") => {}
        _ => return Ok(""),
    }
    if matches!(part.member("thought"), Found::One(Tree::Bool(true))) {
        return Ok("");
    }
    let text = match part.member("text") {
        Found::One(annotated @ Tree::Object(_)) => annotated.member("value"),
        text => text,
    };
    match text {
        Found::One(Tree::Text(text)) => Ok(text),
        Found::Nothing | Found::One(Tree::Null) => Ok(""),
        Found::One(other) => Err(kind(other)),
        Found::Twice => Err(Kind::TwoTexts),
    }
}

/// Whether a number has neither fraction nor exponent.
fn is_integer(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

fn id(value: Option<&Tree<'_>>) -> Slot<String> {
    match value {
        Some(Tree::Number(number)) if is_integer(number) => Slot::Is(number.to_string()),
        other => text(other),
    }
}

fn instant(value: Option<&Tree<'_>>, unit: Option<TimeUnit>) -> Slot<i64> {
    match value {
        None => Slot::Absent,
        Some(Tree::Null) => Slot::Null,
        Some(Tree::Number(number)) => {
            let unit = unit.unwrap_or(if is_integer(number) {
                TimeUnit::Milliseconds
            } else {
                TimeUnit::Seconds
            });
            match unit.millis(number) {
                None => Slot::OutOfRange,
                Some(millis) if unit == TimeUnit::Milliseconds => Slot::millis(millis),
                Some(millis) => Slot::Is(millis),
            }
        }
        Some(Tree::Text(text)) => match text.parse::<Timestamp>() {
            Ok(at) => Slot::Is(at.as_millisecond()),
            Err(_) => Slot::NoInstant,
        },
        Some(other) => Slot::Wrong(kind(other)),
    }
}

fn metadata(value: Option<&Tree<'_>>) -> Slot<String> {
    match value {
        None => Slot::Absent,
        Some(Tree::Null | Tree::Foreign(_)) => Slot::Null,
        Some(Tree::Text(text)) => Slot::Is(text.to_string()),
        Some(other) => Slot::Is(
            serde_json::to_string(other).expect("a tree has text keys and no other way to fail"),
        ),
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
        r#"{"question":"/messages/role=user/content","answer":"/choices/0/message/content"}"#;

    fn read(map: &FieldMap, log: &str) -> Result<AnswerEvent, DecodeError> {
        decode_mapped(log.as_bytes(), map)
    }

    #[test]
    fn a_chat_log_is_read_as_it_is() {
        let mut map = map(
            r#"{"question":"/messages/role=user/content","answer":"/choices/0/message/content",
                "event_id":"/id","upstream_model":"/model","created_at":"/created",
                "conversation_id":"/trace~1id","user_id":"/user","metadata_json":"/usage"}"#,
        );
        map.created_at_unit = Some(TimeUnit::Seconds);
        let log = r#"{"id":"chatcmpl-22","trace/id":7,"model":"gpt-4o","created":1766000068,
            "user":null,"usage":{"total_tokens":12},"messages":[
                {"role":"system","content":"Be brief."},{"role":"user","content":"First?"},
                {"role":"assistant","content":"Yes."},{"role":"user","content":"Q"}],
            "choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"A"}}]}"#;
        assert_eq!(
            read(&map, log).expect("valid"),
            AnswerEvent {
                event_id: Some("chatcmpl-22".into()),
                question: "Q".into(),
                answer: "A".into(),
                upstream_model: Some("gpt-4o".into()),
                created_at: Some(1_766_000_068_000),
                conversation_id: Some("7".into()),
                user_id: None,
                metadata_json: Some(r#"{"total_tokens":12}"#.into()),
            }
        );
    }

    #[test]
    fn the_texts_of_content_parts_are_taken_one_after_another() {
        let map = map(r#"{"question":"/q","answer":"/a"}"#);
        let log = r#"{"q":[{"type":"text","text":"Who is "},
                {"type":"image_url","image_url":{"url":"https://example.com/cat.png"}},
                {"type":"input_text","text":"this?"}," Say."],
            "a":[{"type":"thinking","thinking":"Hm."},{"type":"output_text","text":"A "},
                {"text":"A dog?","thought":true},{"text":"cat.","thought":false},{"type":"tool_use","name":"t","input":{}}]}"#;
        let event = read(&map, log).expect("valid");
        assert_eq!(event.question, "Who is this? Say.");
        assert_eq!(event.answer, "A cat.");
    }

    #[test]
    fn the_text_of_an_annotated_part_is_its_value() {
        let map = map(r#"{"question":"/q","answer":"/a"}"#);
        let log = r#"{"q":"Q","a":[{"type":"text","text":{"value":"A.","annotations":[]}}]}"#;
        assert_eq!(read(&map, log).expect("valid").answer, "A.");
    }

    #[test]
    fn a_part_whose_text_is_none_is_refused_and_not_left_out() {
        let map = map(r#"{"question":"/q","answer":"/a"}"#);
        for (part, found) in [
            (r#"{"type":"text","text":7}"#, "a number"),
            (r#"{"type":"text","text":["A"]}"#, "an array"),
            (r#"{"type":"text","text":{"value":true}}"#, "a boolean"),
            (r#"{"text":"A","text":"B"}"#, "two texts"),
        ] {
            let log = format!(r#"{{"q":"Q","a":[{{"text":"So."}},{part}]}}"#);
            let error = read(&map, &log).expect_err(part);
            assert_eq!(error.reason, reason::WRONG_TYPE);
            assert!(error.message.contains(found), "{}", error.message);
        }
    }

    #[test]
    fn texts_of_parts_have_white_space_between_them_and_a_line_break_where_they_bring_none() {
        let map = map(r#"{"question":"/q","answer":"/a"}"#);
        let image = r#",{"type":"image_url","image_url":{"url":"https://example.com/cat.png"}},"#;
        for (parts, answer) in [
            (vec!["Hello", "world"], "Hello\nworld"),
            (vec!["Hello ", "world"], "Hello world"),
            (vec!["Hello", " world"], "Hello world"),
            (vec!["Hello\n\n", "world"], "Hello\n\nworld"),
            (vec!["", "Hello", "", "world", ""], "Hello\nworld"),
            (vec!["Hello"], "Hello"),
        ] {
            let parts: Vec<_> = parts
                .iter()
                .map(|text| serde_json::json!({"type": "text", "text": text}).to_string())
                .collect();
            for between in [",", image] {
                let log = format!(r#"{{"q":"Q","a":[{}]}}"#, parts.join(between));
                assert_eq!(read(&map, &log).expect("valid").answer, answer, "{log}");
            }
        }
    }

    #[test]
    fn a_message_without_text_is_an_event_with_an_empty_one_and_an_absent_message_is_none() {
        let map = map(r#"{"question":"/q","answer":"/a"}"#);
        for answer in [
            "null",
            r#""""#,
            r#"" \n""#,
            "[]",
            r#"[{"type":"tool_use","name":"t","input":{}}]"#,
            r#"[{"type":"refusal","refusal":"No."}]"#,
        ] {
            let event = read(&map, &format!(r#"{{"q":"Q","a":{answer}}}"#)).expect(answer);
            assert_eq!((event.question.as_str(), event.answer.as_str()), ("Q", ""));
        }
        let error = read(&map, r#"{"q":"Q"}"#).expect_err("absent");
        assert_eq!(error.reason, reason::MISSING_ANSWER);
    }

    #[test]
    fn a_value_that_is_missing_or_no_text_names_its_pointer() {
        let map = map(CHAT);
        let error = |log: &str| {
            let error = read(&map, log).expect_err("invalid");
            (error.reason, error.message)
        };
        assert_eq!(
            error(r#"{"messages":[{"role":"user","content":"Q"}]}"#),
            (
                reason::MISSING_ANSWER,
                "answer (at /choices/0/message/content) is missing: write a string there".into()
            )
        );
        for content in [r#"{"text":"Q"}"#, "[[1]]"] {
            let log = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
            let (reason, message) = error(&log);
            assert_eq!(reason, reason::WRONG_TYPE);
            assert!(message.contains("/messages/role=user/content"), "{message}");
        }
        assert_eq!(error("7").0, reason::NOT_AN_OBJECT);
        assert_eq!(error("{").0, reason::INVALID_JSON);
    }

    #[test]
    fn a_mapped_name_that_stands_twice_is_refused_and_another_one_is_not() {
        let map = map(r#"{"question":"/q","answer":"/a/text","user_id":"/u"}"#);
        for log in [
            r#"{"q":"Q","a":{"text":"A"},"q":"R"}"#,
            r#"{"q":"Q","a":{"text":"A"},"a":{}}"#,
            r#"{"q":"Q","a":{"text":"A","text":"A"}}"#,
            r#"{"q":"Q","a":{"text":"A"},"u":1,"u":1}"#,
        ] {
            let error = read(&map, log).expect_err("ambiguous");
            assert_eq!(error.reason, reason::DUPLICATE_FIELD, "{log}");
            assert!(error.message.contains("(at /"), "{}", error.message);
        }
        let log = r#"{"q":"Q","a":{"text":"A","x":1,"x":2},"y":1,"y":2}"#;
        assert_eq!(read(&map, log).expect("valid").answer, "A");
    }

    #[test]
    fn a_number_counts_the_unit_that_the_map_names_and_a_text_is_rfc_3339() {
        let mut map = map(r#"{"question":"/q","answer":"/a","created_at":"/t"}"#);
        let mut created_at = |unit, number: &str| {
            map.created_at_unit = unit;
            let log = format!(r#"{{"q":"Q","a":"A","t":{number}}}"#);
            read(&map, &log).map(|event| event.created_at)
        };
        for (unit, number, millis) in [
            (TimeUnit::Seconds, "1766000068", 1_766_000_068_000),
            (TimeUnit::Seconds, "1766000068.28", 1_766_000_068_280),
            (TimeUnit::Milliseconds, "1766000068280", 1_766_000_068_280),
            (
                TimeUnit::Microseconds,
                "1766000068280999",
                1_766_000_068_280,
            ),
            (
                TimeUnit::Nanoseconds,
                "1766000068280999999",
                1_766_000_068_280,
            ),
        ] {
            assert_eq!(created_at(Some(unit), number), Ok(Some(millis)), "{number}");
        }
        // Without one, integers are milliseconds and other numbers are seconds.
        assert_eq!(
            created_at(None, "1766000068280"),
            Ok(Some(1_766_000_068_280))
        );
        assert_eq!(
            created_at(None, "1766000068.0"),
            Ok(Some(1_766_000_068_000))
        );
        assert_eq!(created_at(None, "1.5e9"), Ok(Some(1_500_000_000_000)));
        assert_eq!(created_at(None, "null"), Ok(None));
        // A text says its unit itself.
        for text in [
            r#""2026-04-09T23:00:17.280Z""#,
            r#""2026-04-10T01:00:17.280999+02:00""#,
            r#""2026-04-09 23:00:17.28Z""#,
        ] {
            assert_eq!(
                created_at(Some(TimeUnit::Seconds), text),
                Ok(Some(1_775_775_617_280)),
                "{text}"
            );
        }
        for (unit, number, expected) in [
            (None, "1e300", reason::OUT_OF_RANGE),
            (None, "-1e400", reason::OUT_OF_RANGE),
            (None, "18446744073709551615", reason::OUT_OF_RANGE),
            (None, "1766000068", reason::OUT_OF_RANGE),
            (
                Some(TimeUnit::Milliseconds),
                "1766000068",
                reason::OUT_OF_RANGE,
            ),
            (
                Some(TimeUnit::Seconds),
                "1766000068280",
                reason::OUT_OF_RANGE,
            ),
            (None, r#""9 April 2026""#, reason::WRONG_TYPE),
            // Without an offset it is no instant.
            (None, r#""2026-04-09T23:00:17""#, reason::WRONG_TYPE),
            (None, r#""-000001-01-01T00:00:00Z""#, reason::OUT_OF_RANGE),
        ] {
            let error = created_at(unit, number).expect_err("no instant");
            assert_eq!(error.reason, expected, "{number}");
        }
        // Early in 1970, and said to be.
        assert_eq!(
            created_at(Some(TimeUnit::Seconds), "1766000"),
            Ok(Some(1_766_000_000))
        );
        assert_eq!(
            created_at(None, r#""1970-01-21T10:33:20Z""#),
            Ok(Some(1_766_000_000))
        );
        let error = created_at(None, "1766000068").expect_err("seconds");
        assert_eq!(
            error.message,
            "created_at (at /t) is 1766000068, most likely seconds: set input.created_at_unit to \
             seconds, or write epoch milliseconds, here 1766000068000"
        );
    }

    #[test]
    fn a_number_that_no_float_holds_is_a_fault_only_where_its_field_takes_none() {
        let map = map(r#"{"question":"/q","answer":"/a","upstream_model":"/m"}"#);
        let event = read(&map, r#"{"q":"Q","a":"A","score":1e400,"n":[-1e999]}"#);
        assert_eq!(event.expect("valid").answer, "A");
        for log in [r#"{"q":"Q","a":1e400}"#, r#"{"q":"Q","a":"A","m":1e400}"#] {
            let error = read(&map, log).expect_err("no text");
            assert_eq!(error.reason, reason::WRONG_TYPE, "{log}");
            assert!(error.message.contains("is a number"), "{error}");
        }
    }

    #[test]
    fn numbers_in_metadata_and_ids_keep_their_digits() {
        let map =
            map(r#"{"question":"/q","answer":"/a","event_id":"/id","metadata_json":"/meta"}"#);
        let id = "123456789012345678901234567890";
        let meta = r#"{"n":[18446744073709551616,0.10000000000000000001,1E2,-0,1e400]}"#;
        let log = format!(r#"{{"q":"Q","a":"A","id":{id},"meta":{meta}}}"#);
        let event = read(&map, &log).expect("valid");
        assert_eq!(event.event_id.as_deref(), Some(id));
        assert_eq!(event.metadata_json.as_deref(), Some(meta));
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
}
