//! What `correct` wrote, as training data: an answer that nobody judged is no example of a good one.

use aligner_tests::{
    command::{Done, call, call_in, call_with},
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

/// `train` for one step, which succeeds.
fn train_a_step(scratch: &Scratch, data: &str, validation: &str) -> Done {
    let file = |name: &str, text: &str| scratch.file(name, text).display().to_string();
    let data = file("data.jsonl", data);
    let validation = file("validation.jsonl", validation);
    let output = scratch.path().join("mine").display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "train", "--data", &data, "--validation", &validation, "--output", &output,
        "--steps", "1", "--identity-share", "0",
    ]);
    done.expect_code(0)
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
    let done = train_a_step(&scratch, &typed, &validation);
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
        let done = train_a_step(&scratch, &corrected.stdout, &judged);
        let said = done.stderr.contains(warning);
        assert_eq!(said, warned, "{model}: {}", done.stderr);
    }
}
