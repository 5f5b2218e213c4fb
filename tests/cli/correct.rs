//! `correct`: JSON Lines in, JSON Lines out, one for each, in order.

use aligner_tests::{
    command::{call, call_with},
    ledger::{CORRECTION_FIELDS, MARK},
    scratch::Scratch,
};
use serde_json::{Value, json};

/// CRC-32 of it is even, so that the `marker` Aligner marks it.
const MARKED_ID: &str = "123456789";
/// CRC-32 of it is odd.
const PLAIN_ID: &str = "a";

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

#[test]
fn each_line_becomes_one_correction_in_order_with_every_field() {
    let input = lines(&[
        json!({"event_id": MARKED_ID, "question": "why?", "answer": "größer 日本 😀",
               "upstream_model": "m-1", "created_at": 1_780_000_000_000_i64,
               "conversation_id": "c", "user_id": "u", "metadata_json": "{\"a\":1}"}),
        json!({"question": "and?", "answer": "line one\nline two\t\"quoted\""}),
        json!({"event_id": PLAIN_ID, "question": "so?", "answer": "because"}),
    ]);
    let done = call_with(&["correct", "--model", "marker"], &input).expect_code(0);
    let records = done.records();
    assert_eq!(records.len(), 3);
    for record in &records {
        for field in CORRECTION_FIELDS {
            assert!(record.get(field).is_some(), "{field} is absent in {record}");
        }
        for field in ["source_topic", "source_partition", "source_offset"] {
            assert!(
                record[field].is_null(),
                "{field} has a value outside Kafka: {record}"
            );
        }
        assert_eq!(record["aligner_name"], "marker");
    }
    let [first, second, third] = &records[..] else {
        unreachable!("three records were counted");
    };
    assert_eq!(first["event_id"], MARKED_ID);
    assert_eq!(first["disposition"], "corrected");
    assert_eq!(first["correction"], format!("größer 日本 😀{MARK}"));
    assert_eq!(first["answer"], "größer 日本 😀");
    assert_eq!(first["upstream_model"], "m-1");
    assert_eq!(second["event_id"], "line-2");
    assert_eq!(second["answer"], "line one\nline two\t\"quoted\"");
    assert_eq!(third["disposition"], "unchanged");
    assert_eq!(third["correction"], "because");
    assert_eq!(third["upstream_model"], Value::Null);
}

#[test]
fn a_line_that_is_no_event_stands_in_its_place_and_the_exit_code_is_1() {
    let input = format!(
        "{}not json\n\n{}{{\"question\": \"q\"}}\n",
        json!({"event_id": "one", "question": "q", "answer": "a"}).to_string() + "\n",
        json!({"event_id": "four", "question": "q", "answer": "a"}).to_string() + "\n",
    );
    let done = call_with(&["correct", "--model", "marker-all"], input).expect_code(1);
    let records = done.records();
    let ends: Vec<_> = records
        .iter()
        .map(|record| {
            (
                record["event_id"].as_str().unwrap_or("?"),
                record["disposition"].as_str().unwrap_or("?"),
                record["reason"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        ends,
        [
            ("one", "corrected", None),
            ("line-2", "dead_lettered", Some("invalid_json")),
            ("four", "corrected", None),
            ("line-5", "dead_lettered", Some("missing_answer")),
        ]
    );
    for record in &records {
        for field in CORRECTION_FIELDS {
            assert!(record.get(field).is_some(), "{field} is absent in {record}");
        }
    }
}

#[test]
fn one_pair_comes_from_flags() {
    let done = call(&[
        "correct",
        "--model",
        "marker-all",
        "-q",
        "why?",
        "-a",
        "because",
    ]);
    let records = done.expect_code(0).records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["event_id"], "line-1");
    assert_eq!(records[0]["correction"], "because [marked]");
}

#[test]
fn files_are_read_and_written_and_stdout_stays_empty() {
    let scratch = Scratch::new("correct");
    let values: Vec<_> = (0..2_000)
        .map(|number| json!({"event_id": number.to_string(), "question": "q", "answer": "a"}))
        .collect();
    let input = scratch
        .file("in.jsonl", lines(&values))
        .display()
        .to_string();
    let output = scratch.path().join("out.jsonl").display().to_string();
    let done = call(&[
        "correct", "--model", "identity", "--input", &input, "--output", &output,
    ])
    .expect_code(0);
    assert_eq!(done.stdout, "");
    let written = std::fs::read_to_string(&output).expect("the output was written");
    let ids: Vec<_> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON Lines")["event_id"].clone())
        .collect();
    let expected: Vec<_> = (0..2_000).map(|number| json!(number.to_string())).collect();
    assert_eq!(ids, expected);
}

#[test]
fn dash_is_stdin_and_no_input_is_no_output() {
    let line = lines(&[json!({"question": "q", "answer": "a"})]);
    let done = call_with(&["correct", "--model", "marker", "--input", "-"], line).expect_code(0);
    assert_eq!(done.records().len(), 1);
    let done = call_with(&["correct", "--model", "marker"], "").expect_code(0);
    assert_eq!(done.stdout, "");
}

#[test]
fn a_missing_file_is_named() {
    let done = call(&[
        "correct",
        "--model",
        "marker",
        "--input",
        "/no/such/file.jsonl",
    ]);
    assert_ne!(done.code, 0);
    assert_eq!(done.stdout, "");
    assert!(
        done.stderr.contains("/no/such/file.jsonl"),
        "{}",
        done.stderr
    );
}

#[test]
fn text_shows_the_change_and_json_is_the_default_without_a_terminal() {
    let arguments = [
        "correct",
        "--model",
        "marker-all",
        "-q",
        "why?",
        "-a",
        "because",
    ];
    let json = call(&arguments).expect_code(0);
    json.records();
    let text = call(&[&arguments[..], &["--format", "text"]].concat()).expect_code(0);
    assert!(text.stdout.contains("[marked]"), "{}", text.stdout);
    assert!(serde_json::from_str::<Value>(&text.stdout).is_err());
}
