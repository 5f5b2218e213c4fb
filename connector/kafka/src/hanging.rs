//! Output partitions that committed readers do not get to the end of.
//!
//! A reader with `read_committed` sees a partition up to its last stable offset, where the first
//! undecided transaction begins. Ours are decided within their timeout, or by the broker, which
//! looks for older ones every ten seconds. Where the offset stands still for longer, a transaction
//! hangs. Apache Kafka 4.3.0 can leave one behind after a crash (KAFKA-20734, see
//! [`crate::unended`]): only the next transaction of its transactional id or a person ends it, and
//! until then all that is written behind it is hidden, while every delivery succeeds. So two clients
//! ask where the partitions end, one as committed readers see it, one as all others do; what stands
//! still for too long is said, and counted.
//!
//! Deliberately absent: a remedy. How the transaction was decided is only in the coordinator's log,
//! and to abort what was committed would lose it.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::error::KafkaResult;

use crate::{
    lookout::{LOOK_TIMEOUT, LogEnds, Lookout},
    settings::Connection,
    stats::ClientStats,
};

/// How long past its timeout a transaction may stay open: how often a stock broker looks for those.
const BROKER_GRACE: Duration = Duration::from_secs(10);
/// How often it is said that one hangs.
const SAY_INTERVAL: Duration = Duration::from_secs(60);

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    /// For committed readers: the last stable offset.
    stable: i64,
    /// For all others: the high watermark.
    all: i64,
}

/// For how long committed readers have got no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standstill {
    offset: i64,
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

    fn lasted(&self) -> Duration {
        self.seen.duration_since(self.since)
    }
}

/// The standstills of all output partitions.
#[derive(Debug)]
struct Standstills {
    /// The longest that a transaction may stay open.
    patience: Duration,
    found: BTreeMap<Partition, Standstill>,
}

impl Standstills {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            found: BTreeMap::new(),
        }
    }

    /// Takes in one look. Where a partition was not seen, its time begins anew: brokers that are
    /// away decide nothing either. One that hangs does so until it is seen to go on.
    fn look(&mut self, seen: &BTreeMap<Partition, Ends>, now: Instant) {
        let patience = self.patience;
        self.found.retain(|partition, standstill| {
            seen.contains_key(partition) || standstill.lasted() > patience
        });
        for (partition, ends) in seen {
            let before = self.found.remove(partition);
            if let Some(standstill) = Standstill::after(before, *ends, now) {
                self.found.insert(partition.clone(), standstill);
            }
        }
    }

    /// Those that outlast every transaction, the longest first.
    fn hanging(&self) -> Vec<(&Partition, &Standstill)> {
        let mut hanging: Vec<_> = self
            .found
            .iter()
            .filter(|(_, standstill)| standstill.lasted() > self.patience)
            .collect();
        hanging.sort_by_key(|(_, standstill)| Reverse(standstill.lasted()));
        hanging
    }
}

/// The thread's state.
pub(crate) struct Watch {
    connection: Connection,
    committed: LogEnds,
    uncommitted: LogEnds,
    standstills: Standstills,
    next_word: Instant,
    stats: Arc<ClientStats>,
}

impl Watch {
    pub(crate) fn new(connection: Connection, stats: Arc<ClientStats>) -> KafkaResult<Self> {
        Ok(Self {
            committed: LogEnds::seen_with("read_committed", &connection)?,
            uncommitted: LogEnds::seen_with("read_uncommitted", &connection)?,
            standstills: Standstills::new(connection.transaction_timeout() + BROKER_GRACE),
            next_word: Instant::now(),
            connection,
            stats,
        })
    }

    fn ends(&self) -> KafkaResult<BTreeMap<Partition, Ends>> {
        let deadline = Instant::now() + LOOK_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut outputs = Vec::new();
        for (_, topic) in self.connection.topics.outputs() {
            outputs.extend(self.uncommitted.led_partitions(topic, left())?);
        }
        // That of committed readers first: what is written in between can only move the other one
        // on.
        let stable = self.committed.of(&outputs, left())?;
        let all = self.uncommitted.of(&outputs, left())?;
        let both = stable.into_iter().filter_map(|(partition, stable)| {
            let all = *all.get(&partition)?;
            Some((partition, Ends { stable, all }))
        });
        Ok(both.collect())
    }

    fn tell(&mut self) {
        let hanging = self.standstills.hanging();
        self.stats.set_hanging(hanging.len());
        let now = Instant::now();
        let Some((partition, standstill)) = hanging.first() else {
            return;
        };
        if now < self.next_word {
            return;
        }
        self.next_word = now + SAY_INTERVAL;
        let (topic, number, offset) = (&partition.topic, partition.number, standstill.offset);
        let tool = format!(
            "kafka-transactions.sh --bootstrap-server {}",
            self.connection.kafka.bootstrap_servers
        );
        tracing::warn!(
            %topic,
            partition = number,
            offset,
            lasted_s = standstill.lasted().as_secs(),
            partitions = hanging.len(),
            "readers with read_committed get no further, a transaction hangs at this offset: find \
             it with \"{tool} find-hanging --topic {topic} --max-transaction-timeout 1\"; if its \
             coordinator decided to abort, end it with \"{tool} abort --topic {topic} --partition \
             {number} --start-offset {offset}\"; if to commit, that would lose outputs: see \
             \"Hidden outputs\" in docs/operations.md"
        );
    }
}

impl Lookout for Watch {
    const INTERVAL: Duration = Duration::from_secs(5);

    fn clients(&self) -> impl Iterator<Item = &LogEnds> {
        [&self.committed, &self.uncommitted].into_iter()
    }

    fn look(&mut self) {
        let seen = self.ends().unwrap_or_else(|error| {
            tracing::debug!(%error, "where output partitions end was not to be had");
            BTreeMap::new()
        });
        self.standstills.look(&seen, Instant::now());
        self.tell();
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
            let mut standstills = Standstills::new(PATIENCE);
            for &(second, ends, hangs) in looks {
                let seen =
                    ends.map_or_else(BTreeMap::new, |(stable, all)| look(&[(0, stable, all)]));
                standstills.look(&seen, start + Duration::from_secs(second));
                let hanging = !standstills.hanging().is_empty();
                assert_eq!(hanging, hangs, "{story}: at second {second}");
            }
        }
    }

    #[test]
    fn partitions_are_judged_alone_and_the_longest_standstill_comes_first() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut standstills = Standstills::new(PATIENCE);
        standstills.look(&look(&[(0, 7, 7), (1, 5, 9), (2, 3, 4)]), at(0));
        standstills.look(&look(&[(0, 7, 8), (1, 5, 9), (2, 4, 6)]), at(10));
        standstills.look(&look(&[(0, 9, 9), (1, 5, 9), (2, 4, 6)]), at(40));
        let hanging: Vec<_> = standstills
            .hanging()
            .into_iter()
            .map(|(partition, standstill)| (partition.number, standstill.offset))
            .collect();
        assert_eq!(hanging, [(1, 5), (2, 4)]);
    }
}
