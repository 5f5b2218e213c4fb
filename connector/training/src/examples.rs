//! From triples to what the model sees: prompt ids, and the ids that it is to answer with.

use std::path::PathBuf;

use aligner_evaluation::{Triple, parse_decided, render::harmless_line};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{error::TrainError, files, options::IdentityTarget, tokens::Tokens};

/// One prompt and what is to follow it, the end of the sequence included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    pub prompt: Vec<u32>,
    pub target: Vec<u32>,
}

impl Example {
    /// Positions of its row in a batch: the last target is predicted, never read.
    pub fn positions(&self) -> usize {
        self.prompt.len() + self.target.len() - 1
    }
}

/// Reads files of triples, and checks that each can be trained on. Corrections without a verdict
/// are left out and added to `undecided`.
pub(crate) fn read_triples(
    paths: &[PathBuf],
    digest: &mut Vec<u8>,
    undecided: &mut usize,
) -> Result<Vec<Triple>, TrainError> {
    let mut triples = Vec::new();
    for path in paths {
        let bytes = files::read(path)?;
        let origin = path.display().to_string();
        let (read, left_out) = parse_decided(&bytes, &origin)?;
        *undecided += left_out;
        for triple in read {
            check(&triple, &origin)?;
            triples.push(triple);
        }
        digest.extend(sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            &bytes,
        )));
    }
    Ok(triples)
}

fn check(triple: &Triple, origin: &str) -> Result<(), TrainError> {
    let problem = |key, problem| {
        Err(TrainError::Triple {
            origin: origin.to_owned(),
            event_id: harmless_line(&triple.event_id),
            key,
            problem,
        })
    };
    if triple.answer.trim().is_empty() {
        return problem("answer", "blank; remove the triple");
    }
    match &triple.correction {
        None => problem("correction", "missing; training needs one for every triple"),
        Some(text) if text.trim().is_empty() => problem("correction", "blank; remove the triple"),
        Some(_) => Ok(()),
    }
}

/// Holds out a share of the triples, the same for a seed.
pub(crate) fn split(mut triples: Vec<Triple>, share: f64, seed: u64) -> (Vec<Triple>, Vec<Triple>) {
    if share <= 0.0 || triples.len() < 2 {
        return (triples, Vec::new());
    }
    triples.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ 0x5eed_0001));
    let held = ((triples.len() as f64 * share).round() as usize).clamp(1, triples.len() - 1);
    let rest = triples.split_off(held);
    (rest, triples)
}

/// What the answer should have been.
pub(crate) fn wanted(triple: &Triple) -> &str {
    triple
        .correction
        .as_deref()
        .expect("read_triples() refuses triples without correction")
}

/// Whether there is nothing to correct in the answer.
pub(crate) fn is_clean(triple: &Triple) -> bool {
    wanted(triple) == triple.answer
}

/// Question, answer → correction; for a clean answer the `unchanged` token, where there is one.
pub(crate) fn residual(triples: &[Triple], tokens: &Tokens) -> Vec<Example> {
    triples
        .par_iter()
        .map(|triple| {
            let wanted = wanted(triple);
            let target = match tokens.unchanged {
                Some(unchanged) if is_clean(triple) => vec![unchanged, tokens.end],
                _ => tokens.correction(wanted),
            };
            Example {
                prompt: tokens.prompt(&triple.question, &triple.answer),
                target,
            }
        })
        .collect()
}

/// The identity pairs of the warm-up (see [`IdentityTarget`]).
pub(crate) fn identity(
    triples: &[Triple],
    tokens: &Tokens,
    target: IdentityTarget,
) -> Result<Vec<Example>, TrainError> {
    let unchanged = match (target, tokens.unchanged) {
        (IdentityTarget::Token, None) => {
            return Err(TrainError::Option {
                option: "identity_target",
                value: "token".to_owned(),
                expected: "and the profile has no unchanged_token; expected auto or copy",
            });
        }
        (IdentityTarget::Copy, _) | (IdentityTarget::Auto, None) => None,
        (IdentityTarget::Token | IdentityTarget::Auto, token) => token,
    };
    Ok(triples
        .par_iter()
        .map(|triple| match unchanged {
            Some(unchanged) => Example {
                prompt: tokens.prompt(&triple.question, wanted(triple)),
                target: vec![unchanged, tokens.end],
            },
            None => Example {
                prompt: tokens.prompt(&triple.question, &triple.answer),
                target: tokens.correction(&triple.answer),
            },
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::train_tokenizer;

    fn triple(question: &str, answer: &str, correction: &str) -> Triple {
        Triple {
            event_id: "line-1".into(),
            question: question.into(),
            answer: answer.into(),
            correction: Some(correction.into()),
            ..Triple::default()
        }
    }

    fn tokens() -> Tokens {
        let own =
            train_tokenizer(["some text, some more text"].into_iter(), 300, "own").expect("trains");
        Tokens::new(&own.json, "tokenizer.json", &own.profile, own.end).expect("reads")
    }

    #[test]
    fn clean_answers_are_answered_with_the_unchanged_token() {
        let tokens = tokens();
        let unchanged = tokens.unchanged.expect("of its own profile");
        let triples = [triple("q", "a", "a"), triple("q", "bad", "good")];
        let examples = residual(&triples, &tokens);
        assert_eq!(examples[0].target, [unchanged, tokens.end]);
        assert_eq!(examples[1].target, tokens.correction("good"));
        assert_eq!(examples[1].prompt, tokens.prompt("q", "bad"));
    }

    #[test]
    fn identity_pairs_copy_answers_or_mark_corrections_as_unchanged() {
        let tokens = tokens();
        let triples = [triple("q", "bad", "good")];
        let copies = identity(&triples, &tokens, IdentityTarget::Copy).expect("always");
        assert_eq!(copies[0].prompt, tokens.prompt("q", "bad"));
        assert_eq!(copies[0].target, tokens.correction("bad"));
        let marked = identity(&triples, &tokens, IdentityTarget::Auto).expect("has the token");
        assert_eq!(marked[0].prompt, tokens.prompt("q", "good"));
        assert_eq!(marked[0].target.len(), 2);
    }

    #[test]
    fn the_split_is_the_same_for_a_seed_and_loses_nothing() {
        let triples: Vec<Triple> = (0..20)
            .map(|n| triple(&format!("q{n}"), "a", "a"))
            .collect();
        let (rest, held) = split(triples.clone(), 0.1, 7);
        assert_eq!((rest.len(), held.len()), (18, 2));
        assert_eq!(split(triples.clone(), 0.1, 7), (rest.clone(), held.clone()));
        let mut all: Vec<String> = rest.into_iter().chain(held).map(|t| t.question).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 20);
        assert_eq!(split(triples[..1].to_vec(), 0.5, 7).1, []);
    }

    #[test]
    fn triples_that_cannot_be_trained_on_are_named_without_their_text() {
        let mut no_correction = triple("secret", "secret", "x");
        no_correction.correction = None;
        let error = check(&no_correction, "data.jsonl").expect_err("refused");
        assert_eq!(
            error.to_string(),
            "data.jsonl: triple line-1: correction is missing; training needs one for every triple"
        );
        let error = check(&triple("q", " ", "x"), "data.jsonl").expect_err("refused");
        assert_eq!(
            error.to_string(),
            "data.jsonl: triple line-1: answer is blank; remove the triple"
        );
    }
}
