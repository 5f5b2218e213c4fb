//! A sequence that a worker answers for: what was decoded so far, and whether it ends.

use std::{ops::Range, time::Instant};

use aligner::AlignError;

use crate::{
    backend::{Outcome, Reading, logprob},
    job::{End, Finished, Job, REPEATED, is_endless},
};

/// A sequence that the worker answers for.
pub(crate) struct Active {
    pub(crate) job: Job,
    decoded: usize,
    /// What was decoded, where endless outputs are given up.
    output: Vec<u32>,
    /// What the model would have said, where the tokens are forced.
    said: Vec<u32>,
    logprob_sum: f64,
    logprob_min: f32,
    /// Log probability of the token that counts only as the first, at the first.
    unchanged_logprob: Option<f32>,
    steps: usize,
    pub(crate) started: Option<Instant>,
}

impl Active {
    pub(crate) fn new(job: Job) -> Self {
        Self {
            job,
            decoded: 0,
            output: Vec::new(),
            said: Vec::new(),
            logprob_sum: 0.0,
            logprob_min: 0.0,
            unchanged_logprob: None,
            steps: 0,
            started: None,
        }
    }

    /// Whether choosing a token needs the logits, and not the best of them alone.
    pub(crate) fn reads_logits(&self) -> bool {
        self.job.penalty.is_some() || self.job.sampler.is_some()
    }

    /// The token whose log probability the next step shall tell. With a penalty it is read here,
    /// off the changed logits.
    pub(crate) fn watches(&self) -> Option<u32> {
        (self.job.stop_first).filter(|_| self.decoded == 0 && self.job.penalty.is_none())
    }

    /// Notes what the step told of it.
    pub(crate) fn note_watched(&mut self, logprob: f32) {
        self.unchanged_logprob = Some(logprob);
    }

    /// Decodes what one step says of it, up to an end or to the first draft that is another token.
    /// Its rows are `outputs` of the `outcome`, one more than it has drafts.
    pub(crate) fn decode(
        &mut self,
        outputs: Range<usize>,
        outcome: &mut Outcome,
        vocab: usize,
        drafts: &[u32],
        tokens: &mut Vec<u32>,
    ) -> Result<Option<End>, AlignError> {
        self.steps += 1;
        for (index, row) in outputs.enumerate() {
            let reading = outcome.readings[row];
            if !reading.finite {
                return Ok(Some(End::NotFinite));
            }
            let logits = outcome.logits.get_mut(row * vocab..(row + 1) * vocab);
            let token = self.next_token(reading, logits.unwrap_or_default())?;
            tokens.push(token);
            let end = self.end_after(token);
            if end.is_some() || drafts.get(index) != Some(&token) {
                return Ok(end);
            }
        }
        Ok(None)
    }

    /// Chooses the token that follows; a penalty changes the logits.
    pub(crate) fn next_token(
        &mut self,
        reading: Reading,
        logits: &mut [f32],
    ) -> Result<u32, AlignError> {
        let reading = match &self.job.penalty {
            Some(penalty) => {
                let reading = penalty.read(logits);
                if self.decoded == 0 {
                    let unchanged = self.job.stop_first;
                    self.unchanged_logprob = unchanged.map(|token| logprob(reading, logits, token));
                }
                reading
            }
            None => reading,
        };
        let token = self.choose(reading, logits)?;
        if let Some(penalty) = &mut self.job.penalty {
            penalty.see(token);
        }
        Ok(token)
    }

    fn choose(&mut self, reading: Reading, logits: &[f32]) -> Result<u32, AlignError> {
        if let Some(forced) = &self.job.forced {
            self.said.push(reading.token);
            return Ok(forced[self.decoded]);
        }
        let Some(sampler) = &mut self.job.sampler else {
            self.count(reading.logprob);
            return Ok(reading.token);
        };
        let token = sampler.sample(logits)?;
        self.count(logprob(reading, logits, token));
        Ok(token)
    }

    fn count(&mut self, logprob: f32) {
        self.logprob_sum += f64::from(logprob);
        self.logprob_min = self.logprob_min.min(logprob);
    }

    /// Whether the output ends with this token.
    pub(crate) fn end_after(&mut self, token: u32) -> Option<End> {
        self.decoded += 1;
        if let Some(forced) = &self.job.forced {
            return (self.decoded == forced.len()).then_some(End::Length);
        }
        if self.decoded == 1 && self.job.stop_first == Some(token) {
            return Some(End::StopFirst);
        }
        if self.job.stop.contains(&token) {
            return Some(End::Stop);
        }
        if self.job.gives_up {
            self.output.push(token);
            // At certain lengths, whatever steps led there.
            if self.decoded.is_multiple_of(REPEATED / 2) && is_endless(&self.output) {
                return Some(End::Repetition);
            }
        }
        (self.decoded == self.job.max_new).then_some(End::Length)
    }

    /// Answers its request, whose prompt and output `tokens` are.
    pub(crate) fn answer(self, mut tokens: Vec<u32>, result: Result<End, AlignError>) {
        let Self { mut job, said, .. } = self;
        let prompt_tokens = job.prompt.len();
        let started = self.started.unwrap_or(job.submitted);
        let output = tokens.split_off(prompt_tokens);
        if let (Ok(End::Stop | End::Length), Some(drafter)) = (&result, &mut job.drafter) {
            drafter.finish(&output);
        }
        let result = result.map(|end| Finished {
            tokens: if job.forced.is_some() { said } else { output },
            prompt_tokens,
            end,
            logprob_sum: self.logprob_sum,
            logprob_min: self.logprob_min,
            unchanged_logprob: self.unchanged_logprob,
            steps: self.steps,
            queued: started.saturating_duration_since(job.submitted),
            inference: started.elapsed(),
        });
        job.reply.answer(result);
    }
}
