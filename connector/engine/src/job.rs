//! A request in tokens, on its way through a worker, and what comes of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aligner::AlignError;

use crate::{draft::Drafter, penalty::Penalty, sampler::Sampler};

/// A request in tokens.
pub(crate) struct Job {
    pub(crate) prompt: Vec<u32>,
    /// Most tokens to decode, at least one; prompt and output fit the context and the pages.
    pub(crate) max_new: usize,
    /// How many will probably be decoded.
    pub(crate) expected: usize,
    /// Tokens that end the output.
    pub(crate) stop: Arc<[u32]>,
    /// The token that ends the output if it is the first.
    pub(crate) stop_first: Option<u32>,
    /// Tokens to go on with whatever the model says; their number is the output's length.
    pub(crate) forced: Option<Vec<u32>>,
    /// Changes logits before a token is chosen.
    pub(crate) penalty: Option<Penalty>,
    /// Greedy without one.
    pub(crate) sampler: Option<Sampler>,
    /// Whether an output that repeats itself without end is given up.
    pub(crate) gives_up: bool,
    pub(crate) drafter: Option<Box<dyn Drafter>>,
    /// The longest waiting goes first.
    pub(crate) waiting_since: Instant,
    pub(crate) submitted: Instant,
    pub(crate) reply: Box<dyn Reply>,
}

/// Where a request's answer goes.
pub(crate) trait Reply: Send {
    /// Whether nobody waits for it any more.
    fn is_gone(&self) -> bool;
    fn answer(self: Box<Self>, result: Result<Finished, AlignError>);
}

/// Why decoding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With an end-of-sequence token.
    Stop,
    /// With the token that counts only as the first.
    StopFirst,
    /// At the length limit.
    Length,
    /// In a few tokens, again and again.
    Repetition,
    /// Before a token whose logits are no finite numbers.
    NotFinite,
}

/// For those who ask for tokens and not for a correction.
pub(crate) fn not_finite() -> AlignError {
    AlignError::Rejected("the model's logits for it are not finite numbers".to_owned())
}

/// A decoded output.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finished {
    /// Decoded tokens, the one that ended them included.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    pub(crate) end: End,
    /// Sum and minimum of the log probabilities of the decoded tokens.
    pub(crate) logprob_sum: f64,
    pub(crate) logprob_min: f32,
    /// Log probability of [`Job::stop_first`] as the first token.
    pub(crate) unchanged_logprob: Option<f32>,
    /// Steps that decoded it.
    pub(crate) steps: usize,
    pub(crate) queued: Duration,
    pub(crate) inference: Duration,
}

/// So many tokens at the end of an output decide whether it repeats itself.
pub(crate) const REPEATED: usize = 128;

/// The longest passage whose repetition is looked for.
const LONGEST_PASSAGE: usize = 32;

/// Whether the last tokens of an output are one short passage again and again.
pub(crate) fn is_endless(output: &[u32]) -> bool {
    let Some(end) = output
        .len()
        .checked_sub(REPEATED)
        .map(|from| &output[from..])
    else {
        return false;
    };
    (1..=LONGEST_PASSAGE).any(|passage| end[passage..] == end[..REPEATED - passage])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passage_that_goes_on_and_on_is_endless_and_a_table_is_not() {
        let repeat = |passage: &[u32], count: usize| passage.repeat(count);
        assert!(is_endless(&repeat(&[7], REPEATED)));
        assert!(!is_endless(&repeat(&[7], REPEATED - 1)));
        assert!(is_endless(
            &[vec![1, 2, 3], repeat(&[4, 5, 6], 50)].concat()
        ));
        let row = |number: u32| vec![100, number, 100, number + 1, 100, 10];
        let table: Vec<u32> = (0..60).flat_map(row).collect();
        assert!(!is_endless(&table));
    }
}
