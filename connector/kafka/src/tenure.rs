//! Which partitions are ours, and since when.
//!
//! The broker checks a member's generation, never which partitions it owns, so ownership is ours
//! to keep: the thread that polls writes it down, the thread that delivers looks it up. A
//! partition that leaves and comes back has a new epoch, and results of the old one stay dead.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aligner_pipeline::{Partition, PartitionEpoch};

/// Tenures of this process, shared between its two Kafka threads.
#[derive(Debug, Default)]
pub(crate) struct Tenures(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    last_epoch: u64,
    current: HashMap<Partition, Arc<PartitionEpoch>>,
}

impl Tenures {
    fn held(&self) -> MutexGuard<'_, Held> {
        // No method leaves the map half changed, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a tenure of each partition. One that was already held begins anew: what was
    /// finished before cannot be told from what someone else may have done in between.
    pub(crate) fn begin(
        &self,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Vec<Arc<PartitionEpoch>> {
        let mut held = self.held();
        partitions
            .into_iter()
            .map(|partition| {
                held.last_epoch += 1;
                let tenure = Arc::new(PartitionEpoch {
                    partition: partition.clone(),
                    epoch: held.last_epoch,
                });
                held.current.insert(partition, Arc::clone(&tenure));
                tenure
            })
            .collect()
    }

    /// The tenures of these partitions, where there are any.
    pub(crate) fn of(&self, partitions: &[Partition]) -> Vec<Arc<PartitionEpoch>> {
        let held = self.held();
        partitions
            .iter()
            .filter_map(|partition| held.current.get(partition).cloned())
            .collect()
    }

    /// The tenure of one partition, if it is ours.
    pub(crate) fn find(&self, topic: &str, number: i32) -> Option<Arc<PartitionEpoch>> {
        let partition = Partition {
            topic: topic.into(),
            number,
        };
        self.held().current.get(&partition).cloned()
    }

    /// Ends these tenures; later ones of the same partitions are left alone.
    pub(crate) fn end(&self, tenures: &[Arc<PartitionEpoch>]) {
        let mut held = self.held();
        for tenure in tenures {
            if held
                .current
                .get(&tenure.partition)
                .is_some_and(|current| current.epoch == tenure.epoch)
            {
                held.current.remove(&tenure.partition);
            }
        }
    }

    /// Whether this tenure goes on.
    pub(crate) fn is_current(&self, tenure: &PartitionEpoch) -> bool {
        self.held()
            .current
            .get(&tenure.partition)
            .is_some_and(|current| current.epoch == tenure.epoch)
    }

    /// All tenures that go on.
    pub(crate) fn current(&self) -> Vec<Arc<PartitionEpoch>> {
        self.held().current.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "answers".into(),
            number,
        }
    }

    #[test]
    fn a_partition_that_comes_back_has_a_new_epoch() {
        let tenures = Tenures::default();
        let first = tenures.begin([partition(0)]);
        tenures.end(&first);
        assert!(!tenures.is_current(&first[0]));
        let second = tenures.begin([partition(0)]);
        assert!(tenures.is_current(&second[0]));
        assert!(!tenures.is_current(&first[0]));
        assert_ne!(first[0].epoch, second[0].epoch);
    }

    #[test]
    fn a_late_end_of_an_old_tenure_does_not_end_the_new_one() {
        let tenures = Tenures::default();
        let first = tenures.begin([partition(0)]);
        let second = tenures.begin([partition(0)]);
        tenures.end(&first);
        assert!(tenures.is_current(&second[0]));
    }

    proptest! {
        #[test]
        fn at_most_one_tenure_of_a_partition_is_current(
            steps in prop::collection::vec((0..4_i32, any::<bool>()), 0..60),
        ) {
            let tenures = Tenures::default();
            let mut all = Vec::new();
            for (number, begins) in steps {
                if begins {
                    all.extend(tenures.begin([partition(number)]));
                } else {
                    tenures.end(&tenures.of(&[partition(number)]));
                }
                for number in 0..4 {
                    let current = all
                        .iter()
                        .filter(|tenure: &&Arc<PartitionEpoch>| tenure.partition.number == number)
                        .filter(|tenure| tenures.is_current(tenure))
                        .count();
                    prop_assert!(current <= 1);
                }
            }
            let mut epochs: Vec<_> = all.iter().map(|tenure| tenure.epoch).collect();
            epochs.dedup();
            prop_assert_eq!(epochs.len(), all.len());
        }
    }
}
