//! What became of an input record: exactly one of four, never silence.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The end of every input record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Disposition {
    /// The Aligner wrote a different answer.
    Corrected,
    /// The Aligner let the answer stand.
    Unchanged,
    /// A valid event that the model is not fit for, or did not finish.
    Bypassed,
    /// Not a valid event, or one whose inference failed after its retries.
    DeadLettered,
}

/// A word that is no disposition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a disposition is corrected, unchanged, bypassed or dead_lettered")]
pub struct UnknownDisposition;

impl Disposition {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::Corrected,
        Self::Unchanged,
        Self::Bypassed,
        Self::DeadLettered,
    ];

    /// The word in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Corrected => "corrected",
            Self::Unchanged => "unchanged",
            Self::Bypassed => "bypassed",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

impl From<Disposition> for &'static str {
    fn from(disposition: Disposition) -> Self {
        disposition.as_str()
    }
}

impl TryFrom<String> for Disposition {
    type Error = UnknownDisposition;

    fn try_from(word: String) -> Result<Self, UnknownDisposition> {
        Self::ALL
            .into_iter()
            .find(|disposition| disposition.as_str() == word)
            .ok_or(UnknownDisposition)
    }
}
