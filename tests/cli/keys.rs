//! The bundled Aligner masks keys in short answers: a key of forty characters is many tokens and one word, and
//! shall not make an answer look as if it were none of its language.

use std::collections::BTreeMap;

use aligner_tests::command::call_with;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const CAPITALS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const SMALL: &str = "abcdefghijklmnopqrstuvwxyz";
const HEX: &str = "0123456789abcdef";
const DIGITS: &str = "123456789";

/// Parts of a key: what is always there, of what the next is made, and how long that is.
type Shape = &'static [(&'static str, &'static str, usize)];

/// Keys, numbers and addresses as they are issued. None is written down here, since scanners for secrets would
/// find it.
const SHAPES: [(&str, Shape); 15] = [
    ("sk-", &[("sk-", LETTERS, 48)]),
    ("sk-proj-", &[("sk-proj-", LETTERS, 40)]),
    ("sk-ant-", &[("sk-ant-api03-", LETTERS, 50)]),
    ("sk_live_", &[("sk_live_", LETTERS, 24)]),
    ("ghp_", &[("ghp_", LETTERS, 36)]),
    ("AIza", &[("AIza", LETTERS, 35)]),
    ("AKIA", &[("AKIA", CAPITALS, 16)]),
    ("AWS secret", &[("", LETTERS, 20), ("/", LETTERS, 19)]),
    ("xoxb-", &[("xoxb-", DIGITS, 12), ("-", LETTERS, 24)]),
    ("hex", &[("", HEX, 32)]),
    (
        "UUID",
        &[
            ("", HEX, 8),
            ("-", HEX, 4),
            ("-", HEX, 4),
            ("-", HEX, 4),
            ("-", HEX, 12),
        ],
    ),
    (
        "JWT",
        &[
            ("ey", LETTERS, 34),
            (".ey", LETTERS, 72),
            (".", LETTERS, 43),
        ],
    ),
    ("password", &[("", LETTERS, 10), ("!", DIGITS, 1)]),
    ("card", &[("", DIGITS, 16)]),
    (
        "e-mail",
        &[
            ("", SMALL, 8),
            (".okafor@uni-", SMALL, 5),
            (".edu.ng", SMALL, 0),
        ],
    ),
];
const OF_EACH: usize = 8;

#[test]
fn keys_in_short_answers_are_masked_and_the_rest_stays() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut any = |letters: &str| {
        let letters = letters.as_bytes();
        char::from(letters[random.random_range(0..letters.len())])
    };
    let mut keys = Vec::new();
    for (name, shape) in SHAPES {
        for _ in 0..OF_EACH {
            let mut key = String::new();
            for (begins, letters, length) in shape {
                key.push_str(begins);
                key.extend((0..*length).map(|_| any(letters)));
            }
            keys.push((name, key));
        }
    }
    let (before, after) = ("Set the API key to ", " and restart the service.");
    let answers: String = keys
        .iter()
        .map(|(_, key)| {
            let answer = format!("{before}{key}{after}");
            format!(
                "{}\n",
                json!({"question": "How do I set it up?", "answer": answer})
            )
        })
        .collect();
    let corrections = call_with(&["correct"], answers).expect_code(0).records();
    let mut masked: BTreeMap<&str, usize> = BTreeMap::new();
    for ((name, key), record) in keys.iter().zip(&corrections) {
        let correction = record["correction"].as_str().expect("a text");
        let rest_stays = correction.starts_with(before) && correction.ends_with(after);
        let is_masked = rest_stays && !correction.contains(&key[..key.len() / 2]);
        *masked.entry(name).or_default() += usize::from(is_masked);
    }
    eprintln!("masked, of {OF_EACH} each: {masked:?}");
    // It is a model: JWTs are beyond it. While these words counted like others, 26 were masked.
    let all: usize = masked.values().sum();
    assert!(all >= 104, "{all} of {}: {masked:?}", keys.len());
}
