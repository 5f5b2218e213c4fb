//! Why an Aligner could not answer, sorted by what the caller does next.

use thiserror::Error;

/// What the caller does about an [`AlignError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Try the same record again, after a pause; it counts as an attempt.
    Retry,
    /// Try the records of the failed batch again in smaller batches, to find the guilty one.
    Isolate,
    /// This record will never succeed: dead-letter it.
    DeadLetter,
    /// Nothing will succeed any more: stop the service.
    Stop,
}

/// Why one request has no [`Alignment`](crate::Alignment).
///
/// Messages name the object and the limit, never the text of a question or an answer.
#[derive(Debug, Clone, Error)]
pub enum AlignError {
    /// The Aligner is out of reach or overloaded for now.
    #[error("the aligner is unavailable: {0}")]
    Unavailable(String),
    /// The whole batch failed and the cause may be any of its records.
    #[error("the batch failed: {0}")]
    BatchFailed(String),
    /// This request cannot be answered, now or later.
    #[error("the aligner failed on this record: {0}")]
    Rejected(String),
    /// The Aligner cannot go on.
    #[error("the aligner stopped: {0}")]
    Stopped(String),
}

impl AlignError {
    /// What to do about it.
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Unavailable(_) => NextStep::Retry,
            Self::BatchFailed(_) => NextStep::Isolate,
            Self::Rejected(_) => NextStep::DeadLetter,
            Self::Stopped(_) => NextStep::Stop,
        }
    }
}
