//! Checkpoints in Hugging Face layout: read from a folder or from inside the program, written
//! so that an interruption never leaves half a file under its final name.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

pub(crate) use aligner_checkpoint::{CONFIG, SINGLE as WEIGHTS};
use aligner_checkpoint::{INDEX, shards};
use candle_core::{DType, Device, Tensor};
use serde_json::Value;

use crate::{
    error::{TrainError, Tried},
    model::EMBEDDING,
    options::{Base, Precision, TrainOptions},
};

pub(crate) const GENERATION: &str = "generation_config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const PROFILE: &str = "aligner.json";
pub(crate) const RECORD: &str = "training.json";
pub(crate) const CURVE: &str = "training-curve.svg";

/// Files that a trained checkpoint takes over from its base as they are.
pub(crate) const TAKEN_OVER: [&str; 4] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

impl TrainOptions {
    /// Where a run may write, its checkpoints aside: each file, and the place that it has until it
    /// is whole. Whoever reads one of them would lose it.
    pub fn written(&self) -> Vec<PathBuf> {
        [CONFIG, GENERATION, PROFILE, WEIGHTS, RECORD, CURVE]
            .into_iter()
            .chain(TAKEN_OVER)
            .map(|name| self.output.join(name))
            .flat_map(|path| [part(&path), path])
            .collect()
    }
}

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
        let name = folder.display().to_string();
        let mut wanted: Vec<String> = [CONFIG, GENERATION, PROFILE, WEIGHTS]
            .into_iter()
            .chain(TAKEN_OVER)
            .map(str::to_owned)
            .collect();
        // As the engine has it: beside a single file an index is of former shards.
        if !folder.join(WEIGHTS).is_file()
            && let Some(index) = read_optional(&folder.join(INDEX))?
        {
            wanted.extend(shards(&index, &format!("{name}/{INDEX}"))?);
            files.insert(INDEX.to_owned(), Cow::Owned(index));
        }
        for name in wanted {
            if let Some(bytes) = read_optional(&folder.join(&name))? {
                files.insert(name, Cow::Owned(bytes));
            }
        }
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
            Some(index) if self.optional(WEIGHTS).is_none() => shards(index, &self.file(INDEX))?,
            _ => BTreeSet::from([WEIGHTS.to_owned()]),
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

/// Where a file lies until it is whole.
fn part(path: &Path) -> PathBuf {
    path.with_extension("part")
}

/// Writes beside and renames.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let part = part(path);
    fs::write(&part, bytes).tried("write", &part)?;
    fs::rename(&part, path).tried("write", path)
}

/// Writes weights in the layout that transformers reads.
pub(crate) fn write_weights(
    path: &Path,
    weights: &BTreeMap<String, Tensor>,
    precision: Precision,
) -> Result<(), TrainError> {
    let failed = |error: String| TrainError::Io {
        action: "write",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    let converted: Vec<(&String, Tensor)> = weights
        .iter()
        .map(|(name, tensor)| {
            let tensor = tensor
                .to_device(&Device::Cpu)?
                .to_dtype(precision.dtype())?;
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

/// The weights in the number format that they are written in.
pub(crate) fn stored_as(
    precision: Precision,
    weights: HashMap<String, Tensor>,
) -> candle_core::Result<HashMap<String, Tensor>> {
    weights
        .into_iter()
        .map(|(name, tensor)| Ok((name, tensor.to_dtype(precision.dtype())?)))
        .collect()
}

/// The number format of a checkpoint. A file may mix them, norms in f32 beside matrices in bf16:
/// the embedding is among the matrices, and never left out.
pub(crate) fn precision_of(weights: &HashMap<String, Tensor>) -> Precision {
    match weights.get(EMBEDDING).map(Tensor::dtype) {
        Some(DType::F16) => Precision::F16,
        Some(DType::BF16) => Precision::Bf16,
        _ => Precision::F32,
    }
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// As `config.json` calls it.
    pub(crate) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_mixed_formats_has_that_of_its_embedding() -> candle_core::Result<()> {
        let of = |dtype| Tensor::zeros(2, dtype, &Device::Cpu);
        let mut weights = HashMap::new();
        for layer in 0..30 {
            let name = format!("model.layers.{layer}.input_layernorm.weight");
            weights.insert(name, of(DType::F32)?);
        }
        for (dtype, precision) in [
            (DType::BF16, Precision::Bf16),
            (DType::F16, Precision::F16),
            (DType::F32, Precision::F32),
        ] {
            weights.insert(EMBEDDING.to_owned(), of(dtype)?);
            assert_eq!(precision_of(&weights), precision);
        }
        Ok(())
    }

    #[test]
    fn an_index_is_not_looked_at_beside_a_single_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let base = || BaseFiles::read(&Base::Folder(folder.path().to_owned()));
        fs::write(folder.path().join(INDEX), "[").expect("writes");
        let error = base().err().expect("the index is all there is");
        assert!(error.to_string().contains("is not valid"), "{error}");
        fs::write(folder.path().join(WEIGHTS), "").expect("writes");
        assert!(base().is_ok_and(|files| files.optional(WEIGHTS).is_some()));
    }
}
