//! What the files of a checkpoint in Hugging Face layout say, read by one set of rules for those
//! who compute with it and those who train it: so no run ends in a folder that the engine refuses,
//! or takes for another model.
//!
//! Bytes come in, numbers and names go out. What a file leaves out is what its class in transformers
//! takes for it, and errors name file and key.
//!
//! Absent: files and tensors. Who reads the bytes, and what is computed with the numbers, is up to
//! the engine and to training.

mod config;
mod decoding;
mod error;
mod family;
mod json;
mod layers;
mod rope;
mod rotation;
mod scaling;
mod shards;

pub use config::{Activation, Config, Layer, Norms, QkNorm};
pub use decoding::{Idle, NOT_COMPUTED};
pub use error::CheckpointError;
pub use family::{ATTENTION_SOFTCAP, FINAL_SOFTCAP, WINDOW};
pub use json::{Json, SIZES};
pub use rope::{Rope, Yarn};
pub use shards::{INDEX, SINGLE, shards};

/// The file that describes the decoder.
pub const CONFIG: &str = "config.json";
