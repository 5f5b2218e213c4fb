//! A transaction of ours whose end the broker may have lost.
//!
//! A new producer makes the coordinator abort what the old one left open, by a marker in every
//! partition that was written to. Apache Kafka 4.3.0 leaves the marker out where a partition has no
//! leader at that moment (KAFKA-20734), as after the crash of a broker, and calls the transaction
//! aborted all the same. What was written stays there undecided, and the next commit of the same
//! transactional id would commit it too: outputs twice. Offsets of the group that it held stay
//! undecided as well, and no partition can begin at them. So the outputs of such a transaction are
//! written once more, to the same partitions, the group's offsets are brought in, and all is aborted,
//! before anything else is committed.
//!
//! Bounded: outputs that cannot be written, as to a topic that is gone, hold nothing up for long. Only
//! attempts that wrote are counted: without a broker, or a place in the group, nothing is given up.

use std::sync::Arc;

use aligner_pipeline::Delivery;

/// Attempts to end it.
const MAX_ATTEMPTS: u32 = 60;

/// The transaction to end again, where there is one. There are never two: none begins before the one
/// that was left open has ended or was given up.
#[derive(Debug, Default)]
pub(crate) struct Unended(Option<LeftOpen>);

#[derive(Debug)]
struct LeftOpen {
    deliveries: Arc<Vec<Delivery>>,
    attempts: u32,
}

impl Unended {
    /// Remembers one that was not committed, and may not have been aborted everywhere.
    pub(crate) fn remember(&mut self, deliveries: &Arc<Vec<Delivery>>) {
        debug_assert!(
            self.is_empty(),
            "what was left open is ended before the next"
        );
        self.0 = Some(LeftOpen {
            deliveries: Arc::clone(deliveries),
            attempts: 0,
        });
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The one to end again, counting the attempt; one that was attempted too often is given up.
    pub(crate) fn attempt(&mut self) -> Option<Arc<Vec<Delivery>>> {
        let left = self.0.as_mut()?;
        if left.attempts >= MAX_ATTEMPTS {
            tracing::warn!(
                attempts = left.attempts,
                "a transaction that failed could not be ended again; if brokers were killed \
                 meanwhile, look for hanging transactions with kafka-transactions.sh"
            );
            self.0 = None;
            return None;
        }
        left.attempts += 1;
        Some(Arc::clone(&left.deliveries))
    }

    /// Nothing was sent for the last attempt, which therefore does not count.
    pub(crate) fn not_tried(&mut self) {
        if let Some(left) = &mut self.0 {
            left.attempts = left.attempts.saturating_sub(1);
        }
    }

    /// It has ended.
    pub(crate) fn ended(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_open() -> (Arc<Vec<Delivery>>, Unended) {
        let deliveries = Arc::new(Vec::new());
        let mut unended = Unended::default();
        unended.remember(&deliveries);
        (deliveries, unended)
    }

    #[test]
    fn what_was_left_open_is_attempted_until_it_has_ended() {
        let (deliveries, mut unended) = left_open();
        for _ in 0..2 {
            let next = unended.attempt().expect("it is left");
            assert!(Arc::ptr_eq(&next, &deliveries));
        }
        unended.ended();
        assert!(unended.is_empty());
        assert!(unended.attempt().is_none());
    }

    #[test]
    fn it_is_attempted_a_bounded_number_of_times_and_the_next_one_as_often() {
        let (deliveries, mut unended) = left_open();
        for _ in 0..2 {
            for _ in 0..MAX_ATTEMPTS {
                assert!(unended.attempt().is_some());
            }
            assert!(unended.attempt().is_none());
            assert!(unended.is_empty());
            unended.remember(&deliveries);
        }
    }

    #[test]
    fn an_attempt_for_which_nothing_was_sent_does_not_count() {
        let (_, mut unended) = left_open();
        for _ in 1..MAX_ATTEMPTS {
            assert!(unended.attempt().is_some());
        }
        for _ in 0..3 * MAX_ATTEMPTS {
            assert!(unended.attempt().is_some());
            unended.not_tried();
        }
        assert!(unended.attempt().is_some());
        assert!(unended.attempt().is_none());
    }
}
