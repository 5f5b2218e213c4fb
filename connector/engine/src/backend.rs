//! The seam between scheduling and arithmetic: one ragged forward pass at a time.
//!
//! A worker plans steps and knows nothing of tensors; a backend computes them and knows nothing
//! of requests. [`crate::cpu::Cpu`] is the reference, `crate::cuda::Cuda` computes on GPUs; the
//! worker's tests use a scripted one.

pub(crate) use crate::kernels::{LANES as PAGE_TOKENS, Reading};

/// Rows of one sequence in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Position of the first row in its sequence.
    pub(crate) start: usize,
    pub(crate) rows: usize,
    /// How many of the last rows need logits.
    pub(crate) outputs: usize,
    /// Where the sequence's pages begin in [`Step::pages`].
    pub(crate) first_page: usize,
}

/// A token whose log probability is asked for whether or not it is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watched {
    /// Which of the output rows.
    pub(crate) row: usize,
    pub(crate) token: u32,
}

/// One forward pass over rows of several sequences, without padding.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Tokens of all rows, span after span.
    pub(crate) tokens: Vec<u32>,
    pub(crate) spans: Vec<Span>,
    /// Page tables of all spans, each long enough for its last row.
    pub(crate) pages: Vec<u32>,
    /// Whether somebody reads the logits themselves, which cost a GPU more to hand over than a step.
    pub(crate) wants_logits: bool,
    /// Tokens that are read besides the best: few, where all logits would be many.
    pub(crate) watched: Vec<Watched>,
}

impl Step {
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.spans.clear();
        self.pages.clear();
        self.wants_logits = false;
        self.watched.clear();
    }

    /// Adds the rows of `tokens` at `start`; the last `outputs` of them need logits.
    pub(crate) fn push(&mut self, tokens: &[u32], start: usize, outputs: usize, pages: &[u32]) {
        let needed = (start + tokens.len()).div_ceil(PAGE_TOKENS);
        assert!(pages.len() >= needed, "a sequence has a page for every row");
        let span = Span {
            start,
            rows: tokens.len(),
            outputs,
            first_page: self.pages.len(),
        };
        self.tokens.extend_from_slice(tokens);
        self.pages.extend_from_slice(&pages[..needed]);
        self.spans.push(span);
    }

    /// Asks for a token in the first output row of the rows that were added last.
    pub(crate) fn watch(&mut self, token: u32) {
        let outputs = self.spans.last().map_or(0, |span| span.outputs);
        assert!(outputs > 0, "what is watched has logits");
        let row = self.outputs() - outputs;
        self.watched.push(Watched { row, token });
    }

    /// Rows that need logits.
    pub(crate) fn outputs(&self) -> usize {
        self.spans.iter().map(|span| span.outputs).sum()
    }
}

/// What a step computed.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// One for each output row, in order.
    pub(crate) readings: Vec<Reading>,
    /// `[output row][vocab]`, if the step wants them.
    pub(crate) logits: Vec<f32>,
    /// Natural log probabilities of the tokens that the step watches.
    pub(crate) watched: Vec<f32>,
}

/// The natural log probability of any token of a row, from the reading of these logits.
pub(crate) fn logprob(reading: Reading, logits: &[f32], token: u32) -> f32 {
    logits[token as usize] - logits[reading.token as usize] + reading.logprob
}

/// Computes steps. Keys and values of every row are kept in its sequence's pages.
pub(crate) trait Backend: Send + 'static {
    /// Size of the vocabulary.
    fn vocab(&self) -> usize;

    /// Runs one step.
    ///
    /// # Errors
    /// If the device failed. What it held is lost, and later steps will fail as well.
    fn forward(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), DeviceLost>;
}

/// A device failed, whatever the step was.
#[derive(Debug, thiserror::Error)]
#[error("the device failed: {0}")]
pub(crate) struct DeviceLost(pub(crate) String);

impl Backend for Box<dyn Backend> {
    fn vocab(&self) -> usize {
        (**self).vocab()
    }

    fn forward(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), DeviceLost> {
        (**self).forward(step, outcome)
    }
}
