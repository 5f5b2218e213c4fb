//! What every error of a broker leads to, with the real client against the mock broker.
//!
//! The mock returns the errors it is told to. Its transactions are a facade, so these tests show
//! which way is taken, and that results can be delivered again, never that something was atomic.

use std::{sync::Arc, time::Duration};

use aligner_pipeline::{
    Delivery, DeliveryError, Outbound, OutputKind, Partition, Sink, Source, SourceEvent,
};
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
    types::{RDKafkaApiKey as Request, RDKafkaRespErr as Answer},
};

use crate::{
    Connected, Connection, DeliveryGuarantee, KafkaSettings, MockBroker, StartError, TopicSettings,
    TopicWriter, connect, stats::DeliveryEnd,
};

pub(crate) const TOPICS: [(&str, i32); 4] = [
    ("llm.answers", 1),
    ("llm.corrections", 1),
    ("llm.pairs", 1),
    ("llm.dead-letters", 1),
];
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Bench {
    broker: MockBroker,
    connected: Connected,
    tenure: Arc<aligner_pipeline::PartitionEpoch>,
}

impl Bench {
    async fn start(delivery: DeliveryGuarantee, instance_id: Option<&str>) -> Self {
        Self::start_with(delivery, instance_id, &[]).await
    }

    async fn start_with(
        delivery: DeliveryGuarantee,
        instance_id: Option<&str>,
        properties: &[(&str, &str)],
    ) -> Self {
        let broker = MockBroker::start(&TOPICS).expect("the mock starts");
        let mut connection = connection(&broker, delivery, instance_id);
        for (name, value) in properties {
            let given = &mut connection.kafka.properties;
            given.insert((*name).to_owned(), (*value).to_owned());
        }
        Self::connect(broker, connection).await
    }

    async fn connect(broker: MockBroker, connection: Connection) -> Self {
        let mut connected = connect(connection).await.expect("the mock is reachable");
        let tenure = loop {
            let event = tokio::time::timeout(PATIENCE, connected.source.next())
                .await
                .expect("the group is joined in time")
                .expect("the source goes on")
                .expect("the source has no error");
            if let SourceEvent::Assigned(tenures) = event {
                break Arc::clone(&tenures[0]);
            }
        };
        Self {
            broker,
            connected,
            tenure,
        }
    }

    fn fail(&self, request: Request, answers: &[Answer]) {
        self.broker
            .with_cluster(|cluster| cluster.request_errors(request, answers));
    }

    /// Answers as if this topic were not there, or does so no longer.
    fn hide(&self, topic: &str, hidden: bool) {
        let answer = if hidden {
            Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        } else {
            Answer::RD_KAFKA_RESP_ERR_NO_ERROR
        };
        self.broker
            .with_cluster(|cluster| cluster.topic_error(topic, answer))
            .expect("the mock has the topic");
    }

    async fn deliver(&mut self, next_offset: i64) -> Result<(), DeliveryError> {
        let delivery = Delivery {
            partition: Arc::clone(&self.tenure),
            next_offset,
            outputs: vec![
                output(OutputKind::Correction),
                output(OutputKind::Pair),
                output(OutputKind::DeadLetter),
            ],
        };
        tokio::time::timeout(PATIENCE, self.connected.sink.deliver(vec![delivery]))
            .await
            .expect("a delivery ends in time")
            .map(|ended| assert_eq!(ended, []))
    }

    /// How many records the only partition of a topic holds.
    fn records(&self, topic: &str) -> i64 {
        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.bootstrap_servers())
            .create()
            .expect("these properties are usable");
        let (begin, end) = reader
            .fetch_watermarks(topic, 0, PATIENCE)
            .expect("the mock is reachable");
        end - begin
    }

    fn count(&self, end: DeliveryEnd) -> u64 {
        self.connected.stats.deliveries(end)
    }

    async fn close(self) {
        self.leave().await;
    }

    /// Closes both ends, and leaves the broker.
    async fn leave(self) -> MockBroker {
        self.connected.sink.close().await;
        self.connected.source.close().await;
        self.broker
    }
}

pub(crate) fn connection(
    broker: &MockBroker,
    delivery: DeliveryGuarantee,
    instance_id: Option<&str>,
) -> Connection {
    let kafka = KafkaSettings {
        bootstrap_servers: broker.bootstrap_servers().to_owned(),
        delivery,
        instance_id: instance_id.map(str::to_owned),
        properties: MockBroker::client_properties(),
        // On a machine that is busy enough, the default would pass by itself.
        transaction_timeout_ms: 120_000,
        ..KafkaSettings::default()
    };
    Connection::new("mocked", kafka, TopicSettings::default()).expect("the settings are usable")
}

fn output(kind: OutputKind) -> Arc<Outbound> {
    Arc::new(Outbound {
        kind,
        key: Some(Bytes::from_static(b"key")),
        value: Some(Bytes::from_static(b"value")),
        headers: Vec::new(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_generation_aborts_and_the_same_results_are_delivered_again() {
    let mut bench = Bench::start(DeliveryGuarantee::ExactlyOnce, None).await;
    bench.fail(
        Request::TxnOffsetCommit,
        &[Answer::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION],
    );
    let error = bench
        .deliver(1)
        .await
        .expect_err("the mock refuses the offsets");
    assert!(matches!(error, DeliveryError::Aborted(_)), "{error}");
    assert_eq!(bench.count(DeliveryEnd::Aborted), 1);
    bench.deliver(1).await.expect("nothing is wrong any more");
    assert_eq!(bench.count(DeliveryEnd::Committed), 1);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_commit_is_settled_by_the_committed_offsets() {
    for answer in [
        Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        // librdkafka wants the transaction aborted after these, and could: see `transaction`.
        Answer::RD_KAFKA_RESP_ERR_INVALID_REQUEST,
        Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING,
    ] {
        let mut bench = Bench::start(DeliveryGuarantee::ExactlyOnce, None).await;
        bench.fail(Request::EndTxn, &[answer]);
        // The mock has committed nothing, so the results count as not delivered.
        let error = bench
            .deliver(1)
            .await
            .expect_err("the mock refuses the commit");
        assert!(matches!(error, DeliveryError::Aborted(_)), "{error}");
        assert_eq!(bench.count(DeliveryEnd::Ambiguous), 1, "{answer:?}");
        bench
            .deliver(1)
            .await
            .expect("a new producer has taken over");
        bench.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn being_fenced_twice_with_an_instance_id_stops_and_names_the_duplicate() {
    // A claim that may have been sent twice explains a fencing: none is, within this time.
    let properties = [
        ("retry.backoff.ms", "20000"),
        ("retry.backoff.max.ms", "20000"),
    ];
    let mut bench = Bench::start_with(DeliveryGuarantee::ExactlyOnce, Some("0"), &properties).await;
    let fence = [Answer::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH];
    bench.fail(Request::EndTxn, &fence);
    let error = bench.deliver(1).await.expect_err("fenced once");
    assert!(matches!(error, DeliveryError::Aborted(_)), "{error}");
    bench.fail(Request::EndTxn, &fence);
    match bench.deliver(1).await.expect_err("fenced twice") {
        DeliveryError::Stopped(cause) => {
            assert!(cause.contains("\"mocked-0\""), "{cause}");
            assert!(cause.contains("duplicate instance id"), "{cause}");
        }
        other => panic!("{other}"),
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_is_sent_one_by_one_and_nobody_is_blamed_in_vain() {
    let mut bench = Bench::start(DeliveryGuarantee::ExactlyOnce, None).await;
    bench.fail(
        Request::Produce,
        &[Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE],
    );
    bench.deliver(1).await.expect("one by one they are taken");
    // What is sent again in another form was not refused: nothing of it becomes a dead letter.
    assert_eq!(bench.count(DeliveryEnd::Aborted), 1);
    assert_eq!(bench.count(DeliveryEnd::Refused), 0);
    assert_eq!(bench.count(DeliveryEnd::Committed), 1);
    bench.deliver(2).await.expect("and together again");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_refused_alone_is_named() {
    for (delivery, answer, fix) in [
        (
            DeliveryGuarantee::ExactlyOnce,
            Answer::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
            "raise its max.message.bytes",
        ),
        // A real broker's transaction could not be aborted after this one.
        (
            DeliveryGuarantee::AtLeastOnce,
            Answer::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE,
            "raise its segment.bytes",
        ),
        // Nothing that a limit would mend.
        (
            DeliveryGuarantee::AtLeastOnce,
            Answer::RD_KAFKA_RESP_ERR_INVALID_RECORD,
            "does not take this record (",
        ),
    ] {
        refused_alone(delivery, answer, fix).await;
    }
}

async fn refused_alone(delivery: DeliveryGuarantee, answer: Answer, fix: &str) {
    let mut bench = Bench::start(delivery, None).await;
    bench.fail(Request::Produce, &[answer; 4]);
    match bench
        .deliver(1)
        .await
        .expect_err("the mock refuses all of them")
    {
        DeliveryError::Refused {
            delivery, cause, ..
        } => {
            assert_eq!(delivery, 0);
            assert!(cause.contains(fix), "{cause}");
            assert_eq!(cause.contains("raise"), fix.contains("raise"), "{cause}");
        }
        other => panic!("{other}"),
    }
    bench
        .broker
        .with_cluster(|cluster| cluster.clear_request_errors(Request::Produce));
    // At once: the gap that the refused output left in a partition's sequence does not show.
    bench.deliver(1).await.expect("nothing is refused any more");
    bench.close().await;
}

/// Why a delivery stopped whose requests of a sort are forbidden, so many times.
async fn forbidden(delivery: DeliveryGuarantee, request: Request, times: usize) -> String {
    let mut bench = Bench::start(delivery, None).await;
    let answers = vec![Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; times];
    bench.fail(request, &answers);
    let cause = match bench.deliver(1).await.expect_err("the mock forbids it") {
        DeliveryError::Stopped(cause) => cause,
        other => panic!("{other}"),
    };
    bench.close().await;
    cause
}

/// A client that believes the first answer without a topic, and asks often.
const CREDULOUS: [(&str, &str); 2] = [
    ("topic.metadata.propagation.max.ms", "0"),
    ("topic.metadata.refresh.interval.ms", "500"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_output_topic_that_one_answer_lacks_is_waited_for() {
    let delivery = DeliveryGuarantee::AtLeastOnce;
    let mut bench = Bench::start_with(delivery, None, &CREDULOUS).await;
    bench.deliver(1).await.expect("nothing is wrong yet");
    bench.hide("llm.pairs", true);
    // Until the producer has asked, and takes the topic to be gone.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    bench.hide("llm.pairs", false);
    for _ in 0..100 {
        match bench.deliver(2).await {
            Ok(()) => return bench.close().await,
            Err(DeliveryError::Aborted(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the topic is back, and still nothing is delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_topic_that_answer_after_answer_lacks_stops_the_delivery_and_is_named() {
    let delivery = DeliveryGuarantee::AtLeastOnce;
    let mut bench = Bench::start_with(delivery, None, &CREDULOUS).await;
    bench.deliver(1).await.expect("nothing is wrong yet");
    bench.hide("llm.pairs", true);
    // Half a minute of looks, and some to spare.
    for _ in 0..1_000 {
        match bench.deliver(2).await {
            // The producer has not asked yet, or was told in the middle.
            Ok(()) | Err(DeliveryError::Aborted(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(DeliveryError::Stopped(cause)) => {
                assert!(cause.contains("\"llm.pairs\" is not there"), "{cause}");
                return bench.close().await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the topic is gone, and nobody says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_stops_the_delivery_and_names_the_topic() {
    let cause = forbidden(DeliveryGuarantee::AtLeastOnce, Request::Produce, 3).await;
    assert!(cause.contains("may not write to topic \"llm."), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_may_not_be_part_of_a_transaction_stops_the_delivery() {
    // No output is reported with this error: librdkafka throws them all away.
    let request = Request::AddPartitionsToTxn;
    let cause = forbidden(DeliveryGuarantee::ExactlyOnce, request, 1).await;
    assert!(cause.starts_with("this user may not write"), "{cause}");
    for (topic, _) in &TOPICS[1..] {
        assert!(cause.contains(topic), "{topic}: {cause}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_may_not_be_committed_stop_the_delivery_and_name_their_topic() {
    let cause = forbidden(DeliveryGuarantee::ExactlyOnce, Request::TxnOffsetCommit, 1).await;
    assert!(cause.contains("offsets of an answer topic"), "{cause}");
    assert!(cause.contains("llm.answers"), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_a_refused_commit_is_tried_again_with_its_outputs() {
    let mut bench = Bench::start(DeliveryGuarantee::AtLeastOnce, None).await;
    bench.fail(
        Request::OffsetCommit,
        &[Answer::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE],
    );
    let error = bench
        .deliver(1)
        .await
        .expect_err("the mock refuses the offsets");
    assert!(matches!(error, DeliveryError::Aborted(_)), "{error}");
    bench.deliver(1).await.expect("nothing is wrong any more");
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_what_a_failed_delivery_has_queued_is_not_written_beside_the_next_one()
{
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    let mut connection = connection(&broker, DeliveryGuarantee::AtLeastOnce, None);
    // Writing gives up after seven tenths of it, and an output waits for all of it to be written.
    connection.kafka.transaction_timeout_ms = 8_000;
    let mut bench = Bench::connect(broker, connection).await;
    let nobody = Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    bench.fail(Request::Produce, &[nobody; 1_000]);
    let error = bench.deliver(1).await.expect_err("the mock takes none");
    assert!(matches!(error, DeliveryError::Aborted(_)), "{error}");
    bench
        .broker
        .with_cluster(|cluster| cluster.clear_request_errors(Request::Produce));
    bench.deliver(1).await.expect("nothing is wrong any more");
    // Outputs of a partition are written in order: what was left would be in front of it.
    assert_eq!(bench.records("llm.corrections"), 1);
    bench.close().await;
}

/// What a start behind a committed offset counts as resets and as skipped offsets, where the log has so many
/// large records; and the offset of the first record that comes.
async fn missed_behind(committed: i64, records: usize) -> ((u64, u64), Option<i64>) {
    let delivery = DeliveryGuarantee::AtLeastOnce;
    let mut bench = Bench::start(delivery, None).await;
    bench.deliver(committed).await.expect("nothing is wrong");
    let broker = bench.leave().await;
    let connection = connection(&broker, delivery, None);
    let writer = TopicWriter::open(&connection).expect("a writer opens");
    let large = vec![b'x'; 100_000];
    for _ in 0..records {
        writer
            .write("llm.answers", None, Some(&large), &[])
            .await
            .expect("the mock takes it");
    }
    let mut bench = Bench::connect(broker, connection).await;
    let partition = bench.tenure.partition.clone();
    let mut first = None;
    while records > 0 && first.is_none() {
        let event = tokio::time::timeout(PATIENCE, bench.connected.source.next())
            .await
            .expect("a record comes in time")
            .expect("the source goes on")
            .expect("the source has no error");
        if let SourceEvent::Records(records) = event {
            first = records.first().map(|record| record.offset);
        }
    }
    let stats = Arc::clone(&bench.connected.stats);
    tokio::time::timeout(PATIENCE, async {
        while stats.missed(&partition).0 == 0 || !stats.unsettled().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the reset is counted in time");
    let missed = stats.missed(&partition);
    bench.close().await;
    (missed, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_were_deleted_before_they_were_read_are_counted_and_those_beyond_the_end_are_not()
 {
    // The mock keeps 5 MiB of a partition.
    let (missed, first) = missed_behind(1, 100).await;
    let first = first.expect("a record came");
    assert!(first > 1, "the mock has deleted nothing");
    assert_eq!(
        missed,
        (1, u64::try_from(first - 1).expect("it is positive"))
    );
    assert_eq!(missed_behind(7, 0).await, ((1, 0), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forbidden_transactional_id_ends_the_start_and_is_named() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    broker.with_cluster(|cluster| {
        cluster.request_errors(
            Request::InitProducerId,
            &[Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED],
        );
    });
    match connect(connection(&broker, DeliveryGuarantee::ExactlyOnce, None)).await {
        Err(StartError::Forbidden(cause)) => {
            assert!(cause.contains("transactional id"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_tenure_is_told_and_nothing_of_it_is_written() {
    let mut bench = Bench::start(DeliveryGuarantee::ExactlyOnce, None).await;
    let ended = Arc::new(aligner_pipeline::PartitionEpoch {
        partition: Partition {
            topic: "llm.answers".into(),
            number: 0,
        },
        epoch: bench.tenure.epoch + 1_000,
    });
    let told = bench
        .connected
        .sink
        .deliver(vec![Delivery {
            partition: Arc::clone(&ended),
            next_offset: 9,
            outputs: vec![output(OutputKind::Correction)],
        }])
        .await
        .expect("an ended tenure is no failure");
    assert_eq!(told, [ended]);
    assert_eq!(bench.count(DeliveryEnd::Committed), 0);
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_may_not_be_used_ends_the_start_and_is_named() {
    let broker = MockBroker::start(&TOPICS).expect("the mock starts");
    broker.with_cluster(|cluster| {
        let refused = Answer::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED;
        cluster.request_errors(Request::FindCoordinator, &[refused; 64]);
    });
    match connect(connection(&broker, DeliveryGuarantee::ExactlyOnce, None)).await {
        Err(StartError::Forbidden(cause)) => {
            assert!(cause.contains("allow READ on it"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}
