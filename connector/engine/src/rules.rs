//! What turns a request into a job, and decoded tokens into a verdict: template, limits, guard.

use std::sync::Arc;

use aligner::{
    AlignError, AlignRequest, Alignment, Decoding, Outcome, Profile, Timing, Usage,
    guard::{Confidence, without_long_pieces},
    reason::{self, Bypass},
    unjoined,
};
use aligner_tokens::{EncodeError, Texts};

use crate::{
    RawCompletion,
    draft::{Drafter, Mixture, Past},
    job::{End, Finished, Job, not_finite},
    penalty::Penalty,
    request::{Answer, Request, Text},
    sampler::Sampler,
};

/// All that turns a request into a job and its tokens into an outcome.
pub(crate) struct Rules {
    pub(crate) texts: Texts,
    /// What errors call the file that `texts` are encoded by.
    pub(crate) tokenizer_file: String,
    pub(crate) profile: Profile,
    pub(crate) decoding: Decoding,
    pub(crate) stop: Arc<[u32]>,
    pub(crate) unchanged: Option<u32>,
    pub(crate) context: usize,
    pub(crate) vocab: usize,
    /// The checkpoint's, if it has one.
    pub(crate) penalty: Option<Penalty>,
    /// What drafts are made from; none without speculation.
    pub(crate) past: Option<Arc<Past>>,
}

/// What became of a text.
pub(crate) enum Prompt {
    Tokens { tokens: Vec<u32>, expected: usize },
    Settled(Bypass),
}

fn rejected(error: EncodeError) -> AlignError {
    AlignError::Rejected(error.to_string())
}

impl Rules {
    /// Encodes a request, unless the guard or the context settles it first.
    pub(crate) fn prompt(&self, text: &Text) -> Result<Prompt, AlignError> {
        let (tokens, expected) = match text {
            Text::Raw(prompt) => (self.texts.encode_raw(prompt).map_err(rejected)?, 64),
            Text::Templated(AlignRequest {
                question, answer, ..
            }) => {
                let guard = &self.profile.guard;
                let count = |text| -> Result<u32, AlignError> {
                    let ids = self.texts.encode_plain(text).map_err(rejected)?;
                    Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
                };
                if question.len() + answer.len() > MOST_BYTES_PER_TOKEN * self.context {
                    return Ok(self.too_long(format!(
                        "question and answer have {} bytes",
                        question.len() + answer.len()
                    )));
                }
                if guard.counts_tokens() {
                    let admitted = guard.admit(answer, count(question)?, count(answer)?);
                    if let Err(bypass) = admitted {
                        let rest = (bypass.word == reason::UNFAMILIAR_TEXT)
                            .then(|| without_long_pieces(answer))
                            .flatten();
                        let fits = match rest {
                            Some(rest) => guard.admit(&rest, 0, count(&rest)?).is_ok(),
                            None => false,
                        };
                        if !fits {
                            return Ok(Prompt::Settled(bypass));
                        }
                    }
                }
                let pieces = self.profile.template.pieces(question, answer);
                let tokens = self.texts.encode_pieces(&pieces).map_err(rejected)?;
                // The output repeats about the answer.
                let expected = tokens.len() * answer.len() / (question.len() + answer.len()).max(1);
                (tokens, expected + 16)
            }
        };
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.vocab) {
            return Err(AlignError::Rejected(format!(
                "tokenizer.json gives token id {token}, but config.json says vocab_size = {}",
                self.vocab
            )));
        }
        if tokens.is_empty() {
            return Err(AlignError::Rejected("the prompt has no tokens".to_owned()));
        }
        if tokens.len() >= self.context {
            return Ok(self.too_long(format!("the prompt has {} tokens", tokens.len())));
        }
        Ok(Prompt::Tokens { tokens, expected })
    }

    fn too_long(&self, has: String) -> Prompt {
        let context = self.context;
        Prompt::Settled(Bypass::found(
            reason::TOO_LONG,
            format!(
                "{has}, and the model's context of {context} tokens has no room for them and a correction"
            ),
        ))
    }

    fn length_limit(&self, usage: Usage) -> Bypass {
        let tokens = usage.correction_tokens;
        let which = if tokens >= self.decoding.max_new_tokens {
            "which is max_new_tokens: raise it".to_owned()
        } else {
            format!(
                "where the model's context of {} tokens ends, of which the prompt takes {}: take a \
                 model with a longer one",
                self.context, usage.prompt_tokens
            )
        };
        Bypass::found(
            reason::LENGTH_LIMIT,
            format!("the output was unfinished after {tokens} tokens, {which}"),
        )
    }

    pub(crate) fn job(&self, prompt: Vec<u32>, expected: usize, request: Request) -> Job {
        let most = (self.decoding.max_new_tokens.max(1) as usize).min(self.context - prompt.len());
        let drafter =
            (self.past.as_ref()).map(|past| Box::new(Mixture::new(past)) as Box<dyn Drafter>);
        let templated = matches!(request.text, Text::Templated(_));
        Job {
            max_new: most,
            expected: expected.min(most),
            stop: Arc::clone(&self.stop),
            stop_first: self.unchanged.filter(|_| templated),
            forced: None,
            penalty: (self.penalty.as_ref()).map(|penalty| penalty.after(&prompt)),
            sampler: Sampler::new(&self.decoding, &prompt),
            gives_up: templated,
            drafter,
            waiting_since: request.waiting_since(),
            submitted: request.submitted,
            reply: Box::new(request.ticket),
            prompt,
        }
    }

    /// The verdict on decoded tokens.
    pub(crate) fn alignment(
        &self,
        request: &AlignRequest,
        answer: Answer,
    ) -> Result<Alignment, AlignError> {
        let finished = match answer {
            Answer::Decoded(finished) => finished,
            Answer::Settled(bypass) => {
                return Ok(Alignment {
                    outcome: Outcome::Bypassed(bypass),
                    usage: Usage::default(),
                    timing: Timing::default(),
                    confidence: None,
                });
            }
        };
        let confidence = confidence(&finished);
        let outcome = match finished.end {
            End::StopFirst => Outcome::Unchanged,
            End::Length => Outcome::Bypassed(self.length_limit(usage(&finished))),
            End::Repetition => Outcome::Bypassed(reason::REPETITION.into()),
            End::NotFinite => Outcome::Bypassed(reason::NOT_FINITE.into()),
            End::Stop => {
                let text = self.texts.decode(written(&finished)).map_err(rejected)?;
                let AlignRequest {
                    question, answer, ..
                } = request;
                let text = unjoined(&text, answer);
                let guard = &self.profile.guard;
                guard.outcome(question, answer, text, confidence)
            }
        };
        Ok(Alignment {
            outcome,
            usage: usage(&finished),
            timing: timing(&finished),
            confidence,
        })
    }

    pub(crate) fn raw_completion(&self, finished: Finished) -> Result<RawCompletion, AlignError> {
        if finished.end == End::NotFinite {
            return Err(not_finite());
        }
        Ok(RawCompletion {
            text: self.texts.decode(written(&finished)).map_err(rejected)?,
            prompt_tokens: usage(&finished).prompt_tokens,
            truncated: finished.end == End::Length,
            timing: timing(&finished),
            token_ids: finished.tokens,
        })
    }
}

/// Texts beyond so many bytes for each position of the context are not worth encoding: the
/// longest tokens of real vocabularies are some dozens of spaces.
const MOST_BYTES_PER_TOKEN: usize = 64;

/// The tokens of the text: the one that ended it is none of them, and decoding leaves it out by
/// itself only where the tokenizer has it as a special one.
fn written(finished: &Finished) -> &[u32] {
    match (finished.end, finished.tokens.split_last()) {
        (End::Stop, Some((_, written))) => written,
        _ => &finished.tokens,
    }
}

/// None where nothing was decoded.
fn confidence(finished: &Finished) -> Option<Confidence> {
    let tokens = finished.tokens.len();
    (tokens > 0).then(|| Confidence {
        mean_logprob: (finished.logprob_sum / tokens as f64) as f32,
        min_logprob: finished.logprob_min,
        unchanged_logprob: finished.unchanged_logprob,
    })
}

fn usage(finished: &Finished) -> Usage {
    let count = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
    Usage {
        prompt_tokens: count(finished.prompt_tokens),
        correction_tokens: count(finished.tokens.len()),
    }
}

fn timing(finished: &Finished) -> Timing {
    Timing {
        queued: finished.queued,
        inference: finished.inference,
    }
}
