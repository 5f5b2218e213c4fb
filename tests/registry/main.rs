//! Avro with a real schema registry, written and read by Confluent's own client.

use std::{sync::OnceLock, time::Duration};

use aligner_tests::{
    client::{Landing, Outgoing, Reader, Record, Writer},
    connector::{Config, Connector, Topics},
    events::{self, Events},
    kafka::Kafka,
    ledger::{Input, Ledger, Output, Position},
    python::Avro,
    registry::Registry,
    scratch::{Scratch, workspace},
    wait,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// For two failed fetches of a schema. Each takes up to 20 s: the request for it, and the one that
/// asks whether the registry answers at all, have 10 s each.
const FAILURES_LIMIT: Duration = Duration::from_secs(120);

fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::start)
}

/// Topics, a configuration for Avro in and out, and a ledger that is fed through Python.
struct AvroStory {
    kafka: &'static Kafka,
    topics: Topics,
    name: String,
    config: Config,
    avro: Avro,
    ledger: Ledger,
    writer: Writer,
}

impl AvroStory {
    fn new(name: &str, registry: &Registry) -> Self {
        let kafka = Kafka::shared();
        let topics = Topics::create(kafka, name, 2);
        let name = topics.answers.clone();
        let config = Config::new(&name, kafka.bootstrap(), &topics)
            .set(&["formats", "answers"], "avro")
            .set(&["formats", "outputs"], "avro")
            .set(&["formats", "schema_registry", "url"], registry.url());
        Self {
            kafka,
            avro: Avro::with(&registry.url()),
            ledger: Ledger::default(),
            writer: Writer::open(kafka.settings()),
            topics,
            name,
            config,
        }
    }

    /// Events as Confluent's serializer writes them with `schema`.
    fn encoded(&self, schema: &std::path::Path, events: &[Value]) -> Vec<Vec<u8>> {
        let subject = format!("{}-value", self.topics.answers);
        self.avro.encode(&subject, schema, events)
    }

    /// Writes values and notes what must become of them.
    fn send(&mut self, records: Vec<(Vec<u8>, Input)>) {
        let mut inputs = Vec::new();
        for (value, mut input) in records {
            self.writer.send(
                &self.topics.answers,
                &Outgoing {
                    key: input.key.clone(),
                    value: Some(value.clone()),
                    ..Outgoing::default()
                },
            );
            input.value = Some(value);
            inputs.push(input);
        }
        let topic = self.topics.answers.clone();
        let mut noted: Vec<_> = self
            .writer
            .settle(LIMIT)
            .into_iter()
            .map(|Landing { partition, offset }| Position {
                topic: topic.clone(),
                partition,
                offset,
            })
            .zip(inputs)
            .collect();
        noted.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.ledger.inputs(noted);
    }

    /// Reads everything that came out, decodes it with Confluent's client, and closes the books.
    fn settle(mut self, expected: usize) -> Ledger {
        let Topics {
            corrections,
            pairs,
            dead_letters,
            ..
        } = &self.topics;
        let mut reader = Reader::open(self.kafka.settings(), &[corrections, pairs, dead_letters]);
        let mut records: Vec<Record> = Vec::new();
        wait::until("all outputs", LIMIT, || {
            records.extend(reader.read_to_end(LIMIT));
            records
                .iter()
                .filter(|record| record.topic != *pairs)
                .count()
                >= expected
        });
        let framed: Vec<_> = records
            .iter()
            .filter(|record| record.topic != *dead_letters)
            .map(|record| record.value.clone().expect("corrections are no tombstones"))
            .collect();
        let mut decoded = self.avro.decode(&framed).into_iter();
        for mut record in records {
            let output = match &record.topic {
                topic if topic == corrections => Output::Correction,
                topic if topic == pairs => Output::Pair,
                _ => Output::DeadLetter,
            };
            if output != Output::DeadLetter {
                let value = decoded.next().expect("one line for each");
                record.value = Some(value.to_string().into_bytes());
            }
            self.ledger.observe(output, &record);
        }
        self.ledger.close();
        assert_eq!(self.ledger.complaints(), &[] as &[String]);
        self.ledger
    }
}

/// The JSON form of random events, with what must become of them.
fn random_events(prefix: &str, count: usize) -> Vec<(Value, Input)> {
    let mut events = Events::new(events::seed(prefix), prefix);
    (0..count)
        .map(|_| {
            let (outgoing, input) = events.next_json();
            let value = outgoing.value.expect("events have values");
            let mut value: Value = serde_json::from_slice(&value).expect("events are JSON");
            // Confluent's serializer takes instants as such, and these events pass as numbers.
            value["created_at"] = Value::Null;
            (value, input)
        })
        .collect()
}

fn answer_event_schema() -> std::path::PathBuf {
    workspace().join("schemas/answer-event.avsc")
}

#[test]
fn avro_events_of_confluents_client_are_corrected_and_its_client_reads_the_outputs() {
    let mut story = AvroStory::new("avro", registry());
    let (values, inputs): (Vec<_>, Vec<_>) = random_events("avro", 300).into_iter().unzip();
    let encoded = story.encoded(&answer_event_schema(), &values);
    story.send(encoded.into_iter().zip(inputs).collect());
    let mut connector = Connector::ready(&story.name, &story.config);
    let ledger = story.settle(300);
    assert_eq!(ledger.dispositions().values().sum::<u64>(), 300);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn an_evolved_writers_schema_is_read_by_its_own_id() {
    let mut story = AvroStory::new("evolved", registry());
    let scratch = Scratch::new("schemas");
    // Another team's schema: fields in another order, one more, and several left out.
    let schema = scratch.file(
        "theirs.avsc",
        json!({
            "type": "record", "name": "Logged", "namespace": "their.team",
            "fields": [
                {"name": "temperature", "type": "double"},
                {"name": "answer", "type": "string"},
                {"name": "question", "type": "string"},
                {"name": "event_id", "type": ["null", "string"], "default": null},
            ],
        })
        .to_string(),
    );
    let (mut values, inputs): (Vec<_>, Vec<_>) = random_events("evolved", 40).into_iter().unzip();
    for value in &mut values {
        value["temperature"] = json!(0.7);
    }
    let encoded = story.encoded(&schema, &values);
    story.send(encoded.into_iter().zip(inputs).collect());
    let _connector = Connector::ready(&story.name, &story.config);
    story.settle(40);
}

#[test]
fn unknown_schemas_and_broken_avro_are_dead_lettered_and_the_source_goes_on() {
    let mut story = AvroStory::new("broken-avro", registry());
    let (values, inputs): (Vec<_>, Vec<_>) = random_events("broken", 3).into_iter().unzip();
    let encoded = story.encoded(&answer_event_schema(), &values);
    let mut unknown = encoded[0].clone();
    unknown[1..5].copy_from_slice(&999_999_u32.to_be_bytes());
    // A registry whose ids are Java's `int` cannot even be asked for this one.
    let mut beyond = encoded[0].clone();
    beyond[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    let truncated = encoded[0][..encoded[0].len() - 3].to_vec();
    let dead = |value: &[u8], reason| {
        let (_, input) = events::broken(None, Some(value), reason);
        (value.to_vec(), input)
    };
    let mut records: Vec<_> = vec![
        dead(&beyond, "invalid_avro"),
        dead(&unknown, "unknown_schema"),
        dead(&truncated, "invalid_avro"),
        dead(b"{\"question\": \"q\", \"answer\": \"a\"}", "invalid_avro"),
        dead(b"", "invalid_avro"),
        dead(&[0, 0, 0], "invalid_avro"),
    ];
    records.extend(encoded.into_iter().zip(inputs));
    let total = records.len();
    story.send(records);
    let _connector = Connector::ready(&story.name, &story.config);
    let mut letters = Reader::open(story.kafka.settings(), &[&story.topics.dead_letters]);
    let ledger = story.settle(total);
    assert_eq!(ledger.dispositions()["dead_lettered"], 6);
    let causes: Vec<_> = letters
        .read_to_end(LIMIT)
        .iter()
        .filter_map(|letter| letter.header("__connect.errors.exception.message"))
        .map(str::to_owned)
        .collect();
    assert_eq!(causes.len(), 6);
    for id in ["4294967295", "999999"] {
        assert!(causes.iter().any(|cause| cause.contains(id)), "{causes:?}");
    }
}

#[test]
fn an_outage_of_the_registry_stalls_and_never_dead_letters() {
    // Its own, because it is about to hang.
    let registry = Registry::start();
    let mut story = AvroStory::new("outage", &registry);
    let scratch = Scratch::new("schemas");
    let schema = scratch.file(
        "unseen.avsc",
        json!({
            "type": "record", "name": "Unseen",
            "fields": [
                {"name": "event_id", "type": ["null", "string"], "default": null},
                {"name": "question", "type": "string"},
                {"name": "answer", "type": "string"},
            ],
        })
        .to_string(),
    );
    let (values, inputs): (Vec<_>, Vec<_>) = random_events("outage", 60).into_iter().unzip();
    let unseen = story.encoded(&schema, &values[..30]);
    let known = story.encoded(&answer_event_schema(), &values[30..]);
    let mut connector = Connector::ready(&story.name, &story.config);
    registry.sigstop();
    let mut inputs = inputs.into_iter();
    story.send(unseen.into_iter().zip(inputs.by_ref()).collect());
    wait::until("the connector to say what it waits for", LIMIT, || {
        connector
            .get("/readyz")
            .is_some_and(|answer| answer.body.contains("schema_registry_unavailable"))
    });
    let live = connector.get("/livez").expect("the service listens");
    assert_eq!(live.status, 200, "a restart would not help: {}", live.body);
    story.send(known.into_iter().zip(inputs).collect());
    // Whatever is given up too early would come out while the registry is still away: after the
    // first failure, or after the one that follows its pause.
    wait::until("two failed fetches of the schema", FAILURES_LIMIT, || {
        connector.log().matches("the decoder is not ready").count() >= 2
    });
    let outputs = [&story.topics.corrections, &story.topics.dead_letters];
    let mut reader = Reader::open(story.kafka.settings(), &outputs.map(String::as_str));
    let early = reader.read_to_end(LIMIT);
    assert!(
        early.is_empty(),
        "{} records came out during the outage",
        early.len()
    );
    registry.sigcont();
    let ledger = story.settle(60);
    assert!(!ledger.dispositions().contains_key("dead_lettered"));
    wait::until("readiness", LIMIT, || {
        connector
            .get("/readyz")
            .is_some_and(|answer| answer.status == 200)
    });
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn a_registry_that_is_away_at_the_start_is_waited_for() {
    let registry = Registry::start();
    let mut story = AvroStory::new("late-registry", &registry);
    let (values, inputs): (Vec<_>, Vec<_>) = random_events("late", 20).into_iter().unzip();
    let encoded = story.encoded(&answer_event_schema(), &values);
    story.send(encoded.into_iter().zip(inputs).collect());
    registry.sigstop();
    let mut connector = Connector::start(&story.name, &story.config);
    wait::until(
        "the log to name the registry",
        Duration::from_secs(45),
        || connector.log().contains("waiting for the schema registry"),
    );
    registry.sigcont();
    connector.wait_ready();
    let ledger = story.settle(20);
    assert_eq!(ledger.dispositions().values().sum::<u64>(), 20);
}
