//! Trains an Aligner, or continues one, from question-answer-correction triples.
//!
//! The paper's method (arXiv 2402.02416, §2): a warm-up on identity pairs teaches the model to
//! give an answer back, then it learns the residual, what to change. Triples and a checkpoint in
//! Hugging Face layout go in; a checkpoint in the same layout, a training curve and a record of
//! the run come out, ready for the engine and for other tools.
//!
//! Promised: the loss counts correction tokens alone; on one machine's CPU a run that was
//! interrupted and resumed ends with the same bytes as one that was not; prompts are tokenised
//! as the engine tokenises them.
//!
//! Deliberately absent: dropout, mixed precision, more than one device. Training is f32 on
//! candle's tensors, with the costly row-wise operations fused on the CPU (see `kernels`).

mod batches;
mod curve;
mod data;
mod error;
mod examples;
mod files;
mod fit;
mod generation;
mod history;
mod kernels;
mod measured;
mod model;
mod optimiser;
mod options;
mod origin;
mod pace;
mod parts;
mod prepare;
mod progress;
mod schedule;
mod shape;
mod state;
mod tokens;
mod train;

pub use error::TrainError;
pub use history::{History, Point};
pub use options::{Base, DeviceChoice, IdentityTarget, Precision, Recipe, Scratch, TrainOptions};
pub use progress::{Ended, Outcome, Phase, Progress, Validation};
pub use train::train;
