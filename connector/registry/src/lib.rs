//! The Schema Registry, as Confluent's clients use it: answer events name the schema that they
//! were written with, corrections and pairs name ours.
//!
//! What passes through: the ids of schemas, and bytes in the Confluent wire format
//! ([`aligner_records::framing`]). Promised: an outage of the registry is never taken for a bad
//! record. A record is invalid only if the registry *says* for some seconds that it does not know
//! its schema, if it refuses or fails for that one id again and again while it answers for others,
//! or if the record's bytes do not fit the schema that the registry gave; everything else is a
//! [`RegistryError`], and the caller waits.
//!
//! Reading is synchronous once a schema is known, because it happens tens of thousands of times a
//! second: [`AnswerDecoder::decode`] asks for what it lacks with [`DecodeFailure::SchemaNeeded`],
//! and the caller fetches it with [`AnswerDecoder::fetch`].
//!
//! Deliberately absent: retrying, which is the caller's business, and GUIDs in headers, which no
//! free registry issues.

mod answers;
mod client;
mod error;
mod outputs;
mod requests;
mod schemas;
mod settings;
mod tls;

pub use aligner_http::Secret;
pub use answers::{AnswerDecoder, DecodeFailure};
pub use client::Registry;
pub use error::RegistryError;
pub use outputs::{RegisteredEncoder, subject};
pub use settings::RegistrySettings;
