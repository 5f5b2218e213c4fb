//! What flows through the connector: answer events in, corrections, preference pairs and dead
//! letters out, and how each of them is written as JSON or Avro.
//!
//! Records are flat so that a warehouse takes them as they are: primitives only, nullable fields
//! as `["null", T]` in Avro and as `null` in JSON, instants in epoch milliseconds.
//!
//! Deliberately absent: I/O and async. A schema registry is the business of `aligner-registry`.

mod answer_event;
mod correction;
mod dead_letter;
mod disposition;
mod pair;
mod position;

pub use answer_event::AnswerEvent;
pub use correction::Correction;
pub use dead_letter::{DeadLetter, Stage};
pub use disposition::Disposition;
pub use pair::PreferencePair;
pub use position::SourcePosition;
