//! Transactions of ours whose end the broker may have lost.
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

use std::{collections::VecDeque, sync::Arc};

use aligner_pipeline::Delivery;

/// Transactions that are remembered.
const MAX_REMEMBERED: usize = 4;
/// Attempts to end the oldest of them.
const MAX_ATTEMPTS: u32 = 60;

/// The transactions to end again, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Unended {
    left: VecDeque<Arc<Vec<Delivery>>>,
    attempts: u32,
}

impl Unended {
    /// Remembers one that was not committed, and may not have been aborted everywhere.
    pub(crate) fn remember(&mut self, deliveries: &Arc<Vec<Delivery>>) {
        if self.left.len() >= MAX_REMEMBERED {
            self.give_up();
        }
        self.left.push_back(Arc::clone(deliveries));
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The next one to end again, counting the attempt; one that was attempted too often is left.
    pub(crate) fn attempt(&mut self) -> Option<Arc<Vec<Delivery>>> {
        if self.attempts >= MAX_ATTEMPTS {
            self.give_up();
        }
        let next = self.left.front().cloned();
        self.attempts += u32::from(next.is_some());
        next
    }

    /// Nothing was sent for the last attempt, which therefore does not count.
    pub(crate) fn not_tried(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
    }

    /// It has ended.
    pub(crate) fn ended(&mut self) {
        self.left.pop_front();
        self.attempts = 0;
    }

    fn give_up(&mut self) {
        tracing::warn!(
            attempts = self.attempts,
            "a transaction that failed could not be ended again; if brokers were killed meanwhile, \
             look for hanging transactions with kafka-transactions.sh"
        );
        self.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries() -> Arc<Vec<Delivery>> {
        Arc::new(Vec::new())
    }

    #[test]
    fn the_oldest_is_ended_first_and_attempted_a_bounded_number_of_times() {
        let (first, second) = (deliveries(), deliveries());
        let mut unended = Unended::default();
        assert!(unended.attempt().is_none());
        unended.remember(&first);
        unended.remember(&second);
        for _ in 0..MAX_ATTEMPTS {
            let next = unended.attempt().expect("two are left");
            assert!(Arc::ptr_eq(&next, &first));
        }
        let next = unended.attempt().expect("one is left");
        assert!(Arc::ptr_eq(&next, &second));
        unended.ended();
        assert!(unended.attempt().is_none());
    }

    #[test]
    fn an_attempt_for_which_nothing_was_sent_does_not_count() {
        let (first, second) = (deliveries(), deliveries());
        let mut unended = Unended::default();
        unended.remember(&first);
        unended.remember(&second);
        for _ in 1..MAX_ATTEMPTS {
            let next = unended.attempt().expect("two are left");
            assert!(Arc::ptr_eq(&next, &first));
        }
        for _ in 0..3 * MAX_ATTEMPTS {
            let next = unended.attempt().expect("two are left");
            assert!(Arc::ptr_eq(&next, &first));
            unended.not_tried();
        }
        for expected in [&first, &second] {
            let next = unended.attempt().expect("one is left");
            assert!(Arc::ptr_eq(&next, expected));
        }
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let mut unended = Unended::default();
        for _ in 0..3 * MAX_REMEMBERED {
            unended.remember(&deliveries());
        }
        assert_eq!(unended.left.len(), MAX_REMEMBERED);
    }
}
