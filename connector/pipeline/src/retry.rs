//! What becomes of records that a call of the Aligner did not answer.
//!
//! A record is dead-lettered only for what it did itself. If the Aligner is unavailable, its
//! records wait and are asked for again. If a call fails and any of its records may be the cause,
//! they are asked for again in halves, and so on: one poison record among `n` costs at most
//! `2·log2 n` more calls and is dead-lettered alone. A record whose calls give no answer in time
//! gets one more call, so that a stuck record holds its partition for a bounded time.

use std::fmt;

use aligner::{AlignError, NextStep};
use aligner_records::Stage;

use crate::{
    encode::{Cause, dead_letter_reason as reason},
    work::Work,
};

/// Why a call did not answer a record.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The Aligner's own word for it.
    Error(AlignError),
    /// No answer within `record_timeout`.
    TimedOut,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::TimedOut => f.write_str("no answer within record_timeout_ms"),
        }
    }
}

/// What happens next to the records of one call that have no answer.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Calls to make, now.
    pub isolate: Vec<Vec<Work>>,
    /// Calls to make after a pause; the number says after how many failures in a row.
    pub later: Vec<(u32, Vec<Work>)>,
    /// Records that are given up.
    pub dead: Vec<(Work, Cause)>,
    /// The Aligner will not answer any more.
    pub stop: Option<String>,
}

/// Sorts the unanswered records of a call of `asked` records, in the order of the call.
pub(crate) fn next(unanswered: Vec<(Work, Failure)>, asked: usize, max_attempts: u32) -> Next {
    let mut next = Next::default();
    let mut suspects = Vec::new();
    let mut waiting = Vec::new();
    for (mut work, failure) in unanswered {
        let error = match failure {
            Failure::TimedOut => {
                work.tries.timed_out += 1;
                if work.tries.timed_out >= 2 {
                    next.dead.push((work, timeout()));
                } else {
                    suspects.push(work);
                }
                continue;
            }
            Failure::Error(error) => error,
        };
        match error.next_step() {
            NextStep::Retry => {
                work.tries.unavailable += 1;
                if work.tries.unavailable >= max_attempts {
                    let attempts = work.tries.unavailable;
                    next.dead.push((work, unavailable(attempts, &error)));
                } else {
                    waiting.push(work);
                }
            }
            NextStep::Isolate => {
                work.tries.failed += 1;
                // Guilty is who fails alone; once is not enough, since the cause of a first
                // failure may lie in the Aligner.
                if asked == 1 && work.tries.failed >= 2 {
                    next.dead.push((work, failed(&error)));
                } else {
                    suspects.push(work);
                }
            }
            NextStep::DeadLetter => next.dead.push((work, rejected(&error))),
            NextStep::Stop => {
                next.stop.get_or_insert_with(|| error.to_string());
            }
        }
    }
    if suspects.len() > 1 && suspects.len() == asked {
        let second = suspects.split_off(suspects.len() / 2);
        next.isolate.extend([suspects, second]);
    } else if !suspects.is_empty() {
        // Part of the call was answered, or it was a single record: fewer than before anyway.
        next.isolate.push(suspects);
    }
    if let Some(failures) = waiting.iter().map(|work| work.tries.unavailable).max() {
        next.later.push((failures, waiting));
    }
    next
}

fn cause(reason: &'static str, message: String) -> Cause {
    Cause {
        stage: Stage::Infer,
        reason,
        message,
    }
}

fn timeout() -> Cause {
    cause(
        reason::ALIGNER_TIMEOUT,
        "the aligner gave no answer within record_timeout_ms, twice: raise it if answers take \
         that long, else see the aligner's own log"
            .to_owned(),
    )
}

fn unavailable(attempts: u32, error: &AlignError) -> Cause {
    cause(
        reason::ALIGNER_UNAVAILABLE,
        format!("given up after {attempts} attempts: {error}"),
    )
}

fn failed(error: &AlignError) -> Cause {
    cause(
        reason::ALIGNER_FAILED,
        format!("this record alone makes the aligner fail: {error}"),
    )
}

fn rejected(error: &AlignError) -> Cause {
    cause(reason::ALIGNER_REJECTED, error.to_string())
}
