//! How the coordinator decided a transaction whose commit was not answered, where the group's offsets do
//! not tell.
//!
//! A broker that crashed may leave a decision out of partitions that have no leader at that moment
//! (KAFKA-20734, see [`crate::unended`]): after the crash of a single broker, out of all of them. Nobody is
//! told then what the group has committed, and no output shows it. The coordinator's own log does, the topic
//! `__transaction_state`, which keeps each state of a transactional id until it is compacted. Where this
//! user may not read it, or its form is not the one known, there is no verdict.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aligner_pipeline::Partition;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, DefaultConsumerContext},
    error::{KafkaError, KafkaResult},
};

use crate::{native::Listed, properties, settings::Connection};

/// Where coordinators keep the states of transactions.
const STATES_TOPIC: &str = "__transaction_state";
/// How long one question may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it may take to read the states.
const READ_TIMEOUT: Duration = Duration::from_secs(4);
/// How far the broker's clock may be behind ours.
const CLOCK_MARGIN: Duration = Duration::from_secs(60);

/// How a transaction was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Committed,
    Aborted,
}

/// What the group has committed in the partitions of these targets, as this client may know it.
///
/// # Errors
///
/// Where brokers do not answer for each of them.
pub(crate) fn committed<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    targets: &[(Partition, i64)],
    timeout: Duration,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(targets.len());
    for (partition, _) in targets {
        list.add_partition(&partition.topic, partition.number);
    }
    let found = client.committed_offsets(list, timeout)?;
    for element in found.elements() {
        element.error()?;
    }
    Ok(found)
}

/// The same, those offsets aside that a transaction holds.
///
/// # Errors
///
/// Where brokers do not answer for each of them.
pub(crate) fn without_pending(
    connection: &Connection,
    targets: &[(Partition, i64)],
) -> KafkaResult<TopicPartitionList> {
    // It does not ask for stable offsets.
    let mut config = properties::looker(connection);
    config.set_log_level(RDKafkaLogLevel::Emerg);
    let client: Listed<BaseConsumer> = connection.client(&config, DefaultConsumerContext)?;
    committed(&client, targets, QUESTION_TIMEOUT)
}

/// How the last transaction of our id was decided, which began after `since`; `None` where that is not to be
/// learned.
pub(crate) fn find(connection: &Connection, since: SystemTime) -> Option<Verdict> {
    read(connection, since).unwrap_or_else(|error| {
        tracing::debug!(%error, "the log of the transaction coordinator was not to be read");
        None
    })
}

fn read(connection: &Connection, since: SystemTime) -> KafkaResult<Option<Verdict>> {
    let mut config = properties::reader(connection);
    config
        // Nothing joins it, and no other group may be looked at.
        .set("group.id", &connection.group_id)
        .set("enable.partition.eof", "true")
        .set_log_level(RDKafkaLogLevel::Emerg);
    let reader: Listed<BaseConsumer> = connection.client(&config, DefaultConsumerContext)?;
    let metadata = reader.fetch_metadata(Some(STATES_TOPIC), QUESTION_TIMEOUT)?;
    let partitions = metadata
        .topics()
        .iter()
        .map(|topic| topic.partitions().len());
    let Some(partition) = coordinating(&connection.identity, partitions.sum()) else {
        return Ok(None);
    };
    let since = since.checked_sub(CLOCK_MARGIN).unwrap_or(UNIX_EPOCH);
    let since_ms = since
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let mut position = TopicPartitionList::new();
    let at = Offset::Offset(i64::try_from(since_ms).unwrap_or(i64::MAX));
    position.add_partition_offset(STATES_TOPIC, partition, at)?;
    let position = reader.offsets_for_times(position, QUESTION_TIMEOUT)?;
    for element in position.elements() {
        element.error()?;
    }
    reader.assign(&position)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    let mut verdict = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match reader.poll(left) {
            Some(Ok(record)) => {
                if record.key().and_then(transactional_id) == Some(connection.identity.as_bytes()) {
                    verdict = after(verdict, record.payload().and_then(status));
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(verdict),
            // Records may follow all the same.
            Some(Err(error)) => tracing::debug!(%error, "while reading transaction states"),
            // What was read so far may not be the end.
            None => return Ok(None),
        }
    }
}

/// The partition of a transactional id, as Apache Kafka chooses it: by the hash of a Java string.
fn coordinating(id: &str, partitions: usize) -> Option<i32> {
    let hash = id.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let partitions = i32::try_from(partitions).ok().filter(|count| *count > 0)?;
    Some(hash.checked_abs().unwrap_or(0) % partitions)
}

/// The id in the key of a record, `TransactionLogKey`: a version, and a text with its length before it.
fn transactional_id(key: &[u8]) -> Option<&[u8]> {
    let ([0, 0], rest) = key.split_first_chunk()? else {
        return None;
    };
    let (length, id) = rest.split_first_chunk()?;
    id.get(..usize::from(u16::from_be_bytes(*length)))
}

/// The state in the value of a record, `TransactionLogValue`: behind a version, the producer's id and epoch,
/// and the timeout, in both versions that there are.
fn status(value: &[u8]) -> Option<u8> {
    let ([0, 0 | 1], rest) = value.split_first_chunk()? else {
        return None;
    };
    rest.get(8 + 2 + 4).copied()
}

/// The verdict after one more state of an id. A transaction that begins has none yet; an id that is claimed
/// leaves the last one as it is.
fn after(verdict: Option<Verdict>, status: Option<u8>) -> Option<Verdict> {
    const EMPTY: u8 = 0;
    const PREPARE_COMMIT: u8 = 2;
    const PREPARE_ABORT: u8 = 3;
    const COMPLETE_COMMIT: u8 = 4;
    const COMPLETE_ABORT: u8 = 5;
    match status {
        Some(PREPARE_COMMIT | COMPLETE_COMMIT) => Some(Verdict::Committed),
        Some(PREPARE_ABORT | COMPLETE_ABORT) => Some(Verdict::Aborted),
        Some(EMPTY) => verdict,
        // It goes on, or is nothing that we know.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_transaction_that_ended_is_judged_by_the_coordinators_states() {
        let (empty, ongoing, fenced) = (0, 1, 7);
        for (states, expected) in [
            (&[][..], None),
            (&[empty], None),
            (&[ongoing, 2, 4], Some(Verdict::Committed)),
            (&[ongoing, 2], Some(Verdict::Committed)),
            (&[ongoing, fenced, 3, 5, empty], Some(Verdict::Aborted)),
            (
                &[ongoing, 2, 4, ongoing, 3, 5, empty],
                Some(Verdict::Aborted),
            ),
            // The one before was committed; this one is not decided.
            (&[ongoing, 2, 4, ongoing, ongoing], None),
            (&[ongoing, 2, 4, 9], None),
        ] {
            let verdict = states
                .iter()
                .fold(None, |verdict, state| after(verdict, Some(*state)));
            assert_eq!(verdict, expected, "{states:?}");
        }
    }

    #[test]
    fn ids_are_kept_where_java_keeps_them() {
        // As TransactionStateManager.partitionFor of Apache Kafka 4.3.0 says; their hashes are 97 and
        // -621987511.
        assert_eq!(coordinating("a", 50), Some(47));
        assert_eq!(coordinating("moderation-0", 50), Some(11));
        assert_eq!(coordinating("a", 0), None);
    }

    #[test]
    fn records_of_the_coordinators_log_are_read_in_both_versions() {
        assert_eq!(transactional_id(b"\0\0\0\x03abc"), Some(&b"abc"[..]));
        for other in [&b""[..], b"\0", b"\0\x01\0\x03abc", b"\0\0\0\x04abc"] {
            assert_eq!(transactional_id(other), None, "{other:?}");
        }
        let value = |version: u8, status: u8| {
            let mut value = vec![0, version];
            value.extend([0; 14]);
            value.extend([status, 9, 9]);
            value
        };
        assert_eq!(status(&value(0, 5)), Some(5));
        assert_eq!(status(&value(1, 2)), Some(2));
        assert_eq!(status(&value(2, 2)), None);
        assert_eq!(status(&value(0, 5)[..16]), None);
    }
}
