//! The bundled model, loaded by transformers as it lies in the repository.

use std::{collections::BTreeMap, fs, process::Stdio};

use aligner_corpus::{Corpus, Split};
use aligner_tests::{command::call_with, scratch::Scratch};
use serde_json::{Value, json};

use crate::{bundled_model, path_text, script};

/// Prompts of every kind, long and short.
const PROMPTS: usize = 24;
const MOST_TOKENS: &str = "320";

fn by_id(records: Vec<Value>) -> BTreeMap<String, Value> {
    records
        .into_iter()
        .map(|record| {
            let id = record["event_id"].as_str().expect("an id").to_owned();
            (id, record["token_ids"].clone())
        })
        .collect()
}

#[test]
fn transformers_loads_the_bundled_model_unchanged_and_decodes_the_same_tokens() {
    let model = bundled_model();
    let model = path_text(&model);
    let prompts: String = Corpus::new(77, Split::Test)
        .take(PROMPTS)
        .map(|triple| {
            let prompt = format!(
                "<|question|>{}<|answer|>{}<|correction|>",
                triple.question, triple.answer
            );
            format!("{}\n", json!({"event_id": triple.id, "prompt": prompt}))
        })
        .collect();

    let scratch = Scratch::new("trainers");
    let input = scratch.file("prompts.jsonl", &prompts);
    let theirs = script("greedy.py")
        .args([model, MOST_TOKENS])
        .stdin(Stdio::from(fs::File::open(input).expect("just written")))
        .output()
        .expect("the interpreter starts");
    assert!(
        theirs.status.success(),
        "greedy.py: {}",
        String::from_utf8_lossy(&theirs.stderr)
    );
    let theirs: Vec<Value> = String::from_utf8(theirs.stdout)
        .expect("the script prints ASCII")
        .lines()
        .map(|line| serde_json::from_str(line).expect("the script prints JSON"))
        .collect();
    let theirs = by_id(theirs);

    let flags = ["--raw", "--dtype", "f32", "--max-new-tokens", MOST_TOKENS];
    let ours = call_with(
        &[&["correct", "--model", model], &flags[..]].concat(),
        prompts,
    )
    .expect_code(0)
    .records();
    let ours = by_id(ours);

    assert_eq!(ours.len(), PROMPTS);
    assert_eq!(ours, theirs);
    let long = ours
        .values()
        .filter(|ids| ids.as_array().is_some_and(|ids| ids.len() > 20));
    assert!(long.count() >= 3, "hardly anything was decoded: {ours:?}");
}
