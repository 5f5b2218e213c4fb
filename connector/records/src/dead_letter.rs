//! An input record that has no correction, with the cause in its headers.

use crate::SourcePosition;

/// The stage that could not handle the record, as the `__connect.errors.stage` header names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Bytes to answer event (Connect's own word for it).
    ValueConverter,
    /// Inference.
    Infer,
    /// Answer event to output bytes, the broker's size limit included.
    Encode,
}

impl Stage {
    /// The header's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValueConverter => "VALUE_CONVERTER",
            Self::Infer => "INFER",
            Self::Encode => "ENCODE",
        }
    }
}

/// Why and where a record failed. Its original key and value travel unchanged beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record came from.
    pub source: SourcePosition,
    /// The stage that failed.
    pub stage: Stage,
    /// A stable snake_case word, for `aligner.reason`.
    pub reason: &'static str,
    /// One sentence that a person can act on; never the record's text.
    pub message: String,
}
