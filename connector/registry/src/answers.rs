//! Answer events in the Confluent wire format.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aligner_records::{AnswerEvent, DecodeError, FieldMap, avro::AnswerReader, framing, reason};
use apache_avro::Schema;
use schema_registry_converter::schema_registry_common::SchemaType;

use crate::{
    Registry, RegistryError,
    client::{Lookup, SchemaText},
};

/// Why bytes have no answer event, yet or ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeFailure {
    /// They are no answer event: the record is dead-lettered.
    Invalid(DecodeError),
    /// The schema of this id must be fetched first; see [`AnswerDecoder::fetch`].
    SchemaNeeded(u32),
}

impl From<DecodeError> for DecodeFailure {
    fn from(error: DecodeError) -> Self {
        Self::Invalid(error)
    }
}

/// Reads framed answer events, each with the schema that it names.
#[derive(Debug)]
pub struct AnswerDecoder {
    registry: Registry,
    fields: Option<Arc<FieldMap>>,
    schemas: RwLock<Schemas>,
}

impl AnswerDecoder {
    /// A decoder of events in our own shape, or in the one that `fields` describes.
    pub fn new(registry: Registry, fields: Option<FieldMap>) -> Self {
        let schemas = Schemas::new(registry.settings().max_cached_schemas);
        Self {
            registry,
            fields: fields.map(Arc::new),
            schemas: RwLock::new(schemas),
        }
    }

    /// The event in a record's value.
    ///
    /// # Errors
    /// If there is none, or if its schema was not fetched yet.
    pub fn decode(&self, value: &[u8]) -> Result<AnswerEvent, DecodeFailure> {
        let (id, datum) = framing::split(value)?;
        match self.known(id) {
            None => Err(DecodeFailure::SchemaNeeded(id)),
            Some(Known::Readable(reader)) => Ok(reader.decode(datum)?),
            Some(Known::Unreadable(error)) => Err(error.into()),
            Some(Known::Unknown(_)) => Err(DecodeFailure::Invalid(DecodeError::new(
                reason::UNKNOWN_SCHEMA,
                format!(
                    "the schema registry knows no schema with id {id}: write the record with a \
                     schema that is registered there"
                ),
            ))),
        }
    }

    /// Fetches a schema and remembers it, or that there is none. Once it succeeds,
    /// [`AnswerDecoder::decode`] decides on records of that schema.
    ///
    /// # Errors
    /// If the registry could not say; nothing follows for the record, ask again.
    pub async fn fetch(&self, id: u32) -> Result<(), RegistryError> {
        let known = match self.registry.schema(id).await? {
            Lookup::Schema(text) => match parse(id, &text, self.fields.clone()) {
                Ok(reader) => Known::Readable(Arc::new(reader)),
                Err(error) => Known::Unreadable(error),
            },
            Lookup::Unusable(cause) => {
                Known::Unreadable(DecodeError::new(reason::INVALID_AVRO, cause))
            }
            Lookup::Nothing => Known::Unknown(Instant::now()),
        };
        // A panic elsewhere leaves the map whole: every change of it is one insertion.
        self.schemas
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, known);
        Ok(())
    }

    fn known(&self, id: u32) -> Option<Known> {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        let known = schemas.known.get(&id)?;
        (!known.is_stale(self.registry.settings().unknown_for)).then(|| known.clone())
    }
}

/// What is known of a schema id.
#[derive(Debug, Clone)]
enum Known {
    Readable(Arc<AnswerReader>),
    /// There, but nothing that we can read; ids are never given to another schema.
    Unreadable(DecodeError),
    /// Not there when last asked.
    Unknown(Instant),
}

impl Known {
    /// A registry's replica may lag behind, so that unknown ids become known.
    fn is_stale(&self, unknown_for: Duration) -> bool {
        matches!(self, Self::Unknown(since) if since.elapsed() >= unknown_for)
    }
}

/// A bounded memory of schema ids; the oldest is forgotten first.
#[derive(Debug)]
struct Schemas {
    known: HashMap<u32, Known>,
    order: VecDeque<u32>,
    capacity: NonZeroUsize,
}

impl Schemas {
    fn new(capacity: NonZeroUsize) -> Self {
        Self {
            known: HashMap::new(),
            order: VecDeque::new(),
            capacity,
        }
    }

    fn insert(&mut self, id: u32, known: Known) {
        if self.known.insert(id, known).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.capacity.get()
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

fn parse(
    id: u32,
    schema: &SchemaText,
    fields: Option<Arc<FieldMap>>,
) -> Result<AnswerReader, DecodeError> {
    if schema.schema_type != SchemaType::Avro {
        return Err(DecodeError::new(
            reason::INVALID_AVRO,
            format!("schema id {id} is not an Avro schema: write the record in Avro"),
        ));
    }
    let (writer, references) = Schema::parse_str_with_list(&schema.text, &schema.references)
        .map_err(|error| {
            DecodeError::new(
                reason::INVALID_AVRO,
                format!("schema id {id} is not a schema that can be read: {error}"),
            )
        })?;
    AnswerReader::new(writer, references, fields).map_err(|error| DecodeError {
        message: format!("schema id {id}: {}", error.message),
        ..error
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_schema_is_forgotten_first() {
        let mut schemas = Schemas::new(NonZeroUsize::new(2).expect("not zero"));
        for id in [1, 2, 1, 3] {
            schemas.insert(id, Known::Unknown(Instant::now()));
        }
        let mut known: Vec<_> = schemas.known.keys().copied().collect();
        known.sort_unstable();
        assert_eq!(known, [2, 3]);
        assert_eq!(schemas.order, [2, 3]);
    }
}
