//! The registry, the secured broker and the independent clients, without a connector.

use std::{path::Path, time::Duration};

use aligner_tests::{
    client::{Outgoing, Reader, Writer},
    connector::Topics,
    java,
    kafka::Kafka,
    python::Avro,
    registry::Registry,
    scratch::{Scratch, workspace},
    secure::SecureKafka,
};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_registry_serves_confluents_client_and_remembers_over_an_outage() {
    let registry = Registry::start();
    let avro = Avro::with(&registry.url());
    let events = [
        json!({"question": "größer?", "answer": "😀", "event_id": "one"}),
        json!({"question": "q", "answer": "a"}),
    ];
    let schema = workspace().join("schemas/answer-event.avsc");
    let encoded = avro.encode("harness-value", &schema, &events);
    assert_eq!(encoded[0][0], 0, "the magic byte");
    registry.sigstop();
    assert!(registry.get("/subjects").is_none(), "it is away");
    registry.sigcont();
    let decoded = avro.decode(&encoded);
    assert_eq!(decoded[0]["question"], "größer?");
    assert_eq!(decoded[1]["event_id"], json!(null));
}

#[test]
fn the_secured_broker_lets_the_admin_in() {
    let secure = SecureKafka::start();
    secure.kafka.create_topic("secured", 1);
    let mut writer = Writer::open(secure.kafka.settings());
    writer.send(
        "secured",
        &Outgoing {
            value: Some(b"x".to_vec()),
            ..Outgoing::default()
        },
    );
    writer.settle(LIMIT);
    let mut reader = Reader::open(secure.kafka.settings(), &["secured"]);
    assert_eq!(reader.read_to_end(LIMIT).len(), 1);
    assert!(Path::new(&secure.authority()).exists());
}

#[test]
fn kafkas_java_client_writes_lines() {
    let kafka = Kafka::shared();
    let topic = Topics::named("java").answers;
    kafka.create_topic(&topic, 1);
    java::produce_lines(
        kafka,
        &topic,
        "gzip",
        &["{\"a\": 1}".into(), "größer".into()],
    );
    let mut reader = Reader::open(kafka.settings(), &[&topic]);
    let values: Vec<_> = reader
        .read_to_end(LIMIT)
        .into_iter()
        .filter_map(|record| record.value)
        .collect();
    assert_eq!(values, ["{\"a\": 1}".as_bytes(), "größer".as_bytes()]);
}

#[test]
fn a_scratch_folder_is_gone_after_its_test() {
    let path = {
        let scratch = Scratch::new("gone");
        scratch.file("x", "y");
        scratch.path().to_path_buf()
    };
    assert!(!path.exists());
}
