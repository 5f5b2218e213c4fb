//! The contract every Aligner keeps, whatever runs it: a model on candle, a remote server, or a
//! deterministic stand-in without weights.
//!
//! An Aligner (arXiv 2402.02416, §2) reads a question and an upstream model's answer and writes
//! a better answer. Here it takes a *batch* of requests and answers each of them *once, on its
//! own*, in whatever order they finish: one bad record never decides the fate of its neighbours.
//!
//! Deliberately absent: tensors, I/O, and Kafka. The pipeline is tested against this trait alone.

mod bounds;
pub mod builtin;
mod error;
pub mod guard;
mod hex;
mod profile;
pub mod prompt;
pub mod reason;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream::BoxStream;
use guard::Confidence;
use reason::Bypass;
use serde::{Deserialize, Serialize};

pub use error::{AlignError, NextStep};
pub use hex::hex;
pub use profile::{Profile, ProfileError};

/// One (question, answer) to correct.
#[derive(Debug, Clone)]
pub struct AlignRequest {
    /// Id of the answer event, for logs and for the deterministic stand-ins.
    pub event_id: Arc<str>,
    /// What the user asked.
    pub question: Arc<str>,
    /// What the upstream model answered.
    pub answer: Arc<str>,
    /// Since when somebody waits for the correction. An Aligner with a queue of its own may serve
    /// first who waits longest, so that a request that is tried again keeps its place.
    pub waiting_since: Instant,
}

/// What the Aligner made of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// The correction, or why there is none.
    pub outcome: Outcome,
    /// Tokens that the request cost.
    pub usage: Usage,
    /// Where its time went.
    pub timing: Timing,
    /// How sure the model was; none where it does not tell, and where no model was asked.
    pub confidence: Option<Confidence>,
}

/// The Aligner's verdict on one answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The whole text that the model decoded, see [`unjoined`]. It may give the answer back, which is no
    /// correction; see [`Outcome::normalized`].
    Rewritten(String),
    /// The model decided, with its learnt first token, that the answer stands as it is.
    Unchanged,
    /// The answer is not one that the model is fit for, or the model wrote nothing, or did not come to
    /// an end.
    Bypassed(Bypass),
    /// The profile's guard did not let the model's output through.
    Rejected {
        /// Why.
        bypass: Bypass,
        /// The whole text that the model decoded, which takes nobody's place.
        proposal: String,
    },
}

impl Outcome {
    /// The outcome as it counts for this answer. A blank text is no output, and one that differs in
    /// white space at its ends alone gives the answer back: models end texts as they learnt to, and
    /// a trainer would learn that from the pair.
    #[must_use]
    pub fn normalized(self, answer: &str) -> Self {
        match self {
            Self::Rewritten(text) if text.trim().is_empty() => {
                Self::Bypassed(reason::EMPTY_OUTPUT.into())
            }
            Self::Rewritten(text) if is_same_text(&text, answer) => {
                Self::Rewritten(answer.to_owned())
            }
            settled => settled,
        }
    }
}

/// Whether one text counts for the other: they differ in white space at their ends at most.
pub fn is_same_text(one: &str, other: &str) -> bool {
    one.trim() == other.trim()
}

/// A text that a model decoded for this answer, without the space that joins it to the prompt.
///
/// Prompts end without one, as the paper's does, and a word's leading space is a part of its token. A
/// SentencePiece tokenizer leaves it out when it decodes an output alone; a byte-level one does not, and
/// neither does a server, which decodes the output behind its prompt. Where the answer begins with a space
/// as well, it is the text's own.
pub fn unjoined<'a>(text: &'a str, answer: &str) -> &'a str {
    match text.strip_prefix(' ') {
        Some(rest) if !answer.starts_with(' ') => rest,
        _ => text,
    }
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Tokens that were decoded, the end-of-sequence token included.
    pub correction_tokens: u32,
}

/// Durations of one request, from its admission to the Aligner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timing {
    /// Waiting for a place in a batch.
    pub queued: Duration,
    /// From the first forward pass to the last token.
    pub inference: Duration,
}

/// The answer to the request at `index` of the submitted batch.
#[derive(Debug)]
pub struct Completion {
    /// Position in the batch given to [`Aligner::align`].
    pub index: usize,
    /// The alignment, or an error sorted by what the caller does next.
    pub result: Result<Alignment, AlignError>,
}

/// Answers in order of completion, exactly one for each request of the batch.
///
/// Dropping the stream tells the Aligner that nobody waits any longer: unfinished requests are
/// abandoned at their next step.
pub type Completions = BoxStream<'static, Completion>;

/// How outputs are decoded; recorded with every correction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Decoding {
    /// Most tokens decoded for one answer, the end-of-sequence token included.
    pub max_new_tokens: u32,
    /// 0 is greedy decoding.
    pub temperature: f64,
    /// Nucleus sampling threshold, used only with a temperature.
    pub top_p: Option<f64>,
    /// Seed of the sampler, used only with a temperature.
    pub seed: u64,
}

impl Default for Decoding {
    fn default() -> Self {
        Self {
            max_new_tokens: 1024,
            temperature: 0.0,
            top_p: None,
            seed: 0,
        }
    }
}

/// Who made a correction, in terms that let somebody make it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Name of the Aligner, such as `aligner-mini`.
    pub name: String,
    /// Digest of its weights and of everything that decides its output (see
    /// `aligner_engine`), or a fixed word for an Aligner without weights.
    pub revision: String,
    /// Hex SHA-256 of the prompt template, or of the empty string where there is none.
    pub template_hash: String,
    /// Decoding parameters.
    pub decoding: Decoding,
}

/// Corrects answers.
pub trait Aligner: Send + Sync + 'static {
    /// Who corrects; constant over the Aligner's life.
    fn identity(&self) -> &Identity;

    /// What a request will roughly cost in tokens, prompt and output, without tokenising it.
    ///
    /// Batches and backpressure count in this unit, so it must be cheap and deterministic.
    fn estimate_tokens(&self, request: &AlignRequest) -> u32 {
        // About four bytes of English to a token, and the output repeats the answer.
        let bytes = request.question.len() + 2 * request.answer.len();
        u32::try_from(bytes / 4 + 1).unwrap_or(u32::MAX)
    }

    /// How much it has worked so far, in tokens or any other unit; 0 where it cannot tell.
    ///
    /// While it rises no answer is overdue, however long it takes. So it may rise only where every
    /// answer ends by itself, as at `max_new_tokens`.
    fn work_done(&self) -> u64 {
        0
    }

    /// Starts on a batch; each request is answered once, in order of completion.
    ///
    /// Must not block: work happens on the Aligner's own threads, or in the returned stream.
    fn align(&self, batch: Vec<AlignRequest>) -> Completions;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_space_joins_a_text_to_its_prompt_unless_the_answer_has_it_too() {
        for (text, answer, expected) in [
            (" B.", "A.", "B."),
            ("B.", "A.", "B."),
            ("  B.\n", "A.", " B.\n"),
            ("\n B.", "A.", "\n B."),
            (" B.", " A.", " B."),
            ("B.", " A.", "B."),
            (" ", "A.", ""),
            ("", "", ""),
        ] {
            assert_eq!(unjoined(text, answer), expected, "{text:?} for {answer:?}");
        }
    }
}
