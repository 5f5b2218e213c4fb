//! What others make of our checkpoints: Hugging Face transformers, from the Python package index.
//!
//! `make test-trainers` runs it; it is no part of `make test`, because it installs PyTorch.
//! `ALIGNER_TRAINERS_PYTHON` names an interpreter that has `requirements.txt` already.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use aligner_corpus::{Corpus, Split};
use aligner_tests::{
    command::call_with,
    scratch::{Scratch, downloads, workspace},
};
use serde_json::{Value, json};

/// Prompts of every kind, long and short.
const PROMPTS: usize = 24;
const MOST_TOKENS: &str = "320";

/// An interpreter with transformers, installed once.
fn python() -> PathBuf {
    if let Some(given) = std::env::var_os("ALIGNER_TRAINERS_PYTHON") {
        return given.into();
    }
    let (folder, wanted) = (
        downloads().join("trainers"),
        workspace().join("tests/trainers/requirements.txt"),
    );
    let (stamp, interpreter) = (folder.join(".complete"), folder.join("bin/python"));
    let wanted_text = fs::read(&wanted).expect("the requirements are in the repository");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted_text) {
        eprintln!(
            "installing PyTorch and transformers into {}",
            folder.display()
        );
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder));
        run(Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&wanted));
        fs::write(stamp, wanted_text).expect("the environment is writable");
    }
    interpreter
}

fn run(command: &mut Command) {
    let status = command.status().expect("python3 starts");
    assert!(status.success(), "{command:?}: {status}");
}

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
    let model = workspace().join("connector/bundled/model");
    let model = model.to_str().expect("an ordinary path");
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
    let theirs = Command::new(python())
        .arg(workspace().join("tests/trainers/greedy.py"))
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
