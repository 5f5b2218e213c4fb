//! Preference pairs, taken by a trainer as they were written.

use aligner_corpus::{Corpus, Kind, Split};
use aligner_tests::{command::call_with, scratch::Scratch};
use serde_json::{Value, json};

use crate::{bundled_model, path_text, script};

/// Answers with a fault, most of which the bundled Aligner corrects.
const ANSWERS: usize = 40;
const STEPS: usize = 6;

#[test]
fn trl_trains_on_pairs_as_they_were_written() {
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

    let trained = script("preference.py")
        .args([&bundled_model(), &pairs, &scratch.path().join("trained")])
        .arg(STEPS.to_string())
        .output()
        .expect("the interpreter starts");
    let said = String::from_utf8_lossy(&trained.stderr);
    assert!(trained.status.success(), "preference.py: {said}");
    let told: Value = serde_json::from_slice(&trained.stdout).expect("the script prints JSON");
    assert_eq!(told["rows"], corrected);
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
