//! Topics that are made, changed and deleted.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    types::RDKafkaErrorCode,
};

use super::{leaders, silent_consumer};
use crate::wait;

/// How long a call may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Creates a topic with the cluster's default replication, and waits until it has leaders.
pub fn create_topic(settings: &ClientConfig, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin = admin(settings);
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    let options = options();
    wait::until(
        &format!("creation of topic {name}"),
        LIMIT,
        || match block_on(admin.create_topics([&topic], &options)).as_deref() {
            Ok([Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))]) => true,
            Ok([Err((_, code))]) if matches!(code, RDKafkaErrorCode::InvalidConfig) => {
                panic!("topic {name}: {code}")
            }
            _ => false,
        },
    );
    let consumer = silent_consumer(settings);
    wait::until(&format!("leaders of topic {name}"), LIMIT, || {
        leaders(&consumer, name).is_some_and(|leaders| {
            leaders.len() == usize::try_from(partitions).unwrap_or(0)
                && leaders.iter().all(|&leader| leader >= 0)
        })
    });
}

/// Raises the number of partitions of a topic.
pub fn add_partitions(settings: &ClientConfig, topic: &str, total: usize) {
    let admin = admin(settings);
    let result = block_on(admin.create_partitions([&NewPartitions::new(topic, total)], &options()));
    assert!(
        matches!(result.as_deref(), Ok([Ok(_)])),
        "add partitions to {topic}: {result:?}"
    );
}

/// Deletes a topic.
pub fn delete_topic(settings: &ClientConfig, topic: &str) {
    let admin = admin(settings);
    let result = block_on(admin.delete_topics(&[topic], &options()));
    assert!(
        matches!(result.as_deref(), Ok([Ok(_)])),
        "delete {topic}: {result:?}"
    );
}

/// Changes settings of a topic; those that are not given go back to their defaults.
pub fn alter_topic(settings: &ClientConfig, topic: &str, config: &[(&str, &str)]) {
    let admin = admin(settings);
    let mut altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in config {
        altered = altered.set(key, value);
    }
    let result = block_on(admin.alter_configs([&altered], &options()));
    assert!(
        matches!(result.as_deref(), Ok([Ok(_)])),
        "alter {topic}: {result:?}"
    );
}

/// Deletes the records of a partition before `offset`, as retention does.
pub fn delete_records(settings: &ClientConfig, topic: &str, partition: i32, offset: i64) {
    let admin = admin(settings);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .expect("offsets of records are valid");
    block_on(admin.delete_records(&list, &options()))
        .unwrap_or_else(|error| panic!("delete records of {topic}: {error}"));
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be started")
        .block_on(future)
}

fn admin(settings: &ClientConfig) -> AdminClient<DefaultClientContext> {
    let mut settings = settings.clone();
    settings.set_log_level(RDKafkaLogLevel::Emerg);
    settings.create().expect("constant settings are valid")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(LIMIT))
}
