//! Kafka clients of the harness: an admin, a plain producer that knows where records landed, and
//! a `read_committed` reader. None of them logs: what they see is what the test asserts.

mod admin;
mod committed;
mod marks;
mod reader;
mod writer;

use std::time::Duration;

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::KafkaError,
    message::DeliveryResult,
    producer::ProducerContext,
};

pub use self::{
    admin::{add_partitions, alter_topic, create_topic, delete_records, delete_topic},
    committed::Committed,
    reader::{Progress, Reader, Record},
    writer::{Landing, Outgoing, Writer},
};

/// A client context that says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Settings that every client of the harness starts from.
pub fn settings(bootstrap: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        // Tests change topics, and want that to be seen soon.
        .set("topic.metadata.refresh.interval.ms", "2000")
        .set("reconnect.backoff.max.ms", "1000");
    settings
}

/// A consumer that reads nothing until told.
pub fn silent_consumer(settings: &ClientConfig) -> BaseConsumer<Silent> {
    settings
        .create_with_context(Silent)
        .expect("constant settings are valid")
}

/// How many brokers the cluster says it has.
pub fn broker_count(consumer: &BaseConsumer<Silent>) -> Option<usize> {
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2)).ok()?;
    Some(metadata.brokers().len())
}

/// Broker ids that lead the partitions of `topic`, -1 where there is none.
pub fn leaders<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Option<Vec<i32>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(5))
        .ok()?;
    let topic = metadata.topics().first()?;
    if topic.error().is_some() {
        return None;
    }
    Some(
        topic
            .partitions()
            .iter()
            .map(|partition| partition.leader())
            .collect(),
    )
}

/// The broker that coordinates `key`: a group, with `__consumer_offsets`, or a transactional id,
/// with `__transaction_state`. It leads the partition that the key's hash, as Java computes it,
/// falls on.
pub fn coordinator(consumer: &BaseConsumer<Silent>, topic: &str, key: &str) -> Option<usize> {
    let leaders = leaders(consumer, topic)?;
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let partition = usize::try_from(hash.unsigned_abs()).ok()? % leaders.len();
    usize::try_from(leaders[partition]).ok()
}
