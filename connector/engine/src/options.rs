//! What an engine is loaded with, and what it says about itself.

use std::{num::NonZeroUsize, str::FromStr};

use aligner::{Decoding, Profile};
use serde::{Deserialize, Serialize};

use crate::{LoadError, ModelSource, worker::Thrift};

/// How to load an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// The checkpoint.
    pub model: ModelSource,
    /// Template and guard; `None` takes the checkpoint's `aligner.json`, or else the paper's
    /// template.
    pub profile: Option<Profile>,
    /// How weights are held.
    pub dtype: Dtype,
    /// One worker thread for each; a device may stand there several times.
    pub devices: Vec<Device>,
    /// Threads of all CPU workers together; all of the machine's if `None`.
    pub threads: Option<NonZeroUsize>,
    /// How outputs are decoded.
    pub decoding: Decoding,
    /// What a worker may hold and compute at a time.
    pub limits: Limits,
    /// Whether steps may check drafts. On a CPU, drafts never change an output, only the number of
    /// steps; on a GPU they do where two tokens are as good as tied.
    pub speculation: Speculation,
    /// Instruction set of the CPU's kernels (`avx512-vnni`, `avx512`, `avx2`, `portable`), to measure
    /// a lesser machine on this one; the best that there is if `None`. It never changes an output.
    pub kernels: Option<String>,
}

impl EngineOptions {
    /// Defaults for a checkpoint: on the CPU, greedy.
    pub fn new(model: ModelSource) -> Self {
        Self {
            model,
            profile: None,
            dtype: Dtype::Auto,
            devices: vec![Device::Cpu],
            threads: None,
            decoding: Decoding::default(),
            limits: Limits::default(),
            speculation: Speculation::default(),
            kernels: None,
        }
    }
}

/// How weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// f32 for safetensors; for GGUF what the file holds, where the kernels compute with it (Q8_0,
    /// Q4_0, Q4_K, Q6_K), else f32.
    /// The same on every machine.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Blocks of 32 int8, inputs quantised row by row.
    Q8_0,
    /// Blocks of 32 four-bit weights with scale and minimum (llama.cpp's Q4_K), where a matrix has
    /// rows of a multiple of 256, else as Q8_0.
    Q4K,
    /// 16-bit floats, on CUDA.
    Bf16,
}

impl Dtype {
    /// As configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Q8_0 => "q8_0",
            Self::Q4K => "q4_k",
            Self::Bf16 => "bf16",
        }
    }
}

/// Where a worker computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A CUDA device by number; needs a build with the feature `cuda`.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let device = match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            Some(("cuda", number)) => number.parse().ok().map(Self::Cuda),
            _ => None,
        };
        device.ok_or_else(|| LoadError::Setting {
            setting: "device",
            value: text.to_owned(),
            problem: "is no device; use cpu or cuda:0".to_owned(),
        })
    }
}

/// When steps check drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speculation {
    /// Where it pays by the measured cost of steps: while few sequences decode.
    #[default]
    Auto,
    /// Wherever there is something to guess, whatever it costs: for tests and for measuring how
    /// often drafts are right. No configuration can ask for it.
    #[serde(skip)]
    Always,
    /// Never.
    Off,
}

impl Speculation {
    pub(crate) fn thrift(self) -> Thrift {
        match self {
            Self::Always => Thrift::Lavish,
            Self::Auto | Self::Off => Thrift::Measured,
        }
    }
}

/// What one worker may hold and compute at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most rows of a step.
    pub max_step_tokens: usize,
    /// Most sequences in a batch.
    pub max_running: usize,
    /// Tokens whose keys and values fit into a worker, prompts and outputs together; `None` chooses
    /// by the model's size. No sequence is longer.
    pub kv_tokens: Option<usize>,
    /// Tokens of past corrections that drafts are made from, about twenty bytes each.
    pub history_tokens: usize,
    /// Most requests that wait or run in the whole engine; more are refused as unavailable.
    pub max_queued: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_step_tokens: 256,
            max_running: 32,
            kv_tokens: None,
            history_tokens: 1 << 19,
            max_queued: 65_536,
        }
    }
}

/// What was loaded, for logs and `bench`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Architecture as the checkpoint names it.
    pub family: String,
    /// Weights.
    pub parameters: usize,
    /// How they are held.
    pub dtype: &'static str,
    /// How keys and values are held.
    pub kv_dtype: &'static str,
    /// Instruction set of the kernels, such as `avx512-vnni` or `avx2`.
    pub kernels: String,
    /// Most positions of a sequence.
    pub context: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// Bytes of weights that a decoding step reads.
    pub step_bytes: usize,
    /// Multiply-adds of a row in the layers' products.
    pub row_multiply_adds: usize,
    /// Multiply-adds of a row in the output head.
    pub head_multiply_adds: usize,
    /// Hex SHA-256 of the weight files.
    pub weights_sha256: String,
    /// Threads of each worker.
    pub threads: usize,
    /// Bytes that keys and values of all workers take once all of them are in use.
    pub kv_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_the_processor_or_a_gpu_by_its_number() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda:0", Device::Cuda(0)),
            ("cuda:12", Device::Cuda(12)),
        ] {
            assert_eq!(text.parse::<Device>().expect("a device"), device);
        }
        for text in ["", "gpu", "cpu:0", "cuda", "cuda:", "cuda:x", "CPU"] {
            let error = text.parse::<Device>().expect_err(text);
            let said = format!("device = {text} is no device; use cpu or cuda:0");
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_dtype_is_named_as_configuration_spells_it() {
        for dtype in [
            Dtype::Auto,
            Dtype::F32,
            Dtype::Q8_0,
            Dtype::Q4K,
            Dtype::Bf16,
        ] {
            let spelt = serde_json::to_value(dtype).expect("a word");
            assert_eq!(spelt, dtype.name());
        }
    }
}
