//! The bundled Aligner masks keys in short answers: a key of forty characters is many tokens and one word, and
//! shall not make an answer look as if it were none of its language.

use aligner_tests::command::call_with;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";

/// Keys as services issue them: what each begins with, of what it is made, and how long that is. None is written
/// down here, since scanners for secrets would find it.
const SHAPES: [(&str, &str, usize); 8] = [
    ("sk-", LETTERS, 48),
    ("sk-proj-", LETTERS, 40),
    ("sk_live_", LETTERS, 24),
    ("ghp_", LETTERS, 36),
    ("AIza", LETTERS, 35),
    ("AKIA", LETTERS, 16),
    ("", HEX, 32),
    ("", LETTERS, 40),
];
const OF_EACH: usize = 4;

#[test]
fn keys_in_short_answers_are_masked_and_the_rest_stays() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let keys: Vec<String> = SHAPES
        .iter()
        .flat_map(|shape| [shape; OF_EACH])
        .map(|(begins, letters, length)| {
            let letters = letters.as_bytes();
            let any = |_| char::from(letters[random.random_range(0..letters.len())]);
            format!("{begins}{}", (0..*length).map(any).collect::<String>())
        })
        .collect();
    let answers: String = keys
        .iter()
        .map(|key| {
            let answer = format!("Set the API key to {key} and restart the service.");
            format!(
                "{}\n",
                json!({"question": "How do I set it up?", "answer": answer})
            )
        })
        .collect();
    let corrections = call_with(&["correct"], answers).expect_code(0).records();
    let masked = corrections
        .iter()
        .filter(|record| {
            record["correction"] == "Set the API key to [key removed] and restart the service."
        })
        .count();
    // It is a model. Before such words had tokens of their own, four of these were masked, and none of the long.
    assert!(masked * 10 >= keys.len() * 9, "{masked} of {}", keys.len());
    for (key, record) in keys.iter().zip(&corrections) {
        let kept = record["correction"].as_str().expect("a text");
        let whole_or_masked = !kept.contains(&key[..key.len() / 2]) || kept.contains(key.as_str());
        assert!(whole_or_masked, "half a key is left: {record}");
    }
}
