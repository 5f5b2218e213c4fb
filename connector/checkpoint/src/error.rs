//! What is wrong with a file of a checkpoint. Each names the file, the key, and what would do.

use thiserror::Error;

/// A file that does not say what it should.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file is not in its format.
    #[error("{file} is not valid: {problem}")]
    Malformed {
        /// Name of the file.
        file: String,
        /// What the parser says.
        problem: String,
    },
    /// A key is absent or has a value of the wrong kind.
    #[error("{file}: {key} {problem}")]
    Key {
        /// Name of the file.
        file: String,
        /// The key, dotted where nested.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that is not implemented.
    #[error("{file}: {key} = {value} is not supported; supported: {supported}")]
    Unsupported {
        /// Name of the file.
        file: String,
        /// The key, dotted where nested.
        key: String,
        /// Its value.
        value: String,
        /// What would work.
        supported: &'static str,
    },
}
