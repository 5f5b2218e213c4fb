//! One topic, from somewhere to where it ends now, as a committed reader and without joining a group.
//!
//! Where it ends is asked once, so that a topic that grows meanwhile is still read to an end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

use crate::{
    listener::Listener,
    native::Listed,
    preflight::{Looker, StartError},
    properties,
    settings::Connection,
    tap::{TopicRecord, unreadable, watermarks},
};

/// How long brokers may take to tell about a topic or a group.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Between looks at errors while nothing is read.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// By partition, the offset of the next record.
pub(crate) type Positions = BTreeMap<i32, i64>;

/// How far a partition was read, and how far it is to be.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Behind the last record that was read. Ends of transactions and what they took back lie beyond,
    /// where none follows: they are read past again by the next scan, which costs nothing. So a client
    /// that believes too early to be at the end skips no record for good.
    next: i64,
    end: i64,
    done: bool,
}

/// Reads a topic to its end.
pub struct Scan {
    consumer: Listed<BaseConsumer<Looker>>,
    topic: Arc<str>,
    extents: BTreeMap<i32, Extent>,
    /// How long brokers may be silent.
    patience: Duration,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("topic", &self.topic)
            .field("extents", &self.extents)
            .finish_non_exhaustive()
    }
}

impl Scan {
    /// A consumer in the name of this connection's group, which it never joins, with nothing to read yet.
    pub(crate) fn new(connection: &Connection, topic: &str) -> Result<Self, StartError> {
        let mut config = properties::scanner(connection);
        config.set_log_level(RDKafkaLogLevel::Info);
        let looker = Looker(Listener::new("reader", None, &config));
        let consumer: Listed<BaseConsumer<Looker>> = connection
            .client(&config, looker)
            .map_err(|error| StartError::Other(error.to_string()))?;
        Ok(Self {
            consumer,
            topic: topic.into(),
            extents: BTreeMap::new(),
            patience: connection.start_timeout(),
        })
    }

    /// What the group has committed in the topic. Waits for a transaction that may still change it.
    pub(crate) fn committed(&self) -> Result<Positions, StartError> {
        let asked = Instant::now();
        loop {
            match self.committed_now() {
                Ok(positions) => return Ok(positions),
                Err(error) => self.wait(asked, &error)?,
            }
        }
    }

    fn committed_now(&self) -> KafkaResult<Positions> {
        let partitions = self.partitions()?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, 0, partitions - 1);
        let mut positions = Positions::new();
        for element in self
            .consumer
            .committed_offsets(asked, QUESTION_TIMEOUT)?
            .elements()
        {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                positions.insert(element.partition(), offset);
            }
        }
        Ok(positions)
    }

    /// At least one.
    fn partitions(&self) -> KafkaResult<i32> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.topic), QUESTION_TIMEOUT)?;
        let found = metadata.topics().first();
        match found.map_or(0, |found| found.partitions().len()) {
            0 => Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::UnknownTopicOrPartition,
            )),
            count => Ok(i32::try_from(count).unwrap_or(i32::MAX)),
        }
    }

    /// Begins to read: each partition at its position, or where it begins where there is none, or where the
    /// position is beyond its end, as in a topic that was deleted and made anew.
    pub(crate) fn begin(&mut self, positions: &Positions) -> Result<(), StartError> {
        let asked = Instant::now();
        let extents = loop {
            match self.look(positions) {
                Ok(extents) => break extents,
                Err(error) => self.wait(asked, &error)?,
            }
        };
        let mut assignment = TopicPartitionList::new();
        for (partition, extent) in &extents {
            assignment
                .add_partition_offset(&self.topic, *partition, Offset::Offset(extent.next))
                .and_then(|()| self.consumer.assign(&assignment))
                .map_err(|error| self.failed(&error))?;
        }
        self.extents = extents;
        Ok(())
    }

    fn look(&self, positions: &Positions) -> KafkaResult<BTreeMap<i32, Extent>> {
        (0..self.partitions()?)
            .map(|partition| {
                let (low, end) = watermarks(&*self.consumer, &self.topic, partition)?;
                let position = positions.get(&partition).copied();
                let next = position.filter(|next| *next <= end).unwrap_or(low).max(low);
                let done = next >= end;
                Ok((partition, Extent { next, end, done }))
            })
            .collect()
    }

    /// The next record; blocks until there is one. `None` at the end.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read on, or brokers are silent for longer than `kafka.start_timeout_ms`.
    pub fn read(&mut self) -> Result<Option<TopicRecord>, StartError> {
        let asked = Instant::now();
        loop {
            if self.extents.values().all(|extent| extent.done) {
                return Ok(None);
            }
            match self.consumer.poll(POLL_TIMEOUT) {
                Some(Ok(message)) => {
                    let Some(extent) = self.extents.get_mut(&message.partition()) else {
                        continue;
                    };
                    let record = TopicRecord::of(&message, &self.topic);
                    if record.offset >= extent.end {
                        extent.done = true;
                        continue;
                    }
                    extent.next = record.offset + 1;
                    extent.done |= extent.next >= extent.end;
                    return Ok(Some(record));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if let Some(extent) = self.extents.get_mut(&partition) {
                        extent.done = true;
                    }
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    return Err(unreadable(code));
                }
                Some(Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::TopicAuthorizationFailed,
                ))) => {
                    return Err(StartError::Forbidden(format!(
                        "topic \"{}\" may not be read by this user; allow READ on it",
                        self.topic
                    )));
                }
                Some(Err(KafkaError::MessageConsumption(
                    code @ RDKafkaErrorCode::UnknownTopicOrPartition,
                ))) => return Err(unreadable(code)),
                Some(Err(error)) => self.wait(asked, &error)?,
                None => self.wait(asked, &"brokers are silent")?,
            }
        }
    }

    /// Where each partition was read to.
    pub(crate) fn positions(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, extent) in &self.extents {
            let mut entry = list.add_partition(&self.topic, *partition);
            entry
                .set_offset(Offset::Offset(extent.next))
                .expect("an offset that was read is one");
        }
        list
    }

    pub(crate) fn consumer(&self) -> &BaseConsumer<Looker> {
        &self.consumer
    }

    /// While the answer does not come. Fails once patience is over, with what is known of the cause.
    fn wait(&self, asked: Instant, error: &dyn std::fmt::Display) -> Result<(), StartError> {
        let listener = &self.consumer.context().0;
        listener.remind(self.consumer.client());
        if asked.elapsed() < self.patience {
            return Ok(());
        }
        let reason = listener
            .fault()
            .map_or_else(|| error.to_string(), |fault| fault.reason);
        Err(self.failed(&format!("{reason}, for {} s", self.patience.as_secs())))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> StartError {
        StartError::Other(format!("topic \"{}\" cannot be read: {error}", self.topic))
    }
}
