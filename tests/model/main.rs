//! The bundled Aligner behind a real Kafka, fed by clients that share no code with ours.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aligner_corpus::{Corpus, Split};
use aligner_tests::{
    client::{Outgoing, Reader},
    command::call_with,
    connector::{Config, Connector, Topics},
    java,
    kafka::Kafka,
    python::Avro,
    registry::Registry,
    scratch::workspace,
    wait,
};
use serde_json::{Value, json};

/// Events of each test: enough that several faults of every kind occur.
const EVENTS: usize = 40;
const LIMIT: Duration = Duration::from_secs(240);

/// Events whose answers carry faults that the Aligner was trained on, in other words.
fn events() -> Vec<Value> {
    Corpus::new(20_260_721, Split::Test)
        .take(EVENTS)
        .enumerate()
        .map(|(number, triple)| {
            json!({
                "event_id": format!("model-{number}"),
                "question": triple.question,
                "answer": triple.answer,
                "upstream_model": "corpus",
            })
        })
        .collect()
}

/// What `correct` makes of the same events, by event id.
fn corrected_by_command(events: &[Value]) -> BTreeMap<String, Value> {
    let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
    call_with(&["correct", "--model", "bundled"], lines)
        .expect_code(0)
        .records()
        .into_iter()
        .map(|record| (id(&record), record))
        .collect()
}

fn id(record: &Value) -> String {
    record["event_id"]
        .as_str()
        .expect("every record has an id")
        .to_owned()
}

/// Compares what came over Kafka with what the command line says: the same model, prompt and
/// gates, hence the same texts, whatever else was in the batch.
fn same_as_command(mut over_kafka: Vec<Value>, pairs: &[Value], events: &[Value]) {
    let mut expected = corrected_by_command(events);
    assert_eq!(over_kafka.len(), events.len());
    over_kafka.sort_by_key(id);
    let mut corrected = 0;
    for record in &over_kafka {
        let other = expected.remove(&id(record)).expect("each id comes once");
        for field in [
            "question",
            "answer",
            "correction",
            "disposition",
            "reason",
            "upstream_model",
            "aligner_name",
            "aligner_revision",
            "template_hash",
            "prompt_tokens",
            "correction_tokens",
        ] {
            assert_eq!(record[field], other[field], "{field} of {}", id(record));
        }
        if record["disposition"] == "corrected" {
            corrected += 1;
            let pair = pairs
                .iter()
                .find(|pair| pair["correction_id"] == record["correction_id"])
                .unwrap_or_else(|| panic!("{} has no pair", id(record)));
            assert_eq!(pair["chosen"], record["correction"]);
            assert_eq!(pair["rejected"], record["answer"]);
            assert_eq!(pair["prompt"], record["question"]);
        }
    }
    assert_eq!(
        pairs.len(),
        corrected,
        "a pair exactly for each corrected answer"
    );
    eprintln!("{corrected} of {} answers were corrected", events.len());
    // How well it corrects is measured elsewhere; here something must have been corrected at all.
    assert!(corrected > 0, "half of the answers carry faults");
}

/// Values of corrections and of pairs, once all `expected` corrections are there.
fn outputs(kafka: &Kafka, topics: &Topics, expected: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut reader = Reader::open(
        kafka.settings(),
        &[&topics.corrections, &topics.pairs, &topics.dead_letters],
    );
    let (mut corrections, mut pairs) = (Vec::new(), Vec::new());
    wait::until("all corrections", LIMIT, || {
        for record in reader.read_to_end(LIMIT) {
            assert_ne!(record.topic, topics.dead_letters, "{record:?}");
            let value = record.value.expect("outputs are no tombstones");
            if record.topic == topics.pairs {
                pairs.push(value);
            } else {
                corrections.push(value);
            }
        }
        corrections.len() >= expected
    });
    (corrections, pairs)
}

#[test]
fn json_events_of_kafkas_java_client_are_corrected_as_the_command_line_corrects_them() {
    let kafka = Kafka::shared();
    let topics = Topics::create(kafka, "model-json", 2);
    let name = topics.answers.clone();
    let config =
        Config::new(&name, kafka.bootstrap(), &topics).set(&["aligner", "model"], "bundled");
    let events = events();
    let lines: Vec<_> = events.iter().map(Value::to_string).collect();
    java::produce_lines(kafka, &topics.answers, "gzip", &lines);
    let started = Instant::now();
    let mut connector = Connector::ready(&name, &config);
    let (corrections, pairs) = outputs(kafka, &topics, events.len());
    eprintln!("{} events in {:?}", events.len(), started.elapsed());
    let parse = |values: &[Vec<u8>]| -> Vec<Value> {
        values
            .iter()
            .map(|value| serde_json::from_slice(value).expect("outputs are JSON"))
            .collect()
    };
    same_as_command(parse(&corrections), &parse(&pairs), &events);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn avro_events_of_confluents_client_are_corrected_as_the_command_line_corrects_them() {
    let kafka = Kafka::shared();
    let registry = Registry::start();
    let topics = Topics::create(kafka, "model-avro", 2);
    let name = topics.answers.clone();
    let config = Config::new(&name, kafka.bootstrap(), &topics)
        .set(&["aligner", "model"], "bundled")
        .set(&["formats", "answers"], "avro")
        .set(&["formats", "outputs"], "avro")
        .set(&["formats", "schema_registry", "url"], registry.url());
    let avro = Avro::with(&registry.url());
    let events = events();
    let subject = format!("{}-value", topics.answers);
    let schema = workspace().join("schemas/answer-event.avsc");
    let mut writer = aligner_tests::client::Writer::open(kafka.settings());
    for value in avro.encode(&subject, &schema, &events) {
        writer.send(
            &topics.answers,
            &Outgoing {
                value: Some(value),
                ..Outgoing::default()
            },
        );
    }
    writer.settle(LIMIT);
    let mut connector = Connector::ready(&name, &config);
    let (corrections, pairs) = outputs(kafka, &topics, events.len());
    same_as_command(avro.decode(&corrections), &avro.decode(&pairs), &events);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}
