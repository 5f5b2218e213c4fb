//! JSON: one object to a record.
//!
//! The plain path reads an answer event in one pass without building a tree, because the service
//! reads tens of thousands of them a second beside everything else it does. Fields that the schema
//! does not name are skipped. Halves of surrogate pairs are read as U+FFFD, in both layouts.

use std::{cell::RefCell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use super::{
    document,
    draft::{Draft, Kind, OwnNames, Slot},
    error::{DecodeError, reason},
    json_writer, surrogates,
    syntax::syntax,
};
use crate::{AnswerEvent, FieldMap, Record};

/// Reads an answer event in the schema's own shape.
///
/// # Errors
/// If the bytes are not such an event; the error says why.
pub fn decode_answer(bytes: &[u8]) -> Result<AnswerEvent, DecodeError> {
    // Checked first and at once: it is faster than checking string by string, and tells a wrong
    // encoding from wrong JSON.
    let text = utf8(bytes)?;
    match first_byte(text) {
        None | Some(b'{') => draft(text)?.finish(&OwnNames),
        Some(first) => {
            serde_json::from_str::<IgnoredAny>(text).map_err(|error| syntax(&error))?;
            Err(not_an_object(first))
        }
    }
}

/// Reads an answer event out of a log of another shape.
///
/// # Errors
/// If the bytes are not JSON, or lack a question or an answer where `fields` points.
pub fn decode_mapped(bytes: &[u8], fields: &FieldMap) -> Result<AnswerEvent, DecodeError> {
    let text = utf8(bytes)?;
    let document = document::read(text)?;
    match first_byte(text) {
        // An array is a shape that pointers can walk, too.
        Some(b'{' | b'[') => fields.event(&document),
        first => Err(not_an_object(first.unwrap_or_default())),
    }
}

/// What can be read of bytes that are no answer event, so that their dead letter tells whose they
/// are: each field that is as it should be, whatever is wrong with others, and an empty text in
/// place of a question or an answer that is not. With `fields`, of a log of another shape.
pub fn remains(bytes: &[u8], fields: Option<&FieldMap>) -> AnswerEvent {
    let Ok(document) = utf8(bytes).and_then(document::read) else {
        return AnswerEvent::default();
    };
    let draft = match fields {
        None => Draft::of_own_names(&document),
        Some(fields) => fields.draft(&document),
    };
    draft.remains()
}

/// Writes a record; every field is there, `null` where it has no value.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    thread_local! {
        /// Where a record is written whose length is not known yet. Outputs wait for their
        /// delivery by the thousand, so what is handed out has no byte to spare.
        static DRAFT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    DRAFT.with_borrow_mut(|draft| {
        draft.clear();
        json_writer::write(record, draft).expect("records are flat");
        draft.to_vec()
    })
}

/// Reads a record that [`encode`] of this or an earlier version wrote.
///
/// # Errors
/// If the bytes are not JSON of the record's shape.
pub fn decode<R: Record + DeserializeOwned>(bytes: &[u8]) -> Result<R, DecodeError> {
    serde_json::from_str(utf8(bytes)?).map_err(|error| match error.classify() {
        // What serde says about a wrong value quotes it.
        serde_json::error::Category::Data => DecodeError::new(
            reason::WRONG_TYPE,
            format!("not a {} of schemas/{}", R::NAME, R::FILE),
        ),
        _ => syntax(&error),
    })
}

/// The text, without the byte order mark that some editors put first.
fn utf8(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        DecodeError::new(
            reason::INVALID_UTF8,
            format!(
                "byte {} of {} is not UTF-8: write the record in UTF-8",
                error.valid_up_to(),
                bytes.len()
            ),
        )
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// The fields of a text; if that is no JSON to serde_json and has halves of surrogate pairs, those
/// of the text without them. Places are the same in both, and so is any other fault.
fn draft(text: &str) -> Result<Draft, DecodeError> {
    serde_json::from_str(text)
        .or_else(|error| match surrogates::mended(text) {
            Some(mended) => serde_json::from_str(&mended),
            None => Err(error),
        })
        .map_err(|error| syntax(&error))
}

fn first_byte(text: &str) -> Option<u8> {
    text.trim_ascii_start().bytes().next()
}

/// For a JSON value, whose first byte tells its type.
fn not_an_object(first: u8) -> DecodeError {
    let found = match first {
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        _ => "a number",
    };
    DecodeError::new(
        reason::NOT_AN_OBJECT,
        format!("the value is {found}: write one JSON object to a record"),
    )
}

#[derive(Clone, Copy)]
enum Name {
    EventId,
    Question,
    Answer,
    UpstreamModel,
    CreatedAt,
    ConversationId,
    UserId,
    MetadataJson,
    Other,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::EventId => "event_id",
            Self::Question => "question",
            Self::Answer => "answer",
            Self::UpstreamModel => "upstream_model",
            Self::CreatedAt => "created_at",
            Self::ConversationId => "conversation_id",
            Self::UserId => "user_id",
            Self::MetadataJson => "metadata_json",
            Self::Other => "",
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "event_id" => Name::EventId,
                    "question" => Name::Question,
                    "answer" => Name::Answer,
                    "upstream_model" => Name::UpstreamModel,
                    "created_at" => Name::CreatedAt,
                    "conversation_id" => Name::ConversationId,
                    "user_id" => Name::UserId,
                    "metadata_json" => Name::MetadataJson,
                    _ => Name::Other,
                })
            }
        }
        deserializer.deserialize_identifier(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for Draft {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DraftVisitor)
    }
}

struct DraftVisitor;

impl<'de> Visitor<'de> for DraftVisitor {
    type Value = Draft;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        let mut draft = Draft::default();
        let mut duplicate = None;
        while let Some(name) = map.next_key()? {
            let repeated = match name {
                Name::EventId => put(&mut map, &mut draft.event_id),
                Name::Question => put(&mut map, &mut draft.question),
                Name::Answer => put(&mut map, &mut draft.answer),
                Name::UpstreamModel => put(&mut map, &mut draft.upstream_model),
                Name::CreatedAt => put(&mut map, &mut draft.created_at),
                Name::ConversationId => put(&mut map, &mut draft.conversation_id),
                Name::UserId => put(&mut map, &mut draft.user_id),
                Name::MetadataJson => put(&mut map, &mut draft.metadata_json),
                Name::Other => map.next_value::<IgnoredAny>().map(|_| false),
            }?;
            if repeated {
                duplicate.get_or_insert(name);
            }
        }
        draft.duplicate = duplicate.map(Name::as_str);
        Ok(draft)
    }
}

/// Fills a slot; says whether it was filled before.
fn put<'de, A: MapAccess<'de>, T>(map: &mut A, slot: &mut Slot<T>) -> Result<bool, A::Error>
where
    Slot<T>: From<Found>,
{
    let repeated = !matches!(slot, Slot::Absent);
    *slot = map.next_value::<Found>()?.into();
    Ok(repeated)
}

/// Any JSON value, as far as an answer event cares.
enum Found {
    Null,
    Bool,
    Integer(i64),
    /// An integer that no `i64` holds.
    TooLarge,
    Fraction,
    Text(String),
    Array,
    Object,
}

impl From<Found> for Slot<String> {
    fn from(found: Found) -> Self {
        match found {
            Found::Null => Self::Null,
            Found::Text(text) => Self::Is(text),
            Found::Bool => Self::Wrong(Kind::Bool),
            Found::Integer(_) | Found::TooLarge | Found::Fraction => Self::Wrong(Kind::Number),
            Found::Array => Self::Wrong(Kind::Array),
            Found::Object => Self::Wrong(Kind::Object),
        }
    }
}

impl From<Found> for Slot<i64> {
    fn from(found: Found) -> Self {
        match found {
            Found::Null => Self::Null,
            Found::Integer(number) => Self::millis(number),
            Found::TooLarge => Self::OutOfRange,
            // Seconds, most likely; guessing would move instants by a factor of a thousand.
            Found::Fraction => Self::Wrong(Kind::Fraction),
            Found::Bool => Self::Wrong(Kind::Bool),
            Found::Text(_) => Self::Wrong(Kind::Text),
            Found::Array => Self::Wrong(Kind::Array),
            Found::Object => Self::Wrong(Kind::Object),
        }
    }
}

impl<'de> Deserialize<'de> for Found {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FoundVisitor)
    }
}

struct FoundVisitor;

impl<'de> Visitor<'de> for FoundVisitor {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        Ok(Found::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(Found::Bool)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        Ok(Found::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        Ok(i64::try_from(number).map_or(Found::TooLarge, Found::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(Found::Fraction)
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(Found::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Found, E> {
        Ok(Found::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Found::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Found::Object)
    }
}
