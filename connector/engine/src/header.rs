//! The header of a safetensors file, held against the file before it is mapped.
//!
//! A file may have been cut off by a download, or be something else under its name. The crate that
//! reads it says so without sizes and without the tensor; here the error says what to do.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

use aligner_checkpoint::CheckpointError;
use safetensors::tensor::TensorInfo;
use serde_json::{Map, Value};

use crate::LoadError;

/// A file begins with the length of its header, in so many bytes.
const LENGTH: u64 = 8;

/// The longest header that the crate reads.
const MOST_HEADER: u64 = 100_000_000;

/// Begins a file that stands for another one, which Git has not fetched.
const POINTER: &[u8] = b"version https://git-lfs";

/// Why a file that begins so is not `what` it should be, where it stands for another one; `them` is what that
/// is called.
pub(crate) fn pointer(begins: &[u8], what: &str, them: &str) -> Option<String> {
    begins.starts_with(POINTER).then(|| {
        format!("it is a pointer of Git LFS and not the {what}; fetch {them} with `git lfs pull`")
    })
}

/// Looks whether a file is as long as its header says, and every tensor as its shape.
pub(crate) fn check(path: &Path) -> Result<(), LoadError> {
    let origin = path.display().to_string();
    let io = |source| LoadError::Io {
        path: path.to_owned(),
        source,
    };
    let malformed = |problem: String| {
        Err(CheckpointError::Malformed {
            file: origin.clone(),
            problem,
        }
        .into())
    };
    let mut file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    let mut begins = Vec::new();
    let most = POINTER.len() as u64;
    let read = file.by_ref().take(most).read_to_end(&mut begins);
    read.map_err(io)?;
    if let Some(problem) = pointer(&begins, "weights", "them") {
        return malformed(problem);
    }
    if begins.trim_ascii_start().starts_with(b"<") {
        let problem = "it is a web page and not the weights; download it again";
        return malformed(problem.to_owned());
    }
    let Some((length, _)) = begins.split_first_chunk::<{ LENGTH as usize }>() else {
        return malformed(format!(
            "it has {size} bytes, too few for any; download it again"
        ));
    };
    let length = u64::from_le_bytes(*length);
    let start = LENGTH.saturating_add(length);
    if length > MOST_HEADER || start > size {
        return malformed(format!(
            "it has {size} bytes, and says that its header ends at {start}; download it again"
        ));
    }
    let mut header = Vec::new();
    file.seek(SeekFrom::Start(LENGTH)).map_err(io)?;
    file.take(length).read_to_end(&mut header).map_err(io)?;
    let header: Map<String, Value> = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(error) => return malformed(format!("its header is no JSON object: {error}")),
    };
    let end = start.saturating_add(places(&origin, header)?);
    if end != size {
        return malformed(format!(
            "it has {size} bytes, and its header describes {end}; download it again"
        ));
    }
    Ok(())
}

/// Where the last tensor ends.
fn places(origin: &str, header: Map<String, Value>) -> Result<u64, LoadError> {
    let problem = |name: &str, problem: String| LoadError::Tensor {
        origin: origin.to_owned(),
        // Anybody may have written it, and a terminal obeys some characters.
        name: name.escape_debug().to_string(),
        problem,
    };
    let mut tensors = Vec::with_capacity(header.len());
    for (name, described) in header {
        if name == "__metadata__" {
            continue;
        }
        match serde_json::from_value::<TensorInfo>(described) {
            Ok(tensor) => tensors.push((name, tensor)),
            Err(error) => {
                let error = error.to_string();
                let said = format!("is described wrongly: {}", error.escape_debug());
                return Err(problem(&name, said));
            }
        }
    }
    tensors.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut end = 0;
    for (name, tensor) in &tensors {
        let (from, to) = tensor.data_offsets;
        if from != end || to < from {
            let said = format!("has the bytes {from} to {to}, and those before it end at {end}");
            return Err(problem(name, said));
        }
        let mut sizes = tensor.shape.iter();
        let bits = sizes.try_fold(tensor.dtype.bitsize(), |bits, &size| bits.checked_mul(size));
        if bits != (to - from).checked_mul(8) {
            let (shape, dtype) = (&tensor.shape, tensor.dtype);
            let said = format!(
                "has {} bytes, other than shape {shape:?} in {dtype:?}",
                to - from
            );
            return Err(problem(name, said));
        }
        end = to;
    }
    Ok(end as u64)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is said of a file of these bytes.
    fn said(bytes: &[u8]) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        fs::write(&path, bytes).expect("written");
        match check(&path) {
            Ok(()) => "nothing".to_owned(),
            Err(error) => error
                .to_string()
                .replace(&folder.path().display().to_string(), "FOLDER"),
        }
    }

    /// A file with this header and so many bytes behind it.
    fn file(header: &str, bytes: usize) -> Vec<u8> {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; bytes]].concat()
    }

    const TWO: &str = r#"{"__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}}"#;

    #[test]
    fn a_file_that_was_cut_off_is_told_by_its_size_and_the_one_that_it_should_have() {
        let whole = file(TWO, 32);
        assert_eq!(said(&whole), "nothing");
        let size = whole.len();
        let start = "FOLDER/model.safetensors is not valid: it has";
        for held in [size - 1, size - 32, size + 1] {
            let mut bytes = whole.clone();
            bytes.resize(held, 0);
            let problem =
                format!("{held} bytes, and its header describes {size}; download it again");
            assert_eq!(said(&bytes), format!("{start} {problem}"));
        }
        let header = size - 32;
        for held in [8, 9, header - 1] {
            let problem = format!(
                "{held} bytes, and says that its header ends at {header}; download it again"
            );
            assert_eq!(said(&whole[..held]), format!("{start} {problem}"));
        }
        for held in [0, 7] {
            let problem = format!("{held} bytes, too few for any; download it again");
            assert_eq!(said(&whole[..held]), format!("{start} {problem}"));
        }
    }

    #[test]
    fn what_is_something_else_under_the_name_of_weights_is_told_by_what_it_is() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n";
        let cases: [(&[u8], &str); 4] = [
            (
                pointer,
                "it is a pointer of Git LFS and not the weights; fetch them with `git lfs pull`",
            ),
            (
                b"\n<!DOCTYPE html><html></html>",
                "it is a web page and not the weights; download it again",
            ),
            (
                &file("[]", 0),
                "its header is no JSON object: invalid type: sequence, expected a map at line 1 \
                 column 0",
            ),
            (
                b"PK\x03\x04 the pickle of an archive",
                "it has 29 bytes, and says that its header ends at 7307218076263730008; download \
                 it again",
            ),
        ];
        for (bytes, problem) in cases {
            let expected = format!("FOLDER/model.safetensors is not valid: {problem}");
            assert_eq!(said(bytes), expected);
        }
    }

    #[test]
    fn a_tensor_that_is_described_wrongly_is_named() {
        for (right, wrong, problem) in [
            (
                "BF16",
                "BF17",
                "tensor b is described wrongly: unknown variant `BF17`, expected one of",
            ),
            (
                "BF16",
                "F32",
                "tensor b has 8 bytes, other than shape [4] in F32",
            ),
            (
                "[2, 3]",
                "[2, 4]",
                "tensor a has 24 bytes, other than shape [2, 4] in F32",
            ),
            (
                "[2, 3]",
                "[4294967296, 4294967296]",
                "tensor a has 24 bytes, other than shape [4294967296, 4294967296] in F32",
            ),
            (
                "[24, 32]",
                "[16, 32]",
                "tensor b has the bytes 16 to 32, and those before it end at 24",
            ),
            (
                "[24, 32]",
                "[24, 8]",
                "tensor b has the bytes 24 to 8, and those before it end at 24",
            ),
            (r#""b""#, r#""b\u001b[2K""#, "nothing"),
            (
                r#""b": {"dtype": "BF16","#,
                r#""b\u001b[2K": {"#,
                r"tensor b\u{1b}[2K is described wrongly: missing field `dtype`",
            ),
        ] {
            let header = TWO.replace(right, wrong);
            assert_ne!(header, TWO);
            let said = said(&file(&header, 32));
            let expected = match problem {
                "nothing" => problem.to_owned(),
                problem => format!("FOLDER/model.safetensors: {problem}"),
            };
            assert!(said.starts_with(&expected), "{said}");
        }
    }
}
