//! Plain reading and writing of topics, beside the pipeline.
//!
//! For demonstrations and checks: write events as an application does, read results as a
//! committed reader does. Neither joins the pipeline's group.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Header;
use bytes::Bytes;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{Consumer, ConsumerContext, DefaultConsumerContext, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    producer::{FutureProducer, FutureRecord, Producer},
    util::Timeout,
};

use crate::{
    headers,
    native::{self, Listed},
    preflight::StartError,
    properties,
    settings::{Connection, StartFrom},
};

/// Between two questions for a partition that has no leader yet.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// How long brokers may take to tell about a topic.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes records one at a time.
pub struct TopicWriter(Listed<FutureProducer>);

impl std::fmt::Debug for TopicWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TopicWriter").finish()
    }
}

impl TopicWriter {
    /// Opens a writer to the cluster of this connection.
    ///
    /// # Errors
    ///
    /// When librdkafka does not take the properties.
    pub fn open(connection: &Connection) -> Result<Self, StartError> {
        let mut config = properties::writer(connection);
        config.set_log_level(RDKafkaLogLevel::Error);
        connection
            .client(&config, DefaultClientContext)
            .map(Self)
            .map_err(|error| StartError::Other(error.to_string()))
    }

    /// Writes one record and waits until the broker has it.
    ///
    /// # Errors
    ///
    /// When the broker did not take it.
    pub async fn write(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<(), StartError> {
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic);
        record.key = key;
        record.payload = value;
        record.headers = headers::owned(headers);
        self.0
            .send(record, Timeout::Never)
            .await
            .map(|_| ())
            .map_err(|(error, _)| {
                StartError::Other(format!("topic \"{topic}\" did not take a record: {error}"))
            })
    }

    /// Waits for what is on its way.
    pub fn close(self, timeout: Duration) {
        if let Err(error) = self.0.flush(timeout) {
            tracing::warn!(%error, "records were still on their way");
        }
    }
}

/// A record as a reader gets it.
#[derive(Debug, Clone)]
pub struct TopicRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
    /// Epoch milliseconds.
    pub timestamp: Option<i64>,
}

impl TopicRecord {
    pub(crate) fn of(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(Bytes::copy_from_slice),
            value: message.payload().map(Bytes::copy_from_slice),
            headers: native::headers(message),
            timestamp: message.timestamp().to_millis(),
        }
    }
}

/// Reads topics as a committed reader, from fixed positions and without a group.
pub struct TopicReader {
    consumer: Listed<StreamConsumer>,
    topics: Vec<Arc<str>>,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicReader")
            .field("topics", &self.topics)
            .finish_non_exhaustive()
    }
}

/// Where a partition begins and ends. A topic that was just made has partitions without a leader
/// for a moment: that passes, within [`QUESTION_TIMEOUT`].
pub(crate) fn watermarks<C: ConsumerContext>(
    consumer: &impl Consumer<C>,
    topic: &str,
    partition: i32,
) -> Result<(i64, i64), KafkaError> {
    let deadline = Instant::now() + QUESTION_TIMEOUT;
    loop {
        let answer = consumer.fetch_watermarks(topic, partition, QUESTION_TIMEOUT);
        let passing = answer.as_ref().is_err_and(|error| {
            matches!(
                error.rdkafka_error_code(),
                Some(
                    RDKafkaErrorCode::NotLeaderForPartition
                        | RDKafkaErrorCode::LeaderNotAvailable
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownPartition
                )
            )
        });
        if !passing || Instant::now() >= deadline {
            return answer;
        }
        thread::sleep(LEADER_PAUSE);
    }
}

impl TopicReader {
    /// Opens topics at their beginning or at their present end. Blocks while it asks where that
    /// is, so call it where blocking is allowed.
    ///
    /// # Errors
    ///
    /// When a topic is not there or the broker does not answer.
    pub fn open(
        connection: &Connection,
        topics: &[&str],
        from: StartFrom,
    ) -> Result<Self, StartError> {
        let mut config = properties::reader(connection);
        config.set_log_level(RDKafkaLogLevel::Error);
        let consumer: Listed<StreamConsumer> =
            connection
                .client(&config, DefaultConsumerContext)
                .map_err(|error| StartError::Other(error.to_string()))?;
        let failed = |topic: &str| {
            let topic = topic.to_owned();
            move |error: KafkaError| {
                StartError::Other(format!("topic \"{topic}\" cannot be read: {error}"))
            }
        };
        let mut list = TopicPartitionList::new();
        for topic in topics {
            let metadata = consumer
                .fetch_metadata(Some(topic), QUESTION_TIMEOUT)
                .map_err(failed(topic))?;
            let partitions = metadata
                .topics()
                .first()
                .map_or(0, |found| found.partitions().len());
            if partitions == 0 {
                return Err(StartError::Other(format!("topic \"{topic}\" is not there")));
            }
            for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
                let (low, high) =
                    watermarks(&*consumer, topic, partition).map_err(failed(topic))?;
                let offset = match from {
                    StartFrom::Earliest => low,
                    StartFrom::Latest => high,
                };
                list.add_partition_offset(topic, partition, Offset::Offset(offset))
                    .map_err(failed(topic))?;
            }
        }
        consumer
            .assign(&list)
            .map_err(|error| StartError::Other(error.to_string()))?;
        Ok(Self {
            consumer,
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
        })
    }

    /// The next record; waits for it. Loses nothing when dropped.
    ///
    /// # Errors
    ///
    /// When reading cannot go on.
    pub async fn next(&mut self) -> Result<TopicRecord, StartError> {
        loop {
            match self.consumer.recv().await {
                Ok(message) => {
                    let name = message.topic();
                    let known = self.topics.iter().find(|topic| ***topic == *name);
                    let topic = known.map_or_else(|| Arc::from(name), Arc::clone);
                    return Ok(TopicRecord::of(&message, &topic));
                }
                Err(KafkaError::MessageConsumptionFatal(code)) => return Err(unreadable(code)),
                Err(KafkaError::MessageConsumption(
                    code @ (RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::UnknownTopicOrPartition),
                )) => return Err(unreadable(code)),
                // librdkafka goes on by itself.
                Err(_) => {}
            }
        }
    }
}

pub(crate) fn unreadable(code: RDKafkaErrorCode) -> StartError {
    StartError::Other(format!("topics cannot be read on: {code}"))
}
