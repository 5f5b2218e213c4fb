//! From the bytes of a record to an answer event.
//!
//! Decoding is synchronous, because it happens tens of thousands of times a second; what a decoder
//! must fetch first, such as a schema, it asks for with [`Undecoded::NotReady`]. The pipeline then
//! waits for [`Decoder::make_ready`], for as long as it takes: an outage of the registry says
//! nothing about the record, so it stalls the pipeline and dead-letters nothing.

use aligner_records::{AnswerEvent, DecodeError, FieldMap, json};
use futures::future::BoxFuture;

use crate::source::SourceRecord;

/// Why a record has no answer event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undecoded {
    /// It is not an event, now or later: the record is dead-lettered.
    Invalid {
        /// A stable snake_case word.
        reason: &'static str,
        /// One sentence that a person can act on; never the record's text.
        message: String,
    },
    /// The decoder lacks something that the record names; see [`Decoder::make_ready`].
    NotReady,
}

impl From<DecodeError> for Undecoded {
    fn from(error: DecodeError) -> Self {
        Self::Invalid {
            reason: error.reason,
            message: error.message,
        }
    }
}

/// Reads answer events.
pub trait Decoder: Send + Sync + 'static {
    /// The event in a record's value.
    ///
    /// # Errors
    /// If there is none, or if the decoder is not ready for it.
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded>;

    /// What can be read of a record that has no event, so that its dead letter tells whose it is.
    fn remains(&self, _: &SourceRecord) -> AnswerEvent {
        AnswerEvent::default()
    }

    /// Fetches what `record` needs, after [`Undecoded::NotReady`]. Once it succeeds, decoding the
    /// record decides. If what it needs does not exist, that is a success, too: decoding then says
    /// that the record is invalid.
    ///
    /// The error is one sentence about what could not be reached; the pipeline tries again.
    fn make_ready<'a>(&'a self, record: &'a SourceRecord) -> BoxFuture<'a, Result<(), String>>;
}

/// Reads JSON, in the schema's own shape or in another that a field map describes.
#[derive(Debug, Clone, Default)]
pub struct JsonDecoder {
    fields: Option<FieldMap>,
}

impl JsonDecoder {
    /// A decoder of the schema's own shape, or of the one that `fields` describes.
    pub fn new(fields: Option<FieldMap>) -> Self {
        Self { fields }
    }
}

impl Decoder for JsonDecoder {
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
        let value = record.value.as_ref().ok_or_else(DecodeError::tombstone)?;
        let event = match &self.fields {
            None => json::decode_answer(value),
            Some(fields) => json::decode_mapped(value, fields),
        };
        Ok(event?)
    }

    fn remains(&self, record: &SourceRecord) -> AnswerEvent {
        let value = record.value.as_deref().unwrap_or_default();
        json::remains(value, self.fields.as_ref())
    }

    fn make_ready<'a>(&'a self, _: &'a SourceRecord) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}
