//! Records to bytes and back.
//!
//! Reading answer events is strict and explains itself; see [`DecodeError`]. Writing cannot fail:
//! every record fits its schema by construction.

pub mod avro;
mod content_parts;
mod document;
mod draft;
pub(crate) mod error;
mod field_map;
mod field_values;
pub mod framing;
pub mod json;
mod json_writer;
mod pointer;
mod pointers;
pub mod surrogates;
mod syntax;
mod time_unit;
mod tree;
mod walk;

pub use error::{DecodeError, reason};
pub use field_map::{FieldMap, FieldMapError};
pub use pointer::{JsonPointer, JsonPointerError};
pub use pointers::Pointers;
pub use time_unit::TimeUnit;
