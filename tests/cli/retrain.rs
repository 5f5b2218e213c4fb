//! What `correct` wrote, as training data: an answer that nobody judged is no example of a good one.

use std::{fs, process::Command};

use aligner_tests::{
    command::{Done, call, call_in, call_with},
    scratch::{Scratch, workspace},
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
    assert_eq!(outcome["skipped_undecided"], 2, "{outcome}");
    let said = "2 rows were skipped: bypassed or dead-lettered";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    assert!(!done.stderr.contains("max_tokens"), "{}", done.stderr);
}

#[test]
fn corrections_alone_hold_what_their_pairs_hold_and_what_to_leave_alone() {
    let scratch = Scratch::new("retrain-corrections");
    // Of these ids half are even to the marker.
    let events: String = (0..8)
        .map(|number| {
            let event = json!({
                "event_id": format!("e{number}"), "question": "Which one is it?",
                "answer": format!("It is number {number}."),
            });
            format!("{event}\n")
        })
        .collect();
    let pairs = scratch.path().join("pairs.jsonl").display().to_string();
    #[rustfmt::skip]
    let done = call_with(&["correct", "--model", "marker", "--pairs", &pairs], events)
        .expect_code(0);
    let records = done.records();
    let pairs = std::fs::read_to_string(&pairs).expect("it was written");
    for pair in pairs.lines() {
        let pair: Value = serde_json::from_str(pair).expect("one JSON object");
        let of_pair = |record: &&Value| record["correction_id"] == pair["correction_id"];
        let record = records.iter().find(of_pair).expect("has the pair's row");
        assert_eq!(record["question"], pair["prompt"]);
        assert_eq!(record["answer"], pair["rejected"]);
        assert_eq!(record["correction"], pair["chosen"]);
    }
    assert_eq!(pairs.lines().count(), 4, "{pairs}");

    let judged = json!({"question": "why?", "answer": "so", "correction": "so"}).to_string();
    let done = train_a_step(&scratch, &done.stdout, &judged);
    let outcome: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(outcome["triples"], 8, "{outcome}");
    assert_eq!(outcome["clean_triples"], 4, "{outcome}");
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
fn all_rows_that_cannot_be_used_are_named_at_once_with_one_fix() {
    let scratch = Scratch::new("retrain-rows");
    let rows = [
        json!({"question": "why?", "answer": " ", "correction": "secret"}).to_string(),
        json!({"question": "why?", "answer": "so", "correction": "so"}).to_string(),
        "secret".to_owned(),
        json!({"prompt": "secret", "rejected": 7, "chosen": "secret"}).to_string(),
    ]
    .join("\n");
    let data = scratch.file("data.jsonl", rows).display().to_string();
    let blank = format!("{data}:1: key answer is blank");
    let broken = [
        format!("{data}:3: not JSON (expected value)"),
        format!("{data}:4: key rejected is a number, expected a string"),
    ];
    let output = scratch.path().join("mine").display().to_string();
    for (command, count) in [
        (["train", "--output", &output, "--data", &data], 3),
        // A blank answer can be measured.
        (["eval", "--model", "identity", "--data", &data], 2),
    ] {
        let done = call(&command).expect_code(1);
        let told = format!("error: {count} of 4 rows cannot be used\n");
        assert!(done.stderr.contains(&told), "{}", done.stderr);
        assert_eq!(done.stderr.contains(&blank), count == 3, "{}", done.stderr);
        for row in &broken {
            assert!(done.stderr.contains(row), "{row}: {}", done.stderr);
        }
        assert_eq!(done.stderr.matches("fix: ").count(), 1, "{}", done.stderr);
        assert!(!done.stderr.contains("secret"), "{}", done.stderr);
    }
    assert!(!scratch.path().join("mine").exists(), "nothing is written");
}

#[test]
fn conversations_are_trained_on_and_measured_by_their_last_question() {
    let scratch = Scratch::new("retrain-messages");
    let said = |role: &str, content: &str| json!({"role": role, "content": content});
    let pair = |prompt: Vec<Value>| {
        let pair = json!({
            "prompt": prompt,
            "chosen": [said("assistant", "It is open.")],
            "rejected": [said("assistant", "It is open, fool.")],
        });
        format!("{pair}\n")
    };
    let question = said("user", "Is it open?");
    let whole = pair(vec![said("system", "Be brief."), question.clone()]);
    let rows = [pair(vec![question]), whole].concat();
    let line = "of 1 rows the question is the last message of the user alone";

    let judged = json!({"question": "why?", "answer": "so", "correction": "so"}).to_string();
    let done = train_a_step(&scratch, &rows, &judged);
    let outcome: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    let counts = ["triples", "clean_triples", "shortened"].map(|key| outcome[key].clone());
    assert_eq!(counts, [2, 0, 1], "{outcome}");
    assert!(done.stderr.contains(line), "{}", done.stderr);

    let data = scratch.file("pairs.jsonl", rows).display().to_string();
    let done = call(&["eval", "--model", "identity", "--data", &data, "--json"]).expect_code(0);
    let report: Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(report["all"]["faulty"]["exact"]["of"], 2, "{report}");
    assert!(done.stderr.contains(line), "{}", done.stderr);
    // One question, one answer, one correction.
    let digests = [0, 1].map(|row| report["verdicts"][row]["digest"].clone());
    assert_eq!(digests[0], digests[1], "{report}");
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

/// A script of `docs/retraining.md`, as somebody copies it from there, by its first line.
fn documented(first: &str) -> String {
    let document = fs::read_to_string(workspace().join("docs/retraining.md"))
        .expect("the document is in the repository");
    let lines = document.lines().skip_while(|line| *line != first);
    let script = lines.take_while(|line| *line != "```");
    script.map(|line| format!("{line}\n")).collect()
}

#[test]
fn conversations_become_prompts_of_plain_texts_and_those_with_calls_of_tools_are_left_out() {
    let scratch = Scratch::new("retrain-conversations");
    let parts = json!([
        {"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "x"}},
        "that", {"type": "text", "text": "this?"},
    ]);
    let plain = json!([
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": parts},
    ]);
    let calling = json!([
        {"role": "user", "content": "What is the time?"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "t", "type": "function"}]},
        {"role": "tool", "tool_call_id": "t", "content": "noon"},
    ]);
    let anthropic = json!([
        {"role": "user", "content": "What is the time?"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "clock"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]},
    ]);
    // A log that has the answer in its list, and one whose last turn is an image.
    let answered = json!([
        {"role": "user", "content": "this?"}, {"role": "assistant", "content": " worse\n"},
    ]);
    let image = json!([
        {"role": "user", "content": "this?"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
    ]);
    let another = json!([
        {"role": "user", "content": "this?"}, {"role": "assistant", "content": "another"},
    ]);
    let correction = |id: &str, disposition: &str, messages: &Value| {
        let correction = json!({
            "correction_id": id, "disposition": disposition, "metadata_json": messages.to_string(),
        });
        format!("{correction}\n")
    };
    let corrections = [
        correction("plain", "corrected", &plain),
        correction("calling", "corrected", &calling),
        correction("anthropic", "corrected", &anthropic),
        correction("answered", "corrected", &answered),
        correction("image", "corrected", &image),
        correction("another", "corrected", &another),
        correction("well", "unchanged", &plain),
    ];
    // What somebody writes in place of the dots may be dots.
    let ids = [
        "plain",
        "calling",
        "anthropic",
        "answered",
        "image",
        "another",
    ];
    let pairs = ids.map(|id| {
        let pair = json!({
            "correction_id": id, "upstream_model": "…", "aligner_revision": "…1",
            "prompt": "this?", "chosen": "better", "rejected": "worse",
        });
        format!("{pair}\n")
    });
    scratch.file("corrections.jsonl", corrections.concat());
    scratch.file("pairs.jsonl", pairs.concat());
    let script = scratch.file("conversations.py", documented("# conversations.py"));
    let done = Command::new("python3")
        .arg(&script)
        .current_dir(scratch.path())
        .output()
        .expect("python3 starts");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.starts_with("4 of 6 pairs left out: "), "{said}");
    let rows: Vec<Value> = String::from_utf8_lossy(&done.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect();
    let pair = |prompt: Value| {
        json!({
            "prompt": prompt,
            "chosen": [{"role": "assistant", "content": "better"}],
            "rejected": [{"role": "assistant", "content": "worse"}],
        })
    };
    assert_eq!(
        rows,
        [
            pair(json!([
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "See\nthat\nthis?"},
            ])),
            pair(json!([{"role": "user", "content": "this?"}])),
        ]
    );
}
