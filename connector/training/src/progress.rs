//! What a run tells of itself: after each step, and at its end.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;

use crate::{
    history::{History, Point},
    options::Precision,
};

/// What a step trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Identity pairs: the warm-up.
    Identity,
    /// Corrections.
    Residual,
}

/// How far a run is, after every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// What the step trained on.
    pub phase: Phase,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean loss of a target token in this step.
    pub loss: f64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Norm of its gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens a second over the last steps, padding not counted.
    pub tokens_per_second: f64,
    /// Time spent, earlier parts of a resumed run included.
    pub elapsed: Duration,
    /// Time left, judged by the last steps.
    pub left: Duration,
    /// The validation, at the steps that have one.
    pub validation: Option<Validation>,
}

/// What the held-out triples say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Validation {
    /// Mean loss of a target token.
    pub loss: f64,
    /// Share of triples whose every token is the likeliest: those that greedy decoding gets
    /// exactly right.
    pub exact: f64,
    /// Triples.
    pub triples: usize,
    /// The lowest loss so far.
    pub best: bool,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// All steps are done.
    Completed,
    /// The validation loss fell no more.
    EarlyStopped,
    /// The caller stopped it; it can be resumed.
    Interrupted,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Why it ended.
    pub ended: Ended,
    /// Folder of the trained model; written unless interrupted.
    pub output: PathBuf,
    /// Parameters of the model.
    pub parameters: u64,
    /// Triples trained on.
    pub triples: usize,
    /// Those of them whose answer is left as it is: they teach restraint.
    pub clean_triples: usize,
    /// Those of them that the Aligner which is trained corrected itself, by its name: they teach
    /// it nothing. Counted when a run begins, 0 when it is resumed.
    #[serde(skip)]
    pub own_triples: usize,
    /// Keys of the base's `generation_config.json` that would change outputs and were left behind,
    /// since training measures outputs without them. Known when a run begins, none when it is
    /// resumed.
    #[serde(skip)]
    pub dropped_keys: Vec<String>,
    /// Triples validated on.
    pub validation_triples: usize,
    /// Those of them whose answer has something to correct.
    pub validation_corrections: usize,
    /// Those of them that are trained on, too, question and answer alike: they show what was
    /// learnt by heart.
    pub validation_repeated: usize,
    /// Rows to validate on that were left out, since the recipe's `validation_limit` takes no more.
    pub validation_left_out: usize,
    /// Rows to validate on that were skipped as too long.
    pub validation_too_long: usize,
    /// Rows that were skipped, to train or to validate on: the sum of the next two.
    pub skipped: usize,
    /// Those that are longer than `max_tokens`.
    pub skipped_too_long: usize,
    /// Corrections without a verdict: bypassed or dead-lettered, and mended by nobody.
    pub skipped_undecided: usize,
    /// Rows of which the question is the last of several messages, and the others were left out.
    pub shortened: usize,
    /// Most tokens of a row, prompt and correction together: those of the recipe, or the context of
    /// the model where that is less.
    pub max_tokens: usize,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Tokens read, padding not counted.
    pub tokens: u64,
    /// Seconds spent.
    pub seconds: f64,
    /// Validation loss before the first step.
    pub first_validation_loss: Option<f64>,
    /// Step and loss of the best validation, whose weights were written. They are in f32 while they
    /// are trained, and so is this loss.
    pub best_validation: Option<Point>,
    /// Validation loss of these weights as they are written, rounded to `precision`.
    pub loss_as_written: Option<f64>,
    /// Number format of the weights that are written: that of the base.
    pub precision: Precision,
    /// Share of validation triples that the written weights get exactly right.
    pub exact: Option<f64>,
    /// Share of them that come out exactly right and pass the limits that the written guard has
    /// for outputs.
    pub delivered: Option<f64>,
    /// The same share, of those whose answer has something to correct; absent without any.
    pub delivered_corrections: Option<f64>,
    /// Losses over the steps.
    pub history: History,
}

impl Outcome {
    /// Which share of what the validation loss fell by was lost when the weights were rounded to be
    /// written; none where it did not fall, or nobody knows by how much.
    pub fn lost_to_rounding(&self) -> Option<f64> {
        let (first, best) = (self.first_validation_loss?, self.best_validation?.loss);
        let lost = self.loss_as_written? - best;
        (best < first).then(|| lost / (first - best))
    }
}
