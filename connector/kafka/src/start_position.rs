//! Where reading begins in a partition that came to us.
//!
//! Left to librdkafka, it would be where its own question about committed offsets leads, and that
//! goes wrong in two ways. While a transaction on these offsets is open, as when its owner has just
//! died, the broker answers "unstable"; if the assignment changes meanwhile, or the retries are used
//! up, librdkafka 2.12 takes that for "none" and begins at the start of the partition, or skips to its
//! end. And "latest" would mean since some process last started, so that records between a first
//! start and a crash before the first commit would be skipped; it means since the group first had the
//! partition, so the end is looked up once and committed.
//!
//! So we ask ourselves, until the answer is stable, and begin at an offset that we know.

use std::{
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaResult,
};

use crate::{settings::StartFrom, stats::ClientStats};

/// The longest that stable committed offsets are asked for: an outage of the brokers is waited for,
/// and so is a transaction of somebody who died.
const LONGEST_PATIENCE: Duration = Duration::from_secs(240);
/// How often the wait is said.
const SAY_INTERVAL: Duration = Duration::from_secs(10);
/// How long one question about a partition may take. Heartbeats go on meanwhile.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// Between questions.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Where to begin.
pub(crate) struct Positions {
    /// The assignment, with an offset for each partition.
    pub(crate) assignment: TopicPartitionList,
    /// Those that are to be committed, so that the next owner begins there too.
    pins: TopicPartitionList,
}

/// How long to ask, which is done within a poll: less than the longest time between two polls.
pub(crate) fn patience(max_poll_interval: Duration) -> Duration {
    LONGEST_PATIENCE.min(max_poll_interval * 4 / 5)
}

/// Looks positions up until they are known, for as long as `patience` lasts and nobody gives up.
///
/// # Errors
///
/// Why they are still not known.
pub(crate) fn find<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
    start_from: StartFrom,
    patience: Duration,
    give_up: impl Fn() -> bool,
) -> Result<Positions, String> {
    let started = Instant::now();
    let mut next_word = started + SAY_INTERVAL.min(patience / 2);
    loop {
        let error = match look(consumer, assigned, start_from) {
            Ok(positions) => return Ok(positions),
            Err(error) => error,
        };
        let waited = started.elapsed();
        if give_up() || waited >= patience {
            return Err(format!("{error}, for {} s", waited.as_secs()));
        }
        if Instant::now() >= next_word {
            next_word += SAY_INTERVAL;
            tracing::warn!(
                %error,
                waited_s = waited.as_secs(),
                limit_s = patience.as_secs(),
                "reading waits for committed offsets"
            );
        }
        thread::sleep(RETRY_PAUSE);
    }
}

fn look<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
    start_from: StartFrom,
) -> KafkaResult<Positions> {
    let mut assignment = consumer.committed_offsets(assigned.clone(), QUESTION_TIMEOUT)?;
    let mut fresh = TopicPartitionList::new();
    let first = match start_from {
        StartFrom::Earliest => Offset::Beginning,
        StartFrom::Latest => Offset::End,
    };
    for element in assignment.elements() {
        element.error()?;
        if !matches!(element.offset(), Offset::Offset(_)) {
            fresh.add_partition_offset(element.topic(), element.partition(), first)?;
        }
    }
    let mut pins = TopicPartitionList::new();
    if start_from == StartFrom::Latest && fresh.count() > 0 {
        // One question for all of them: the end is the "time" -1 of Kafka's ListOffsets.
        fresh = consumer.offsets_for_times(fresh, QUESTION_TIMEOUT)?;
        pins = fresh.clone();
    }
    for element in fresh.elements() {
        element.error()?;
        assignment.set_partition_offset(element.topic(), element.partition(), element.offset())?;
    }
    Ok(Positions { assignment, pins })
}

impl Positions {
    /// Tells the figures where each partition stands.
    pub(crate) fn tell(&self, stats: &ClientStats) {
        for element in self.assignment.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let partition = Partition {
                    topic: element.topic().into(),
                    number: element.partition(),
                };
                stats.begins(&partition, offset);
            }
        }
    }

    /// Commits the positions that only we know; one that fails is looked up again by the next
    /// owner.
    pub(crate) fn commit<C: ConsumerContext>(&self, consumer: &BaseConsumer<C>) {
        if self.pins.count() == 0 {
            return;
        }
        match consumer.commit(&self.pins, CommitMode::Async) {
            Ok(()) => {
                tracing::info!(partitions = self.pins.count(), "reading begins at the end");
            }
            Err(error) => tracing::warn!(%error, "the position to begin at was not committed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_ends_before_the_group_goes_on_without_us() {
        let seconds = Duration::from_secs;
        assert_eq!(patience(seconds(300)), seconds(240));
        assert_eq!(patience(seconds(3_600)), seconds(240));
        assert_eq!(patience(seconds(10)), seconds(8));
    }
}
