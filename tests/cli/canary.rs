//! Text of questions and answers, and secrets, stay out of logs, metrics and traces.

use std::{fs, time::Duration};

use aligner_tests::{
    client::Outgoing,
    collector::Collector,
    command::call_with,
    completions::Completions,
    connector::Connector,
    events,
    kafka::Kafka,
    ledger::{Expected, Input},
    scratch::{Scratch, workspace},
    story::Story,
    wait,
};
use serde_json::{Value, json};

/// Stands in every field that is a user's own.
const CANARY: &str = "canarytext";
const LIMIT: Duration = Duration::from_secs(60);

/// A trace that somebody began; it must go on, and reach the collector.
fn traceparent(number: u32) -> (String, Vec<u8>) {
    let value = format!("00-{:032x}-{:016x}-01", 0xabc_u32 + number, 0xdef);
    ("traceparent".to_owned(), value.into_bytes())
}

fn records() -> Vec<(Outgoing, Input)> {
    let text = |what: &str| format!("{CANARY} {what}");
    let mut records = Vec::new();
    for number in 0..50 {
        let value = json!({
            "event_id": format!("event-{number}"),
            "question": text("question"), "answer": text("answer"),
            "user_id": text("user"), "conversation_id": text("conversation"),
            "metadata_json": format!("{{\"x\": \"{CANARY}\"}}"),
        })
        .to_string()
        .into_bytes();
        let outgoing = Outgoing {
            key: Some(text("key").into_bytes()),
            value: Some(value.clone()),
            headers: vec![traceparent(number)],
            ..Outgoing::default()
        };
        let input = Input {
            key: outgoing.key.clone(),
            value: Some(value),
            event_id: Some(format!("event-{number}")),
            question: text("question"),
            answer: text("answer"),
            expected: Expected::AnyCorrection,
        };
        records.push((outgoing, input));
    }
    for (bad, reason) in [
        (format!("{{\"{CANARY}"), "invalid_json"),
        (format!("{{\"question\": \"{CANARY}\"}}"), "missing_answer"),
        (
            format!("{{\"question\": \"{CANARY}\", \"answer\": [\"{CANARY}\"]}}"),
            "wrong_type",
        ),
    ] {
        let key = Some(CANARY.as_bytes());
        let (mut outgoing, input) = events::broken(key, Some(bad.as_bytes()), reason);
        outgoing.headers.push(traceparent(50));
        records.push((outgoing, input));
    }
    let (mut outgoing, mut input) = events::event(Some("rejected"), CANARY, "POISON");
    outgoing.headers.push(traceparent(51));
    input.expected = Expected::DeadLetter("aligner_rejected");
    records.push((outgoing, input));
    records
}

#[test]
fn no_text_of_users_reaches_logs_metrics_or_traces_even_at_the_most_talkative_level() {
    let collector = Collector::start();
    let server = Completions::start();
    server.fail_on("POISON", 400);
    let story = Story::new(Kafka::shared(), "canary", 1).with(|config| {
        config
            .corrected_by(&server)
            .set(&["aligner", "remote", "api_key"], "secretcanary")
            .set(&["telemetry", "log_level"], "trace")
            .set(&["telemetry", "otlp_endpoint"], collector.url())
    });
    story.oracle.send(records());
    let mut connector = Connector::ready(&story.name, &story.config);
    story.oracle.settled(LIMIT);
    wait::until("metrics of what was done", LIMIT, || {
        connector
            .metric("aligner_records_total", &["disposition=\"dead_lettered\""])
            .is_some_and(|count| count >= 4.0)
    });
    let metrics = connector.get("/metrics").expect("the service listens").body;
    let ready = connector.get("/readyz").expect("the service listens").body;
    assert!(connector.sigterm().success());
    let log = connector.logs();
    for (place, text) in [("log", &log), ("metrics", &metrics), ("readyz", &ready)] {
        for secret in [CANARY, "secretcanary", "POISON"] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} is in the {place}: {line:?}");
        }
    }
    // What came to the collector proves that the search would have found something.
    assert!(collector.received() > 0, "no traces came");
    assert!(collector.holds(&story.name), "traces name the connector");
    for said in [
        "service.version",
        "error.type",
        "wrong_type",
        "aligner_rejected",
    ] {
        assert!(collector.holds(said), "traces say {said}");
    }
    for secret in [CANARY, "secretcanary", "POISON"] {
        assert!(!collector.holds(secret), "{secret} is in the traces");
    }
}

#[test]
fn a_tokenizer_that_panics_on_a_text_says_where_and_nothing_of_the_text() {
    let folder = Scratch::new("panics");
    let fixture = workspace().join("connector/engine/tests/fixtures/llama2");
    for file in ["config.json", "generation_config.json", "model.safetensors"] {
        fs::copy(fixture.join(file), folder.path().join(file)).expect("copied");
    }
    let tokenizer = fs::read(fixture.join("tokenizer.json")).expect("readable");
    let mut tokenizer: Value = serde_json::from_slice(&tokenizer).expect("JSON");
    // A trie of 128 units, outside of which the first byte of "ä" is looked for: Rust says which it was.
    let trie = format!("AAIA{}", "AAAA".repeat(171));
    tokenizer["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": trie});
    folder.file("tokenizer.json", tokenizer.to_string());
    let model = folder.path().display().to_string();
    let event = json!({"question": "What is it?", "answer": format!("{CANARY} ä")});
    let done = call_with(&["correct", "--model", &model], event.to_string()).expect_code(1);
    assert_eq!(done.records()[0]["reason"], "aligner_rejected");
    let told: Vec<_> = done
        .stderr
        .lines()
        .filter(|line| line.contains(" panicked at "))
        .collect();
    assert!(!told.is_empty(), "{}", done.stderr);
    for line in told {
        assert!(
            line.ends_with(": its message is left out, because it may quote a text"),
            "{line}"
        );
    }
    for text in [CANARY, "index out of bounds"] {
        assert!(!done.stderr.contains(text), "{}", done.stderr);
    }
}
