//! Fits the guard of the base to what the trained model was taught.
//!
//! A guard says what its model is fit for; taken over as it is, it would bypass what the new one
//! has learnt to do. Limits are loosened, never tightened, and only those that the base has.

use aligner::guard::{Confidence, FREE_CHARACTERS, Guard, words};
use aligner_evaluation::Triple;

use crate::examples::{is_clean, wanted};

/// Share of what was taught, and of what came out right, that the guard is to let through.
const LET_THROUGH: f64 = 0.95;

/// Before training: the words that corrections bring along, their lengths, and whether they can
/// be held to the answer's words at all.
pub(crate) fn to_corrections(guard: &mut Guard, training: &[Triple], held_out: &[Triple]) {
    let taught = corrected(training);
    for (triple, correction) in &taught {
        let given = [words(&triple.question), words(&triple.answer)].concat();
        let brought = words(correction)
            .into_iter()
            .filter(|word| !given.contains(word));
        guard.known_words.extend(brought);
        let long = correction.chars().count();
        let short = triple.answer.chars().count().max(1);
        let ratio = long as f32 / short as f32;
        // The guard adds the free ones again: a rounding apart, it would bypass the very longest.
        let beyond = long.saturating_sub(FREE_CHARACTERS as usize) as f32 / short as f32
            + ratio * f32::EPSILON;
        guard.min_length_ratio = guard.min_length_ratio.map(|least| least.min(ratio));
        guard.max_length_ratio = guard.max_length_ratio.map(|most| most.max(beyond));
    }
    // Free rewriting brings other words each time: what was held out shows it.
    let unseen = if held_out.is_empty() {
        taught
    } else {
        corrected(held_out)
    };
    let passes = unseen
        .iter()
        .filter(|(triple, correction)| {
            guard
                .accept(&triple.question, &triple.answer, correction, None)
                .is_ok()
        })
        .count();
    if (passes as f64) < LET_THROUGH * unseen.len() as f64 {
        guard.max_novel_words = None;
        guard.max_displaced_words = None;
    }
}

/// The triples whose answer does not stand, each with its correction.
fn corrected(triples: &[Triple]) -> Vec<(&Triple, &str)> {
    triples
        .iter()
        .filter(|triple| !is_clean(triple))
        .map(|triple| (triple, wanted(triple)))
        .collect()
}

/// After training: how sure the model was of outputs that are exactly right.
pub(crate) fn to_right_outputs(guard: &mut Guard, right: &[Confidence]) {
    let least = |of: fn(&Confidence) -> f32| {
        let mut all: Vec<f32> = right.iter().map(of).collect();
        all.sort_by(f32::total_cmp);
        all.get((all.len() as f64 * (1.0 - LET_THROUGH)) as usize)
            .copied()
            .unwrap_or(f32::INFINITY)
    };
    let (mean, token) = (least(|c| c.mean_logprob), least(|c| c.min_logprob));
    guard.min_mean_logprob = guard.min_mean_logprob.map(|limit| limit.min(mean));
    guard.min_token_logprob = guard.min_token_logprob.map(|limit| limit.min(token));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triple(answer: &str, correction: &str) -> Triple {
        let json = serde_json::json!({
            "question": "Is it safe?", "answer": answer, "correction": correction,
        });
        aligner_evaluation::parse_triples(json.to_string().as_bytes(), "test")
            .expect("a triple")
            .remove(0)
    }

    fn strict() -> Guard {
        serde_json::from_str(
            r#"{"max_novel_words": 0.0, "max_displaced_words": 0.04, "max_length_ratio": 1.2,
                "min_length_ratio": 0.5, "min_mean_logprob": -0.01, "min_token_logprob": -1.0}"#,
        )
        .expect("a guard")
    }

    #[test]
    fn words_and_lengths_of_corrections_are_let_through() {
        let mut guard = strict();
        let asks = triple("Yes, it is.", "Yes, it is. Ask a person if unsure.");
        let cuts = triple("Yes. And so on and so forth, as ever.", "Yes.");
        let held_out = [triple("No, never.", "No, never. Ask a person if unsure.")];
        to_corrections(&mut guard, &[asks, cuts.clone()], &held_out);
        assert_eq!(guard.max_novel_words, Some(0.0), "still held to words");
        let accept = |triple: &Triple| {
            let correction = triple.correction.as_deref().expect("one");
            guard.accept(&triple.question, &triple.answer, correction, None)
        };
        assert_eq!(accept(&held_out[0]), Ok(()));
        assert_eq!(accept(&cuts), Ok(()));
        assert!(accept(&triple("No.", "No. Somebody else said so.")).is_err());
    }

    #[test]
    fn the_longest_correction_is_let_through_whatever_its_length() {
        for long in 221..900 {
            let wordy = triple("No.", &"x".repeat(long));
            let mut guard = strict();
            to_corrections(&mut guard, std::slice::from_ref(&wordy), &[]);
            let correction = wordy.correction.as_deref().expect("one");
            let accepted = guard.accept(&wordy.question, &wordy.answer, correction, None);
            assert_eq!(accepted, Ok(()), "{long}");
        }
    }

    #[test]
    fn free_rewriting_is_not_held_to_words() {
        let mut guard = strict();
        let training = [triple("Yes.", "It depends on the ladder.")];
        let held_out = [triple("No.", "Nobody has measured that bridge yet.")];
        to_corrections(&mut guard, &training, &held_out);
        assert_eq!(guard.max_novel_words, None);
        assert_eq!(guard.max_displaced_words, None);
    }

    #[test]
    fn limits_of_confidence_are_loosened_and_never_tightened() {
        let sure = |mean_logprob, min_logprob| Confidence {
            mean_logprob,
            min_logprob,
            unchanged_logprob: None,
        };
        let mut guard = strict();
        let right: Vec<Confidence> = (0..100).map(|i| sure(-0.001 * i as f32, -0.02)).collect();
        to_right_outputs(&mut guard, &right);
        assert_eq!(guard.min_mean_logprob, Some(-0.001 * 94.0));
        assert_eq!(guard.min_token_logprob, Some(-1.0));
        let before = guard.clone();
        to_right_outputs(&mut guard, &[]);
        assert_eq!(guard, before, "nothing came out right: nothing is known");
        to_right_outputs(&mut Guard::default(), &right);
    }
}
