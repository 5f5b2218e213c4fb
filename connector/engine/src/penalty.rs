//! The repetition penalty of a checkpoint, as `RepetitionPenaltyLogitsProcessor` of transformers
//! computes it, which works in greedy decoding too.
//!
//! A token that stands in the prompt, or in the output so far, has its logit divided by the
//! penalty, or multiplied where the logit is below zero: once, however often it stands there. The
//! best token, and the log probability that guards see, are those after that, which transformers
//! calls scores. Drafts are checked row by row in the order of their tokens, so that each row meets
//! the tokens before it and no others.

use std::collections::HashSet;

use crate::{
    backend::Reading,
    kernels::{Floats, read_one},
};

/// What is penalised, and how much.
#[derive(Debug, Clone)]
pub(crate) struct Penalty {
    pub(crate) factor: f32,
    floats: Floats,
    seen: HashSet<u32>,
}

impl Penalty {
    /// By a factor other than 1; `floats` reads rows anew.
    pub(crate) fn new(factor: f32, floats: Floats) -> Self {
        Self {
            factor,
            floats,
            seen: HashSet::new(),
        }
    }

    /// The same for the output of a prompt.
    pub(crate) fn after(&self, prompt: &[u32]) -> Self {
        Self {
            factor: self.factor,
            floats: self.floats,
            seen: prompt.iter().copied().collect(),
        }
    }

    /// Notes a token of the output.
    pub(crate) fn see(&mut self, token: u32) {
        self.seen.insert(token);
    }

    /// Penalises a row of logits, and reads it.
    pub(crate) fn read(&self, logits: &mut [f32]) -> Reading {
        for &token in &self.seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit < 0.0 {
                    *logit * self.factor
                } else {
                    *logit / self.factor
                };
            }
        }
        read_one(self.floats, logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    #[test]
    fn what_was_there_is_penalised_once_and_the_row_read_anew() {
        let floats = Isa::available()[0].floats;
        let row = [4.0_f32, 2.5, -1.0, 0.5, -3.0];
        let (mut penalised, mut rewarded) = (row, row);
        let reading = Penalty::new(2.0, floats)
            .after(&[0, 2, 2, 99])
            .read(&mut penalised);
        assert_eq!(penalised, [2.0, 2.5, -2.0, 0.5, -3.0]);
        assert_eq!((reading.token, reading.finite), (1, true));
        let total: f64 = penalised.iter().map(|&x| (f64::from(x) - 2.5).exp()).sum();
        assert!((f64::from(reading.logprob) + total.ln()).abs() < 1e-5);

        let mut penalty = Penalty::new(0.5, floats).after(&[1]);
        penalty.see(4);
        let reading = penalty.read(&mut rewarded);
        assert_eq!(rewarded, [4.0, 5.0, -1.0, 0.5, -1.5]);
        assert_eq!(reading.token, 1);
    }
}
