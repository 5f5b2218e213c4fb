//! What a client learns from a broker that does not know who leads a partition now.

use std::{
    collections::HashSet,
    mem,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

// As the product links it.
use aligner_kafka as _;
use rdkafka::{
    ClientConfig, ClientContext, Offset, TopicPartitionList,
    bindings::{rd_kafka_handle_mock_cluster, rd_kafka_mock_partition_push_leader_response},
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
};

const PARTITIONS: i32 = 16;
const LIMIT: Duration = Duration::from_secs(30);

/// What the client logged. It does when it is polled.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn take(&self) -> Vec<String> {
        mem::take(&mut *self.0.lock().expect("no panic"))
    }
}

impl ClientContext for Log {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.0.lock().expect("no panic").push(message.to_owned());
    }
}

impl ConsumerContext for Log {}

fn consumer(log: &Log) -> BaseConsumer<Log> {
    ClientConfig::new()
        .set("test.mock.num.brokers", "2")
        .set("group.id", "readers")
        .set("enable.partition.eof", "true")
        .set("debug", "metadata")
        .set_log_level(RDKafkaLogLevel::Debug)
        .create_with_context(log.clone())
        .expect("a client of a cluster in memory can be made")
}

/// Reads until all partitions were fetched to their ends.
fn read_to_the_ends(consumer: &BaseConsumer<Log>) {
    let (start, mut ended) = (Instant::now(), HashSet::new());
    while ended.len() < PARTITIONS as usize {
        assert!(start.elapsed() < LIMIT, "these alone were read: {ended:?}");
        if let Some(Err(KafkaError::PartitionEOF(partition))) =
            consumer.poll(Duration::from_millis(100))
        {
            ended.insert(partition);
        }
    }
}

/// All that the client logs, up to a line with these words.
fn logged_until(words: &str, consumer: &BaseConsumer<Log>, log: &Log) -> Vec<String> {
    let (start, mut logged) = (Instant::now(), Vec::new());
    while !logged.iter().any(|line: &String| line.contains(words)) {
        assert!(start.elapsed() < LIMIT, "no {words:?}: {logged:#?}");
        // Ends of partitions, and errors that say that another broker leads them.
        let _ = consumer.poll(Duration::from_millis(10));
        logged.extend(log.take());
    }
    logged
}

#[test]
fn a_partition_without_a_leader_is_not_made_up_from_what_lies_in_memory() {
    let log = Log::default();
    let consumer = consumer(&log);
    let brokers = consumer.client().mock_cluster().expect("it was asked for");
    brokers
        .create_topic("t", PARTITIONS, 2)
        .expect("a topic can be made");
    let lead = |partition, broker| {
        brokers
            .partition_leader("t", partition, Some(broker))
            .expect("one of both can lead");
    };
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        lead(partition, 1);
        all.add_partition_offset("t", partition, Offset::Beginning)
            .expect("an offset");
    }
    consumer.assign(&all).expect("these can be read");
    read_to_the_ends(&consumer);
    log.take();

    // SAFETY: the client is there, and its cluster is its own.
    let cluster = unsafe { rd_kafka_handle_mock_cluster(consumer.client().native_ptr()) };
    for partition in 0..PARTITIONS {
        // SAFETY: the cluster is that of a client that is there, and the name ends with a zero.
        let pushed = unsafe {
            rd_kafka_mock_partition_push_leader_response(cluster, c"t".as_ptr(), partition, -1, -1)
        };
        assert_eq!(pushed, RD_KAFKA_RESP_ERR_NO_ERROR);
    }
    (0..PARTITIONS).for_each(|partition| lead(partition, 2));

    // Said at the end of each look at what a reply tells of leaders.
    let mut learnt = logged_until("Cache was not updated", &consumer, &log);
    learnt.retain(|line| line.contains("not found in cache"));
    assert_eq!(learnt, [""; 0]);
}
