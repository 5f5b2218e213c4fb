//! A real model and real tokenizers, which are fetched and never committed.
//!
//! `smollm2.json` holds what Hugging Face transformers 5.23 decodes greedily on the same file,
//! weights widened to f32. Its smallest gap between the two largest logits is 0.005.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use aligner_tests::{
    command::call_with,
    scratch::{downloads, workspace},
};
use aligner_tokens::Texts;
use serde_json::{Value, json};

/// A fetched file.
fn fetched(name: &str) -> PathBuf {
    static FETCHED: Once = Once::new();
    FETCHED.call_once(|| {
        let fetch = Command::new(workspace().join("tests/checkpoints/fetch.sh")).status();
        assert!(fetch.is_ok_and(|status| status.success()), "see above");
    });
    downloads().join("checkpoints").join(name)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Prompts of the reference, and what the model makes of them here.
fn completions(dtype: &str, new_tokens: &str) -> Vec<(Value, Value)> {
    let reference = workspace().join("tests/checkpoints/smollm2.json");
    let reference = fs::read_to_string(reference).expect("it is committed");
    let reference: Vec<Value> = serde_json::from_str(&reference).expect("JSON");
    let input: String = reference
        .iter()
        .map(|case| format!("{}\n", json!({"prompt": case["prompt"]})))
        .collect();
    let model = text(&fetched("smollm2.gguf"));
    let arguments = [
        "correct",
        "--raw",
        "--model",
        &model,
        "--dtype",
        dtype,
        "--max-new-tokens",
        new_tokens,
    ];
    let records = call_with(&arguments, input).expect_code(0).records();
    assert_eq!(records.len(), reference.len());
    reference.into_iter().zip(records).collect()
}

#[test]
fn smollm2_decodes_the_tokens_that_transformers_decodes() {
    for dtype in ["auto", "f32"] {
        for (wanted, got) in completions(dtype, "48") {
            assert_eq!(got["token_ids"], wanted["tokens"], "{dtype}: {got}");
        }
    }
}

#[test]
fn smollm2_answers_sensibly_in_int8_too() {
    let (_, answer) = completions("q8_0", "24").remove(0);
    let answer = answer["completion"].as_str().expect("a text");
    assert!(answer.contains("Paris"), "{answer}");
}

#[test]
fn real_tokenizers_give_every_text_back() {
    let texts = [
        "Hello, world! It's 12:30 — isn't it?",
        "  leading, trailing and   inner spaces  ",
        "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
        "日本語のテキスト、한국어, العربية, हिन्दी",
        "fn main() {\n\tprintln!(\"{}\", 1 + 1);\n}\n\n\n",
        "🦀👩‍👩‍👧 <eos> [INST] <|im_end|>",
    ];
    for family in ["llama2", "llama3_1", "gemini", "gemma3", "qwen3"] {
        let json = fs::read(fetched(&format!("{family}.json"))).expect("it was fetched");
        let tokenizer = Texts::from_json(&json).expect("it is a tokenizer.json");
        for text in texts {
            let ids = tokenizer.encode_plain(text).expect("encodes");
            let back = tokenizer.decode(&ids).expect("decodes");
            // SentencePiece puts a space before a text, and takes one away.
            assert_eq!(back.trim_start(), text.trim_start(), "{family}: {ids:?}");
        }
    }
}
