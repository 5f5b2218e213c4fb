//! What a worker did so far.

use std::time::Duration;

use crate::scheduler::Planned;

/// What a worker did so far, for benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Forward passes.
    pub steps: u64,
    /// Sequences in them.
    pub sequences: u64,
    /// Rows of prompts, but for those that a step computes one of alone.
    pub prompt_rows: u64,
    /// Sequences of which a step computes one row: decoded tokens, above all.
    pub decode_rows: u64,
    /// Rows of drafts.
    pub draft_rows: u64,
    /// Drafts that greedy decoding agreed with.
    pub accepted_drafts: u64,
    /// Time in passes that computed rows of prompts.
    pub prompt_time: Duration,
    /// Time in passes that only decoded.
    pub decode_time: Duration,
}

impl Work {
    /// Counts a forward pass over `plan` that took so long.
    pub(super) fn count(&mut self, plan: &[Planned], took: Duration) {
        let rows = plan.iter().map(|planned| planned.rows);
        let prompt_rows: usize = rows.filter(|&rows| rows > 1).sum();
        self.steps += 1;
        self.sequences += plan.len() as u64;
        self.prompt_rows += prompt_rows as u64;
        self.decode_rows += plan.iter().filter(|planned| planned.rows == 1).count() as u64;
        self.draft_rows += plan
            .iter()
            .map(|planned| planned.drafts as u64)
            .sum::<u64>();
        if prompt_rows > 0 {
            self.prompt_time += took;
        } else {
            self.decode_time += took;
        }
    }
}
