//! Client errors, rebalances and backpressure against librdkafka's mock broker. Its transactions
//! are a facade, so nothing here speaks of exactly once: that is shown on a real Kafka.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use aligner_kafka::{
    Connected, Connection, DeliveryGuarantee, KafkaSettings, MockBroker, StartError, StartFrom,
    TopicReader, TopicSettings, TopicWriter, connect,
};
use aligner_pipeline::{
    Delivery, Flow, Header, Outbound, OutputKind, PartitionEpoch, Sink, Source, SourceEvent,
    SourceRecord,
};
use bytes::Bytes;

const TOPICS: [(&str, i32); 4] = [
    ("llm.answers", 3),
    ("llm.corrections", 3),
    ("llm.pairs", 3),
    ("llm.dead-letters", 1),
];
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn connection(broker: &MockBroker, delivery: DeliveryGuarantee) -> Connection {
    let kafka = KafkaSettings {
        bootstrap_servers: broker.bootstrap_servers().to_owned(),
        delivery,
        properties: MockBroker::client_properties(),
        ..KafkaSettings::default()
    };
    Connection::new("mocked", kafka, TopicSettings::default()).expect("the settings are usable")
}

async fn write_events(connection: &Connection, count: usize) {
    let writer = TopicWriter::open(connection).expect("a writer opens");
    for number in 0..count {
        let header = Header {
            key: "traceparent".to_owned(),
            value: Some(Bytes::from(format!("trace-{number}"))),
        };
        writer
            .write(
                "llm.answers",
                Some(format!("key-{number}").as_bytes()),
                Some(format!("value-{number}").as_bytes()),
                &[header],
            )
            .await
            .expect("the broker takes the event");
    }
}

async fn next(connected: &mut Connected) -> SourceEvent {
    tokio::time::timeout(PATIENCE, connected.source.next())
        .await
        .expect("an event comes in time")
        .expect("the source goes on")
        .expect("the source has no error")
}

async fn read(connected: &mut Connected, count: usize) -> Vec<SourceRecord> {
    let mut read = Vec::new();
    while read.len() < count {
        if let SourceEvent::Records(records) = next(connected).await {
            read.extend(records);
        }
    }
    read
}

/// Everything that was read, copied to the corrections topic.
fn deliveries(records: &[SourceRecord]) -> Vec<Delivery> {
    let mut by_tenure: BTreeMap<Arc<PartitionEpoch>, Delivery> = BTreeMap::new();
    for record in records {
        let delivery = by_tenure
            .entry(Arc::clone(&record.partition))
            .or_insert_with(|| Delivery {
                partition: Arc::clone(&record.partition),
                next_offset: 0,
                outputs: Vec::new(),
            });
        delivery.next_offset = record.offset + 1;
        delivery.outputs.push(Arc::new(Outbound {
            kind: OutputKind::Correction,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        }));
    }
    by_tenure.into_values().collect()
}

async fn close(connected: Connected) {
    connected.sink.close().await;
    connected.source.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_with_key_value_and_headers_and_leave_the_same_way() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let connection = connection(&broker, DeliveryGuarantee::ExactlyOnce);
    write_events(&connection, 30).await;
    let mut connected = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    let records = read(&mut connected, 30).await;
    let ended = connected
        .sink
        .deliver(deliveries(&records))
        .await
        .expect("the mock takes the outputs");
    assert_eq!(ended, []);

    let mut reader = {
        let connection = connection.clone();
        tokio::task::spawn_blocking(move || {
            TopicReader::open(&connection, &["llm.corrections"], StartFrom::Earliest)
        })
        .await
        .expect("opening does not panic")
        .expect("the topic is there")
    };
    let mut seen = BTreeSet::new();
    while seen.len() < 30 {
        let record = tokio::time::timeout(PATIENCE, reader.next())
            .await
            .expect("a record comes in time")
            .expect("the topic can be read");
        let key = String::from_utf8(record.key.expect("a key was written").to_vec())
            .expect("keys are text");
        let number = key.strip_prefix("key-").expect("the key that was written");
        assert_eq!(
            record.value.as_deref(),
            Some(format!("value-{number}").as_bytes())
        );
        assert_eq!(
            record.headers,
            [Header {
                key: "traceparent".to_owned(),
                value: Some(Bytes::from(format!("trace-{number}"))),
            }]
        );
        assert!(seen.insert(key));
    }
    close(connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_records_at_once_and_a_resume_brings_them() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    let mut connected = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    while !matches!(next(&mut connected).await, SourceEvent::Assigned(_)) {}
    connected.source.flow(Flow::Pause);
    write_events(&connection, 20).await;
    // Everything is written; a source that handed anything out would do it now.
    let waited = tokio::time::timeout(Duration::from_millis(500), connected.source.next()).await;
    assert!(waited.is_err(), "{waited:?}");
    connected.source.flow(Flow::Resume);
    assert_eq!(read(&mut connected, 20).await.len(), 20);
    close(connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_records_are_not_read_again_by_the_next_process() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    write_events(&connection, 10).await;
    let mut first = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    let records = read(&mut first, 10).await;
    first
        .sink
        .deliver(deliveries(&records))
        .await
        .expect("the mock takes outputs and offsets");
    close(first).await;

    write_events(&connection, 5).await;
    let mut second = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    let offsets: BTreeSet<_> = records
        .iter()
        .map(|record| (record.partition.partition.clone(), record.offset))
        .collect();
    for record in read(&mut second, 5).await {
        assert!(!offsets.contains(&(record.partition.partition.clone(), record.offset)));
    }
    close(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_gets_its_share_and_the_first_hands_over_in_time() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let settings = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    let mut first = connect(settings.clone())
        .await
        .expect("the mock is reachable");
    let mut owned = BTreeSet::new();
    while owned.len() < 3 {
        if let SourceEvent::Assigned(tenures) = next(&mut first).await {
            owned.extend(tenures);
        }
    }
    let mut other = settings.clone();
    other.identity = "mocked-other".to_owned();
    let mut second = connect(other).await.expect("the mock is reachable");
    let taken = loop {
        if let SourceEvent::Revoking {
            partitions,
            release,
            ..
        } = next(&mut first).await
        {
            drop(release);
            break partitions;
        }
    };
    let gained = loop {
        match next(&mut second).await {
            SourceEvent::Assigned(tenures) if !tenures.is_empty() => break tenures,
            _ => {}
        }
    };
    assert_eq!(taken[0].partition, gained[0].partition);

    // What is gone is gone: delivering it changes nothing and is told.
    let delivery = Delivery {
        partition: Arc::clone(&taken[0]),
        next_offset: 1,
        outputs: Vec::new(),
    };
    let ended = first
        .sink
        .deliver(vec![delivery])
        .await
        .expect("a delivery for an ended tenure is dropped");
    assert_eq!(ended, [Arc::clone(&taken[0])]);
    close(second).await;
    close(first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_large_is_named() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let mut connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    connection
        .kafka
        .properties
        .insert("message.max.bytes".to_owned(), "2000".to_owned());
    write_events(&connection, 3).await;
    let mut connected = connect(connection).await.expect("the mock is reachable");
    let records = read(&mut connected, 3).await;
    let mut deliveries = deliveries(&records);
    let last = deliveries.len() - 1;
    deliveries[last].outputs.push(Arc::new(Outbound {
        kind: OutputKind::Pair,
        key: None,
        value: Some(Bytes::from(vec![b'x'; 3_000])),
        headers: Vec::new(),
    }));
    let expected = deliveries[last].outputs.len() - 1;
    let error = connected
        .sink
        .deliver(deliveries)
        .await
        .expect_err("the client refuses it");
    match error {
        aligner_pipeline::DeliveryError::Refused {
            delivery,
            output,
            cause,
        } => {
            assert_eq!((delivery, output), (last, expected));
            assert!(cause.contains("llm.pairs"), "{cause}");
        }
        other => panic!("{other}"),
    }
    close(connected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_the_records_and_keeps_what_can_still_be_delivered() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    write_events(&connection, 10).await;
    let mut connected = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    let records = read(&mut connected, 10).await;
    connected.source.stop();
    write_events(&connection, 10).await;
    connected
        .sink
        .deliver(deliveries(&records))
        .await
        .expect("membership outlives the stop");
    // Somebody else comes for partitions: this is still heard, and no record before it.
    let newcomer = connect(connection).await.expect("the mock is reachable");
    let release = match next(&mut connected).await {
        SourceEvent::Revoking { release, .. } => release,
        other => panic!("expected a revocation, got {other:?}"),
    };
    drop(release);
    close(connected).await;
    close(newcomer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_refused_with_the_command_that_makes_it() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let mut connection = connection(&broker, DeliveryGuarantee::ExactlyOnce);
    connection.topics.pairs = "not.there".to_owned();
    match connect(connection).await {
        Err(error @ StartError::MissingTopics(_)) => {
            let told = error.to_string();
            let command = format!(
                "kafka-topics.sh --bootstrap-server {} --create --topic not.there --partitions 3",
                broker.bootstrap_servers()
            );
            assert!(told.contains(&command), "{told}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_brokers_know_a_moment_later_is_not_missing() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let mut connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    connection.topics.pairs = "made.just.now".to_owned();
    let start = tokio::spawn(connect(connection));
    // Time to ask and to be told of none. Who is slower finds it at once.
    tokio::time::sleep(Duration::from_secs(1)).await;
    broker
        .add_topic("made.just.now", 3)
        .expect("a name for a topic");
    let connected = start.await.expect("a start does not panic");
    close(connected.expect("every topic is there by now")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_a_broker_can_be_given_up() {
    let kafka = KafkaSettings {
        bootstrap_servers: "127.0.0.1:9".to_owned(),
        ..KafkaSettings::default()
    };
    let connection =
        Connection::new("alone", kafka, TopicSettings::default()).expect("usable settings");
    let waited = tokio::time::timeout(Duration::from_secs(3), connect(connection)).await;
    assert!(waited.is_err(), "an absent broker is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_means_since_the_group_first_began_not_since_the_last_start() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let mut connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    connection.kafka.start_from = StartFrom::Latest;
    write_events(&connection, 5).await;
    let mut first = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    while !matches!(next(&mut first).await, SourceEvent::Assigned(_)) {}
    write_events(&connection, 3).await;
    assert_eq!(read(&mut first, 3).await.len(), 3);
    // Nothing was delivered, so the next process reads the same three, and no older ones.
    close(first).await;
    let mut second = connect(connection).await.expect("the mock is reachable");
    assert_eq!(read(&mut second, 3).await.len(), 3);
    close(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_skips_nothing_in_partitions_that_an_older_group_has_not_had() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let mut connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    write_events(&connection, 30).await;
    let mut first = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    // The group has come as far as one record of one partition.
    let records = read(&mut first, 30).await;
    first
        .sink
        .deliver(deliveries(&records[..1]))
        .await
        .expect("the mock takes outputs and offsets");
    close(first).await;

    // The others might have been added since: nobody can tell, so nothing of them is skipped.
    connection.kafka.start_from = StartFrom::Latest;
    let mut second = connect(connection).await.expect("the mock is reachable");
    assert_eq!(read(&mut second, 29).await.len(), 29);
    close(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_stands_behind_the_end_of_a_log_is_moved_back_and_reads_what_is_there() {
    let broker = MockBroker::start(&[
        ("llm.answers", 1),
        ("llm.corrections", 1),
        ("llm.pairs", 1),
        ("llm.dead-letters", 1),
    ])
    .expect("the mock starts");
    let connection = connection(&broker, DeliveryGuarantee::AtLeastOnce);
    write_events(&connection, 5).await;
    let mut first = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    // As if the log had been longer once.
    let mut delivered = deliveries(&read(&mut first, 5).await);
    delivered[0].next_offset = 100;
    first
        .sink
        .deliver(delivered)
        .await
        .expect("the mock takes outputs and offsets");
    close(first).await;

    let mut second = connect(connection.clone())
        .await
        .expect("the mock is reachable");
    let records = read(&mut second, 5).await;
    let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    let ended = second
        .sink
        .deliver(deliveries(&records))
        .await
        .expect("the mock takes outputs and offsets");
    assert_eq!(ended, [], "the tenure that reads them goes on");
    close(second).await;

    // The group stands where it has come to, and not where it once was.
    write_events(&connection, 1).await;
    let mut third = connect(connection).await.expect("the mock is reachable");
    assert_eq!(read(&mut third, 1).await[0].offset, 5);
    close(third).await;
}
