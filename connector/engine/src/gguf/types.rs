//! Types of tensors by name: those that are read, and those that a file is refused for.

use aligner_checkpoint::CheckpointError;

use crate::{LoadError, error::told};

/// Types of tensors that are read, as ggml calls them.
const TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K";

/// Why a file is not read: candle gives the number of a type that it does not know, and no more.
pub(super) fn unreadable(file: &str, error: &candle_core::Error) -> LoadError {
    let problem = told(error);
    let file = file.to_owned();
    let number: Option<u32> = problem
        .strip_prefix("unknown dtype for tensor ")
        .and_then(|rest| rest.lines().next()?.parse().ok());
    match number {
        Some(number) => CheckpointError::Unsupported {
            file,
            key: "the type of a tensor".to_owned(),
            value: ggml_type(number).map_or_else(|| number.to_string(), str::to_owned),
            supported: TYPES,
        },
        None => CheckpointError::Malformed { file, problem },
    }
    .into()
}

/// ggml's name of a type that candle does not know.
fn ggml_type(number: u32) -> Option<&'static str> {
    Some(match number {
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return None,
    })
}
