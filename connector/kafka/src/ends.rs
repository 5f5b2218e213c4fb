//! Where the partitions that are ours end, while fetching is suspended.
//!
//! Otherwise the statistics know it: each answer to a fetch says where the partition ends. With
//! nothing fetched their figures stand still, and so the lag would fall while a backlog grows. So
//! for as long as that lasts, a client beside the consumer asks once a second, as a committed
//! reader.
//!
//! Deliberately absent: a remedy for a partition without a leader. It keeps the answers about all
//! others back, and their ends stay as old as the last answer.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaResult,
};

use crate::{
    hanging::{self, Quiet},
    settings::Connection,
    stats::ClientStats,
};

/// Between two looks; librdkafka's own figures are as old at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);
/// How soon a close is noticed.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// The thread's state.
pub(crate) struct Ends {
    client: BaseConsumer<Quiet>,
    stats: Arc<ClientStats>,
    closing: Arc<AtomicBool>,
}

impl Ends {
    pub(crate) fn new(
        connection: &Connection,
        stats: Arc<ClientStats>,
        closing: Arc<AtomicBool>,
    ) -> KafkaResult<Self> {
        Ok(Self {
            client: hanging::client(connection, "read_committed")?,
            stats,
            closing,
        })
    }

    /// Looks where the statistics do not, until asked to close.
    pub(crate) fn run(self) {
        let mut next_look = Instant::now();
        while !self.closing.load(Ordering::Acquire) {
            thread::sleep(CLOSE_CHECK_INTERVAL);
            // Errors wait for somebody who polls.
            let _ = self.client.poll(Duration::ZERO);
            if Instant::now() < next_look {
                continue;
            }
            let partitions = self.stats.unfollowed();
            if partitions.is_empty() {
                continue;
            }
            match self.look(&partitions) {
                Ok(ends) => self.stats.end_at(ends),
                Err(error) => {
                    tracing::debug!(%error, "where answer partitions end was not to be had");
                }
            }
            next_look = Instant::now() + LOOK_INTERVAL;
        }
    }

    fn look(&self, partitions: &[Partition]) -> KafkaResult<BTreeMap<Partition, i64>> {
        let mut asked = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            asked.add_partition_offset(&partition.topic, partition.number, Offset::End)?;
        }
        // The end is the "time" -1 of Kafka's ListOffsets.
        let found = self.client.offsets_for_times(asked, LOOK_TIMEOUT)?;
        Ok(hanging::offsets(&found))
    }
}
