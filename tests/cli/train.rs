//! `train` and `eval`, from the bundled Aligner to one of the user's own.

use aligner_corpus::{Corpus, Kind, Split};
use aligner_tests::{command::call, scratch::Scratch};
use serde_json::Value;

/// Short answers with insults, which the bundled model mostly leaves.
fn triples(split: Split, count: usize) -> String {
    Corpus::new(5, split)
        .words(5, 25)
        .clean(0.0)
        .filter(|triple| triple.kind == Kind::Insult)
        .take(count)
        .map(|triple| serde_json::to_string(&triple).expect("triples are JSON") + "\n")
        .collect()
}

/// The one JSON object that a command printed.
fn report(stdout: &str) -> Value {
    serde_json::from_str(stdout).expect("one JSON object on stdout")
}

#[test]
fn training_goes_on_from_the_bundled_model_with_falling_validation_loss() {
    let scratch = Scratch::new("train");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    scratch.file("train.jsonl", triples(Split::Train, 80));
    scratch.file("validation.jsonl", triples(Split::Validation, 16));
    scratch.file(
        "recipe.json",
        r#"{"warmup_steps": 2, "validate_every_steps": 4, "batch_tokens": 768, "identity_share": 0,
            "learning_rate": 0.0003, "steps": 8}"#,
    );
    let (train, validation) = (path("train.jsonl"), path("validation.jsonl"));
    let (recipe, mine) = (path("recipe.json"), path("mine"));

    #[rustfmt::skip]
    let trained = call(&[
        "train", "--data", &train, "--validation", &validation, "--recipe", &recipe, "--output", &mine,
    ])
    .expect_code(0);
    let trained = report(&trained.stdout);
    let before = trained["first_validation_loss"].as_f64().expect("a loss");
    let after = trained["best_validation"]["loss"].as_f64().expect("a loss");
    assert!(after < 0.97 * before, "{trained}");

    #[rustfmt::skip]
    let compared = call(&[
        "eval", "--model", &mine, "--against", "bundled", "--data", &validation, "--json",
    ])
    .expect_code(0);
    let compared = report(&compared.stdout);
    assert!(compared["kinds"]["insult"].is_object(), "{compared}");
}
