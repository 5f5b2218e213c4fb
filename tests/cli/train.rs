//! `train` and `eval`, from the bundled Aligner to one of the user's own.

use aligner_tests::{command::call, scratch::Scratch};
use serde_json::{Value, json};

const NOUNS: [&str; 16] = [
    "apple", "bridge", "candle", "desert", "engine", "forest", "garden", "harbour", "island",
    "jacket", "kettle", "ladder", "meadow", "needle", "orange", "pepper",
];

/// A rule of the house that the bundled model has never heard of: nobody is called folks.
fn triples(numbers: std::ops::Range<usize>) -> String {
    numbers
        .map(|number| {
            let (a, b) = (
                NOUNS[number % 16],
                NOUNS[(number / 16 + 5 * number + 3) % 16],
            );
            let answer = |folks: &str| format!("A {a} is not a {b}{folks}. It is older.");
            let triple = json!({
                "question": format!("Is a {a} a {b}?"),
                "answer": answer(", folks"),
                "correction": answer(""),
            });
            format!("{triple}\n")
        })
        .collect()
}

/// A rule that adds words which the bundled model's guard knows nothing of.
fn asking(numbers: std::ops::Range<usize>) -> String {
    triples(numbers)
        .lines()
        .map(|line| {
            let mut triple: Value = serde_json::from_str(line).expect("JSON");
            let answer = triple["answer"].as_str().expect("text");
            triple["correction"] = format!("{answer} Kindly verify with our librarian.").into();
            format!("{triple}\n")
        })
        .collect()
}

/// The one JSON object that a command printed.
fn report(stdout: &str) -> Value {
    serde_json::from_str(stdout).expect("one JSON object on stdout")
}

/// Teaches the bundled model a rule: what the run reported, the file of the sixteen triples that
/// were held out, and the folder of the new Aligner.
fn learn(
    scratch: &Scratch,
    rule: fn(std::ops::Range<usize>) -> String,
    recipe: &str,
    name: &str,
) -> (Value, String, String) {
    let path = |name: &str| scratch.path().join(name).display().to_string();
    scratch.file("train.jsonl", rule(0..80));
    scratch.file("validation.jsonl", rule(80..96));
    scratch.file("recipe.json", recipe);
    let (train, validation) = (path("train.jsonl"), path("validation.jsonl"));
    let (recipe, output) = (path("recipe.json"), path(name));
    #[rustfmt::skip]
    let trained = call(&[
        "train", "--data", &train, "--validation", &validation, "--recipe", &recipe, "--output", &output,
    ])
    .expect_code(0);
    (report(&trained.stdout), validation, output)
}

#[test]
fn eighty_examples_teach_the_bundled_model_a_rule_of_the_house() {
    let scratch = Scratch::new("train");
    let recipe = r#"{"warmup_steps": 2, "validate_every_steps": 4, "batch_tokens": 768, "identity_share": 0,
            "learning_rate": 0.0003, "steps": 8}"#;
    let (trained, validation, mine) = learn(&scratch, triples, recipe, "mine");
    let before = trained["first_validation_loss"].as_f64().expect("a loss");
    let after = trained["best_validation"]["loss"].as_f64().expect("a loss");
    assert!(after < 0.5 * before, "{trained}");

    #[rustfmt::skip]
    let compared = call(&[
        "eval", "--model", &mine, "--against", "bundled", "--data", &validation, "--json",
    ])
    .expect_code(0);
    let compared = report(&compared.stdout);
    // `a` is the one that was trained.
    assert_eq!(compared["kinds"]["faulty"]["winner"], "a", "{compared}");
}

#[test]
fn what_a_rule_adds_passes_the_guard_of_the_aligner_that_learnt_it() {
    let scratch = Scratch::new("train-adding");
    let recipe = r#"{"warmup_steps": 2, "validate_every_steps": 8, "batch_tokens": 768, "identity_share": 0,
            "learning_rate": 0.001, "steps": 24}"#;
    let (trained, validation, mine) = learn(&scratch, asking, recipe, "librarian");
    let delivered = trained["delivered"].as_f64();
    assert!(delivered > Some(0.5), "{trained}");

    // What the run reports is what the connector delivers.
    let evaluated =
        call(&["eval", "--model", &mine, "--data", &validation, "--json"]).expect_code(0);
    let evaluated = report(&evaluated.stdout);
    assert_eq!(evaluated["aligner"]["name"], "librarian");
    let exact = evaluated["all"]["faulty"]["exact"]["share"].as_f64();
    assert!(
        (exact.expect("a share") - delivered.expect("a share")).abs() < 0.07,
        "{exact:?} of the corrections are delivered, and the run said {delivered:?}"
    );
}
