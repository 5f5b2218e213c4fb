//! `correct`: JSON Lines in, JSON Lines out, one for each, in order.

use std::{
    os::fd::{FromRawFd, OwnedFd},
    process::{Command, Stdio},
    time::Duration,
};

use aligner_tests::{
    command::{call, call_in, call_with},
    completions::{Completions, MODEL},
    connector::binary,
    ledger::{CORRECTION_FIELDS, MARK},
    process::{Process, Signal},
    scratch::Scratch,
    wait,
};
use serde_json::{Value, json};

use crate::interrupted::{after_first_line, unread_on_one_thread};

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
            ("one", "corrected", Some("extended")),
            ("line-2", "dead_lettered", Some("invalid_json")),
            ("four", "corrected", Some("extended")),
            ("line-5", "dead_lettered", Some("missing_answer")),
        ]
    );
    for record in &records {
        for field in CORRECTION_FIELDS {
            assert!(record.get(field).is_some(), "{field} is absent in {record}");
        }
    }
}

#[rustfmt::skip]
const ONE_PAIR: [&str; 7] = ["correct", "--model", "marker-all", "-q", "why?", "-a", "because"];

#[test]
fn an_event_without_an_event_id_is_called_by_its_id_whatever_became_of_it() {
    let digits = "123456789012345678901234567890";
    let mut input = lines(&[
        json!({"id": "a-1", "question": "q", "answer": "a"}),
        json!({"id": "other", "event_id": "e", "question": "q", "answer": "a"}),
        json!({"id": "b-2", "event_id": null, "question": "q"}),
        json!({"id": {"no": "id"}, "question": "q", "answer": "a"}),
    ]);
    input.push_str(&format!(
        "{{\"id\": {digits}, \"question\": \"q\", \"answer\": \"a\"}}\n"
    ));
    let scratch = Scratch::new("correct-ids");
    let pairs = scratch.path().join("pairs.jsonl").display().to_string();
    let flags = ["correct", "--model", "marker-all", "--pairs", &pairs];
    let done = call_with(&flags, input).expect_code(1);
    let records = done.records();
    let ids = |records: &[Value]| -> Vec<String> {
        let ids = records.iter().map(|record| record["event_id"].as_str());
        ids.map(|id| id.unwrap_or("?").to_owned()).collect()
    };
    assert_eq!(ids(&records), ["a-1", "e", "b-2", "line-4", digits]);
    assert_eq!(records[2]["reason"], "missing_answer");
    let pairs = std::fs::read_to_string(pairs).expect("readable");
    let pairs: Vec<Value> = pairs
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(ids(&pairs), ["a-1", "e", "line-4", digits]);
}

#[test]
fn one_pair_comes_from_flags() {
    let done = call(&ONE_PAIR);
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
fn a_mapping_is_tried_on_a_file_of_logs() {
    let scratch = Scratch::new("correct");
    let config = scratch.file(
        "mapped.yaml",
        "input:\n  fields:\n    question: /messages/role=user/content\n    answer: \
         /choices/0/message/content\n    event_id: /id\n    created_at: /time\n",
    );
    let log = json!({
        "id": 7,
        "time": "2026-04-09T23:00:17Z",
        "messages": [{"role": "user", "content": "How are you?"}],
        "choices": [{"message": {"role": "assistant", "content": "Fine."}}],
    });
    let config = config.display().to_string();
    let done = call_with(
        &["correct", "--model", "identity", "--config", &config],
        lines(&[log]),
    )
    .expect_code(0);
    let record = &done.records()[0];
    assert_eq!(record["event_id"], "7");
    assert_eq!(record["question"], "How are you?");
    assert_eq!(record["answer"], "Fine.");
    assert_eq!(record["created_at"], 1_775_775_617_000_i64);
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
    let done = done.expect_code(1);
    assert_eq!(done.stdout, "");
    let said = "--input /no/such/file.jsonl cannot be opened: No such file or directory (os error \
                2); check the path";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn text_shows_the_change_and_json_is_the_default_without_a_terminal() {
    let json = call(&ONE_PAIR).expect_code(0);
    json.records();
    let text = call(&[&ONE_PAIR[..], &["--format", "text"]].concat()).expect_code(0);
    assert!(text.stdout.contains("[marked]"), "{}", text.stdout);
    assert!(serde_json::from_str::<Value>(&text.stdout).is_err());
}

/// A terminal: the end for a command, and the one that keeps it open.
pub fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    // SAFETY: both places outlive the call; name, modes and size are not asked for.
    let opened = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            std::ptr::null(),
        )
    };
    assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the call has just opened both, and nobody else has them.
    unsafe { (OwnedFd::from_raw_fd(theirs), OwnedFd::from_raw_fd(ours)) }
}

#[test]
fn a_file_has_no_colours_though_stdout_is_a_terminal() {
    let scratch = Scratch::new("correct-colours");
    let output = scratch.path().join("c.txt");
    let (theirs, _ours) = terminal();
    let status = Command::new(binary())
        .args(["correct", "--model", "marker-all", "-q", "why?"])
        .args(["-a", "because", "--format", "text", "--output"])
        .arg(&output)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(theirs)
        .status()
        .expect("the binary can be started");
    assert!(status.success(), "{status}");
    let written = std::fs::read_to_string(&output).expect("it was written");
    assert!(written.contains("[marked]+}"), "{written:?}");
    assert!(!written.contains('\u{1b}'), "{written:?}");
}

#[test]
fn a_dead_lettered_line_keeps_every_field_that_can_be_read() {
    let input = lines(&[
        json!({"event_id": "x", "question": "q", "user_id": "u", "created_at": 7}),
        json!({"event_id": "", "question": 1, "answer": "a", "created_at": 1_780_000_000_000_000_i64}),
        json!({"question": "q", "answer": "a", "created_at": 1_780_000_000}),
        json!(["no object"]),
    ]);
    let records = call_with(&["correct", "--model", "marker-all"], input)
        .expect_code(1)
        .records();
    let kept: Vec<_> = records
        .iter()
        .map(|record| {
            ["event_id", "question", "answer", "user_id", "created_at"].map(|field| &record[field])
        })
        .collect();
    let null = &Value::Null;
    assert_eq!(
        kept,
        [
            [&json!("x"), &json!("q"), null, &json!("u"), &json!(7)],
            [&json!("line-2"), null, &json!("a"), null, null],
            [&json!("line-3"), &json!("q"), &json!("a"), null, null],
            [&json!("line-4"), null, null, null, null],
        ]
    );
}

#[test]
fn blank_lines_a_byte_order_mark_and_a_missing_last_line_break_are_no_mistakes() {
    let line = r#"{"question":"q","answer":"a"}"#;
    let input = format!("\u{feff}{line}\r\n\r\n  \t\n{line}");
    let records = call_with(&["correct", "--model", "marker-all"], input)
        .expect_code(0)
        .records();
    let ids: Vec<_> = records.iter().map(|record| &record["event_id"]).collect();
    assert_eq!(ids, ["line-1", "line-4"]);
}

#[test]
fn the_output_may_not_be_the_input_by_any_name() {
    let scratch = Scratch::new("correct");
    let text = lines(&[json!({"question": "q", "answer": "a"})]);
    let input = scratch.file("in.jsonl", &text).display().to_string();
    let other = scratch.path().join("link.jsonl").display().to_string();
    std::fs::hard_link(&input, &other).expect("one folder");
    for output in [&input, &other] {
        let done = call(&[
            "correct", "--model", "marker", "--input", &input, "--output", output,
        ])
        .expect_code(2);
        assert!(done.stderr.contains(output), "{}", done.stderr);
        let left = std::fs::read_to_string(&input).expect("the input is still there");
        assert_eq!(left, text);
    }
}

#[test]
fn pairs_are_written_beside_corrections_exactly_for_what_was_corrected() {
    let scratch = Scratch::new("correct");
    let file = scratch.path().join("pairs.jsonl").display().to_string();
    let input = lines(&[
        json!({"event_id": MARKED_ID, "question": "why?", "answer": "so", "upstream_model": "m-1"}),
        json!({"event_id": PLAIN_ID, "question": "and?", "answer": "that"}),
        json!({"question": "an answer is missing"}),
    ]);
    let done = call_with(&["correct", "--model", "marker", "--pairs", &file], &input);
    let corrections = done.expect_code(1).records();
    let pairs = std::fs::read_to_string(&file).expect("pairs were written");
    let pairs: Vec<Value> = pairs
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    assert_eq!(corrections.len(), 3);
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    let (pair, correction) = (&pairs[0], &corrections[0]);
    assert_eq!(correction["disposition"], "corrected");
    for (ours, theirs) in [
        ("prompt", "question"),
        ("chosen", "correction"),
        ("rejected", "answer"),
        ("correction_id", "correction_id"),
        ("event_id", "event_id"),
        ("similarity", "similarity"),
        ("unchanged_logprob", "unchanged_logprob"),
        ("mean_logprob", "mean_logprob"),
        ("upstream_model", "upstream_model"),
        ("aligner_revision", "aligner_revision"),
        ("source_offset", "source_offset"),
    ] {
        assert_eq!(pair[ours], correction[theirs], "{ours}");
    }
}

#[test]
fn pairs_may_not_go_where_corrections_go_or_answers_come_from() {
    let scratch = Scratch::new("correct");
    let text = lines(&[json!({"question": "q", "answer": "a"})]);
    let input = scratch.file("in.jsonl", &text).display().to_string();
    let output = scratch.path().join("out.jsonl").display().to_string();
    for (pairs, option) in [(&input, "--input"), (&output, "--output")] {
        #[rustfmt::skip]
        let done = call(&[
            "correct", "--model", "marker", "--input", &input, "--output", &output, "--pairs", pairs,
        ])
        .expect_code(2);
        let said = format!("--pairs {pairs} is the file of {option}, too");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
    }
    let left = std::fs::read_to_string(&input).expect("the input is still there");
    assert_eq!(left, text);
}

#[test]
fn an_input_that_cannot_be_read_is_1() {
    let scratch = Scratch::new("correct");
    let folder = scratch.path().display().to_string();
    let done = call(&["correct", "--model", "marker", "--input", &folder]).expect_code(1);
    assert_eq!(done.stdout, "");
    let said = format!("--input {folder} is a folder: name a file in it");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
}

#[test]
fn an_output_that_cannot_be_made_is_named_with_its_option() {
    let scratch = Scratch::new("correct");
    let output = scratch.path().join("absent/out").display().to_string();
    #[rustfmt::skip]
    let done = call(&["correct", "--model", "marker", "-q", "q", "-a", "a", "--output", &output]);
    let said = format!("--output {output} cannot be written");
    let done = done.expect_code(1);
    assert!(done.stderr.contains(&said), "{}", done.stderr);
    assert!(done.stderr.contains("make its folder"), "{}", done.stderr);
}

#[test]
fn nothing_of_a_json_array_is_corrected_and_its_conversion_is_told() {
    let scratch = Scratch::new("correct");
    let output = scratch.file("out.jsonl", "kept");
    let events = json!([{"question": "q", "answer": "a"}, {"question": "q", "answer": "b"}]);
    let pretty = serde_json::to_string_pretty(&events).expect("JSON");
    let last_alone = "\u{feff} \n[{\"question\":\"q\",\"answer\":\"a\"},\n{\"question\":\"q\",\
                      \"answer\":\"b\"}\n]\n";
    for array in [&events.to_string()[..], &pretty, last_alone] {
        let input = scratch.file("in.json", array).display().to_string();
        let output = output.display().to_string();
        for (arguments, name) in [
            (&["--input", &input, "--output", &output][..], &input[..]),
            (&["--output", &output][..], "stdin"),
        ] {
            let arguments = [&["correct", "--model", "marker-all"][..], arguments].concat();
            let done = call_with(&arguments, array).expect_code(2);
            assert_eq!(done.stdout, "");
            assert!(done.stderr.contains(name), "{}", done.stderr);
            assert!(done.stderr.contains("`jq -c '.[]'`"), "{}", done.stderr);
        }
    }
    let kept = std::fs::read_to_string(&output).expect("the output is still there");
    assert_eq!(kept, "kept");
}

#[test]
fn ids_of_corrections_tell_files_apart_and_are_the_same_again() {
    let ids = |text: &str| -> Vec<String> {
        call_with(&["correct", "--model", "marker-all"], text)
            .records()
            .iter()
            .map(|record| {
                let id = &record["correction_id"];
                id.as_str().expect("an id").to_owned()
            })
            .collect()
    };
    let one = lines(&[
        json!({"question": "q", "answer": "a"}),
        json!({"question": "q"}),
    ]);
    let other = lines(&[
        json!({"question": "q", "answer": "b"}),
        json!({"question": "another"}),
    ]);
    let first = ids(&one);
    assert_eq!(first, ids(&one));
    let all: std::collections::BTreeSet<_> = first.into_iter().chain(ids(&other)).collect();
    assert_eq!(all.len(), 4, "{all:?}");
}

#[test]
fn an_interrupted_run_is_130_and_says_what_was_done_and_that_lines_are_missing() {
    let line = lines(&[json!({"question": "q", "answer": "a"})]);
    let ended = after_first_line(&["correct", "--model", "marker-all"], &line);
    assert!(ended.first.contains("[marked]"), "{}", ended.first);
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let said = "interrupted: 1 lines were done (1 corrected), the others are not in the output";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn a_second_interruption_ends_a_run_on_one_core_whose_output_nobody_reads() {
    let scratch = Scratch::new("correct-unread");
    let long = json!({"question": "q", "answer": "word ".repeat(400)});
    let input = scratch.file("in.jsonl", lines(&vec![long; 200]));
    let input = input.display().to_string();
    let status = unread_on_one_thread(&["correct", "--model", "marker-all", "--input", &input]);
    assert_eq!(status.code(), Some(130), "{status:?}");
}

#[test]
fn a_run_that_is_interrupted_or_terminated_does_not_wait_for_what_the_aligner_has() {
    const LIMIT: Duration = Duration::from_secs(60);
    for signal in [Signal::Int, Signal::Term] {
        let server = Completions::start();
        server.hold();
        let scratch = Scratch::new("correct-interrupted");
        let line = lines(&[json!({"question": "q", "answer": "a"})]);
        let input = scratch.file("in.jsonl", line);
        let mut command = Command::new(binary());
        command
            .args(["correct", "--model", "remote", "--input"])
            .arg(&input)
            .env("ALIGNER__ALIGNER__REMOTE__URL", server.url())
            .env("ALIGNER__ALIGNER__REMOTE__MODEL", MODEL);
        let mut process = Process::start("correct", command, &scratch.path().join("log"));
        wait::until("the line's call", LIMIT, || server.waiting() > 0);
        process.signal(signal);
        // By itself the call would go on for ten minutes.
        let status = process.wait(LIMIT);
        let said = process.log();
        assert_eq!(status.code(), Some(130), "{signal:?}: {said}");
        let end = "interrupted: 0 lines were done, ";
        assert!(said.contains(end), "{signal:?}: {said}");
        server.release();
    }
}

#[test]
fn a_remote_aligner_that_is_not_there_is_waited_for_so_long_and_then_named() {
    // Nobody listens there: the port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let url = format!("http://127.0.0.1:{port}/v1");
    let environment = [
        ("ALIGNER__ALIGNER__REMOTE__URL", url.as_str()),
        ("ALIGNER__ALIGNER__REMOTE__MODEL", MODEL),
        ("ALIGNER__PIPELINE__MAX_OUTAGE_MS", "2500"),
    ];
    let line = lines(&[json!({"question": "q", "answer": "a"})]);
    let done = call_in(&environment, &["correct", "--model", "remote"], line).expect_code(1);
    for said in [
        "waiting for the completions server",
        "no completions server within 2.5s",
        "aligner.remote.url",
        &url,
    ] {
        assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
    }
    assert_eq!(done.stdout, "");
}

#[test]
fn a_remote_aligner_that_answers_nothing_is_waited_for_aloud_and_not_for_ever() {
    let server = Completions::start();
    server.fail_on("", 503);
    let url = server.url();
    let environment = [
        ("ALIGNER__ALIGNER__REMOTE__URL", url.as_str()),
        ("ALIGNER__ALIGNER__REMOTE__MODEL", MODEL),
    ];
    let line = lines(&[json!({"event_id": "one", "question": "q", "answer": "a"})]);
    let done = call_in(&environment, &["correct", "--model", "remote"], line).expect_code(1);
    assert!(
        done.stderr.contains("unanswered") && done.stderr.contains("again_in_ms"),
        "nothing says that it waits: {}",
        done.stderr
    );
    assert!(
        done.took < std::time::Duration::from_secs(120),
        "{:?}",
        done.took
    );
    let records = done.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["disposition"], "dead_lettered");
    assert_eq!(records[0]["reason"], "aligner_unavailable");
}
