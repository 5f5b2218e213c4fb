//! Answer events in the Confluent wire format.

use std::{
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Instant,
};

use aligner_records::{AnswerEvent, DecodeError, FieldMap, avro::AnswerReader, framing, reason};
use apache_avro::Schema;

use crate::{
    Registry, RegistryError,
    client::{Lookup, SchemaText},
    schemas::{Known, Refusal, Schemas},
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
            Some(Known::Unknown { .. }) => Err(DecodeFailure::Invalid(DecodeError::new(
                reason::UNKNOWN_SCHEMA,
                format!(
                    "the schema registry knows no schema with id {id}: write the record with a \
                     schema that is registered there"
                ),
            ))),
            Some(Known::Refused(Refusal { row, error, .. })) => {
                Err(DecodeFailure::Invalid(DecodeError::new(
                    reason::UNKNOWN_SCHEMA,
                    format!(
                        "{error}; it did so {} times in a row and answered for another id: \
                         write the record with a schema that it gives",
                        row.times
                    ),
                )))
            }
        }
    }

    /// Fetches a schema and remembers it, or that there is none. Once it succeeds,
    /// [`AnswerDecoder::decode`] decides on records of that schema.
    ///
    /// An id that is refused or fails again and again is taken for unknown if the registry answers
    /// for another one: see
    /// [`RegistrySettings::max_refusals`](crate::RegistrySettings::max_refusals).
    ///
    /// # Errors
    /// If the registry could not say, or is not believed yet: see
    /// [`RegistrySettings::max_misses`](crate::RegistrySettings::max_misses). Nothing follows for
    /// the record, ask again.
    pub async fn fetch(&self, id: u32) -> Result<(), RegistryError> {
        let known = match self.registry.schema(id).await {
            Ok(Lookup::Schema(text)) => match parse(id, &text, self.fields.clone()) {
                Ok(reader) => Known::Readable(Arc::new(reader)),
                Err(error) => Known::Unreadable(error),
            },
            Ok(Lookup::Unusable(cause)) => {
                Known::Unreadable(DecodeError::new(reason::INVALID_AVRO, cause))
            }
            Ok(Lookup::Nothing) => return self.miss(id),
            Err(error) => return self.note(id, error).await,
        };
        self.write().insert(id, known);
        Ok(())
    }

    /// Counts how often the registry knew no such id. A replica that lags behind the producer's
    /// says so, too, of a schema that was registered just now.
    fn miss(&self, id: u32) -> Result<(), RegistryError> {
        let settings = self.registry.settings();
        if self.write().miss(id, settings, Instant::now()) {
            return Ok(());
        }
        Err(RegistryError::Unknown {
            url: settings.url.clone(),
            id,
        })
    }

    /// Counts refusals and outages of one id while the registry answers for another. Anything else
    /// is an outage of the registry: one that answers for nobody, because a proxy before it lost
    /// its way or a password has changed, says nothing about the record.
    async fn note(&self, id: u32, error: RegistryError) -> Result<(), RegistryError> {
        let another = self.read().another(id);
        let alone = self.registry.answers_for(another).await;
        let mut schemas = self.write();
        if !alone {
            schemas.forgive(id);
            return Err(error);
        }
        let refusal = schemas.refuse(id, &error, self.registry.settings(), Instant::now());
        if refusal.is_final(self.registry.settings()) {
            Ok(())
        } else {
            Err(error)
        }
    }

    fn known(&self, id: u32) -> Option<Known> {
        let schemas = self.read();
        schemas.known(id, self.registry.settings()).cloned()
    }

    fn read(&self) -> RwLockReadGuard<'_, Schemas> {
        // A panic elsewhere leaves the memory whole: its changes do not panic half way.
        self.schemas.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Schemas> {
        self.schemas.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(
    id: u32,
    schema: &SchemaText,
    fields: Option<Arc<FieldMap>>,
) -> Result<AnswerReader, DecodeError> {
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
