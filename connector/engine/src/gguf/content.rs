//! A file's metadata and the places of its tensors, as candle reads them.
//!
//! candle trusts the file: it divides by its alignment, for one. What it panics on is refused, by
//! the key where that is known.

use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use aligner_checkpoint::CheckpointError;
use candle_core::quantized::gguf_file::Content;

use super::types::unreadable;
use crate::LoadError;

/// What tensors begin at multiples of.
const ALIGNMENT: &str = "general.alignment";

/// Where it is looked for: metadata of whole vocabularies take some megabytes.
const MOST_METADATA: u64 = 64 << 20;

/// Reads the metadata of a file that errors call `origin`.
pub(super) fn content(reader: &mut BufReader<File>, origin: &str) -> Result<Content, LoadError> {
    // Nothing is kept of the reader but the file and where it stands.
    if let Ok(read) = catch_unwind(AssertUnwindSafe(|| Content::read(reader))) {
        return read.map_err(|error| unreadable(origin, &error));
    }
    let file = origin.to_owned();
    let problem = if is_aligned_to_zero(reader) {
        CheckpointError::Key {
            file,
            key: ALIGNMENT.to_owned(),
            problem: "is 0; it must be a number above 0, and is 32 as a rule".to_owned(),
        }
    } else {
        CheckpointError::Malformed {
            file,
            problem: "its parser panicked".to_owned(),
        }
    };
    Err(problem.into())
}

/// Whether the alignment stands in the file, as a number of any width, and is 0.
fn is_aligned_to_zero(reader: &mut BufReader<File>) -> bool {
    let mut metadata = Vec::new();
    let begun = reader.rewind();
    let read = begun.and_then(|()| reader.take(MOST_METADATA).read_to_end(&mut metadata));
    if read.is_err() {
        return false;
    }
    let key = ALIGNMENT.as_bytes();
    let Some(at) = metadata.windows(key.len()).position(|found| found == key) else {
        return false;
    };
    let behind = &metadata[at + key.len()..];
    let Some((kind, value)) = behind.split_first_chunk::<4>() else {
        return false;
    };
    let width = match u32::from_le_bytes(*kind) {
        0 | 1 => 1,
        2 | 3 => 2,
        4 | 5 => 4,
        _ => return false,
    };
    let value = value.get(..width);
    value.is_some_and(|value| value.iter().all(|&byte| byte == 0))
}
