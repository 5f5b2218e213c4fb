//! Checkpoints in Hugging Face layout: read from a folder or from inside the program, written
//! so that an interruption never leaves half a file under its final name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    fs,
    io::ErrorKind,
    path::Path,
};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::{
    error::{TrainError, Tried},
    options::{Base, Precision},
};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const GENERATION: &str = "generation_config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const PROFILE: &str = "aligner.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Files that a trained checkpoint takes over from its base as they are.
pub(crate) const TAKEN_OVER: [&str; 4] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// The files of a checkpoint to start from.
pub(crate) struct BaseFiles {
    name: String,
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl BaseFiles {
    /// Reads the files of a base other than scratch.
    pub fn read(base: &Base) -> Result<Self, TrainError> {
        match base {
            Base::Files { name, files } => Ok(Self {
                name: name.clone(),
                files: files.iter().cloned().collect(),
            }),
            Base::Folder(folder) => Self::folder(folder),
            Base::Scratch(_) => Ok(Self {
                name: "scratch".to_owned(),
                files: BTreeMap::new(),
            }),
        }
    }

    fn folder(folder: &Path) -> Result<Self, TrainError> {
        let mut files = BTreeMap::new();
        let mut wanted: Vec<String> = [CONFIG, GENERATION, PROFILE, WEIGHTS, INDEX]
            .into_iter()
            .chain(TAKEN_OVER)
            .map(str::to_owned)
            .collect();
        if let Some(index) = read_optional(&folder.join(INDEX))? {
            wanted.extend(shards(&index));
        }
        for name in wanted {
            if let Some(bytes) = read_optional(&folder.join(&name))? {
                files.insert(name, Cow::Owned(bytes));
            }
        }
        let name = folder.display().to_string();
        Ok(Self { name, files })
    }

    /// How errors call a file.
    pub fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    pub fn optional(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Cow::as_ref)
    }

    pub fn required(&self, name: &str) -> Result<&[u8], TrainError> {
        self.optional(name).ok_or_else(|| TrainError::Checkpoint {
            file: self.file(name),
            problem: "is missing; a checkpoint in Hugging Face layout has config.json, \
                      tokenizer.json and model.safetensors"
                .to_owned(),
        })
    }

    pub fn json(&self, name: &str) -> Result<Option<Value>, TrainError> {
        self.optional(name)
            .map(|bytes| {
                serde_json::from_slice(bytes).map_err(|error| TrainError::Checkpoint {
                    file: self.file(name),
                    problem: format!("is not JSON ({error})"),
                })
            })
            .transpose()
    }

    /// Every weight, in the number format that it is stored in.
    pub fn weights(&self) -> Result<HashMap<String, Tensor>, TrainError> {
        let names = match self.optional(INDEX) {
            Some(index) if self.optional(WEIGHTS).is_none() => shards(index),
            _ => vec![WEIGHTS.to_owned()],
        };
        let mut weights = HashMap::new();
        for name in names {
            let bytes = self.required(&name)?;
            let tensors =
                candle_core::safetensors::load_buffer(bytes, &Device::Cpu).map_err(|error| {
                    TrainError::Checkpoint {
                        file: self.file(&name),
                        problem: format!("cannot be read ({error})"),
                    }
                })?;
            weights.extend(tensors);
        }
        Ok(weights)
    }
}

fn shards(index: &[u8]) -> Vec<String> {
    let index: Value = serde_json::from_slice(index).unwrap_or_default();
    let mut names: Vec<String> = index["weight_map"]
        .as_object()
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(|name| name.as_str().map(str::to_owned))
        // A name in an index is a file of the same folder, nothing else.
        .filter(|name| !name.contains(['/', '\\']))
        .collect();
    names.sort();
    names.dedup();
    names
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TrainError> {
    fs::read(path).tried("read", path)
}

pub(crate) fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, TrainError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).tried("read", path),
    }
}

pub(crate) fn create_folder(path: &Path) -> Result<(), TrainError> {
    fs::create_dir_all(path).tried("create folder", path)
}

/// Writes beside and renames.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let part = path.with_extension("part");
    fs::write(&part, bytes).tried("write", &part)?;
    fs::rename(&part, path).tried("write", path)
}

/// Writes weights in the layout that transformers reads.
pub(crate) fn write_weights(
    path: &Path,
    weights: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<(), TrainError> {
    let dtype = match precision {
        Precision::F32 => DType::F32,
        Precision::F16 => DType::F16,
        Precision::Bf16 => DType::BF16,
    };
    let failed = |error: String| TrainError::Io {
        action: "write",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    let converted: Vec<(&String, Tensor)> = weights
        .iter()
        .map(|(name, tensor)| {
            let tensor = tensor.to_device(&Device::Cpu)?.to_dtype(dtype)?;
            Ok((name, tensor.contiguous()?))
        })
        .collect::<candle_core::Result<_>>()
        .map_err(|error| failed(error.to_string()))?;
    // Without this note transformers refuses the file.
    let note = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    // Not `serialize_to_file`: that leaves a file which only its owner may read.
    let bytes =
        safetensors::serialize(converted, Some(note)).map_err(|error| failed(error.to_string()))?;
    write(path, &bytes)
}

pub(crate) fn precision_of(weights: &HashMap<String, Tensor>) -> Precision {
    match weights.values().next().map(Tensor::dtype) {
        Some(DType::F16) => Precision::F16,
        Some(DType::BF16) => Precision::Bf16,
        _ => Precision::F32,
    }
}

impl Precision {
    /// As `config.json` calls it.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}
