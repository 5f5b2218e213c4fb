//! The brokers, the reader and the proxy against plain clients, without a connector.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{
    client::{Outgoing, Reader, Silent, Writer, settings},
    connector::Topics,
    events,
    kafka::Kafka,
    ledger::Expected,
    oracle::Oracle,
    proxy::{ApiKey, Fault, Proxy},
};
use rdkafka::{
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    util::Timeout,
};

const LIMIT: Duration = Duration::from_secs(30);

type Transactional = ThreadedProducer<Silent>;

fn transactional(bootstrap: &str, id: &str) -> Transactional {
    let producer: Transactional = settings(bootstrap)
        .set("transactional.id", id)
        .set("linger.ms", "0")
        .set("socket.timeout.ms", "3000")
        .create_with_context(Silent)
        .expect("constant settings are valid");
    producer
        .init_transactions(LIMIT)
        .expect("the broker coordinates transactions");
    producer
}

fn produce(producer: &Transactional, topic: &str, value: &str) {
    producer
        .send(BaseRecord::<(), str>::to(topic).payload(value))
        .map_err(|(error, _)| error)
        .expect("the queue has room");
}

fn values(reader: &mut Reader) -> Vec<String> {
    reader
        .read_to_end(LIMIT)
        .into_iter()
        .map(|record| String::from_utf8(record.value.expect("no tombstones")).expect("UTF-8"))
        .collect()
}

#[test]
fn the_reader_sees_committed_records_and_nothing_else() {
    let kafka = Kafka::shared();
    let topic = Topics::named("reader").corrections;
    kafka.create_topic(&topic, 2);
    let producer = transactional(kafka.bootstrap(), &topic);
    for (value, commit) in [("first", true), ("aborted", false), ("second", true)] {
        producer.begin_transaction().expect("none is open");
        produce(&producer, &topic, value);
        producer.flush(LIMIT).expect("the broker is there");
        if commit {
            producer
                .commit_transaction(LIMIT)
                .expect("nothing hinders it");
        } else {
            producer
                .abort_transaction(LIMIT)
                .expect("nothing hinders it");
        }
    }
    let mut reader = Reader::open(kafka.settings(), &[&topic]);
    let mut read = values(&mut reader);
    read.sort();
    assert_eq!(read, ["first", "second"]);
}

#[test]
fn a_reader_whose_client_is_stuck_reads_to_the_end_with_another_one() {
    let kafka = Kafka::shared();
    let topic = Topics::named("stuck").corrections;
    kafka.create_topic(&topic, 2);
    let mut writer = Writer::open(kafka.settings());
    let mut read = Vec::new();
    for (number, lost) in [ApiKey::Produce, ApiKey::Fetch].into_iter().enumerate() {
        writer.send(
            &topic,
            &Outgoing {
                partition: Some(0),
                value: Some(number.to_string().into_bytes()),
                ..Outgoing::default()
            },
        );
        writer.settle(LIMIT);
        read.push(number.to_string());
        let proxy = Proxy::before(&kafka.addresses());
        let mut settings = kafka.settings().clone();
        settings
            .set("bootstrap.servers", proxy.bootstrap())
            // Its own client would wait for longer than the test.
            .set("socket.timeout.ms", "300000");
        let rule = proxy.on(lost).does(Fault::LoseRequest);
        let mut reader = Reader::open(&settings, &[&topic]);
        assert_eq!(values(&mut reader), read);
        assert_eq!(rule.hits(), 1, "{lost}");
    }
}

#[test]
fn a_transactional_producer_works_through_the_proxy_and_never_leaves_it() {
    let kafka = Kafka::shared();
    let topic = Topics::named("proxied").corrections;
    kafka.create_topic(&topic, 3);
    let proxy = Proxy::before(&kafka.addresses());
    let producer = transactional(proxy.bootstrap(), &topic);
    for number in 0..5 {
        producer.begin_transaction().expect("none is open");
        for _ in 0..20 {
            produce(&producer, &topic, &number.to_string());
        }
        producer
            .commit_transaction(LIMIT)
            .expect("nothing hinders it");
    }
    let mut reader = Reader::open(kafka.settings(), &[&topic]);
    assert_eq!(values(&mut reader).len(), 100);
    // All of them came this way; had an address slipped through, these would be fewer.
    assert_eq!(proxy.count(ApiKey::EndTxn), 5);
    assert!(proxy.count(ApiKey::Produce) >= 5);
    assert!(proxy.count(ApiKey::AddPartitionsToTxn) >= 5);
}

#[test]
fn a_commit_whose_answer_is_lost_was_applied_and_one_that_is_refused_was_not() {
    let kafka = Kafka::shared();
    let topic = Topics::named("lost").corrections;
    kafka.create_topic(&topic, 1);
    let proxy = Proxy::before(&kafka.addresses());
    let mut reader = Reader::open(kafka.settings(), &[&topic]);

    let producer = transactional(proxy.bootstrap(), &topic);
    let lost = proxy.on(ApiKey::EndTxn).commits().does(Fault::LoseResponse);
    producer.begin_transaction().expect("none is open");
    produce(&producer, &topic, "applied");
    producer.flush(LIMIT).expect("the broker is there");
    // librdkafka asks again behind our back, and is told that all is well.
    producer
        .commit_transaction(LIMIT)
        .expect("the second try is answered");
    lost.wait_hit(LIMIT);
    assert_eq!(values(&mut reader), ["applied"]);

    // 51 is CONCURRENT_TRANSACTIONS, which is tried again; 47 INVALID_PRODUCER_EPOCH is fatal.
    for (code, committed) in [(51, true), (47, false)] {
        let refused = proxy.on(ApiKey::EndTxn).commits().does(Fault::Refuse(code));
        producer.begin_transaction().expect("none is open");
        produce(&producer, &topic, &code.to_string());
        producer.flush(LIMIT).expect("the broker is there");
        let result = producer.commit_transaction(LIMIT);
        assert_eq!(result.is_ok(), committed, "{code}: {result:?}");
        assert_eq!(refused.hits(), 1);
    }
    drop(producer);
    // The refused one is still open; its successor ends it.
    let successor = transactional(proxy.bootstrap(), &topic);
    assert_eq!(values(&mut reader), ["51"]);
    drop(successor);
}

#[test]
fn a_held_request_waits_for_the_test_and_a_late_answer_is_late() {
    let kafka = Kafka::shared();
    let topic = Topics::named("held").corrections;
    kafka.create_topic(&topic, 1);
    let proxy = Proxy::before(&kafka.addresses());
    let producer = transactional(proxy.bootstrap(), &topic);
    let held = proxy.on(ApiKey::EndTxn).does(Fault::HoldRequest);
    thread::scope(|scope| {
        let committing = scope.spawn(|| {
            producer.begin_transaction().expect("none is open");
            produce(&producer, &topic, "held");
            producer.commit_transaction(LIMIT)
        });
        held.wait_hit(LIMIT);
        assert!(!committing.is_finished());
        held.release();
        committing
            .join()
            .expect("it does not panic")
            .expect("nothing hinders it any more");
    });
    let delay = Duration::from_millis(300);
    proxy.on(ApiKey::EndTxn).does(Fault::LateResponse(delay));
    producer.begin_transaction().expect("none is open");
    produce(&producer, &topic, "late");
    producer.flush(LIMIT).expect("the broker is there");
    let started = Instant::now();
    producer
        .commit_transaction(LIMIT)
        .expect("late is not never");
    assert!(started.elapsed() >= delay);
}

#[test]
fn a_frozen_and_a_refusing_network_heal() {
    let kafka = Kafka::shared();
    let topic = Topics::named("network").corrections;
    kafka.create_topic(&topic, 1);
    let proxy = Proxy::before(&kafka.addresses());
    let mut writer = Writer::open(&settings(proxy.bootstrap()));
    let record = Outgoing {
        value: Some(b"x".to_vec()),
        ..Outgoing::default()
    };
    writer.send(&topic, &record);
    writer.settle(LIMIT);
    for hurt in [Proxy::freeze, Proxy::refuse] {
        hurt(&proxy);
        writer.send(&topic, &record);
        let before = proxy.count(ApiKey::Produce);
        thread::sleep(Duration::from_millis(200));
        assert_eq!(proxy.count(ApiKey::Produce), before);
        proxy.heal();
        writer.settle(LIMIT);
    }
}

/// Writes what a connector would write for `records`, in transactions of ten.
struct Puppet<'a> {
    producer: Transactional,
    topics: &'a Topics,
}

impl Puppet<'_> {
    fn correct(&self, offset: i64, id: &str, question: &str, answer: &str) {
        let marked = crc32fast::hash(id.as_bytes()).is_multiple_of(2);
        let correction = if marked {
            format!("{answer} [marked]")
        } else {
            answer.to_owned()
        };
        let record = serde_json::json!({
            "correction_id": format!("c-{offset}"), "event_id": id,
            "question": question, "answer": answer, "correction": correction,
            "disposition": if marked { "corrected" } else { "unchanged" },
            "reason": marked.then_some("extended"), "similarity": 1.0, "unchanged_logprob": null,
            "mean_logprob": null, "upstream_model": null,
            "aligner_name": "marker", "aligner_revision": "1", "template_hash": "",
            "source_topic": self.topics.answers, "source_partition": 0, "source_offset": offset,
            "prompt_tokens": 0, "correction_tokens": 0, "queue_ms": 0, "inference_ms": 0,
            "corrected_at": 0, "proposal": null, "prompt": question, "chosen": correction, "rejected": answer,
        })
        .to_string();
        let mut outputs = vec![&self.topics.corrections];
        outputs.extend(marked.then_some(&self.topics.pairs));
        for topic in outputs {
            self.producer
                .send(BaseRecord::to(topic).key(id).payload(&record))
                .map_err(|(error, _)| error)
                .expect("the queue has room");
        }
    }
}

#[test]
fn the_oracle_passes_an_honest_connector_and_catches_one_that_repeats_itself() {
    let kafka = Kafka::shared();
    let topics = Topics::create(kafka, "puppet", 1);
    let name = topics.answers.clone();
    let oracle = Oracle::watch(kafka, &topics, &name);
    let inputs: Vec<_> = (0..20)
        .map(|number| events::event(Some(&format!("id-{number}")), "q", &format!("a {number}")))
        .collect();
    assert!(
        inputs
            .iter()
            .all(|(_, input)| input.expected == Expected::ByMarker)
    );
    oracle.send(inputs);

    let puppet = Puppet {
        producer: transactional(kafka.bootstrap(), &name),
        topics: &topics,
    };
    let consumer: rdkafka::consumer::BaseConsumer<Silent> = settings(kafka.bootstrap())
        .set("group.id", format!("connect-{name}"))
        .create_with_context(Silent)
        .expect("constant settings are valid");
    puppet.producer.begin_transaction().expect("none is open");
    for number in 0..20 {
        puppet.correct(number, &format!("id-{number}"), "q", &format!("a {number}"));
    }
    puppet.producer.flush(LIMIT).expect("the broker is there");
    let mut offsets = rdkafka::TopicPartitionList::new();
    offsets
        .add_partition_offset(&topics.answers, 0, rdkafka::Offset::Offset(20))
        .expect("20 is a valid offset");
    puppet
        .producer
        .send_offsets_to_transaction(
            &offsets,
            &rdkafka::consumer::Consumer::group_metadata(&consumer).expect("it has a group"),
            LIMIT,
        )
        .expect("nobody else is in the group");
    puppet
        .producer
        .commit_transaction(Timeout::Never)
        .expect("nothing hinders it");
    let summary = oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 20);
    assert_eq!(summary.dispositions.values().sum::<u64>(), 20);

    puppet.producer.begin_transaction().expect("none is open");
    puppet.correct(7, "id-7", "q", "a 7");
    puppet
        .producer
        .commit_transaction(Timeout::Never)
        .expect("nothing hinders it");
    oracle.catch_up(LIMIT);
    let complaints = oracle.ledger().complaints().join("\n");
    assert!(
        complaints.contains("comes after 19 (I1, I3)"),
        "{complaints}"
    );
}

#[test]
fn brokers_of_a_cluster_are_killed_stopped_and_restarted_under_a_writer() {
    let kafka = Kafka::three();
    kafka.create_topic("survivor", 3);
    let mut writer = Writer::open(kafka.settings());
    let mut sent = 0;
    let mut send = |writer: &mut Writer| {
        for _ in 0..50 {
            writer.send(
                "survivor",
                &Outgoing {
                    value: Some(sent.to_string().into_bytes()),
                    ..Outgoing::default()
                },
            );
            sent += 1;
        }
    };
    send(&mut writer);
    kafka.kill(2);
    send(&mut writer);
    writer.settle(Duration::from_secs(60));
    kafka.restart(2);
    send(&mut writer);
    kafka.stop(1);
    kafka.restart(1);
    writer.settle(Duration::from_secs(60));
    let mut reader = Reader::open(kafka.settings(), &["survivor"]);
    let mut seen = BTreeMap::new();
    for record in reader.read_to_end(Duration::from_secs(60)) {
        *seen.entry(record.value).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 150);
    assert!(seen.values().all(|&times| times == 1));
}

#[test]
fn a_reader_is_not_misled_by_the_marks_of_another() {
    let kafka = Kafka::shared();
    let topic = Topics::named("marks").corrections;
    kafka.create_topic(&topic, 1);
    let mut first = Reader::open(kafka.settings(), &[&topic]);
    assert_eq!(values(&mut first), [] as [String; 0]);
    let mut writer = Writer::open(kafka.settings());
    writer.send(
        &topic,
        &Outgoing {
            value: Some(b"after a mark".to_vec()),
            ..Outgoing::default()
        },
    );
    writer.settle(LIMIT);
    let mut second = Reader::open(kafka.settings(), &[&topic]);
    assert_eq!(values(&mut second), ["after a mark"]);
}
