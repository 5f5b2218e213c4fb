//! A transaction of ours whose end the broker may have lost.
//!
//! A new producer makes the coordinator abort what the old one left open, by a marker in every
//! partition that was written to. Apache Kafka 4.3.0 leaves the marker out where a partition has no
//! leader at that moment (KAFKA-20734), as after the crash of a broker, and calls the transaction
//! aborted all the same. What was written stays there undecided, and the next commit of the same
//! transactional id would commit it too: outputs twice. Offsets of the group that it held stay
//! undecided as well, and no partition can begin at them. So the outputs of such a transaction are
//! written once more, to the same partitions, the group's offsets are brought in, and all is aborted,
//! before anything else is committed. An abort that the broker has answered may lack a marker, too: where
//! a partition has but one replica in sync, that transaction is ended again like the others.
//!
//! Where a commit was not answered, it is not known yet whether there is anything to end: the committed
//! offsets tell, and are asked first; where the decision did not reach them, the coordinator's
//! log is ([`crate::verdict`]). That is waited for without a bound, as the next commit could take along what
//! nobody meant to commit.
//!
//! Otherwise bounded: outputs that will not be written, as to a topic that is gone, hold nothing up for
//! long. Only attempts that failed by themselves are counted: without a broker, a leader that takes the
//! outputs, or a place in the group, nothing is given up. What is not taken in one transaction's time is
//! parted, and ended by one transaction after the other: a log may have become slower since.

use std::{sync::Arc, time::SystemTime};

use aligner_pipeline::Delivery;

/// Attempts to end it.
const MAX_ATTEMPTS: u32 = 60;

/// The transaction to end again, where there is one. There are never two: none begins before the one
/// that was left open has ended or was given up.
#[derive(Debug, Default)]
pub(crate) struct Unended(Option<LeftOpen>);

#[derive(Debug)]
struct LeftOpen {
    /// What was to be delivered, in parts; the last one is next.
    parts: Vec<Arc<Vec<Delivery>>>,
    attempts: u32,
    /// When it began, where it may have been committed after all.
    in_doubt: Option<SystemTime>,
}

impl Unended {
    /// Remembers one that was not committed, and may not have been aborted everywhere.
    pub(crate) fn remember(&mut self, deliveries: &Arc<Vec<Delivery>>) {
        self.keep(deliveries, None);
    }

    /// Remembers one whose commit was not answered.
    pub(crate) fn remember_in_doubt(&mut self, deliveries: &Arc<Vec<Delivery>>, began: SystemTime) {
        self.keep(deliveries, Some(began));
    }

    fn keep(&mut self, deliveries: &Arc<Vec<Delivery>>, in_doubt: Option<SystemTime>) {
        debug_assert!(
            self.is_empty(),
            "what was left open is ended before the next"
        );
        self.0 = Some(LeftOpen {
            parts: vec![Arc::clone(deliveries)],
            attempts: 0,
            in_doubt,
        });
    }

    /// The one of which it is not known whether it was committed, if it is of that kind.
    pub(crate) fn in_doubt(&self) -> Option<(Arc<Vec<Delivery>>, SystemTime)> {
        let left = self.0.as_ref()?;
        Some((left.parts.last().cloned()?, left.in_doubt?))
    }

    /// It was not committed.
    pub(crate) fn was_not_committed(&mut self) {
        if let Some(left) = &mut self.0 {
            left.in_doubt = None;
        }
    }

    /// It was committed, and so are its offsets by now, but the transaction may still hold them: that is to
    /// be ended.
    pub(crate) fn remember_offsets(&mut self, deliveries: &[Delivery]) {
        let offsets = deliveries.iter().map(|delivery| Delivery {
            outputs: Vec::new(),
            ..delivery.clone()
        });
        self.0 = None;
        self.keep(&Arc::new(offsets.collect()), None);
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What to end again next, once nothing is in doubt.
    pub(crate) fn next(&self) -> Option<Arc<Vec<Delivery>>> {
        let left = self.0.as_ref()?;
        debug_assert!(
            left.in_doubt.is_none(),
            "what was committed is not to be aborted"
        );
        left.parts.last().cloned()
    }

    /// That has ended; there may be more.
    pub(crate) fn has_ended(&mut self) {
        if let Some(left) = &mut self.0 {
            left.parts.pop();
            if left.parts.is_empty() {
                self.0 = None;
            }
        }
    }

    /// That was not taken in time: there is half as much of it in each of the next two.
    pub(crate) fn was_not_taken(&mut self) {
        if let Some(left) = &mut self.0
            && let Some((first, second)) = left.parts.last().and_then(|last| halves(last))
        {
            left.parts.pop();
            left.parts.extend([Arc::new(second), Arc::new(first)]);
        }
    }

    /// An attempt failed, and not for want of a broker. One too many is the last.
    pub(crate) fn failed(&mut self) {
        let Some(left) = &mut self.0 else { return };
        left.attempts += 1;
        if left.attempts >= MAX_ATTEMPTS {
            tracing::warn!(
                attempts = left.attempts,
                "a transaction that failed could not be ended again; if brokers were killed \
                 meanwhile, look for hanging transactions with kafka-transactions.sh"
            );
            self.0 = None;
        }
    }

    /// There is nothing to end, or it cannot be.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

/// Parts deliveries of more than one output. Both halves name the offset to go on from, which is never
/// committed.
fn halves(deliveries: &[Delivery]) -> Option<(Vec<Delivery>, Vec<Delivery>)> {
    let outputs = |of: &[Delivery]| of.iter().map(|one| one.outputs.len()).sum::<usize>();
    let mut room = outputs(deliveries) / 2;
    if room == 0 {
        return None;
    }
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for delivery in deliveries {
        let (here, there) = delivery.outputs.split_at(room.min(delivery.outputs.len()));
        room -= here.len();
        for (half, outputs) in [(&mut first, here), (&mut second, there)] {
            if !outputs.is_empty() {
                half.push(Delivery {
                    outputs: outputs.to_vec(),
                    ..delivery.clone()
                });
            }
        }
    }
    Some((first, second))
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::{Outbound, OutputKind, Partition, PartitionEpoch};
    use proptest::prelude::*;

    use super::*;

    fn delivery(number: i32, outputs: usize) -> Delivery {
        let output = Arc::new(Outbound {
            kind: OutputKind::Correction,
            key: None,
            value: None,
            headers: Vec::new(),
        });
        Delivery {
            partition: Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: "answers".into(),
                    number,
                },
                epoch: 1,
            }),
            next_offset: 7,
            outputs: vec![output; outputs],
        }
    }

    /// Partition and number of outputs of each delivery.
    fn sizes(deliveries: &[Delivery]) -> Vec<(i32, usize)> {
        deliveries
            .iter()
            .map(|one| (one.partition.partition.number, one.outputs.len()))
            .collect()
    }

    #[test]
    fn what_is_not_taken_in_time_is_ended_in_parts() {
        let mut unended = Unended::default();
        unended.remember(&Arc::new(vec![delivery(0, 3), delivery(1, 2)]));
        let next = |unended: &Unended| unended.next().map(|next| sizes(&next));
        unended.was_not_taken();
        assert_eq!(next(&unended), Some(vec![(0, 2)]));
        unended.was_not_taken();
        assert_eq!(next(&unended), Some(vec![(0, 1)]));
        unended.was_not_taken();
        assert_eq!(next(&unended), Some(vec![(0, 1)]), "one is not parted");
        unended.has_ended();
        assert_eq!(next(&unended), Some(vec![(0, 1)]));
        unended.has_ended();
        assert_eq!(next(&unended), Some(vec![(0, 1), (1, 2)]));
        unended.has_ended();
        assert!(unended.is_empty());
    }

    proptest! {
        #[test]
        fn halves_hold_all_outputs_and_are_as_large_as_each_other(
            counts in prop::collection::vec(1..6_usize, 1..6),
        ) {
            let deliveries: Vec<_> = (0..).zip(&counts).map(|(n, count)| delivery(n, *count)).collect();
            let all: usize = counts.iter().sum();
            let Some((first, second)) = halves(&deliveries) else {
                prop_assert_eq!(all, 1);
                return Ok(());
            };
            let of = |half: &[Delivery]| half.iter().map(|one| one.outputs.len()).sum::<usize>();
            prop_assert_eq!((of(&first), of(&second)), (all / 2, all - all / 2));
            let mut both = vec![0; counts.len()];
            for (number, count) in sizes(&first).into_iter().chain(sizes(&second)) {
                both[usize::try_from(number).expect("counted up from zero")] += count;
            }
            prop_assert_eq!(both, counts);
        }
    }

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
            let next = unended.next().expect("it is left");
            assert!(Arc::ptr_eq(&next, &deliveries));
        }
        unended.has_ended();
        assert!(unended.is_empty());
        assert!(unended.next().is_none());
    }

    #[test]
    fn it_fails_a_bounded_number_of_times_and_the_next_one_as_often() {
        let (deliveries, mut unended) = left_open();
        for _ in 0..2 {
            for _ in 0..MAX_ATTEMPTS {
                assert!(unended.next().is_some());
                unended.failed();
            }
            assert!(unended.next().is_none());
            assert!(unended.is_empty());
            unended.remember(&deliveries);
        }
    }

    #[test]
    fn one_in_doubt_is_ended_only_if_it_was_not_committed() {
        let (deliveries, mut unended) = left_open();
        assert!(unended.in_doubt().is_none());
        unended.forget();
        unended.remember_in_doubt(&deliveries, SystemTime::now());
        let (doubtful, _) = unended.in_doubt().expect("it is in doubt");
        assert!(Arc::ptr_eq(&doubtful, &deliveries));
        unended.was_not_committed();
        assert!(unended.in_doubt().is_none());
        assert!(unended.next().is_some());
    }
}
