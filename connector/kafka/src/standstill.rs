//! Partitions whose committed readers get no further, and for how long.
//!
//! A reader with `read_committed` sees a partition up to its last stable offset, where the first undecided
//! transaction begins. Behind it there may be more, which all other readers see.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// For committed readers: the last stable offset.
    pub(crate) stable: i64,
    /// For all others: the high watermark.
    pub(crate) all: i64,
}

/// For how long committed readers have got no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standstill {
    pub(crate) offset: i64,
    since: Instant,
    seen: Instant,
}

impl Standstill {
    /// The standstill after one more look; none where readers get to the end.
    fn after(before: Option<Self>, ends: Ends, now: Instant) -> Option<Self> {
        if ends.stable >= ends.all {
            return None;
        }
        let same = before.filter(|before| before.offset == ends.stable);
        Some(Self {
            offset: ends.stable,
            since: same.map_or(now, |before| before.since),
            seen: now,
        })
    }

    pub(crate) fn lasted(&self) -> Duration {
        self.seen.duration_since(self.since)
    }
}

/// The standstills of some partitions.
#[derive(Debug, Default)]
pub(crate) struct Standstills(BTreeMap<Partition, Standstill>);

impl Standstills {
    /// Takes in one look. Where a partition was not seen, its time begins anew: brokers that are
    /// away decide nothing either. One that hangs does so until it is seen to go on.
    pub(crate) fn look(
        &mut self,
        seen: &BTreeMap<Partition, Ends>,
        now: Instant,
        patience: Duration,
    ) {
        self.0.retain(|partition, standstill| {
            seen.contains_key(partition) || standstill.lasted() > patience
        });
        for (partition, ends) in seen {
            let before = self.0.remove(partition);
            if let Some(standstill) = Standstill::after(before, *ends, now) {
                self.0.insert(partition.clone(), standstill);
            }
        }
    }

    /// Those that outlast our patience, the longest first.
    pub(crate) fn hanging(&self, patience: Duration) -> Vec<(&Partition, &Standstill)> {
        let mut hanging: Vec<_> = self
            .0
            .iter()
            .filter(|(_, standstill)| standstill.lasted() > patience)
            .collect();
        hanging.sort_by_key(|(_, standstill)| Reverse(standstill.lasted()));
        hanging
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "corrections".into(),
            number,
        }
    }

    fn look(ends: &[(i32, i64, i64)]) -> BTreeMap<Partition, Ends> {
        ends.iter()
            .map(|&(number, stable, all)| (partition(number), Ends { stable, all }))
            .collect()
    }

    #[test]
    fn a_standstill_is_an_alarm_once_it_outlasts_every_transaction() {
        /// Second, last stable offset and high watermark (`None`: no answer), and the verdict.
        type Look = (u64, Option<(i64, i64)>, bool);
        let stories: [(&str, &[Look]); 7] = [
            (
                "readers are at the end, and nothing comes",
                &[(0, Some((5, 5)), false), (90, Some((5, 5)), false)],
            ),
            (
                "they are behind, and get on",
                &[
                    (0, Some((5, 9)), false),
                    (15, Some((9, 14)), false),
                    (30, Some((14, 20)), false),
                ],
            ),
            (
                "a transaction takes all the time that it may",
                &[
                    (0, Some((5, 9)), false),
                    (20, Some((5, 9)), false),
                    (25, Some((10, 10)), false),
                ],
            ),
            (
                "a transaction hangs, though more is written, until it is ended",
                &[
                    (0, Some((5, 9)), false),
                    (20, Some((5, 30)), false),
                    (21, Some((5, 31)), true),
                    (90, Some((5, 99)), true),
                    (95, Some((99, 99)), false),
                ],
            ),
            (
                "another one begins where the first one ended",
                &[
                    (0, Some((5, 9)), false),
                    (21, Some((5, 9)), true),
                    (26, Some((10, 12)), false),
                    (46, Some((10, 12)), false),
                    (47, Some((10, 12)), true),
                ],
            ),
            (
                "brokers that were away are given their time",
                &[
                    (0, Some((5, 9)), false),
                    (19, None, false),
                    (60, Some((5, 9)), false),
                    (80, Some((5, 9)), false),
                    (81, Some((5, 9)), true),
                ],
            ),
            (
                "what hangs is not forgotten while brokers are away",
                &[
                    (0, Some((5, 9)), false),
                    (21, Some((5, 9)), true),
                    (30, None, true),
                    (60, Some((5, 9)), true),
                    (65, Some((10, 10)), false),
                ],
            ),
        ];
        let start = Instant::now();
        for (story, looks) in stories {
            let mut standstills = Standstills::default();
            for &(second, ends, hangs) in looks {
                let seen =
                    ends.map_or_else(BTreeMap::new, |(stable, all)| look(&[(0, stable, all)]));
                standstills.look(&seen, start + Duration::from_secs(second), PATIENCE);
                let hanging = !standstills.hanging(PATIENCE).is_empty();
                assert_eq!(hanging, hangs, "{story}: at second {second}");
            }
        }
    }

    #[test]
    fn partitions_are_judged_alone_and_the_longest_standstill_comes_first() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut standstills = Standstills::default();
        standstills.look(&look(&[(0, 7, 7), (1, 5, 9), (2, 3, 4)]), at(0), PATIENCE);
        standstills.look(&look(&[(0, 7, 8), (1, 5, 9), (2, 4, 6)]), at(10), PATIENCE);
        standstills.look(&look(&[(0, 9, 9), (1, 5, 9), (2, 4, 6)]), at(40), PATIENCE);
        let hanging: Vec<_> = standstills
            .hanging(PATIENCE)
            .into_iter()
            .map(|(partition, standstill)| (partition.number, standstill.offset))
            .collect();
        assert_eq!(hanging, [(1, 5), (2, 4)]);
    }
}
