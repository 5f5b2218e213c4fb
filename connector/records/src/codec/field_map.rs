//! Where the fields of an answer event stand in somebody else's log.
//!
//! Nobody logs in our schema. A field map names, for each field, the place in a JSON document that
//! holds it, so that an existing log is read as it is.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use super::{
    content_parts::{Joint, message},
    draft::{Draft, OtherUnit, Places, Slot},
    error::DecodeError,
    field_values::{id, instant, metadata, text},
    pointer::{JsonPointer, JsonPointerError},
    pointers::Pointers,
    time_unit::TimeUnit,
    tree::Tree,
    walk::{Reading, Twice},
};
use crate::AnswerEvent;

/// Pointers to the fields of an answer event; in configuration a map of field names to pointers, or
/// to lists of pointers of which the first counts that leads to a value.
///
/// `question` and `answer` must be there and point to texts, or to lists of content parts as chat
/// APIs write them: the texts of the parts are taken one after another, and parts of other kinds
/// (images, calls of tools, thoughts) are left out. Two parts of an answer have nothing between them,
/// since a model's text goes on within a word, and those of a question a line break where neither has
/// white space; so have those of an answer where a part was left out between them. Where a log holds
/// null there or on the way, a list without such an item, or no text, the event has an empty one: chat
/// logs are full of messages that only call tools.
///
/// Where a step names items by what they say of themselves, as in `/messages/role=user/content`, the
/// question is of the last of them that has a text: what tools answer has the user's role with some
/// vendors, and none. Of all other fields the last item counts whatever it has, since an answer of
/// an earlier turn is no answer to this question.
///
/// The other fields are optional, in the map and in each document. `event_id`, `conversation_id`
/// and `user_id` may also point to integers, since many logs number their rows. `metadata_json`
/// may point to anything; what is not a string is written out again as JSON, each number as it
/// stands. A number at `created_at` counts `created_at_unit`s; where that is not given, one without
/// fraction and exponent is epoch milliseconds, any other epoch seconds. One that would be early in
/// 1970 or beyond the year 9999, and that is likely in another unit, is refused. A text there is
/// such a number in digits, or an instant with an offset, as RFC 3339 writes it.
///
/// Of Avro, timestamps stand in `metadata_json` as they are, in their own unit, and decimals with
/// all their digits; durations are objects of `months`, `days` and `milliseconds`. What JSON has no
/// type for (`fixed`, and `bytes` that are not UTF-8) is base64. NaN and infinities are null.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "BTreeMap<String, Written>")]
pub struct FieldMap {
    /// To what the user asked.
    pub question: Pointers,
    /// To what the upstream model answered.
    pub answer: Pointers,
    /// To the producer's id.
    pub event_id: Option<Pointers>,
    /// To the name of the upstream model.
    pub upstream_model: Option<Pointers>,
    /// To the time of the answer.
    pub created_at: Option<Pointers>,
    /// What the number there counts. Avro's timestamps bring a unit of their own.
    pub created_at_unit: Option<TimeUnit>,
    /// To the conversation's id.
    pub conversation_id: Option<Pointers>,
    /// To the user's id.
    pub user_id: Option<Pointers>,
    /// To anything else worth keeping.
    pub metadata_json: Option<Pointers>,
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
    /// A list of no pointers.
    #[error("{field}: the list is empty: write a JSON Pointer into it")]
    NoPointer {
        /// The name of the field.
        field: &'static str,
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

/// A pointer, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a JSON Pointer or a list of them")]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl TryFrom<BTreeMap<String, Written>> for FieldMap {
    type Error = FieldMapError;

    fn try_from(map: BTreeMap<String, Written>) -> Result<Self, Self::Error> {
        let several = |(field, written)| match written {
            Written::One(pointer) => (field, vec![pointer]),
            Written::Several(pointers) => (field, pointers),
        };
        Self::try_from(map.into_iter().map(several).collect::<BTreeMap<_, _>>())
    }
}

impl TryFrom<BTreeMap<String, String>> for FieldMap {
    type Error = FieldMapError;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        let one = |(field, pointer)| (field, vec![pointer]);
        Self::try_from(map.into_iter().map(one).collect::<BTreeMap<_, _>>())
    }
}

impl TryFrom<BTreeMap<String, Vec<String>>> for FieldMap {
    type Error = FieldMapError;

    fn try_from(mut map: BTreeMap<String, Vec<String>>) -> Result<Self, Self::Error> {
        let mut take = |field: &'static str| {
            let Some(written) = map.remove(field) else {
                return Ok(None);
            };
            let pointers: Result<_, _> = written.into_iter().map(JsonPointer::new).collect();
            let pointers = pointers.map_err(|source| FieldMapError::Pointer { field, source })?;
            let pointers = Pointers::new(pointers).ok_or(FieldMapError::NoPointer { field })?;
            Ok(Some(pointers))
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
        match self.pointers(field) {
            Some(pointers) => format!("{field} (at {pointers})"),
            None => field.to_owned(),
        }
    }

    fn instead_of_writing(&self, field: &'static str) -> String {
        format!("mend input.fields.{field}")
    }

    fn instant(&self) -> &'static str {
        "a number in the unit that input.created_at_unit names, or date, time and offset as in \
         2026-04-09T23:00:17Z (RFC 3339), in the years 1 to 9999"
    }

    fn of_other_unit(&self, other: &OtherUnit) -> String {
        if other.is_typed {
            return other.mended();
        }
        format!(
            "set input.created_at_unit to {}, or {}",
            other.likely.name(),
            other.mended()
        )
    }

    fn texts_may_be_empty(&self) -> bool {
        true
    }
}

impl FieldMap {
    fn pointers(&self, field: &str) -> Option<&Pointers> {
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
        let mut fields = Fields {
            map: self,
            document,
            duplicate: None,
        };
        let asked = Reading {
            read: |value: &Tree<'_>| message(value, Joint::LineBreak),
            is_enough: is_no_silence,
        };
        let mut draft = Draft {
            question: fields.field("question", &asked),
            answer: fields.last("answer", |value| message(value, Joint::Nothing)),
            event_id: fields.last("event_id", id),
            upstream_model: fields.last("upstream_model", text),
            created_at: fields.last("created_at", |value| instant(value, self.created_at_unit)),
            conversation_id: fields.last("conversation_id", id),
            user_id: fields.last("user_id", id),
            metadata_json: fields.last("metadata_json", metadata),
            duplicate: None,
        };
        draft.duplicate = fields.duplicate;
        draft
    }
}

/// The fields of a document, as they are asked for.
struct Fields<'m, 't, 'a> {
    map: &'m FieldMap,
    document: &'t Tree<'a>,
    /// The first whose place, or one on the way to it, is there twice.
    duplicate: Option<&'static str>,
}

impl Fields<'_, '_, '_> {
    /// A field, for which the last item of a list counts that its pointer selects.
    fn last<T>(&mut self, field: &'static str, read: impl Fn(&Tree<'_>) -> Slot<T>) -> Slot<T> {
        self.field(field, &Reading::of_last(read))
    }

    fn field<T, R: Fn(&Tree<'_>) -> Slot<T>>(
        &mut self,
        field: &'static str,
        reading: &Reading<T, R>,
    ) -> Slot<T> {
        let Some(pointers) = self.map.pointers(field) else {
            return Slot::Absent;
        };
        pointers
            .read(self.document, reading)
            .unwrap_or_else(|Twice| {
                self.duplicate.get_or_insert(field);
                Slot::Absent
            })
    }
}

/// Whether there is a text, or something wrong in its place.
fn is_no_silence(found: &Slot<String>) -> bool {
    match found {
        Slot::Absent | Slot::Null | Slot::Ended(_) => false,
        Slot::Is(text) => !text.trim().is_empty(),
        _ => true,
    }
}

/// The field whose name takes the fewest edits.
fn nearest(name: &str) -> &'static str {
    FIELDS
        .into_iter()
        .min_by_key(|field| strsim::levenshtein(name, field))
        .expect("there are fields")
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
                "answer (at /choices/0/message/content) is missing: write a string there, or mend \
                 input.fields.answer"
                    .into()
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
    fn a_pointer_that_ends_too_early_tells_where_and_on_what_without_a_word_of_the_record() {
        let map = map(
            r#"{"question":"/row/q/role=user/content","answer":"/row/a/content","user_id":"/row/a/u"}"#,
        );
        for (log, message) in [
            (
                r#"{"row":"canary"}"#,
                "question (at /row/q/role=user/content) is missing, since /row is a string, not an \
                 object: write a string there, or mend input.fields.question",
            ),
            (
                r#"{"row":{"q":"canary"}}"#,
                "question (at /row/q/role=user/content) is missing, since /row/q is a string, not an \
                 array: write a string there, or mend input.fields.question",
            ),
            (
                r#"{"row":{"q":[],"a":"{canary}"}}"#,
                "answer (at /row/a/content) is missing, since /row/a is a string that is no JSON: \
                 write a string there, or mend input.fields.answer",
            ),
        ] {
            let error = read(&map, log).expect_err("no way");
            assert_eq!(error.message, message, "{log}");
        }
    }

    #[test]
    fn a_field_of_several_pointers_stands_where_the_first_leads_to_a_value() {
        let map = map(
            r#"{"question":["/input/role=user/content","/input"],"answer":["/a/b","/a"],
                "user_id":["/end_user","/user"]}"#,
        );
        let asked = |input: &str| {
            let log = format!(r#"{{"input":{input},"a":"A","end_user":null,"user":7}}"#);
            read(&map, &log)
        };
        let event = asked(r#""Q""#).expect("a text");
        assert_eq!((&*event.question, &*event.answer), ("Q", "A"));
        assert_eq!(event.user_id.as_deref(), Some("7"));
        let listed = asked(r#"[{"role":"user","content":"Q"},{"role":"tool","content":"t"}]"#);
        assert_eq!(listed.expect("a list").question, "Q");
        // No message of the user's, and no content parts: nobody asked anything.
        let silent = asked(r#"[{"role":"tool","content":"t"}]"#);
        assert_eq!(silent.expect("silence").question, "");
        assert_eq!(
            asked("7").expect_err("no text").message,
            "question (at /input/role=user/content or /input) is a number: write a string"
        );
        let log = r#"{"input":"Q","b":"A"}"#;
        assert_eq!(
            read(&map, log).expect_err("no answer").message,
            "answer (at /a/b or /a) is missing: write a string there, or mend input.fields.answer"
        );
    }

    #[test]
    fn what_a_log_has_nothing_to_say_of_is_an_empty_text_and_an_absent_name_is_none() {
        let map = map(CHAT);
        for (answer, is_silent) in [
            (r#""choices":null"#, true),
            (r#""choices":[]"#, true),
            (r#""choices":[null]"#, true),
            (r#""choices":[{"message":null}]"#, true),
            (r#""choices":[{"message":{"content":null}}]"#, true),
            (r#""choice":[]"#, false),
            (r#""choices":[{}]"#, false),
            (r#""choices":[{"message":{}}]"#, false),
            (r#""choices":{}"#, false),
        ] {
            let log = format!(r#"{{"messages":[{{"role":"user","content":"Q"}}],{answer}}}"#);
            let found = read(&map, &log).map(|event| event.answer);
            let found = found.map_err(|error| error.reason);
            let expected = if is_silent {
                Ok(String::new())
            } else {
                Err(reason::MISSING_ANSWER)
            };
            assert_eq!(found, expected, "{log}");
        }
        let asked = r#"{"messages":[{"role":"system","content":"S"}],
            "choices":[{"message":{"content":"A"}}]}"#;
        assert_eq!(read(&map, asked).expect("nobody asked").question, "");
        let asked = asked.replace("role", "from");
        let error = read(&map, &asked).expect_err("no message has a role");
        assert!(
            error.message.contains("no item of /messages has \"role\""),
            "{error}"
        );
    }

    #[test]
    fn the_question_is_the_last_one_with_a_text_and_the_answer_the_last_one_whatever_it_has() {
        let map =
            map(r#"{"question":"/m/role=user/content","answer":"/m/role=assistant/content"}"#);
        let read = |turns: &str| {
            let log = format!(r#"{{"m":[{turns}]}}"#);
            read(&map, &log).map(|event| (event.question, event.answer))
        };
        let first = r#"{"role":"user","content":"Q"},{"role":"assistant","content":"A"}"#;
        let call = r#"{"role":"assistant","content":[{"type":"tool_use","name":"t","input":{}}]}"#;
        let texts = |question: &str, answer: &str| Ok((question.to_owned(), answer.to_owned()));
        for (result, question) in [
            (
                r#"[{"type":"tool_result","tool_use_id":"t","content":"21"}]"#,
                "Q",
            ),
            ("[]", "Q"),
            (r#"" ""#, "Q"),
            ("null", "Q"),
            (
                r#"[{"type":"tool_result"},{"type":"text","text":"R"}]"#,
                "R",
            ),
        ] {
            let turns = format!(r#"{first},{call},{{"role":"user","content":{result}}}"#);
            assert_eq!(read(&turns), texts(question, ""), "{result}");
        }
        // Nobody said anything, and the last one did not in these words.
        let silent = r#"{"role":"user","content":null},{"role":"assistant","content":"A"}"#;
        assert_eq!(read(silent), texts("", "A"));
        let wrong = format!(r#"{first},{{"role":"user","content":[{{"type":"text"}}]}}"#);
        assert_eq!(
            read(&wrong).expect_err("no text").reason,
            reason::WRONG_TYPE
        );
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
        assert_eq!(
            refusal(r#"{"question":["/q"],"answer":[]}"#),
            "answer: the list is empty: write a JSON Pointer into it"
        );
        assert!(refusal(r#"{"question":["/q","q"],"answer":"/a"}"#).starts_with("question: "));
        assert!(refusal(r#"{"question":7,"answer":"/a"}"#).contains("or a list of them"));
        assert!(refusal(r#"{"question":"/a~2","answer":"/a"}"#).contains('~'));
        assert!(refusal(r#"{"question":"","answer":"/a"}"#).contains("is empty"));
    }
}
