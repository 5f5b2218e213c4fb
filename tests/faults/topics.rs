//! Topics that change, have holes, or are gone.

use std::time::Duration;

use aligner_tests::{
    client::{self, Outgoing, Silent},
    connector::{Connector, Topics},
    events::{self, Events},
    kafka::Kafka,
    oracle::Oracle,
    story::Story,
    wait,
};
use rdkafka::{
    producer::{BaseRecord, Producer as _, ThreadedProducer},
    util::Timeout,
};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let mut story = Story::new(Kafka::shared(), "added", 2);
    // Found soon: the broker is asked every so often.
    story.config = story
        .config
        .clone()
        .property("topic.metadata.refresh.interval.ms", "1000");
    let mut events = Events::new(events::seed("added"), "added");
    story.send(&mut events, 200);
    let mut connector = Connector::ready(&story.name, &story.config);
    story.oracle.wait_done(200, LIMIT);
    client::add_partitions(story.kafka.settings(), &story.topics.answers, 5);
    // Into the new ones at once, before the connector knows them.
    story.oracle.send((0..300).map(|number| {
        let (mut outgoing, input) = events.next_json();
        outgoing.partition = Some(number % 5);
        (outgoing, input)
    }));
    assert_eq!(story.oracle.settled(LIMIT).inputs, 500);
    assert!(connector.sigterm().success());
}

#[test]
fn aborted_transactions_and_gaps_upstream_are_stepped_over() {
    let story = Story::new(Kafka::shared(), "gaps", 1);
    let upstream: ThreadedProducer<Silent> = story
        .kafka
        .settings()
        .clone()
        .set("transactional.id", &story.name)
        .create_with_context(Silent)
        .expect("constant settings are valid");
    upstream
        .init_transactions(LIMIT)
        .expect("the broker coordinates transactions");
    let write = |commit: bool, round: usize| {
        upstream.begin_transaction().expect("none is open");
        let mut inputs = Vec::new();
        for number in 0..20 {
            let id = format!("gap-{round}-{number}");
            let (outgoing, input) = events::event(Some(&id), "why?", "because");
            let value = outgoing.value.expect("events have values");
            upstream
                .send(BaseRecord::<(), [u8]>::to(&story.topics.answers).payload(&value))
                .map_err(|(error, _)| error)
                .expect("the queue has room");
            inputs.push(input);
        }
        upstream.flush(LIMIT).expect("the broker is there");
        if commit {
            upstream
                .commit_transaction(Timeout::Never)
                .expect("nothing hinders it");
        } else {
            upstream
                .abort_transaction(Timeout::Never)
                .expect("nothing hinders it");
        }
        inputs
    };
    // Each round takes 21 offsets, its marker included.
    let mut offset = 0;
    let mut connector = Connector::ready(&story.name, &story.config);
    for round in 0..10 {
        let commit = round % 3 != 1;
        let inputs = write(commit, round);
        if commit {
            let landings = (offset..offset + 20)
                .map(|offset| client::Landing {
                    partition: 0,
                    offset,
                })
                .collect();
            story.oracle.note(landings, inputs);
        }
        offset += 21;
    }
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 140);
    assert!(connector.sigterm().success());
}

#[test]
fn a_dead_letter_topic_that_is_gone_stops_the_source_and_is_an_alarm() {
    let kafka = Kafka::start();
    let story = Story::new(&kafka, "no-letters", 1);
    story
        .oracle
        .send([events::event(Some("one"), "why?", "because")]);
    let mut connector = Connector::ready(&story.name, &story.config);
    story.oracle.wait_done(1, LIMIT);
    client::delete_topic(kafka.settings(), &story.topics.dead_letters);
    let mut writer = client::Writer::open(kafka.settings());
    for value in [&b"broken"[..], b"{\"question\": \"q\", \"answer\": \"a\"}"] {
        writer.send(
            &story.topics.answers,
            &Outgoing {
                value: Some(value.to_vec()),
                ..Outgoing::default()
            },
        );
    }
    writer.settle(LIMIT);
    // Either it stops with a cause, or it says that it is not ready; never silence.
    connector.allow_error("cannot go on");
    connector.allow_error("ended");
    wait::until("an alarm", LIMIT, || {
        connector.log().contains("a delivery was aborted") || connector.exited().is_some()
    });
    let mut committed = client::Committed::of(
        kafka.settings(),
        &format!("connect-{}", story.name),
        &story.topics.answers,
    );
    let offsets = wait::for_value("committed offsets", LIMIT, || committed.fetch());
    assert_eq!(
        offsets.get(&0),
        Some(&1),
        "the source did not advance past the bad record"
    );
    connector.kill9();
}

/// Whether the group began at the oldest record or at its first day's end.
fn goes_on_with_the_oldest_that_are_left(start_from: &str) {
    let kafka = Kafka::shared();
    let label = format!("retention-{start_from}");
    let topics = Topics::create(kafka, &label, 1);
    let name = topics.answers.clone();
    let config = aligner_tests::connector::Config::new(&name, kafka.bootstrap(), &topics)
        .set(&["kafka", "start_from"], start_from);
    let mut events = Events::new(events::seed(&label), &label);
    {
        let oracle = Oracle::watch(kafka, &topics, &name);
        let mut connector = Connector::ready(&name, &config);
        wait::until("its partition", LIMIT, || {
            connector.metric("aligner_partitions_assigned", &[]) == Some(1.0)
        });
        oracle.send((0..50).map(|_| events.next_json()));
        oracle.settled(LIMIT);
        assert!(connector.sigterm().success());
    }
    // While it is away, more records come than it will find.
    let mut writer = client::Writer::open(kafka.settings());
    for _ in 0..100 {
        writer.send(&topics.answers, &events.next_json().0);
    }
    writer.settle(LIMIT);
    client::delete_records(kafka.settings(), &topics.answers, 0, 120);
    let mut connector = Connector::ready(&name, &config);
    // Records were missed: somebody must know.
    connector.allow_error("offset out of range");
    let mut reader = client::Reader::open(kafka.settings(), &[&topics.corrections]);
    let mut seen = Vec::new();
    wait::until("what is left", LIMIT, || {
        seen.extend(reader.read_to_end(LIMIT));
        seen.len() >= 80
    });
    let offsets: Vec<i64> = seen
        .iter()
        .map(|record| {
            let value: serde_json::Value =
                serde_json::from_slice(record.value.as_deref().expect("no tombstones"))
                    .expect("corrections are JSON");
            value["source_offset"].as_i64().expect("a number")
        })
        .collect();
    let expected: Vec<i64> = (0..50).chain(120..150).collect();
    assert_eq!(
        offsets, expected,
        "each once, from the first one that is left"
    );
    assert!(
        connector.log().contains("offset out of range"),
        "the loss is not hidden"
    );
    assert!(connector.sigterm().success());
}

#[test]
fn records_that_retention_deleted_are_passed_over() {
    goes_on_with_the_oldest_that_are_left("earliest");
}

#[test]
fn latest_is_where_a_group_begins_and_skips_nothing_that_is_left_later() {
    goes_on_with_the_oldest_that_are_left("latest");
}
