//! Each planted lie is found, and the truth passes.

use std::collections::BTreeMap;

use aligner_tests::{
    client::Record,
    events,
    ledger::{Expected, Input, Ledger, Output, Position},
};
use serde_json::{Value, json};

/// CRC-32 of it is even, so that the `marker` Aligner marks it.
const MARKED_ID: &str = "123456789";
/// CRC-32 of it is odd.
const PLAIN_ID: &str = "a";

struct Books {
    ledger: Ledger,
    read: i64,
}

impl Books {
    /// Books with two inputs of partition 0: the first is marked, the second is not.
    fn new() -> Self {
        let mut ledger = Ledger::default();
        ledger.inputs([(at(0), input(MARKED_ID)), (at(1), input(PLAIN_ID))]);
        Self { ledger, read: 0 }
    }

    fn read(&mut self, output: Output, key: &str, value: &Value) {
        self.read += 1;
        self.ledger.observe(
            output,
            &Record {
                topic: "out".into(),
                partition: 0,
                offset: self.read,
                key: Some(key.as_bytes().to_vec()),
                value: Some(value.to_string().into_bytes()),
                headers: Vec::new(),
                timestamp: None,
            },
        );
    }

    fn read_truth(&mut self) {
        self.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
        self.read(Output::Pair, MARKED_ID, &pair(0, MARKED_ID));
        self.read(Output::Correction, PLAIN_ID, &correction(1, PLAIN_ID));
    }

    #[track_caller]
    fn complain(mut self, about: &str) {
        self.ledger.close();
        let complaints = self.ledger.complaints().join("\n");
        assert!(
            complaints.contains(about),
            "{about:?} is not in {complaints:?}"
        );
    }
}

fn at(offset: i64) -> Position {
    Position {
        topic: "in".into(),
        partition: 0,
        offset,
    }
}

fn input(id: &str) -> Input {
    events::event(Some(id), "why?", "because").1
}

fn correction(offset: i64, id: &str) -> Value {
    let marked = id == MARKED_ID;
    json!({
        "correction_id": format!("c{offset}"),
        "event_id": id,
        "question": "why?",
        "answer": "because",
        "correction": if marked { "because [marked]" } else { "because" },
        "disposition": if marked { "corrected" } else { "unchanged" },
        "reason": marked.then_some("extended"),
        "similarity": 0.5,
        "unchanged_logprob": null,
        "mean_logprob": null,
        "upstream_model": null,
        "aligner_name": "marker",
        "aligner_revision": "builtin-1",
        "template_hash": "",
        "source_topic": "in",
        "source_partition": 0,
        "source_offset": offset,
        "prompt_tokens": 0,
        "correction_tokens": 0,
        "queue_ms": 0,
        "inference_ms": 0,
        "corrected_at": 0,
        "proposal": null,
    })
}

fn pair(offset: i64, id: &str) -> Value {
    json!({
        "correction_id": format!("c{offset}"),
        "event_id": id,
        "prompt": "why?",
        "chosen": "because [marked]",
        "rejected": "because",
        "source_topic": "in",
        "source_partition": 0,
        "source_offset": offset,
    })
}

#[test]
fn the_truth_passes() {
    let mut books = Books::new();
    books.read_truth();
    books
        .ledger
        .check_committed("in", &BTreeMap::from([(0, 2)]), true);
    books.ledger.close();
    assert_eq!(books.ledger.complaints(), &[] as &[String]);
    assert_eq!(books.ledger.missing_count(), 0);
    assert_eq!(
        books.ledger.dispositions(),
        &BTreeMap::from([("corrected".to_owned(), 1), ("unchanged".to_owned(), 1)])
    );
}

#[test]
fn outputs_that_are_read_before_their_input_is_noted_are_judged_then() {
    let mut ledger = Ledger::default();
    ledger.inputs([(at(0), input(MARKED_ID))]);
    let mut books = Books { ledger, read: 0 };
    books.read_truth();
    assert_eq!(books.ledger.missing_count(), 0);
    books.ledger.inputs([(at(1), input(PLAIN_ID))]);
    assert_eq!(books.ledger.missing_count(), 0);
    books.ledger.close();
    assert_eq!(books.ledger.complaints(), &[] as &[String]);
}

#[test]
fn a_lost_record_is_found() {
    let mut books = Books::new();
    books.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
    books.read(Output::Pair, MARKED_ID, &pair(0, MARKED_ID));
    books.complain("1 of 2 inputs have no output, the first of them in-0-1 (I1)");
}

#[test]
fn another_reader_has_only_to_find_what_is_missing() {
    let mut books = Books::new();
    books.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
    books.read(Output::Pair, MARKED_ID, &pair(0, MARKED_ID));
    let ledger = books.ledger.still_missing();
    let mut another = Books { ledger, read: 0 };
    assert_eq!(another.ledger.missing(), [at(1)]);
    another.read_truth();
    assert_eq!(another.ledger.missing_count(), 0);
    assert_eq!(books.ledger.missing(), [at(1)]);
}

#[test]
fn a_doubled_correction_is_found_on_the_same_and_on_another_partition() {
    let mut books = Books::new();
    books.read_truth();
    books.read(Output::Correction, PLAIN_ID, &correction(1, PLAIN_ID));
    books.complain("source offset 1 of partition 0 comes after 1 (I1, I3)");

    let mut books = Books::new();
    books.read_truth();
    books.ledger.observe(
        Output::Correction,
        &Record {
            topic: "out".into(),
            partition: 1,
            offset: 0,
            key: Some(PLAIN_ID.into()),
            value: Some(correction(1, PLAIN_ID).to_string().into_bytes()),
            headers: Vec::new(),
            timestamp: None,
        },
    );
    books.complain("in-0-1 has an output already (I1)");
}

#[test]
fn a_record_from_nowhere_is_found() {
    let mut books = Books::new();
    books.read_truth();
    books.read(Output::Correction, PLAIN_ID, &correction(7, PLAIN_ID));
    books.complain("it stems from in-0-7, which is no input (I1)");
}

#[test]
fn a_missing_a_superfluous_and_an_alien_pair_are_found() {
    let mut books = Books::new();
    books.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
    books.read(Output::Correction, PLAIN_ID, &correction(1, PLAIN_ID));
    books.complain("in-0-0 is corrected but has no pair (I2)");

    let mut books = Books::new();
    books.read_truth();
    books.read(Output::Pair, PLAIN_ID, &pair(1, PLAIN_ID));
    books.complain("in-0-1 has a pair but is not corrected (I2)");

    let mut books = Books::new();
    let mut alien = pair(0, MARKED_ID);
    alien["correction_id"] = json!("another");
    books.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
    books.read(Output::Pair, MARKED_ID, &alien);
    books.read(Output::Correction, PLAIN_ID, &correction(1, PLAIN_ID));
    books.complain("pair and correction differ in their id (I2)");
}

#[test]
fn disorder_within_a_source_partition_is_found() {
    let mut books = Books::new();
    books.read(Output::Correction, PLAIN_ID, &correction(1, PLAIN_ID));
    books.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
    books.read(Output::Pair, MARKED_ID, &pair(0, MARKED_ID));
    books.complain("source offset 0 of partition 0 comes after 1 (I1, I3)");
}

#[test]
fn a_changed_text_field_key_or_verdict_is_found() {
    for (field, lie) in [
        ("question", json!("what?")),
        ("answer", json!("becaus")),
        ("correction", json!("because [marked] [marked]")),
        ("event_id", json!("b")),
        ("disposition", json!("unchanged")),
    ] {
        let mut books = Books::new();
        let mut value = correction(0, MARKED_ID);
        value[field] = lie;
        books.read(Output::Correction, MARKED_ID, &value);
        books.complain(&format!("{field} is"));
    }
    let mut books = Books::new();
    books.read(Output::Correction, "another key", &correction(0, MARKED_ID));
    books.complain("key is another key, expected 123456789");

    let mut books = Books::new();
    let mut value = correction(0, MARKED_ID);
    value
        .as_object_mut()
        .expect("it is an object")
        .remove("upstream_model");
    books.read(Output::Correction, MARKED_ID, &value);
    books.complain("field upstream_model is absent");
}

#[test]
fn offsets_that_run_ahead_of_outputs_and_outputs_ahead_of_offsets_are_found() {
    let mut books = Books::new();
    books.read(Output::Correction, MARKED_ID, &correction(0, MARKED_ID));
    books
        .ledger
        .check_committed("in", &BTreeMap::from([(0, 2)]), false);
    books.complain("offset 2 is committed, but in-0-1 has no output (I4)");

    let mut books = Books::new();
    books.read_truth();
    books
        .ledger
        .check_committed("in", &BTreeMap::from([(0, 1)]), true);
    books.complain("in-0-1 has an output, but only offset 1 is committed (I4)");
}

#[test]
fn a_dead_letter_must_keep_its_bytes_and_name_its_cause() {
    let (_, broken) = events::broken(None, Some(b"{not json"), "invalid_json");
    let headers = |reason: &str| -> Vec<(String, Option<Vec<u8>>)> {
        [
            ("__connect.errors.topic", "in"),
            ("__connect.errors.partition", "0"),
            ("__connect.errors.offset", "0"),
            ("__connect.errors.stage", "VALUE_CONVERTER"),
            ("__connect.errors.connector.name", "moderation"),
            ("__connect.errors.exception.message", "not valid JSON"),
            ("aligner.reason", reason),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), Some(value.as_bytes().to_vec())))
        .collect()
    };
    let letter = |value: &[u8], reason: &str| Record {
        topic: "dead".into(),
        partition: 0,
        offset: 0,
        key: Some(b"in-0-0".to_vec()),
        value: Some(value.to_vec()),
        headers: headers(reason),
        timestamp: None,
    };
    for (record, expected, complaint) in [
        (
            letter(b"{not json", "invalid_json"),
            broken.expected.clone(),
            None,
        ),
        (
            letter(b"{", "invalid_json"),
            broken.expected.clone(),
            Some("value is {"),
        ),
        (
            letter(b"{not json", "missing_field"),
            broken.expected.clone(),
            Some("aligner.reason is \"missing_field\""),
        ),
        (
            letter(b"{not json", "invalid_json"),
            Expected::ByMarker,
            Some("in-0-0 is a dead letter (invalid_json: not valid JSON), ByMarker was expected"),
        ),
    ] {
        let mut ledger = Ledger::default();
        ledger.inputs([(
            at(0),
            Input {
                expected,
                ..broken.clone()
            },
        )]);
        ledger.observe(Output::DeadLetter, &record);
        match complaint {
            None => assert_eq!(ledger.complaints(), &[] as &[String]),
            Some(complaint) => assert!(
                ledger.complaints().join("\n").contains(complaint),
                "{complaint:?} is not in {:?}",
                ledger.complaints()
            ),
        }
    }
}
