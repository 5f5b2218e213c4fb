//! An answer event under construction, whatever it is read from: JSON, Avro, or somebody else's
//! log through a [`FieldMap`](crate::FieldMap).
//!
//! The rules that make an event valid stand here once, so that every format gives the same reason
//! for the same mistake.

use std::fmt;

use super::{
    error::{DecodeError, reason},
    field_values::text,
    time_unit::TimeUnit,
    tree::{Found, Tree},
};
use crate::{AnswerEvent, answer_event::INSTANTS};

/// What was found where a text or a number was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Number,
    NotFinite,
    Fraction,
    Text,
    Array,
    Object,
    Bytes,
    /// A list of messages, of which this one is one, and not of content parts.
    Message(usize),
    /// A list of content parts of which this one has a member of this name twice.
    Twice(usize, &'static str),
    /// A list of content parts of which this one is a text by name and has none where we know one
    /// to be.
    Textless(usize),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::NotFinite => "a number that is not finite",
            Self::Fraction => "a number with a fraction or an exponent",
            Self::Text => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
            Self::Bytes => "bytes",
            Self::Message(item) => {
                return write!(
                    f,
                    "a list whose item {item} is a message: point to the content of one, as in \
                     /messages/role=assistant/content"
                );
            }
            Self::Twice(part, name) => {
                return write!(f, "a list whose part {part} has two members {name}");
            }
            Self::Textless(part) => {
                return write!(
                    f,
                    "a list whose part {part} is a text by name and has none at text or content"
                );
            }
        })
    }
}

/// The value of one field: there, absent or null, or not of its type.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Slot<T> {
    #[default]
    Absent,
    Null,
    /// It would lie behind something that holds nothing by such a name, as this clause says.
    Ended(String),
    Is(T),
    Wrong(Kind),
    OutOfRange,
    OtherUnit(OtherUnit),
    /// A number that would lie early in 1970 if it counts seconds, as nobody said. So many
    /// milliseconds that makes.
    Early(i64),
    /// A text that is no instant.
    NoInstant,
}

/// A number that most likely counts another unit than it was taken for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OtherUnit {
    pub number: String,
    pub taken: TimeUnit,
    /// Whether its type says what it counts, whatever is configured.
    pub is_typed: bool,
    pub likely: TimeUnit,
    /// What it most likely is in milliseconds.
    pub millis: i64,
}

impl OtherUnit {
    /// What an integer that was taken for a count of a unit is instead, if that is likelier.
    pub fn of(number: i64, taken: TimeUnit) -> Option<Self> {
        let (likely, millis) = taken.mistaken(number)?;
        Some(Self {
            number: number.to_string(),
            taken,
            is_typed: false,
            likely,
            millis,
        })
    }

    /// How it is written as what it was taken for.
    pub fn mended(&self) -> String {
        let unit = self.taken.name();
        format!("write epoch {unit}, here {}", self.taken.count(self.millis))
    }
}

impl<T> Slot<T> {
    fn value(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            _ => None,
        }
    }
}

impl Slot<i64> {
    /// The instant of a number that stands for milliseconds.
    pub fn millis(number: i64) -> Self {
        match OtherUnit::of(number, TimeUnit::Milliseconds) {
            Some(other) => Self::OtherUnit(other),
            None => Self::Is(number),
        }
    }

    /// The instant of a number whose type says what it counts.
    pub fn typed(number: i64, unit: TimeUnit) -> Self {
        match OtherUnit::of(number, unit) {
            Some(other) => Self::OtherUnit(OtherUnit {
                is_typed: true,
                ..other
            }),
            None => unit.of_integer(number).map_or(Self::OutOfRange, Self::Is),
        }
    }
}

/// The fields of an answer event, each as it was found.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub event_id: Slot<String>,
    pub question: Slot<String>,
    pub answer: Slot<String>,
    pub upstream_model: Slot<String>,
    pub created_at: Slot<i64>,
    pub conversation_id: Slot<String>,
    pub user_id: Slot<String>,
    pub metadata_json: Slot<String>,
    /// A name that was there twice.
    pub duplicate: Option<&'static str>,
}

/// Says where a field is looked for, in the words of whoever wrote the record.
pub(super) trait Places {
    /// Such as `field "answer"`.
    fn place(&self, field: &'static str) -> String;

    /// What else may be done about a question or an answer that is not there than to write it.
    fn instead_of_writing(&self, field: &'static str) -> String;

    /// What `created_at` is, for whoever wrote something else.
    fn instant(&self) -> &'static str {
        "an integer of epoch milliseconds, in the years 1 to 9999"
    }

    /// What to do about a `created_at` of another unit.
    fn of_other_unit(&self, other: &OtherUnit) -> String {
        other.mended()
    }

    /// Whether there are questions and answers without text. What was written for us has none.
    fn texts_may_be_empty(&self) -> bool {
        false
    }
}

/// Fields stand under their own names at the top of the record.
pub(super) struct OwnNames;

impl Places for OwnNames {
    fn place(&self, field: &'static str) -> String {
        format!("field \"{field}\"")
    }

    fn instead_of_writing(&self, field: &'static str) -> String {
        format!("say where it is with input.fields.{field}")
    }
}

impl Draft {
    /// What a document holds under our own names; a name that stands twice holds nothing.
    pub fn of_own_names(document: &Tree<'_>) -> Self {
        let find = |field| match document.member(field) {
            Found::One(value) => Some(value),
            Found::Nothing | Found::Twice => None,
        };
        let text_of = |field| find(field).map_or(Slot::Absent, text);
        let created_at = match find("created_at") {
            Some(Tree::Number(number)) => {
                number.parse::<i64>().map_or(Slot::OutOfRange, Slot::millis)
            }
            _ => Slot::Absent,
        };
        Self {
            event_id: text_of("event_id"),
            question: text_of("question"),
            answer: text_of("answer"),
            upstream_model: text_of("upstream_model"),
            created_at,
            conversation_id: text_of("conversation_id"),
            user_id: text_of("user_id"),
            metadata_json: text_of("metadata_json"),
            duplicate: None,
        }
    }

    /// The fields that are as they should be, whatever rule the others break.
    pub fn remains(self) -> AnswerEvent {
        AnswerEvent {
            event_id: self.event_id.value().filter(|id| !id.is_empty()),
            question: self.question.value().unwrap_or_default(),
            answer: self.answer.value().unwrap_or_default(),
            upstream_model: self.upstream_model.value(),
            created_at: self.created_at.value().filter(|at| INSTANTS.contains(at)),
            conversation_id: self.conversation_id.value(),
            user_id: self.user_id.value(),
            metadata_json: self.metadata_json.value(),
        }
    }

    /// The event, or the first rule that it breaks.
    pub fn finish(self, places: &impl Places) -> Result<AnswerEvent, DecodeError> {
        if let Some(field) = self.duplicate {
            return Err(DecodeError::new(
                reason::DUPLICATE_FIELD,
                format!("{} stands twice: write it once", places.place(field)),
            ));
        }
        let created_at = match self.created_at {
            Slot::Is(millis) if !INSTANTS.contains(&millis) => Slot::OutOfRange,
            other => other,
        };
        Ok(AnswerEvent {
            question: required(self.question, "question", places)?,
            answer: required(self.answer, "answer", places)?,
            // An empty id names nothing: the source position stands in, as for an absent one.
            event_id: optional(self.event_id, "event_id", "a string", places)?
                .filter(|id| !id.is_empty()),
            upstream_model: optional(self.upstream_model, "upstream_model", "a string", places)?,
            created_at: optional(created_at, "created_at", places.instant(), places)?,
            conversation_id: optional(self.conversation_id, "conversation_id", "a string", places)?,
            user_id: optional(self.user_id, "user_id", "a string", places)?,
            metadata_json: optional(
                self.metadata_json,
                "metadata_json",
                "a string holding JSON",
                places,
            )?,
        })
    }
}

fn required(
    slot: Slot<String>,
    field: &'static str,
    places: &impl Places,
) -> Result<String, DecodeError> {
    let (missing, empty) = if field == "question" {
        (reason::MISSING_QUESTION, reason::EMPTY_QUESTION)
    } else {
        (reason::MISSING_ANSWER, reason::EMPTY_ANSWER)
    };
    let since = match &slot {
        Slot::Ended(why) => format!(", since {why}"),
        _ => String::new(),
    };
    let is_absent = matches!(slot, Slot::Absent | Slot::Ended(_));
    let may_be_empty = !is_absent && places.texts_may_be_empty();
    match optional(slot, field, "a string", places)? {
        Some(text) if !text.trim().is_empty() => Ok(text),
        _ if may_be_empty => Ok(String::new()),
        None if is_absent => Err(DecodeError::new(
            missing,
            format!(
                "{} is missing{since}: write a string there, or {}",
                places.place(field),
                places.instead_of_writing(field)
            ),
        )),
        None => Err(DecodeError::new(
            missing,
            format!("{} is null: write a string there", places.place(field)),
        )),
        Some(_) => Err(DecodeError::new(
            empty,
            format!("{} is empty: write its text there", places.place(field)),
        )),
    }
}

fn optional<T>(
    slot: Slot<T>,
    field: &'static str,
    expected: &str,
    places: &impl Places,
) -> Result<Option<T>, DecodeError> {
    match slot {
        Slot::Absent | Slot::Null | Slot::Ended(_) => Ok(None),
        Slot::Is(value) => Ok(Some(value)),
        Slot::Wrong(kind) => Err(DecodeError::new(
            reason::WRONG_TYPE,
            format!("{} is {kind}: write {expected}", places.place(field)),
        )),
        Slot::NoInstant => Err(DecodeError::new(
            reason::WRONG_TYPE,
            format!(
                "{} is a string that is no instant: write {expected}",
                places.place(field)
            ),
        )),
        Slot::OtherUnit(other) => {
            let not = match other.taken {
                TimeUnit::Milliseconds => String::new(),
                taken => format!(" and not {}", taken.name()),
            };
            Err(DecodeError::new(
                reason::OUT_OF_RANGE,
                format!(
                    "{} is {}, most likely {}{not}: {}",
                    places.place(field),
                    other.number,
                    other.likely.name(),
                    places.of_other_unit(&other)
                ),
            ))
        }
        Slot::Early(millis) => Err(DecodeError::new(
            reason::OUT_OF_RANGE,
            format!(
                "{} is {}, in seconds a time early in 1970: write {expected}",
                places.place(field),
                TimeUnit::Seconds.count(millis)
            ),
        )),
        Slot::OutOfRange => Err(DecodeError::new(
            reason::OUT_OF_RANGE,
            format!("{} is out of range: write {expected}", places.place(field)),
        )),
    }
}
