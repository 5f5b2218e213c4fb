//! One topic, from somewhere to where it ends now, as a committed reader and without joining a group.
//!
//! Where it ends is asked once, so that a topic that grows meanwhile is still read to an end.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    listener::Listener,
    native::Listed,
    preflight::{Looker, StartError},
    properties,
    settings::Connection,
    tap::{self, TopicRecord, watermarks},
    unreadable,
};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

/// How long brokers may take to tell about a topic.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Between looks at errors while nothing is read.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// By partition, the offset of the next record.
pub type Positions = BTreeMap<i32, i64>;

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
    given_up: Arc<AtomicBool>,
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
    /// Begins to read: each partition at its position, or where it begins where there is none. Blocks.
    ///
    /// # Errors
    ///
    /// When the topic is not there or must not be read.
    pub fn begin(
        connection: &Connection,
        topic: &str,
        positions: &Positions,
        given_up: &Arc<AtomicBool>,
    ) -> Result<Self, StartError> {
        let mut config = properties::scanner(connection);
        config.set_log_level(RDKafkaLogLevel::Info);
        let looker = Looker(Listener::new("reader", None, &config));
        let consumer: Listed<BaseConsumer<Looker>> = connection
            .client(&config, looker)
            .map_err(|error| StartError::Other(error.to_string()))?;
        let mut scan = Self {
            consumer,
            topic: topic.into(),
            extents: BTreeMap::new(),
            patience: connection.start_timeout(),
            given_up: Arc::clone(given_up),
        };
        scan.assign(positions)?;
        Ok(scan)
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

    fn assign(&mut self, positions: &Positions) -> Result<(), StartError> {
        let asked = Instant::now();
        self.extents = loop {
            match self.look(positions) {
                Ok(extents) => break extents,
                Err(error) => self.wait(asked, &error)?,
            }
        };
        let mut assignment = TopicPartitionList::with_capacity(self.extents.len());
        for (partition, extent) in &self.extents {
            assignment
                .add_partition_offset(&self.topic, *partition, Offset::Offset(extent.next))
                .map_err(|error| self.failed(&error))?;
        }
        self.consumer
            .assign(&assignment)
            .map_err(|error| self.failed(&error))
    }

    fn look(&self, positions: &Positions) -> KafkaResult<BTreeMap<i32, Extent>> {
        (0..self.partitions()?)
            .map(|partition| {
                let (low, end) = watermarks(&*self.consumer, &self.topic, partition)?;
                let position = positions.get(&partition).copied().unwrap_or(low);
                let next = position.clamp(low, end);
                let done = next >= end;
                Ok((partition, Extent { next, end, done }))
            })
            .collect()
    }

    /// The next record; blocks until there is one. `None` at the end.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read on, brokers are silent for longer than `kafka.start_timeout_ms`, or somebody
    /// gave up meanwhile.
    pub fn read(&mut self) -> Result<Option<TopicRecord>, StartError> {
        let asked = Instant::now();
        loop {
            if self.given_up.load(Ordering::Acquire) {
                return Err(StartError::GivenUp);
            }
            if self.extents.values().all(|extent| extent.done) {
                return Ok(None);
            }
            match self.consumer.poll(POLL_TIMEOUT) {
                Some(Ok(message)) => {
                    let Some(extent) = self.extents.get_mut(&message.partition()) else {
                        continue;
                    };
                    let record = TopicRecord::of(&message, &self.topic);
                    if record.offset < extent.next {
                        // A log that lost its end is read from its beginning again.
                        continue;
                    }
                    if record.offset >= extent.end {
                        extent.done = true;
                        // However fast it grows, silence of the others is noticed.
                        self.leave(message.partition())?;
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
                    return Err(tap::unreadable(code));
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
                ))) => return Err(tap::unreadable(code)),
                Some(Err(error)) => match self.unreadable_batch(&error) {
                    Some(reason) => return Err(self.failed(&reason)),
                    None => self.wait(asked, &error)?,
                },
                None => self.wait(asked, &"brokers are silent")?,
            }
        }
    }

    /// Reads no more of a partition that is done.
    fn leave(&self, partition: i32) -> Result<(), StartError> {
        let mut left = TopicPartitionList::with_capacity(1);
        left.add_partition(&self.topic, partition);
        self.consumer
            .pause(&left)
            .map_err(|error| self.failed(&error))
    }

    /// Where each partition was read to: what was given out lies before.
    pub fn positions(&self) -> Positions {
        let extents = self.extents.iter();
        extents
            .map(|(partition, extent)| (*partition, extent.next))
            .collect()
    }

    /// What is wrong with a batch, if the error is about one: librdkafka would go on behind it without a word.
    fn unreadable_batch(&self, error: &KafkaError) -> Option<String> {
        let KafkaError::MessageConsumption(code) = error else {
            return None;
        };
        let (_, reason) = unreadable::told(&self.consumer.context().0, *code)?;
        Some(reason)
    }

    /// While the answer does not come. Fails once somebody gives up, or patience is over, with what is known of
    /// the cause.
    fn wait(&self, asked: Instant, error: &dyn std::fmt::Display) -> Result<(), StartError> {
        if self.given_up.load(Ordering::Acquire) {
            return Err(StartError::GivenUp);
        }
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
        StartError::Unreadable(format!("topic \"{}\" cannot be read: {error}", self.topic))
    }
}
