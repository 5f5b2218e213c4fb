//! Why a checkpoint cannot be loaded. Each names the file, the key or tensor, and what would do.

use std::{io, path::PathBuf};

use aligner::ProfileError;
use aligner_checkpoint::CheckpointError;
use thiserror::Error;

/// What candle says, without the calls that led there, which it adds where `RUST_BACKTRACE` is set.
pub(crate) fn told(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => told(inner),
        other => other.to_string(),
    }
}

/// A model that cannot be loaded; nothing was started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file of the checkpoint is absent.
    #[error("{file} is missing from {origin}: {hint}")]
    MissingFile {
        /// Name of the file.
        file: String,
        /// Folder or bundle it was looked for in.
        origin: String,
        /// What the file is for, or what to do.
        hint: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A file does not say what it should, or says what is not implemented.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The profile beside the weights cannot be used.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A tensor is absent, or not of the shape that the configuration says.
    #[error("{origin}: tensor {name} {problem}")]
    Tensor {
        /// File or folder with the weights.
        origin: String,
        /// Name of the tensor.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A `tokenizer.json` beside a GGUF file that holds other tokens.
    #[error(
        "tokenizer.json beside {file} is of another model: token {id} is {beside} there and \
         {within} in the file; move the file into a folder of its own, or remove tokenizer.json"
    )]
    ForeignTokenizer {
        /// The GGUF file.
        file: String,
        /// The first token that differs.
        id: u32,
        /// Its text in `tokenizer.json`, quoted, or `missing`.
        beside: String,
        /// Its text in the GGUF file, quoted, or `missing`.
        within: String,
    },
    /// A setting that does not fit this machine, this build, or this checkpoint.
    #[error("{setting} = {value} {problem}")]
    Setting {
        /// The option.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what would work.
        problem: String,
    },
}
