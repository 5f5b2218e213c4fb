//! From triples to what the model sees: prompt ids, and the ids that it is to answer with.

use aligner_evaluation::Triple;
use aligner_tokens::EncodeError;
use rayon::prelude::*;

use crate::{error::TrainError, options::IdentityTarget, tokens::Tokens};

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

/// What the answer should have been.
pub(crate) fn wanted(triple: &Triple) -> &str {
    triple
        .correction
        .as_deref()
        .expect("Split::read() refuses triples without correction")
}

/// Whether there is nothing to correct in the answer. White space at the ends that the correction
/// has or lacks is nothing: the connector would not deliver it.
pub(crate) fn is_clean(triple: &Triple) -> bool {
    triple.keeps_answer()
}

/// Question, answer → correction; for a clean answer the `unchanged` token, where there is one.
pub(crate) fn residual(triples: &[Triple], tokens: &Tokens) -> Result<Vec<Example>, TrainError> {
    each(triples, |triple| {
        let target = match tokens.unchanged {
            Some(unchanged) if is_clean(triple) => vec![unchanged, tokens.end],
            _ => tokens.correction(wanted(triple))?,
        };
        Ok(Example {
            prompt: tokens.prompt(&triple.question, &triple.answer)?,
            target,
        })
    })
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
    each(triples, |triple| {
        Ok(match unchanged {
            Some(unchanged) => Example {
                prompt: tokens.prompt(&triple.question, wanted(triple))?,
                target: vec![unchanged, tokens.end],
            },
            None => Example {
                prompt: tokens.prompt(&triple.question, &triple.answer)?,
                target: tokens.correction(&triple.answer)?,
            },
        })
    })
}

/// Makes an example of each triple.
///
/// # Errors
///
/// The id of one that holds what the tokenizer refuses.
fn each(
    triples: &[Triple],
    example: impl Fn(&Triple) -> Result<Example, EncodeError> + Sync,
) -> Result<Vec<Example>, TrainError> {
    let examples = triples.par_iter().map(|triple| {
        example(triple).map_err(|source| TrainError::Refused {
            row: triple.event_id.clone(),
            source,
        })
    });
    examples.collect()
}

#[cfg(test)]
mod tests {
    use aligner::{Profile, prompt::Template};

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
        let triples = [
            triple("q", "a", "a"),
            triple("q", "bad", "good"),
            triple("q", "a\n", "a"),
            triple("q", "a b", "a  b"),
        ];
        let examples = residual(&triples, &tokens).expect("byte-level");
        assert_eq!(examples[0].target, [unchanged, tokens.end]);
        assert_eq!(
            examples[1].target,
            tokens.correction("good").expect("byte-level")
        );
        assert_eq!(
            examples[1].prompt,
            tokens.prompt("q", "bad").expect("byte-level")
        );
        // White space at the ends alone is no correction, and elsewhere it is.
        assert_eq!(examples[2].target, [unchanged, tokens.end]);
        assert_eq!(
            examples[3].target,
            tokens.correction("a  b").expect("byte-level")
        );
    }

    #[test]
    fn identity_pairs_copy_answers_or_mark_corrections_as_unchanged() {
        let tokens = tokens();
        let triples = [triple("q", "bad", "good")];
        let copies = identity(&triples, &tokens, IdentityTarget::Copy).expect("always");
        assert_eq!(
            copies[0].prompt,
            tokens.prompt("q", "bad").expect("byte-level")
        );
        assert_eq!(
            copies[0].target,
            tokens.correction("bad").expect("byte-level")
        );
        let marked = identity(&triples, &tokens, IdentityTarget::Auto).expect("has the token");
        assert_eq!(
            marked[0].prompt,
            tokens.prompt("q", "good").expect("byte-level")
        );
        assert_eq!(marked[0].target.len(), 2);
    }

    #[test]
    fn a_row_that_the_tokenizer_takes_not_is_named() {
        // A word that it does not know has no token, and there is none for such words.
        let json = serde_json::json!({
            "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": null, "decoder": null, "truncation": null, "padding": null,
            "model": {"type": "WordLevel", "vocab": {"good": 0, "bad": 1, "q": 2}, "unk_token": "none"},
        });
        let profile = Profile {
            template: Template::new("{question} {answer}").expect("both fields"),
            ..Profile::paper("mine")
        };
        let json = serde_json::to_vec(&json).expect("JSON");
        let tokens = Tokens::new(&json, "tokenizer.json", &profile, 0).expect("reads");
        let known = triple("q", "bad", "good");
        assert_eq!(
            residual(std::slice::from_ref(&known), &tokens)
                .expect("known words")
                .len(),
            1
        );
        let foreign = Triple {
            event_id: "line-2".into(),
            ..triple("q", "bad", "better")
        };
        let error = residual(&[known, foreign], &tokens).expect_err("an unknown word");
        assert!(
            error
                .to_string()
                .starts_with("the row line-2 cannot be trained on: "),
            "{error}"
        );
    }
}
