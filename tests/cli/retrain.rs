//! What `correct` wrote, as training data: an answer that nobody judged is no example of a good one.

use aligner_tests::{
    command::{call, call_in, call_with},
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

#[test]
fn corrections_of_the_aligner_that_is_trained_are_counted_in_a_warning() {
    let events: String = ["An apple is a fruit.", "A bridge leads over a river."]
        .map(|answer| format!("{}\n", json!({"question": "What is it?", "answer": answer})))
        .concat();
    let warning = "2 of 2 rows were corrected by the model that is trained";
    let judged = json!({"question": "why?", "answer": "so", "correction": "so"}).to_string();
    for (model, warned) in [("bundled", true), ("marker-all", false)] {
        let scratch = Scratch::new("retrain-own");
        let corrected = call_with(&["correct", "--model", model], &events).expect_code(0);
        let data = scratch.file("own.jsonl", corrected.stdout);
        let data = data.display().to_string();
        let validation = scratch.file("validation.jsonl", &judged);
        let validation = validation.display().to_string();
        let output = scratch.path().join("mine").display().to_string();
        #[rustfmt::skip]
        let done = call(&[
            "train", "--data", &data, "--validation", &validation, "--output", &output,
            "--steps", "1", "--identity-share", "0",
        ])
        .expect_code(0);
        let said = done.stderr.contains(warning);
        assert_eq!(said, warned, "{model}: {}", done.stderr);
    }
}
