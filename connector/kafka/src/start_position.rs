//! Where reading begins at the end of a partition that the group has never committed.
//!
//! "Latest" means from the moment the group first had the partition. Left to librdkafka it would
//! mean from the moment some process last started, and records between a first start and a crash
//! before the first commit would be skipped. So the end is looked up once and committed.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::KafkaResult,
};

/// How long one question may take. Heartbeats go on meanwhile.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long brokers are asked, within librdkafka's `max.poll.interval.ms`.
const LONGEST_OUTAGE: Duration = Duration::from_secs(240);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

/// The assignment with a position for every partition that has no committed offset, and those
/// positions alone. Asks again while brokers are away, until `give_up`.
pub(crate) fn pinned_to_the_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
    give_up: impl Fn() -> bool,
) -> KafkaResult<(TopicPartitionList, TopicPartitionList)> {
    let began = Instant::now();
    loop {
        match pinned(consumer, assigned) {
            Err(error) if began.elapsed() < LONGEST_OUTAGE && !give_up() => {
                tracing::warn!(%error, "the end of new partitions is asked for again");
                thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
}

fn pinned<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    assigned: &TopicPartitionList,
) -> KafkaResult<(TopicPartitionList, TopicPartitionList)> {
    let mut list = consumer.committed_offsets(assigned.clone(), QUESTION_TIMEOUT)?;
    let mut ends = TopicPartitionList::new();
    for element in list.elements() {
        element.error()?;
        if element.offset() == Offset::Invalid {
            ends.add_partition_offset(element.topic(), element.partition(), Offset::End)?;
        }
    }
    if ends.count() == 0 {
        return Ok((list, ends));
    }
    // One question for all of them: the end is the "time" -1 of Kafka's ListOffsets.
    let pins = consumer.offsets_for_times(ends, QUESTION_TIMEOUT)?;
    for pin in pins.elements() {
        pin.error()?;
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
