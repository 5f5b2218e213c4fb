//! How a transaction was decided whose commit was not answered, where the group's offsets do not tell.
//!
//! A broker that crashed may leave a decision out of partitions that have no leader at that moment
//! (KAFKA-20734, see [`crate::unended`]), those of the group's offsets among them: nobody is told what is
//! committed there any more. But a coordinator decides once for all partitions, and those that it did mark
//! show how: a committed reader sees our output at its offset, or steps over it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::{FromClientConfig, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
};

use crate::{lookout::LogEnds, properties, settings::Connection};

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(4);
/// How long it may take to read from one partition.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// How a transaction was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Committed,
    Aborted,
}

/// An offset in each partition that a transaction wrote to, of an output that was acknowledged.
pub(crate) type Witnesses = BTreeMap<Partition, i64>;

/// Whether the offsets that the group has are older than these while nobody is told of them: somebody's
/// decision on them is missing. False where brokers do not answer.
pub(crate) fn is_missing(connection: &Connection, targets: &[(Partition, i64)]) -> bool {
    offsets_without_pending(connection, targets).unwrap_or_else(|error| {
        tracing::debug!(%error, "committed offsets were not to be had at all");
        false
    })
}

fn offsets_without_pending(
    connection: &Connection,
    targets: &[(Partition, i64)],
) -> KafkaResult<bool> {
    // It does not ask for stable offsets.
    let mut config = properties::preflight(connection);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let client: BaseConsumer = BaseConsumer::from_config(&config)?;
    let mut list = TopicPartitionList::with_capacity(targets.len());
    for (partition, _) in targets {
        list.add_partition(&partition.topic, partition.number);
    }
    let found = client.committed_offsets(list, LOOK_TIMEOUT)?;
    for (partition, target) in targets {
        let Some(element) = found.find_partition(&partition.topic, partition.number) else {
            return Ok(false);
        };
        element.error()?;
        if matches!(element.offset(), Offset::Offset(offset) if offset >= *target) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How the transaction was decided; `None` where no partition shows it, or this user may not read them.
pub(crate) fn find(connection: &Connection, witnesses: &Witnesses) -> Option<Verdict> {
    look(connection, witnesses).unwrap_or_else(|error| {
        tracing::debug!(%error, "outputs of a transaction in doubt were not to be read");
        None
    })
}

fn look(connection: &Connection, witnesses: &Witnesses) -> KafkaResult<Option<Verdict>> {
    let committed = LogEnds::seen_with("read_committed", connection)?;
    let deadline = Instant::now() + LOOK_TIMEOUT;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut led = BTreeSet::new();
    for topic in witnesses
        .keys()
        .map(|one| &one.topic)
        .collect::<BTreeSet<_>>()
    {
        led.extend(committed.led_partitions(topic, left())?);
    }
    let asked = witnesses
        .keys()
        .filter(|partition| led.contains(*partition));
    let ends = committed.of(asked, left())?;
    let decided = witnesses
        .iter()
        .find(|(partition, offset)| ends.get(partition).is_some_and(|end| end > *offset));
    match decided {
        Some((partition, offset)) => read(connection, partition, *offset),
        None => Ok(None),
    }
}

/// What a committed reader finds at an offset behind which all is decided.
fn read(
    connection: &Connection,
    partition: &Partition,
    offset: i64,
) -> KafkaResult<Option<Verdict>> {
    let mut config = properties::reader(connection);
    config
        .set("enable.partition.eof", "true")
        .set_log_level(RDKafkaLogLevel::Emerg);
    let reader: BaseConsumer = BaseConsumer::from_config(&config)?;
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(&partition.topic, partition.number, Offset::Offset(offset))?;
    reader.assign(&position)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        match reader.poll(left) {
            Some(Ok(record)) if record.offset() == offset => return Ok(Some(Verdict::Committed)),
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(Some(Verdict::Aborted)),
            // A broker that was away a moment ago; one that refuses us goes on to.
            Some(Err(error)) => tracing::debug!(%error, "an output in doubt was not read"),
            None => return Ok(None),
        }
    }
}
