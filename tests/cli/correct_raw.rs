//! `correct --raw`: prompts in, completions out, with the promises that `correct` makes of its lines.

use std::{
    fs::File,
    process::{Command, Stdio},
};

use aligner_tests::{command::call_with, connector::binary, scratch::Scratch};
use serde_json::{Value, json};

use crate::interrupted::after_first_line;

/// Few tokens are enough where nobody looks at the text.
const FLAGS: [&str; 4] = ["correct", "--raw", "--max-new-tokens", "4"];

fn prompt(text: &str) -> String {
    format!("{}\n", json!({"prompt": text}))
}

#[test]
fn each_line_has_its_completion_or_its_error_in_its_place() {
    let mut input =
        format!("\u{feff}{}\n", json!({"event_id": "one", "prompt": "why?"})).into_bytes();
    input.extend(b"{\"prompt\":\"\xff\"}\n\n{\"prompt\":\"half \\ud83d\"}\r\nno prompt\n");
    input.extend(format!("{}\n", json!({"id": 6, "prompt": "so?"})).bytes());
    input.extend(prompt("last").trim_end().bytes());
    let records = call_with(&FLAGS, input).expect_code(1).records();
    let told: Vec<(&Value, bool, &str)> = records
        .iter()
        .map(|record| {
            let error = record["error"].as_str().unwrap_or_default();
            (&record["event_id"], record["completion"].is_string(), error)
        })
        .collect();
    let not_utf8 = "byte 11 of 14 is not UTF-8: write the line in UTF-8";
    let not_json = told.get(3).map_or("", |told| told.2);
    assert!(
        not_json.starts_with("not a JSON object with `prompt`: "),
        "{not_json}"
    );
    let id = |id: &str| json!(id);
    assert_eq!(
        told,
        [
            (&id("one"), true, ""),
            (&id("line-2"), false, not_utf8),
            (&id("line-4"), true, ""),
            (&id("line-5"), false, not_json),
            (&id("6"), true, ""),
            (&id("line-7"), true, ""),
        ]
    );
}

#[test]
fn raw_answers_come_while_more_lines_may_follow_and_an_interrupt_leaves_whole_ones() {
    let ended = after_first_line(&FLAGS, &prompt("why?"));
    let answer: Value = serde_json::from_str(&ended.first).expect("a whole line");
    assert_eq!(answer["event_id"], "line-1");
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    let said = "interrupted: 1 lines were done, the others are not in the output";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn raw_ends_quietly_where_nobody_reads_it_and_names_the_output_that_is_full() {
    let scratch = Scratch::new("correct-raw");
    let input = scratch.file("in.jsonl", prompt("why?"));
    let raw = |stdout: Stdio| {
        let output = Command::new(binary())
            .args(FLAGS)
            .arg("--input")
            .arg(&input)
            .stdin(Stdio::null())
            .stdout(stdout)
            .output()
            .expect("the binary can be started");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    let (reader, closed) = std::io::pipe().expect("there are pipes");
    drop(reader);
    assert_eq!(raw(closed.into()), (Some(0), String::new()));
    let full = File::options().write(true).open("/dev/full");
    let (code, said) = raw(full.expect("linux has one").into());
    assert_eq!(code, Some(1), "{said}");
    let why = "error: stdout cannot be written: No space left on device (os error 28); 0 lines";
    assert!(said.contains(why), "{said}");
}
