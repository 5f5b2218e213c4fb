//! Counts delivery reports, so that a commit is only tried when every output has arrived.
//!
//! A round is one attempt to write a set of outputs. Reports carry the round they belong to:
//! those of an aborted round may come late and must not count for the next.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryResult, ProducerContext},
};

use crate::listener::Listener;

/// How long the cause of a failure is waited for once its consequences are known: librdkafka throws
/// messages away when a transaction has failed, and may never say of which message it was.
const CAUSE_PATIENCE: Duration = Duration::from_secs(1);
/// While nothing is reported.
const MEANWHILE_INTERVAL: Duration = Duration::from_millis(500);

/// Pause before trying to queue again what librdkafka had no room for.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// Labels a produced message with its round and its index within it, in one machine word.
const INDEX_BITS: u32 = 32;
const _: () = assert!(
    usize::BITS == 64,
    "round and index of a message share one word of 64 bits"
);

/// A report that an output was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Undelivered {
    /// Index of the output within its round.
    pub(crate) index: usize,
    pub(crate) code: RDKafkaErrorCode,
}

impl Undelivered {
    /// Whether this is a cause and not the consequence of another one.
    pub(crate) fn says_why(&self) -> bool {
        !matches!(
            self.code,
            RDKafkaErrorCode::PurgeQueue
                | RDKafkaErrorCode::PurgeInflight
                // What is queued after a transaction has failed, or after its producer was fenced.
                | RDKafkaErrorCode::State
                | RDKafkaErrorCode::Fatal
        )
    }
}

/// Why waiting for a round ended without every output delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RoundFailure {
    /// At least these were not written; more reports may be on their way.
    Undelivered(Vec<Undelivered>),
    /// The deadline passed without a report of these, by index.
    Outstanding(Vec<usize>),
}

/// The count of one round.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    round: Mutex<Round>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Round {
    number: u32,
    outstanding: usize,
    /// By index, whether it was reported.
    reported: Vec<bool>,
    undelivered: Vec<Undelivered>,
}

impl Tally {
    fn round(&self) -> MutexGuard<'_, Round> {
        // Nothing between lock and unlock can panic with the count half changed.
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a round of so many outputs and returns its number.
    pub(crate) fn start(&self, outputs: usize) -> u32 {
        let mut round = self.round();
        *round = Round {
            number: round.number.wrapping_add(1),
            outstanding: outputs,
            reported: vec![false; outputs],
            undelivered: Vec::new(),
        };
        round.number
    }

    /// The label of an output.
    pub(crate) fn label(round: u32, index: usize) -> usize {
        ((round as usize) << INDEX_BITS) | (index & u32::MAX as usize)
    }

    /// Queues an output by `queue`, again and again while librdkafka has no room for it and something may still
    /// come of the round.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(crate) fn queued(
        &self,
        deadline: Instant,
        queue: impl Fn() -> Result<(), RDKafkaErrorCode>,
    ) -> Result<(), RDKafkaErrorCode> {
        loop {
            match queue() {
                Err(RDKafkaErrorCode::QueueFull)
                    if Instant::now() < deadline && !self.is_doomed() =>
                {
                    thread::sleep(QUEUE_FULL_PAUSE);
                }
                done => return done,
            }
        }
    }

    /// What became of an output: of one that was queued, or of one that the client did not take.
    pub(crate) fn report(&self, label: usize, error: Option<RDKafkaErrorCode>) {
        let mut round = self.round();
        if label >> INDEX_BITS != round.number as usize {
            return;
        }
        let index = label & u32::MAX as usize;
        round.outstanding = round.outstanding.saturating_sub(1);
        round.reported[index] = true;
        if let Some(code) = error {
            round.undelivered.push(Undelivered { index, code });
        }
        if round.outstanding == 0 || error.is_some() {
            drop(round);
            self.changed.notify_all();
        }
    }

    /// Waits until everything is delivered; ends at the first report that says why it was not.
    /// What librdkafka throws away after such a failure says nothing by itself, but that nothing
    /// will come of this round. Calls `meanwhile` now and then.
    pub(crate) fn wait(&self, deadline: Instant, meanwhile: impl Fn()) -> Result<(), RoundFailure> {
        self.wait_with(deadline, CAUSE_PATIENCE, meanwhile)
    }

    fn wait_with(
        &self,
        mut deadline: Instant,
        cause_patience: Duration,
        meanwhile: impl Fn(),
    ) -> Result<(), RoundFailure> {
        let mut round = self.round();
        let mut doomed = false;
        loop {
            let told = round.undelivered.iter().any(|failed| failed.says_why());
            if told || (round.outstanding == 0 && !round.undelivered.is_empty()) {
                return Err(RoundFailure::Undelivered(round.undelivered.clone()));
            }
            if round.outstanding == 0 {
                return Ok(());
            }
            if !round.undelivered.is_empty() && !doomed {
                doomed = true;
                deadline = deadline.min(Instant::now() + cause_patience);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && doomed {
                return Err(RoundFailure::Undelivered(round.undelivered.clone()));
            }
            if left.is_zero() {
                let silent = (0..).zip(&round.reported);
                let silent = silent.filter(|(_, reported)| !**reported);
                return Err(RoundFailure::Outstanding(
                    silent.map(|(index, _)| index).collect(),
                ));
            }
            let (guard, waited) = self
                .changed
                .wait_timeout(round, left.min(MEANWHILE_INTERVAL))
                .unwrap_or_else(PoisonError::into_inner);
            round = guard;
            if waited.timed_out() {
                drop(round);
                meanwhile();
                round = self.round();
            }
        }
    }

    /// Whether something was reported that dooms the round.
    pub(crate) fn is_doomed(&self) -> bool {
        !self.round().undelivered.is_empty()
    }
}

/// The producer's listener.
#[derive(Debug)]
pub(crate) struct Reports {
    pub(crate) listener: Listener,
    pub(crate) tally: Tally,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.listener.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, label: usize) {
        let error = result
            .as_ref()
            .err()
            .map(|(error, _)| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail));
        self.tally.report(label, error);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread, time::Duration};

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_round_is_delivered_when_every_report_came() {
        let tally = Arc::new(Tally::default());
        let round = tally.start(1_000);
        let reporter = {
            let tally = Arc::clone(&tally);
            thread::spawn(move || {
                for index in 0..1_000 {
                    tally.report(Tally::label(round, index), None);
                }
            })
        };
        assert_eq!(tally.wait(soon(), || ()), Ok(()));
        reporter.join().expect("the reporter only counts");
    }

    #[test]
    fn the_first_failure_ends_the_wait() {
        let tally = Tally::default();
        let round = tally.start(3);
        tally.report(
            Tally::label(round, 2),
            Some(RDKafkaErrorCode::MessageSizeTooLarge),
        );
        assert!(tally.is_doomed());
        assert_eq!(
            tally.wait(soon(), || ()),
            Err(RoundFailure::Undelivered(vec![Undelivered {
                index: 2,
                code: RDKafkaErrorCode::MessageSizeTooLarge
            }]))
        );
    }

    #[test]
    fn the_cause_is_waited_for_when_its_consequences_come_first() {
        let tally = Tally::default();
        let round = tally.start(2);
        tally.report(Tally::label(round, 1), Some(RDKafkaErrorCode::PurgeQueue));
        let found = thread::scope(|scope| {
            let waiting =
                scope.spawn(|| tally.wait_with(soon(), Duration::from_secs(3_600), || ()));
            tally.report(
                Tally::label(round, 0),
                Some(RDKafkaErrorCode::MessageSizeTooLarge),
            );
            waiting.join().expect("the other thread only waits")
        });
        match found {
            Err(RoundFailure::Undelivered(found)) => assert_eq!(found.len(), 2),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cause_that_never_comes_is_not_waited_for_to_the_deadline() {
        let tally = Tally::default();
        let round = tally.start(2);
        tally.report(Tally::label(round, 1), Some(RDKafkaErrorCode::PurgeQueue));
        let found = tally.wait_with(soon(), Duration::ZERO, || ());
        assert_eq!(
            found,
            Err(RoundFailure::Undelivered(vec![Undelivered {
                index: 1,
                code: RDKafkaErrorCode::PurgeQueue
            }]))
        );
    }

    #[test]
    fn reports_of_an_earlier_round_do_not_count() {
        let tally = Tally::default();
        let old = tally.start(1);
        let new = tally.start(1);
        tally.report(Tally::label(old, 0), Some(RDKafkaErrorCode::PurgeQueue));
        tally.report(Tally::label(old, 0), None);
        assert_eq!(
            tally.wait(Instant::now(), || ()),
            Err(RoundFailure::Outstanding(vec![0]))
        );
        tally.report(Tally::label(new, 0), None);
        assert_eq!(tally.wait(soon(), || ()), Ok(()));
    }
}
