//! Topics that change, have holes, or are gone.

use std::time::Duration;

use aligner_tests::{
    client::{self, Silent},
    connector::{Connector, Topics},
    events::{self, Events},
    kafka::{Kafka, Options},
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
    // Found soon: the broker is asked every so often.
    let story = Story::new(Kafka::shared(), "added", 2)
        .with(|config| config.property("topic.metadata.refresh.interval.ms", "1000"));
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
fn latest_skips_what_a_group_began_behind_and_nothing_of_partitions_that_are_added() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "latest-added", 2)
        .with(|config| config.set(&["kafka", "start_from"], "latest"));
    let mut events = Events::new(events::seed("latest-added"), "latest-added");
    // The oracle does not know of these: an output of one of them would be one too many.
    let mut writer = client::Writer::open(kafka.settings());
    for _ in 0..50 {
        writer.send(&story.topics.answers, &events.next_json().0);
    }
    writer.settle(LIMIT);
    let mut connector = Connector::ready(&story.name, &story.config);
    wait::until("its partitions", LIMIT, || {
        connector.metric("aligner_partitions_assigned", &[]) == Some(2.0)
    });
    story.send(&mut events, 100);
    story.oracle.wait_done(100, LIMIT);
    assert!(connector.sigterm().success());
    // While nobody is there, so that no process has seen the topic without them.
    client::add_partitions(kafka.settings(), &story.topics.answers, 4);
    story.oracle.send((0..200).map(|number| {
        let (mut outgoing, input) = events.next_json();
        outgoing.partition = Some(number % 4);
        (outgoing, input)
    }));
    connector.restart();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 300);
    assert!(connector.sigterm().success());
}

/// What the log says of a topic that was made again.
const MADE_AGAIN: &str = "the topic was deleted and made again while it was read";

/// A connector on a topic that is deleted and made again, and its corrections.
struct Remade {
    kafka: &'static Kafka,
    topics: Topics,
    events: Events,
    connector: Connector,
    corrections: client::Reader,
    seen: Vec<client::Record>,
}

impl Remade {
    fn new(name: &str) -> Self {
        let kafka = Kafka::shared();
        let topics = Topics::create(kafka, name, 1);
        let answers = &topics.answers;
        let config = aligner_tests::connector::Config::new(answers, kafka.bootstrap(), &topics);
        let mut connector = Connector::ready(answers, &config);
        connector.allow_error(MADE_AGAIN);
        let corrections = client::Reader::open(kafka.settings(), &[&topics.corrections]);
        Self {
            kafka,
            topics,
            events: Events::new(events::seed(name), name),
            connector,
            corrections,
            seen: Vec::new(),
        }
    }

    fn write(&mut self, records: usize) {
        let mut writer = client::Writer::open(self.kafka.settings());
        for _ in 0..records {
            writer.send(&self.topics.answers, &self.events.next_json().0);
        }
        writer.settle(LIMIT);
    }

    fn make_again(&self) {
        client::delete_topic(self.kafka.settings(), &self.topics.answers);
        self.kafka.create_topic(&self.topics.answers, 1);
    }

    fn wait_for_corrections(&mut self, count: usize) {
        wait::until("its corrections", LIMIT, || {
            self.seen.extend(self.corrections.read_to_end(LIMIT));
            self.seen.len() >= count
        });
    }

    /// Where the corrected answers lay.
    fn offsets(&self) -> Vec<i64> {
        self.seen.iter().map(events::source_offset).collect()
    }

    /// The id tells, also where the offsets do not.
    fn end_with_the_alarm(mut self) {
        wait::until("the alarm", LIMIT, || {
            let rewinds = self.connector.metric("aligner_kafka_rewinds_total", &[]);
            rewinds.is_some_and(|rewinds| rewinds > 0.0)
                && self.connector.log().contains(MADE_AGAIN)
        });
        assert!(self.connector.sigterm().success());
    }
}

#[test]
fn a_topic_that_is_deleted_and_made_again_is_read_from_its_beginning() {
    let mut story = Remade::new("made-again");
    // Somebody must know, unless the group notices that the topic is gone before it is back.
    story.connector.allow_error("offset out of range");
    story.connector.allow_error("offsets went back");
    story.write(50);
    story.wait_for_corrections(50);
    story.make_again();
    story.write(50);
    story.wait_for_corrections(100);
    let expected: Vec<i64> = (0..50).chain(0..50).collect();
    assert_eq!(
        story.offsets(),
        expected,
        "each once, from the first of both logs"
    );
    story.end_with_the_alarm();
}

#[test]
fn a_topic_that_is_made_again_as_long_as_it_was_is_read_on_and_is_an_alarm() {
    let mut story = Remade::new("made-longer");
    story.write(50);
    story.wait_for_corrections(50);
    // It looks when there is something to read again, and not before.
    story.connector.sigstop();
    story.make_again();
    story.write(60);
    story.connector.sigcont();
    story.wait_for_corrections(60);
    let expected: Vec<i64> = (0..60).collect();
    let read = "fifty of the old log, and what the new one has behind these";
    assert_eq!(story.offsets(), expected, "{read}");
    story.end_with_the_alarm();
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
    // Neither an aborted end nor the mark of one is lag, though the group's offset lies before them. Where a
    // process that has just started says 0, it knows where the log ends now.
    write(false, 10);
    assert!(connector.sigterm().success());
    assert_committed(&story, 20 + 9 * 21);
    connector.restart();
    wait::until("no lag", LIMIT, || {
        connector.metric("aligner_kafka_lag", &[]) == Some(0.0)
    });
    assert!(connector.sigterm().success());
}

/// One good record, one that must become a dead letter, and a good one behind it.
fn good_bad_good(story: &Story<'_>, connector: &Connector, spoil: impl FnOnce()) {
    story
        .oracle
        .send([events::event(Some("one"), "why?", "because")]);
    story.oracle.wait_done(1, LIMIT);
    spoil();
    story.oracle.send([
        events::broken(None, Some(b"broken"), "invalid_json"),
        events::event(Some("two"), "why?", "because"),
    ]);
    // Whoever is paged must find the topic in the log, and the probe must say that nothing moves.
    wait::until("the log to name the topic", LIMIT, || {
        connector.log().lines().any(|line| {
            line.contains("a delivery was aborted") && line.contains(&story.topics.dead_letters)
        })
    });
    wait::until("the alarm", LIMIT, || {
        connector
            .get("/readyz")
            .is_some_and(|answer| answer.status == 503 && answer.body.contains("no_progress"))
    });
    assert!(
        connector
            .metric("aligner_deliveries_total", &["result=\"aborted\""])
            .is_some_and(|aborted| aborted >= 1.0),
        "aborted deliveries are counted"
    );
    assert_committed(story, 1);
}

/// The source has advanced so far and no further.
fn assert_committed(story: &Story<'_>, offset: i64) {
    let mut committed = client::Committed::of(
        story.kafka.settings(),
        &format!("connect-{}", story.name),
        &story.topics.answers,
    );
    let offsets = wait::for_value("committed offsets", LIMIT, || committed.fetch());
    assert_eq!(offsets.get(&0), Some(&offset));
}

#[test]
fn a_dead_letter_topic_that_is_gone_stops_the_source_is_named_and_is_an_alarm() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "no-letters", 1).with(|config| {
        config
            .set(&["pipeline", "record_timeout_ms"], 1_500)
            .set(&["service", "stall_timeout_ms"], 5_000)
    });
    let mut connector = Connector::ready(&story.name, &story.config);
    let letters = &story.topics.dead_letters;
    good_bad_good(&story, &connector, || {
        client::delete_topic(kafka.settings(), letters);
    });
    assert!(connector.log().contains("which is not there: create it"));
    // Somebody does, and all is well again without a restart.
    kafka.create_topic(letters, 1);
    story.oracle.wait_all_done(LIMIT);
    assert!(connector.exited().is_none());
    connector.kill9();
}

#[test]
fn a_dead_letter_topic_that_takes_no_dead_letter_stops_the_connector_and_is_named() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "unwritable", 1);
    let mut connector = Connector::ready(&story.name, &story.config);
    connector.allow_error("cannot go on");
    story
        .oracle
        .send([events::event(Some("one"), "why?", "because")]);
    story.oracle.wait_done(1, LIMIT);
    let letters = &story.topics.dead_letters;
    client::alter_topic(kafka.settings(), letters, &[("max.message.bytes", "100")]);
    story.oracle.send([
        events::broken(None, Some(b"broken"), "invalid_json"),
        events::event(Some("two"), "why?", "because"),
    ]);
    assert_eq!(connector.wait_exit(LIMIT).code(), Some(1));
    let log = connector.log();
    let cause = log.lines().find(|line| line.contains("cannot go on"));
    assert!(
        cause.is_some_and(|cause| cause.contains(letters)),
        "the topic is not named: {log}"
    );
    assert_committed(&story, 1);
    client::alter_topic(
        kafka.settings(),
        letters,
        &[("max.message.bytes", "1000000")],
    );
    connector.restart();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 3);
    assert!(connector.sigterm().success());
}

#[test]
fn records_that_compaction_removed_are_stepped_over() {
    let kafka = Kafka::with(
        Options::default()
            .quick()
            .with("log.cleaner.backoff.ms", "200"),
    );
    let topics = Topics::named("compacted");
    kafka.create_topic_with(
        &topics.answers,
        1,
        &[
            ("cleanup.policy", "compact"),
            ("segment.ms", "500"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("max.compaction.lag.ms", "1000"),
        ],
    );
    topics.create_outputs(&kafka, 1);
    let name = topics.answers.clone();
    let mut writer = client::Writer::open(kafka.settings());
    let mut inputs = Vec::new();
    let write = |writer: &mut client::Writer, inputs: &mut Vec<_>, key: usize| {
        let id = format!("compacted-{}", inputs.len());
        let (mut outgoing, mut input) = events::event(Some(&id), "why?", "because");
        outgoing.key = Some(format!("key-{key}").into_bytes());
        input.key.clone_from(&outgoing.key);
        writer.send(&topics.answers, &outgoing);
        inputs.push(input);
    };
    // Every third record stays, and what lies between them goes.
    for number in 0..300 {
        let key = if number % 3 == 0 {
            number
        } else {
            1_000 + number % 7
        };
        write(&mut writer, &mut inputs, key);
    }
    let mut landings = writer.settle(LIMIT);
    // The active segment is never compacted, and a segment ends when something is written after
    // its time: so a record follows now and then, each under a key of its own.
    let mut reader = client::Reader::open(kafka.settings(), &[&topics.answers]);
    let mut survivors: Vec<i64> = Vec::new();
    let mut key = 10_000;
    wait::until("compaction", LIMIT, || {
        key += 1;
        write(&mut writer, &mut inputs, key);
        landings.extend(writer.settle(LIMIT));
        std::thread::sleep(Duration::from_millis(600));
        reader = client::Reader::open(kafka.settings(), &[&topics.answers]);
        survivors = reader
            .read_to_the_last(&landings, LIMIT)
            .iter()
            .map(|record| record.offset)
            .collect();
        survivors.len() < landings.len() / 2
    });
    let gaps = survivors.windows(2).filter(|w| w[1] > w[0] + 1).count();
    eprintln!(
        "compacted: {} of {} records are left, with {gaps} gaps",
        survivors.len(),
        landings.len()
    );
    assert!(gaps > 50, "compaction left no gaps");
    let oracle = Oracle::watch(&kafka, &topics, &name);
    let (landings, inputs): (Vec<_>, Vec<_>) = landings
        .into_iter()
        .zip(inputs)
        .filter(|(landing, _)| survivors.contains(&landing.offset))
        .unzip();
    oracle.note(landings, inputs);
    let config = aligner_tests::connector::Config::new(&name, kafka.bootstrap(), &topics);
    let mut connector = Connector::ready(&name, &config);
    assert_eq!(oracle.settled(LIMIT).inputs, survivors.len());
    assert!(connector.sigterm().success());
}

/// The offset of the input that a correction stems from.
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
    let offsets: Vec<i64> = seen.iter().map(events::source_offset).collect();
    let expected: Vec<i64> = (0..50).chain(120..150).collect();
    assert_eq!(
        offsets, expected,
        "each once, from the first one that is left"
    );
    let said = wait::for_value("the loss to be told", LIMIT, || {
        let log = connector.log();
        let line = log
            .lines()
            .find(|line| line.contains("offset out of range"))?;
        Some(line.to_owned())
    });
    let place = format!("{name}-0");
    for part in [&*place, "50", "120", "70", "deleted before it was read"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let labels = [&*format!("topic=\"{name}\""), "partition=\"0\""];
    for (metric, expected) in [
        ("aligner_kafka_offset_resets_total", 1.0),
        ("aligner_kafka_skipped_offsets_total", 70.0),
    ] {
        assert_eq!(
            connector.metric(metric, &labels),
            Some(expected),
            "{metric}"
        );
    }
    let begins_at = format!("{place}:50");
    assert!(
        connector.log().contains(&begins_at),
        "where it begins is not said"
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
