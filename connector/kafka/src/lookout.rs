//! Threads beside the consumer that look, now and then, where partitions end.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
    metadata::MetadataPartition,
};

use crate::{
    native::{self, Listed, TopicId},
    properties,
    reminder::Reminder,
    report::Report,
    settings::Connection,
};

/// How long one look may take.
pub(crate) const LOOK_TIMEOUT: Duration = Duration::from_secs(4);
/// How soon a close is noticed.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(200);

/// Something that looks again and again.
pub(crate) trait Lookout {
    /// Between two looks.
    const INTERVAL: Duration;

    /// The clients that it asks.
    fn clients(&self) -> impl Iterator<Item = &LogEnds>;

    /// One look, of about [`LOOK_TIMEOUT`] at most.
    fn look(&mut self);

    /// Looks until asked to close.
    fn keep_looking(mut self, closing: &AtomicBool)
    where
        Self: Sized,
    {
        let mut next_look = Instant::now();
        while !closing.load(Ordering::Acquire) {
            thread::sleep(CLOSE_CHECK_INTERVAL);
            self.clients().for_each(LogEnds::serve);
            if Instant::now() >= next_look {
                self.look();
                next_look = Instant::now() + Self::INTERVAL;
            }
        }
    }
}

/// A client that only asks where partitions begin and end.
pub(crate) struct LogEnds(Listed<BaseConsumer<Quiet>>);

impl LogEnds {
    /// Ends as a reader with this `isolation.level` sees them.
    pub(crate) fn seen_with(isolation: &str, connection: &Connection) -> KafkaResult<Self> {
        let mut config = properties::looker(connection);
        config
            .remove("group.id")
            .set("isolation.level", isolation)
            .set_log_level(RDKafkaLogLevel::Emerg);
        let quiet = Quiet(Reminder::new("lookout", &config));
        connection.client(&config, quiet).map(Self)
    }

    /// Does what waits for somebody who polls, such as errors.
    pub(crate) fn serve(&self) {
        let _ = self.0.poll(Duration::ZERO);
        self.0.context().0.remind(self.0.client());
    }

    /// The id of a topic, where it is to be had.
    pub(crate) fn topic_id(&self, topic: &str, timeout: Duration) -> Option<TopicId> {
        native::topic_id(self.0.client(), topic, timeout)
    }

    /// The partitions of a topic.
    pub(crate) fn partitions(&self, topic: &str, timeout: Duration) -> KafkaResult<Vec<Partition>> {
        self.partitions_that(topic, timeout, |_| true)
    }

    /// The partitions of a topic that have a leader. One without would keep the answers about all
    /// others back.
    pub(crate) fn led_partitions(
        &self,
        topic: &str,
        timeout: Duration,
    ) -> KafkaResult<Vec<Partition>> {
        self.partitions_that(topic, timeout, |partition| partition.leader() >= 0)
    }

    fn partitions_that(
        &self,
        topic: &str,
        timeout: Duration,
        are_meant: impl Fn(&MetadataPartition) -> bool,
    ) -> KafkaResult<Vec<Partition>> {
        let metadata = self.0.fetch_metadata(Some(topic), timeout)?;
        let mut found = Vec::new();
        for topic in metadata.topics() {
            let meant = topic.partitions().iter().filter(|one| are_meant(one));
            found.extend(meant.map(|partition| Partition {
                topic: topic.name().into(),
                number: partition.id(),
            }));
        }
        Ok(found)
    }

    /// Where these partitions end; those that gave no answer are left out.
    pub(crate) fn of<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition>,
        timeout: Duration,
    ) -> KafkaResult<BTreeMap<Partition, i64>> {
        self.offsets(Offset::End, partitions, timeout)
    }

    /// Where these partitions begin; those that gave no answer are left out.
    pub(crate) fn beginnings<'a>(
        &self,
        partitions: impl IntoIterator<Item = &'a Partition>,
        timeout: Duration,
    ) -> KafkaResult<BTreeMap<Partition, i64>> {
        self.offsets(Offset::Beginning, partitions, timeout)
    }

    fn offsets<'a>(
        &self,
        place: Offset,
        partitions: impl IntoIterator<Item = &'a Partition>,
        timeout: Duration,
    ) -> KafkaResult<BTreeMap<Partition, i64>> {
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition_offset(&partition.topic, partition.number, place)?;
        }
        // The end is the "time" -1 of Kafka's ListOffsets, and the beginning -2.
        let found = self.0.offsets_for_times(asked, timeout)?;
        let elements = found.elements();
        let offsets = elements.iter().filter_map(|element| {
            let (Ok(()), Offset::Offset(offset)) = (element.error(), element.offset()) else {
                return None;
            };
            let partition = Partition {
                topic: element.topic().into(),
                number: element.partition(),
            };
            Some((partition, offset))
        });
        Ok(offsets.collect())
    }
}

/// Says nothing of its own: what these clients meet, the others meet as well.
struct Quiet(Reminder);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn stats_raw(&self, statistics: &[u8]) {
        if let Some(report) = Report::read(statistics) {
            self.0.take_report(&report);
        }
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}
