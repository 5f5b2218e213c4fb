//! Why a training run cannot start or go on, with what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use aligner::ProfileError;
use aligner_checkpoint::CheckpointError;
use aligner_evaluation::TripleError;
use aligner_tokens::EncodeError;
use thiserror::Error;

/// Why a training run cannot start or go on.
///
/// Messages name file, line, key and remedy, never the text of a question or an answer.
#[derive(Debug, Error)]
pub enum TrainError {
    /// A file cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file does not hold triples, or rows cannot be trained on.
    #[error(transparent)]
    Triples(#[from] TripleError),
    /// The tokenizer of the checkpoint to start from has no tokens for a text.
    #[error(
        "the row {row} cannot be trained on: {source}; leave it out, or begin with a model whose tokenizer takes any text"
    )]
    Refused {
        /// Id of the row's event.
        row: String,
        /// What the tokenizer says.
        source: EncodeError,
    },
    /// Nothing is left to train on.
    #[error("there is nothing to train on: {0}")]
    NoExamples(String),
    /// The checkpoint to start from is not one that can be trained.
    #[error("{file}: {problem}")]
    Checkpoint {
        /// The file, and key where there is one.
        file: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// One of its files does not say what it should, whatever is done with it.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// Its profile cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// An option has a value that cannot be.
    #[error("{option} is {value}, {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The newest checkpoint of the output folder belongs to another run.
    #[error(
        "{path} was made with {what} {was}, now it is {now}; give the same, or train into a new folder{further}"
    )]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: String,
        /// Then.
        was: String,
        /// Now.
        now: String,
        /// What else there is to know, or to do.
        further: String,
    },
    /// The loss is no number any more.
    #[error(
        "the loss is {loss} at step {step}; lower the learning rate, now {learning_rate}, or lengthen the warm-up, now {warmup_steps} steps"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// Its loss.
        loss: f64,
        /// Peak learning rate.
        learning_rate: f64,
        /// Steps of the warm-up.
        warmup_steps: u64,
    },
    /// The tensor library failed.
    #[error("training failed on {device}")]
    Tensor {
        /// The device.
        device: String,
        /// What candle says.
        source: candle_core::Error,
    },
}

impl TrainError {
    /// Adds to a refused resumption how to go on from a run that is finished.
    pub(crate) fn of_finished(mut self, output: &Path) -> Self {
        if let Self::Resume { further, .. } = &mut self {
            let output = output.display();
            further.push_str(&format!(
                "; this run is finished: to go on from what it made, begin another one by --from \
                 {output} and a new --output"
            ));
        }
        self
    }
}

/// Adds what was tried to an I/O error.
pub(crate) trait Tried<T> {
    fn tried(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, TrainError>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, TrainError> {
        self.map_err(|source| TrainError::Io {
            action,
            path: path.into(),
            source,
        })
    }
}
