//! What `correct` wrote, as training data: an answer that nobody judged is no example of a good one.

use aligner_tests::{
    command::{call, call_in},
    scratch::Scratch,
};
use serde_json::{Value, json};

/// Corrections of four answers, one of them bypassed and one dead-lettered.
fn corrections() -> String {
    let lines: String = [
        json!({"question": "why?", "answer": "so"}),
        json!({"question": "and?", "answer": "too long for the gate"}),
        json!({"question": "an answer is missing"}),
        json!({"question": "how?", "answer": "thus"}),
    ]
    .map(|event| format!("{event}\n"))
    .concat();
    let gate = [("ALIGNER__PIPELINE__MAX_ANSWER_CHARS", "10")];
    let done = call_in(&gate, &["correct", "--model", "marker-all"], lines).expect_code(1);
    let dispositions: Vec<_> = done
        .records()
        .iter()
        .map(|record| record["disposition"].clone())
        .collect();
    assert_eq!(
        dispositions,
        ["corrected", "bypassed", "dead_lettered", "corrected"]
    );
    done.stdout
}

#[test]
fn answers_without_a_verdict_are_skipped_and_counted() {
    let scratch = Scratch::new("retrain");
    let typed = corrections();
    let validation: String = typed
        .lines()
        .take(1)
        .map(|line| format!("{line}\n"))
        .collect();
    let data = scratch.file("typed.out", &typed).display().to_string();
    let validation = scratch.file("validation.out", validation);
    let validation = validation.display().to_string();
    let output = scratch.path().join("mine").display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "train", "--data", &data, "--validation", &validation, "--output", &output,
        "--steps", "1", "--identity-share", "0",
    ])
    .expect_code(0);
    let outcome: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(outcome["triples"], 2, "{outcome}");
    assert_eq!(outcome["skipped"], 2, "{outcome}");
}

#[test]
fn data_without_a_verdict_in_it_is_refused() {
    let scratch = Scratch::new("retrain");
    let unjudged: String = corrections()
        .lines()
        .filter(|line| !line.contains("\"corrected\""))
        .map(|line| format!("{line}\n"))
        .collect();
    let data = scratch.file("typed.out", unjudged).display().to_string();
    let output = scratch.path().join("mine").display().to_string();
    let done = call(&["train", "--data", &data, "--output", &output]).expect_code(1);
    let said = "each of 2 rows was bypassed or dead-lettered";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}
