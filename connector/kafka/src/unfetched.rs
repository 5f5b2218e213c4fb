//! Partitions that have records which nobody fetches, though nothing holds fetching back.
//!
//! Where leaders come and go within a moment, librdkafka (2.12.1) may leave a partition behind for good: it
//! fetches the others, and no call fails (confluentinc/librdkafka#5430 and #5593). All that can be seen of it
//! is that the log goes on and the consumer does not.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;

/// Quotas, and brokers that are busy, hold a fetch back for less.
const LONG: Duration = Duration::from_secs(60);

/// Since when each partition has stood where it stands.
#[derive(Debug, Default)]
pub(crate) struct Unfetched(HashMap<Partition, (i64, Instant)>);

impl Unfetched {
    /// Takes in a look at some partitions, at the offset that is read next and at the end; nothing is known
    /// of the others any more.
    pub(crate) fn look<'a>(
        &mut self,
        looks: impl IntoIterator<Item = (&'a Partition, i64, i64)>,
        now: Instant,
    ) {
        let before = std::mem::take(&mut self.0);
        for (partition, next, end) in looks {
            if next < end {
                let known = before.get(partition).filter(|(stood, _)| *stood == next);
                let since = known.map_or(now, |(_, since)| *since);
                self.0.insert(partition.clone(), (next, since));
            }
        }
    }

    /// Fetching is held back, which explains everything.
    pub(crate) fn excuse(&mut self) {
        self.0.clear();
    }

    /// Those that have stood for long, in order.
    pub(crate) fn long(&self, now: Instant) -> Vec<Partition> {
        let long = |(_, since): &(i64, Instant)| now.duration_since(*since) >= LONG;
        let found = self.0.iter().filter(|(_, stands)| long(stands));
        let mut found: Vec<_> = found.map(|(partition, _)| partition.clone()).collect();
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "t".into(),
            number,
        }
    }

    #[test]
    fn a_partition_is_left_behind_once_it_stands_before_its_end_for_long() {
        let (one, start) = (partition(1), Instant::now());
        /// Second, next offset and end if there was a look, and whether it is told.
        type Look = (u64, Option<(i64, i64)>, bool);
        let stories: [(&str, &[Look]); 5] = [
            (
                "left behind",
                &[
                    (0, Some((5, 9)), false),
                    (59, Some((5, 20)), false),
                    (60, Some((5, 21)), true),
                ],
            ),
            (
                "idle",
                &[(0, Some((5, 5)), false), (90, Some((5, 5)), false)],
            ),
            (
                "slow",
                &[
                    (0, Some((5, 9)), false),
                    (50, Some((6, 9)), false),
                    (100, Some((7, 9)), false),
                ],
            ),
            (
                "fetched meanwhile, so that nobody looked",
                &[
                    (0, Some((5, 9)), false),
                    (30, None, false),
                    (70, Some((5, 9)), false),
                ],
            ),
            (
                "back at its end",
                &[
                    (0, Some((5, 9)), false),
                    (61, Some((5, 9)), true),
                    (62, Some((9, 9)), false),
                ],
            ),
        ];
        for (story, looks) in stories {
            let mut unfetched = Unfetched::default();
            for &(second, look, is_told) in looks {
                let now = start + Duration::from_secs(second);
                unfetched.look(look.map(|(next, end)| (&one, next, end)), now);
                let told = unfetched.long(now);
                assert_eq!(!told.is_empty(), is_told, "{story}: at second {second}");
            }
        }
    }

    #[test]
    fn while_fetching_is_held_back_no_partition_is_left_behind() {
        let (one, start) = (partition(1), Instant::now());
        let mut unfetched = Unfetched::default();
        unfetched.look([(&one, 5, 9)], start);
        unfetched.excuse();
        unfetched.look([(&one, 5, 9)], start + LONG);
        assert_eq!(unfetched.long(start + LONG), []);
        assert_eq!(unfetched.long(start + 2 * LONG), [one]);
    }
}
