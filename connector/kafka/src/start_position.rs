//! Where reading begins at the end of a partition that the group has never committed.
//!
//! "Latest" means from the moment the group first had the partition. Left to librdkafka it would
//! mean from the moment some process last started, and records between a first start and a crash
//! before the first commit would be skipped. So the end is looked up once and committed.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaResult,
};

/// How long one question about a partition may take. Heartbeats go on meanwhile.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The assignment with a position for every partition that has no committed offset, and those
/// positions alone.
pub(crate) fn pinned_to_the_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
) -> KafkaResult<(TopicPartitionList, TopicPartitionList)> {
    let mut list = consumer.committed_offsets(assigned.clone(), QUESTION_TIMEOUT)?;
    let mut pins = TopicPartitionList::new();
    for element in list.elements() {
        element.error()?;
        if element.offset() == Offset::Invalid {
            let (topic, partition) = (element.topic(), element.partition());
            let (_, end) = consumer.fetch_watermarks(topic, partition, QUESTION_TIMEOUT)?;
            pins.add_partition_offset(topic, partition, Offset::Offset(end))?;
        }
    }
    for pin in pins.elements() {
        list.set_partition_offset(pin.topic(), pin.partition(), pin.offset())?;
    }
    Ok((list, pins))
}

/// Commits the positions; one that fails is looked up again by the next owner.
pub(crate) fn commit<C: ConsumerContext>(consumer: &BaseConsumer<C>, pins: &TopicPartitionList) {
    if pins.count() == 0 {
        return;
    }
    match consumer.commit(pins, CommitMode::Async) {
        Ok(()) => tracing::info!(partitions = pins.count(), "reading begins at the end"),
        Err(error) => tracing::warn!(%error, "the position to begin at was not committed"),
    }
}
