//! Preference pairs, taken by a trainer after the one step that `docs/retraining.md` has between.

use std::{collections::BTreeSet, fs, path::Path};

use aligner_corpus::{Corpus, Kind, Split};
use aligner_tests::{
    command::call_with,
    scratch::{Scratch, workspace},
};
use serde_json::{Value, json};

use crate::{bundled_model, path_text, script};

/// Answers with a fault, most of which the bundled Aligner corrects.
const ANSWERS: usize = 40;
/// Of four pairs each: after nine or ten all were seen, and their order no longer decides.
const STEPS: usize = 12;
/// By so many bytes, and a few more, datasets decides on the types of columns.
const FIRST_BLOCK: usize = 10 << 20;

/// Of each pair the three texts that trainers read, and of equal ones the first: what the document
/// does with jq and sort.
fn three_texts(pairs: &str) -> String {
    let rows: BTreeSet<String> = pairs
        .lines()
        .map(|line| {
            let pair: Value = serde_json::from_str(line).expect("pairs are JSON Lines");
            let [prompt, chosen, rejected] = ["prompt", "chosen", "rejected"].map(|key| &pair[key]);
            json!({"prompt": prompt, "chosen": chosen, "rejected": rejected}).to_string()
        })
        .collect();
    rows.into_iter().map(|row| row + "\n").collect()
}

/// What datasets makes of a file, or what it says.
fn loaded(rows: &Path, cache: &Path) -> Result<Value, String> {
    let done = script("load.py")
        .args([rows, cache])
        .output()
        .expect("the interpreter starts");
    if done.status.success() {
        Ok(serde_json::from_slice(&done.stdout).expect("the script prints JSON"))
    } else {
        Err(String::from_utf8_lossy(&done.stderr).into_owned())
    }
}

#[test]
fn the_document_makes_the_rows_that_are_tried_here() {
    let document = fs::read_to_string(workspace().join("docs/retraining.md"))
        .expect("the document is in the repository");
    let step = "| {prompt, chosen, rejected}' pairs.jsonl | LC_ALL=C sort -u > train.jsonl";
    assert!(document.contains(step), "{step}");
}

#[test]
fn pairs_that_name_no_model_at_first_load_after_that_step_and_equal_ones_once() {
    const NAMELESS: usize = 700;
    let answer = format!("{}end", "word ".repeat(1_600));
    let event = |id: usize, question: usize, upstream_model: Option<&str>| {
        let event = json!({
            "event_id": format!("e{id}"), "question": format!("q{question}"), "answer": answer,
            "upstream_model": upstream_model,
        });
        format!("{event}\n")
    };
    let mut answers: String = (0..NAMELESS).map(|id| event(id, id, None)).collect();
    // The last question comes twice, and is answered alike.
    answers += &event(NAMELESS, NAMELESS, Some("m-1"));
    answers += &event(NAMELESS + 1, NAMELESS, Some("m-1"));
    let scratch = Scratch::new("trainers");
    let (written, cache) = (
        scratch.path().join("pairs.jsonl"),
        scratch.path().join("cache"),
    );
    call_with(
        &[
            "correct",
            "--model",
            "marker-all",
            "--pairs",
            path_text(&written),
        ],
        answers,
    )
    .expect_code(0);
    let pairs = fs::read_to_string(&written).expect("pairs were written");
    assert_eq!(pairs.lines().count(), NAMELESS + 2);
    let first_name = pairs.find(r#""upstream_model":"m-1""#);
    assert!(first_name.expect("the last pairs have it") > FIRST_BLOCK + FIRST_BLOCK / 20);

    let said = loaded(&written, &cache).expect_err("the step would be for nothing");
    assert!(said.contains("Couldn't cast array"), "{said}");
    let rows = scratch.file("train.jsonl", three_texts(&pairs));
    let told = loaded(&rows, &cache).expect("texts alone load");
    assert_eq!(told["columns"], json!(["chosen", "prompt", "rejected"]));
    let count = |part: &str| told[part].as_u64().expect("a number of rows");
    assert_eq!(count("train") + count("test"), NAMELESS as u64 + 1);
    assert!(count("test") >= 35, "{told}");
}

#[test]
fn trl_trains_on_pairs_after_that_step() {
    let answers: String = Corpus::new(78, Split::Train)
        .filter(|triple| triple.kind != Kind::Clean)
        .take(ANSWERS)
        .map(|triple| {
            let event = json!({
                "event_id": triple.id, "question": triple.question, "answer": triple.answer,
            });
            format!("{event}\n")
        })
        .collect();
    let scratch = Scratch::new("trainers");
    let pairs = scratch.path().join("pairs.jsonl");
    let corrected = call_with(&["correct", "--pairs", path_text(&pairs)], answers)
        .expect_code(0)
        .records()
        .iter()
        .filter(|record| record["disposition"] == "corrected")
        .count();
    assert!(corrected > ANSWERS / 2, "{corrected} of {ANSWERS}");
    let written = fs::read_to_string(&pairs).expect("pairs were written");
    let rows = three_texts(&written);
    let file = scratch.file("train.jsonl", &rows);

    let trained = script("preference.py")
        .args([&bundled_model(), &file, &scratch.path().join("trained")])
        .arg(STEPS.to_string())
        .output()
        .expect("the interpreter starts");
    let said = String::from_utf8_lossy(&trained.stderr);
    assert!(trained.status.success(), "preference.py: {said}");
    let told: Value = serde_json::from_slice(&trained.stdout).expect("the script prints JSON");
    assert_eq!(told["rows"], rows.lines().count());
    let losses: Vec<f64> = told["losses"]
        .as_array()
        .expect("a loss for each step")
        .iter()
        .map(|loss| loss.as_f64().expect("a number"))
        .collect();
    assert_eq!(losses.len(), STEPS);
    // Untrained, a policy prefers what its reference prefers: the loss is ln 2.
    assert!((losses[0] - 2_f64.ln()).abs() < 1e-3, "{losses:?}");
    // Each step has a few pairs of its own: one loss alone hangs on which.
    let last = &losses[STEPS / 2..];
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    assert!(mean < losses[0] / 2.0, "{losses:?}");
}
