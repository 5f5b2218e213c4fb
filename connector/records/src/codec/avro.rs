//! Avro: one bare datum to a record, without header; [`framing`](super::framing) adds the
//! registry's.
//!
//! Answer events are read with the schema that they were *written* with, and fitted to ours by
//! name: fields that we do not know are skipped, nullable fields that the writer does not know are
//! null, and types that lose nothing are taken (`bytes`, enum and uuid as strings; any timestamp
//! as milliseconds). The fitting is our own, so that a bad event gets the same reasons as in JSON
//! and so that no error quotes its text, as those of the library's resolution do.

mod document;
mod growth;

use std::{io, sync::Arc};

use apache_avro::{
    Schema,
    reader::datum::GenericDatumReader,
    schema::{Name, Names, NamesRef, ResolvedSchema},
    types::Value,
    util::max_allocation_bytes,
};
use serde::de::DeserializeOwned;

use super::{
    draft::{Draft, Kind, OwnNames, Slot},
    error::{DecodeError, reason},
    time_unit::TimeUnit,
};
use crate::{AnswerEvent, FieldMap, Record};

/// Most memory that the library sets aside for one text or list because a datum says that it is so
/// long, before it has seen it.
const MAX_ALLOCATION_BYTES: usize = 128 << 20;

/// Writes a record with its own schema.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut datum = Vec::with_capacity(2048);
    encode_into(record, &mut datum);
    datum
}

/// Appends a record's datum, so that a header can stand before it without a copy.
pub fn encode_into<R: Record>(record: &R, bytes: &mut Vec<u8>) {
    R::writer()
        .write_ser(bytes, record)
        .expect("a record's fields are those of its schema, as the tests of every record show");
}

/// Reads a record that was written with `writer`, an earlier version of its schema.
///
/// # Errors
/// If the bytes are not such a datum.
pub fn decode<R: Record + DeserializeOwned>(
    datum: &[u8],
    writer: &Schema,
) -> Result<R, DecodeError> {
    let value = read(datum, writer, &[])?;
    let resolved = value
        .resolve(R::schema())
        .and_then(|value| apache_avro::from_value(&value));
    // What the library says about a wrong value quotes it.
    resolved.map_err(|_| {
        DecodeError::new(
            reason::INVALID_AVRO,
            format!("the datum does not fit schemas/{}", R::FILE),
        )
    })
}

/// Reads answer events that were written with one schema.
#[derive(Debug, Clone)]
pub struct AnswerReader {
    writer: Schema,
    /// Schemas that the writer's refers to, each after those that it refers to itself.
    references: Vec<Schema>,
    /// Every type that they define.
    names: Names,
    fields: Option<Arc<FieldMap>>,
}

impl AnswerReader {
    /// A reader of what `writer` wrote; `references` are the schemas whose types it names, each
    /// after those that it needs itself. With `fields`, the values stand elsewhere than under
    /// their own names; pointers walk records and maps by name and arrays by index.
    ///
    /// # Errors
    /// If the schema names a type that is nowhere defined, holds itself, nests too deeply, or can
    /// say with few bytes that there are a great many values.
    pub fn new(
        writer: Schema,
        references: Vec<Schema>,
        fields: Option<Arc<FieldMap>>,
    ) -> Result<Self, DecodeError> {
        let names =
            match ResolvedSchema::new_with_schemata(references.iter().chain([&writer]).collect()) {
                Ok(resolved) => match growth::fault(&writer, resolved.get_names()) {
                    None => Ok(owned(resolved.get_names())),
                    Some(fault) => Err(fault),
                },
                Err(error) => Err(error.to_string()),
            };
        match names {
            Ok(names) => Ok(Self {
                writer,
                references,
                names,
                fields,
            }),
            Err(fault) => Err(DecodeError::new(
                reason::INVALID_AVRO,
                format!("the schema cannot be used: {fault}; write the record with another"),
            )),
        }
    }

    /// Reads one datum.
    ///
    /// # Errors
    /// If it is not a datum of the writer's schema, or breaks a rule of answer events.
    pub fn decode(&self, datum: &[u8]) -> Result<AnswerEvent, DecodeError> {
        let mut value = read(datum, &self.writer, &self.references)?;
        if let Some(fields) = &self.fields {
            return fields.event(&document::tree(value, &self.writer, None, &self.names));
        }
        if let Value::Union(_, inner) = value {
            value = *inner;
        }
        let Value::Record(fields) = value else {
            return Err(DecodeError::new(
                reason::NOT_AN_OBJECT,
                "the value is no Avro record: write one record of schemas/answer-event.avsc",
            ));
        };
        draft(fields).finish(&OwnNames)
    }
}

fn owned(names: &NamesRef<'_>) -> Names {
    let owned = |(name, schema): (&Name, &&Schema)| (name.clone(), (*schema).clone());
    names.iter().map(owned).collect()
}

/// Reads a whole datum, and nothing but it.
fn read(datum: &[u8], writer: &Schema, references: &[Schema]) -> Result<Value, DecodeError> {
    max_allocation_bytes(MAX_ALLOCATION_BYTES);
    let mut bytes = Whole {
        rest: datum,
        exhausted: false,
    };
    let reader = if references.is_empty() {
        GenericDatumReader::builder(writer).build()
    } else {
        GenericDatumReader::builder(writer)
            .writer_schemata(references.iter().chain([writer]).collect())
            .and_then(|builder| builder.build())
    };
    let value = reader.and_then(|reader| reader.read_value(&mut bytes));
    let invalid = |what: &str| {
        DecodeError::new(
            reason::INVALID_AVRO,
            format!(
                "the datum of {} bytes {what}: write it with the schema that it names",
                datum.len()
            ),
        )
    };
    match value {
        _ if bytes.exhausted => Err(invalid("ends too early for its schema")),
        Err(_) => Err(invalid("is not one of its schema")),
        Ok(_) if !bytes.rest.is_empty() => Err(invalid("goes on after its last field")),
        Ok(value) => Ok(value),
    }
}

/// A datum that must be there to its last byte. Of an ordinary end of input the library makes nulls
/// and goes on: a datum that is cut off would be one whose last fields are null, and six bytes that
/// announce ten million items would be ten million nulls.
struct Whole<'a> {
    rest: &'a [u8],
    exhausted: bool,
}

impl io::Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.len() > self.rest.len() {
            self.exhausted = true;
            return Err(io::Error::other("the datum ends here"));
        }
        io::Read::read(&mut self.rest, buffer)
    }
}

fn draft(fields: Vec<(String, Value)>) -> Draft {
    let mut draft = Draft::default();
    for (name, value) in fields {
        match name.as_str() {
            "event_id" => draft.event_id = text(value),
            "question" => draft.question = text(value),
            "answer" => draft.answer = text(value),
            "upstream_model" => draft.upstream_model = text(value),
            "created_at" => draft.created_at = instant(value),
            "conversation_id" => draft.conversation_id = text(value),
            "user_id" => draft.user_id = text(value),
            "metadata_json" => draft.metadata_json = text(value),
            _ => {}
        }
    }
    draft
}

fn text(value: Value) -> Slot<String> {
    match value {
        Value::Union(_, value) => text(*value),
        Value::Null => Slot::Null,
        Value::String(text) | Value::Enum(_, text) => Slot::Is(text),
        Value::Uuid(uuid) => Slot::Is(uuid.to_string()),
        Value::Bytes(bytes) => String::from_utf8(bytes).map_or(Slot::Wrong(Kind::Bytes), Slot::Is),
        other => Slot::Wrong(kind(&other)),
    }
}

fn instant(value: Value) -> Slot<i64> {
    if let Value::Union(_, value) = value {
        return instant(*value);
    }
    if let Some((number, unit)) = timestamp(&value) {
        return Slot::typed(number, unit);
    }
    match value {
        Value::Null => Slot::Null,
        Value::Int(millis) => Slot::millis(millis.into()),
        Value::Long(millis) => Slot::millis(millis),
        other => Slot::Wrong(kind(&other)),
    }
}

/// What a timestamp counts, and how many of it.
fn timestamp(value: &Value) -> Option<(i64, TimeUnit)> {
    match *value {
        Value::TimestampMillis(number) | Value::LocalTimestampMillis(number) => {
            Some((number, TimeUnit::Milliseconds))
        }
        Value::TimestampMicros(number) | Value::LocalTimestampMicros(number) => {
            Some((number, TimeUnit::Microseconds))
        }
        Value::TimestampNanos(number) | Value::LocalTimestampNanos(number) => {
            Some((number, TimeUnit::Nanoseconds))
        }
        _ => None,
    }
}

fn kind(value: &Value) -> Kind {
    match value {
        Value::Boolean(_) => Kind::Bool,
        Value::String(_) | Value::Enum(..) | Value::Uuid(_) => Kind::Text,
        Value::Float(_) | Value::Double(_) => Kind::Fraction,
        Value::Bytes(_) | Value::Fixed(..) => Kind::Bytes,
        Value::Array(_) => Kind::Array,
        Value::Map(_) | Value::Record(_) => Kind::Object,
        _ => Kind::Number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_announces_more_than_there_is_makes_no_nulls() {
        for items in [r#"["null","string"]"#, r#""boolean""#, r#""string""#] {
            let schema = Schema::parse_str(&format!(r#"{{"type":"array","items":{items}}}"#))
                .expect("a schema");
            // A thousand items, and then nothing.
            let mut bytes = Whole {
                rest: &[0xd0, 0x0f],
                exhausted: false,
            };
            let value = GenericDatumReader::builder(&schema)
                .build()
                .and_then(|reader| reader.read_value(&mut bytes));
            assert!(value.is_err(), "{items}");
            assert!(bytes.exhausted);
        }
    }

    #[test]
    fn a_list_for_which_there_is_no_memory_is_invalid() {
        let schema = Schema::parse_str(r#"{"type":"array","items":"string"}"#).expect("a schema");
        // Ten million items: half a gigabyte, before the first one is read.
        let error = read(&[0x80, 0xda, 0xc4, 0x09], &schema, &[]).expect_err("too long");
        assert_eq!(error.reason, reason::INVALID_AVRO);
        assert!(error.message.contains("not one of its schema"), "{error}");
    }
}
