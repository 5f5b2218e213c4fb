//! The Aligner on candle: any checkpoint of the supported families, corrected in ragged batches.
//!
//! Checkpoints come in Hugging Face layout (or as GGUF) through candle; the forward pass is this
//! crate's own. One decoder, driven by configuration, serves every family; rows of many requests
//! share each pass without padding; and a correction has the same bytes whatever else is in the
//! batch, however prompts are chunked, on however many threads, with drafts or without. (On a GPU
//! that holds but for near ties.)
//!
//! Absent: Kafka, settings files, and everything that a correction means to the pipeline.

mod active;
mod backend;
mod blocks;
mod cpu;
#[cfg(any(test, feature = "cuda"))]
mod cuda;
mod decoder;
mod draft;
mod embeddings;
mod engine;
mod error;
mod generation;
mod gguf;
mod header;
mod inbox;
mod job;
mod kernels;
mod liveness;
mod load;
mod oldest_first;
mod options;
mod pace;
mod pages;
mod penalty;
pub mod probe;
mod request;
mod room;
mod rope;
mod rows;
mod rules;
mod sampler;
mod scheduler;
mod source;
mod tokenizing;
mod weights;
mod worker;

pub use engine::{Engine, RawCompletion};
pub use error::LoadError;
pub use options::{Description, Device, Dtype, EngineOptions, Limits, Speculation};
pub use source::{EmbeddedModel, ModelSource};
pub use worker::Work;
