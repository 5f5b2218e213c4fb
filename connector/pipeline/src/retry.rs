//! What becomes of records that a call of the Aligner did not answer.
//!
//! A record is dead-lettered only for what it did itself. If the Aligner is unavailable for it,
//! the record waits and is asked for again. That counts against the record only if the Aligner
//! answered others since the time before: an Aligner that answers nobody is down, which is no fault
//! of the record, so it waits on, as in an outage of the registry, though not for ever, since a
//! record alone looks just the same. If a call fails and any of its records may be the cause, they
//! are asked for again in halves, and so on: one poison record among `n` costs at most `2·log2 n`
//! more calls and is dead-lettered alone. A record that gets no answer in time (see `turns`) is
//! asked for once more, alone: what holds a call up may be any of its records, and the others must
//! not end with it. Once is enough, so that a record that never ends holds its partition for a
//! bounded time.

use std::{fmt, time::Duration};

use aligner::{AlignError, NextStep};
use aligner_records::Stage;
use tokio::time::Instant;

use crate::{
    encode::{Cause, dead_letter_reason as reason},
    work::{Standing, Tries, Work},
};

/// Why a call did not answer a record.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The Aligner's own word for it.
    Error(AlignError),
    /// No progress within `record_timeout`, neither in its call nor in those before.
    TimedOut,
}

impl Failure {
    /// Whether the Aligner cannot be asked, or does not answer in its own time, which says nothing about the
    /// records.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Error(error) if error.next_step() == NextStep::Retry)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(error) => error.fmt(f),
            Self::TimedOut => f.write_str(
                "within record_timeout_ms it answered neither these nor what may come before them",
            ),
        }
    }
}

/// How long a record is asked for that the Aligner is unavailable for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Calls between which the Aligner answered others.
    pub max_attempts: u32,
    /// Time in which it answers nobody.
    pub max_outage: Duration,
}

/// What happens next to the records of one call that have no answer.
#[derive(Debug, Default)]
pub(crate) struct Next {
    /// Calls to make, now.
    pub isolate: Vec<Vec<Work>>,
    /// Records to ask for in calls of their own.
    pub alone: Vec<Work>,
    /// Calls to make after a pause; the number says after how many failures in a row.
    pub later: Vec<(u32, Vec<Work>)>,
    /// Records that are given up.
    pub dead: Vec<(Work, Cause)>,
    /// The Aligner will not answer any more.
    pub stop: Option<String>,
}

/// Sorts the unanswered records of a call of `asked` records, in the order of the call.
///
/// `answered` is how many requests the Aligner has answered since it began.
pub(crate) fn next(
    unanswered: Vec<(Work, Failure)>,
    asked: usize,
    answered: u64,
    limits: Limits,
    now: Instant,
) -> Next {
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
                    next.alone.push(work);
                }
                continue;
            }
            Failure::Error(error) => error,
        };
        match error.next_step() {
            NextStep::Retry => {
                if is_given_up(&mut work.tries, answered, limits, now) {
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

/// Notes that the Aligner was unavailable once more; true if the record is not to be asked for again.
fn is_given_up(tries: &mut Tries, answered: u64, limits: Limits, now: Instant) -> bool {
    tries.unavailable += 1;
    let last = tries.last.get_or_insert(Standing {
        answered,
        silent_since: now,
    });
    if answered == last.answered {
        return now >= last.silent_since + limits.max_outage
            && tries.unavailable >= limits.max_attempts;
    }
    *last = Standing {
        answered,
        silent_since: now,
    };
    tries.passed_over += 1;
    tries.passed_over >= limits.max_attempts
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
        "the aligner gave no answer within record_timeout_ms, twice, and answered nothing that may \
         have come before: raise it if an answer takes that long, else see the aligner's own log"
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Arc};

    use aligner_records::AnswerEvent;

    use super::*;
    use crate::{
        offsets::Offsets,
        source::{Partition, PartitionEpoch, SourceRecord},
    };

    const LIMITS: Limits = Limits {
        max_attempts: 4,
        max_outage: Duration::from_secs(3_600),
    };

    /// As if the Aligner had answered nothing and no time had passed.
    fn sorted(unanswered: Vec<(Work, Failure)>, asked: usize) -> Next {
        next(unanswered, asked, 0, LIMITS, Instant::now())
    }

    fn works(count: i64) -> Vec<Work> {
        let partition = Arc::new(PartitionEpoch {
            partition: Partition {
                topic: "t".into(),
                number: 0,
            },
            epoch: 1,
        });
        let mut offsets = Offsets::<()>::default();
        offsets.open(Arc::clone(&partition));
        let now = Instant::now();
        (0..count)
            .map(|offset| {
                let ticket = offsets.admit(&partition, offset, 1, now).expect("ours");
                let record = SourceRecord {
                    partition: Arc::clone(&partition),
                    offset,
                    key: None,
                    value: None,
                    headers: Vec::new(),
                    timestamp: None,
                };
                Work::new(ticket, record, AnswerEvent::default(), now)
            })
            .collect()
    }

    fn all(works: Vec<Work>, failure: &Failure) -> Vec<(Work, Failure)> {
        works
            .into_iter()
            .map(|work| (work, failure.clone()))
            .collect()
    }

    fn error(error: fn(String) -> AlignError) -> Failure {
        Failure::Error(error("drawn".to_owned()))
    }

    /// Offsets and reasons of the records that are given up.
    fn dead(next: &Next) -> Vec<(i64, &'static str)> {
        next.dead
            .iter()
            .map(|(work, cause)| (work.record.offset, cause.reason))
            .collect()
    }

    #[test]
    fn one_poison_record_is_found_alone_in_at_most_two_log_two_more_calls() {
        for count in 1..=70_i64 {
            for poison in 0..count {
                let mut calls: VecDeque<Vec<Work>> = [works(count)].into();
                let (mut extra, mut answered) = (-1, 0);
                let mut given_up = Vec::new();
                while let Some(batch) = calls.pop_front() {
                    extra += 1;
                    let asked = batch.len();
                    if !batch.iter().any(|work| work.record.offset == poison) {
                        answered += asked;
                        continue;
                    }
                    let next = sorted(all(batch, &error(AlignError::BatchFailed)), asked);
                    given_up.extend(dead(&next));
                    calls.extend(next.isolate);
                }
                assert_eq!(given_up, [(poison, reason::ALIGNER_FAILED)]);
                assert_eq!(answered as i64, count - 1);
                let levels = (count as f64).log2().ceil() as i32;
                assert!(extra <= (2 * levels).max(1), "{count}: {extra}");
            }
        }
    }

    #[test]
    fn the_rest_of_a_call_that_was_partly_answered_is_asked_for_together() {
        let next = sorted(all(works(3), &error(AlignError::BatchFailed)), 8);
        assert_eq!(next.isolate.len(), 1);
        assert_eq!(next.isolate[0].len(), 3);
        assert!(next.dead.is_empty() && next.later.is_empty());
    }

    #[test]
    fn each_failure_leads_to_its_next_step() {
        let failures = [
            error(AlignError::Unavailable),
            error(AlignError::Rejected),
            error(AlignError::Stopped),
            Failure::TimedOut,
        ];
        let unanswered = works(4).into_iter().zip(failures).collect();
        let next = sorted(unanswered, 4);
        assert_eq!(dead(&next), [(1, reason::ALIGNER_REJECTED)]);
        let offsets =
            |works: &[Work]| -> Vec<i64> { works.iter().map(|work| work.record.offset).collect() };
        assert_eq!(next.later.len(), 1);
        assert_eq!(next.later[0].0, 1);
        assert_eq!(offsets(&next.later[0].1), [0]);
        assert_eq!(offsets(&next.alone), [3]);
        assert!(next.isolate.is_empty());
        assert_eq!(next.stop.as_deref(), Some("the aligner stopped: drawn"));
    }

    /// After how many of these failures, each with what was answered and the seconds that passed
    /// since the one before, a record is given up.
    fn given_up_after(failures: &[(u64, u64)]) -> Option<usize> {
        let mut now = Instant::now();
        let mut answered = 7;
        let mut work = works(1);
        work[0].tries.last = Some(Standing {
            answered,
            silent_since: now,
        });
        for (index, (meanwhile, seconds)) in failures.iter().enumerate() {
            answered += meanwhile;
            now += Duration::from_secs(*seconds);
            let unanswered = all(work, &error(AlignError::Unavailable));
            let mut next = next(unanswered, 1, answered, LIMITS, now);
            if !next.dead.is_empty() {
                assert_eq!(dead(&next), [(0, reason::ALIGNER_UNAVAILABLE)]);
                return Some(index + 1);
            }
            let (in_a_row, waiting) = next.later.remove(0);
            assert_eq!(in_a_row as usize, index + 1, "pauses grow all the same");
            work = waiting;
        }
        None
    }

    #[test]
    fn a_record_is_given_up_for_being_passed_over_and_not_for_an_outage() {
        let (passed_over, silent) = ((1, 1), (0, 1));
        let outage = vec![silent; 500];
        // Others are answered each time.
        assert_eq!(given_up_after(&[passed_over; 9]), Some(4));
        // Nobody is answered, for less than the longest outage, or longer.
        assert_eq!(given_up_after(&outage), None);
        assert_eq!(given_up_after(&[(0, 899); 9]), Some(5));
        assert_eq!(
            given_up_after(&[(0, 3_600); 9]),
            Some(4),
            "not before its attempts"
        );
        // An outage that begins in the middle of a batch, whose other records were answered.
        assert_eq!(
            given_up_after(&[&[passed_over][..], &outage].concat()),
            None
        );
        // The first after it is busy for this record still.
        let end = [&outage[..], &[passed_over; 3]].concat();
        assert_eq!(given_up_after(&end), None);
        assert_eq!(
            given_up_after(&[&end[..], &[passed_over]].concat()),
            Some(504)
        );
        // Short outages do not add up to a long one.
        let short = [(0, 1_800), (1, 1)].repeat(3);
        assert_eq!(given_up_after(&short), None);
    }

    #[test]
    fn a_record_that_is_not_answered_in_time_twice_is_given_up_the_second_time_alone() {
        let first = sorted(all(works(3), &Failure::TimedOut), 8);
        assert_eq!(dead(&first), []);
        assert!(first.isolate.is_empty() && first.later.is_empty());
        assert_eq!(first.alone.len(), 3);
        for (offset, work) in (0..).zip(first.alone) {
            let second = sorted(all(vec![work], &Failure::TimedOut), 1);
            assert_eq!(dead(&second), [(offset, reason::ALIGNER_TIMEOUT)]);
            assert!(second.alone.is_empty());
        }
    }

    #[test]
    fn who_fails_beside_a_record_that_never_ends_is_asked_for_without_it() {
        let failures = [error(AlignError::BatchFailed), Failure::TimedOut];
        let next = sorted(works(2).into_iter().zip(failures).collect(), 2);
        assert_eq!(next.isolate.len(), 1);
        assert_eq!(next.isolate[0][0].record.offset, 0);
        assert_eq!(next.alone[0].record.offset, 1);
        assert!(next.dead.is_empty());
    }
}
