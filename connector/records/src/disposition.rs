//! What became of an input record: exactly one of four, never silence.

use serde::{Deserialize, Serialize};

/// The end of every input record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl Disposition {
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
