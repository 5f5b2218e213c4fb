//! What flows through the connector: answer events in, corrections, preference pairs and dead
//! letters out, and how each of them is written as JSON or Avro.
//!
//! Records are flat so that a warehouse takes them as they are: primitives only, nullable fields
//! as `["null", T]` in Avro and as `null` in JSON, instants in epoch milliseconds.
//!
//! Deliberately absent: I/O and async. A schema registry is the business of `aligner-registry`.

mod answer_event;
mod codec;
mod correction;
mod correction_id;
mod dead_letter;
mod disposition;
mod pair;
mod position;
mod schema;

pub use answer_event::{AnswerEvent, INSTANTS};
pub use codec::{
    DecodeError, FieldMap, FieldMapError, JsonPointer, JsonPointerError, Pointers, TimeUnit, avro,
    framing, json, reason, surrogates,
};
pub use correction::Correction;
pub use correction_id::{correction_id, event_correction_id};
pub use dead_letter::{
    CONNECTOR_HEADER, DeadLetter, MESSAGE_HEADER, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER,
    Stage, TOPIC_HEADER,
};
pub use disposition::{Disposition, UnknownDisposition};
pub use pair::PreferencePair;
pub use position::SourcePosition;
pub use schema::Record;
