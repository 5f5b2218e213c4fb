//! The tensors of a checkpoint, by their Hugging Face names.
//!
//! Safetensors files are mapped, never read whole: a row is converted on its way into the packed
//! matrices that the kernels use, so loading needs little more memory than the result. Tensors of
//! a GGUF file come through candle one at a time, see [`crate::gguf`].

use std::{borrow::Cow, fs, io::Read as _, path::Path};

use aligner_checkpoint::{CheckpointError, INDEX, SINGLE, shards};
use candle_core::safetensors::{MmapedSafetensors, SliceSafetensors};
use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest as _, Sha256};

use crate::{
    LoadError,
    error::told,
    gguf::GgufFile,
    header,
    rows::{Rows, Stored},
    source::Files,
};

/// Tensors of a checkpoint and the digest of the files that hold them.
pub(crate) struct Weights<'a> {
    origin: String,
    tensors: Tensors<'a>,
    /// What stands before `embed_tokens.weight`.
    prefix: &'static str,
    sha256: [u8; 32],
}

enum Tensors<'a> {
    Mapped(MmapedSafetensors),
    Embedded(SliceSafetensors<'a>),
    Gguf(GgufFile),
}

impl<'a> Weights<'a> {
    /// Opens `model.safetensors`, or the shards that its index lists.
    pub(crate) fn open(files: &'a Files) -> Result<Self, LoadError> {
        let origin = files.origin();
        let malformed = |error: candle_core::Error| CheckpointError::Malformed {
            file: origin.clone(),
            problem: told(&error),
        };
        let (tensors, sha256) = match files {
            Files::Embedded(_) => {
                let bytes = files.required(SINGLE, "it holds the weights")?;
                let digest = Sha256::digest(bytes).into();
                let tensors =
                    SliceSafetensors::new(files.borrowed(SINGLE).expect("found just above"))
                        .map_err(malformed)?;
                (Tensors::Embedded(tensors), digest)
            }
            Files::Folder(folder) => {
                let names = shard_names(files)?;
                let paths: Vec<_> = names.iter().map(|name| folder.join(name)).collect();
                // Before minutes go into a digest.
                for path in &paths {
                    header::check(path)?;
                }
                let mut digest = Sha256::new();
                for path in &paths {
                    hash_file(path, &mut digest)?;
                }
                // SAFETY: as with every mapped file, nobody may truncate it while it is read;
                // checkpoints are written once, and the map is dropped when loading ends.
                let mapped = unsafe { MmapedSafetensors::multi(&paths) }.map_err(malformed)?;
                (Tensors::Mapped(mapped), digest.finalize().into())
            }
        };
        let mut weights = Self {
            origin,
            tensors,
            prefix: "",
            sha256,
        };
        weights.prefix = weights.find_prefix()?;
        Ok(weights)
    }

    /// SHA-256 of the weight files in order.
    pub(crate) fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The tensors of a GGUF file.
    pub(crate) fn gguf(file: GgufFile, sha256: [u8; 32]) -> Self {
        let origin = file.origin().to_owned();
        Self {
            origin,
            tensors: Tensors::Gguf(file),
            prefix: "",
            sha256,
        }
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>, candle_core::Error> {
        match &self.tensors {
            Tensors::Mapped(tensors) => tensors.get(name),
            Tensors::Embedded(tensors) => tensors.get(name),
            Tensors::Gguf(_) => candle_core::bail!("a GGUF file holds no safetensors"),
        }
    }

    /// Text models call it `model.`, multimodal ones nest it.
    fn find_prefix(&self) -> Result<&'static str, LoadError> {
        [
            "model.",
            "",
            "language_model.model.",
            "model.language_model.",
        ]
        .into_iter()
        .find(|prefix| self.view(&format!("{prefix}norm.weight")).is_ok())
        .ok_or_else(|| self.missing("model.norm.weight"))
    }

    /// The output head, which is not below the prefix, if the checkpoint has one.
    pub(crate) fn head(&self, vocab: usize, hidden: usize) -> Result<Option<Rows<'_>>, LoadError> {
        const NAMES: [&str; 2] = ["lm_head.weight", "language_model.lm_head.weight"];
        let name = match &self.tensors {
            Tensors::Gguf(file) => file.has("output.weight").then_some(NAMES[0]),
            _ => NAMES.into_iter().find(|name| self.view(name).is_ok()),
        };
        name.map(|name| self.exactly(name, &[vocab, hidden]))
            .transpose()
    }

    /// A tensor below the prefix, of the given shape.
    pub(crate) fn matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Rows<'_>, LoadError> {
        self.exactly(&self.whole_name(name), &[rows, columns])
    }

    /// The whole name of a tensor below the prefix.
    pub(crate) fn whole_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A tensor by its whole name.
    pub(crate) fn exactly(&self, name: &str, shape: &[usize]) -> Result<Rows<'_>, LoadError> {
        if let Tensors::Gguf(file) = &self.tensors {
            return file.tensor(name, shape);
        }
        let view = self.view(name).map_err(|_| self.missing(name))?;
        if view.shape() != shape {
            return Err(self.problem(
                name,
                format!("has shape {:?}; config.json says {shape:?}", view.shape()),
            ));
        }
        let stored = match view.dtype() {
            Dtype::F32 => Stored::F32,
            Dtype::F16 => Stored::F16,
            Dtype::BF16 => Stored::Bf16,
            other => {
                return Err(self.problem(
                    name,
                    format!("is stored as {other:?}; supported: F32, F16, BF16"),
                ));
            }
        };
        Ok(Rows::new(Cow::Borrowed(view.data()), stored, shape))
    }

    /// A vector below the prefix.
    pub(crate) fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>, LoadError> {
        let rows = self.exactly(&self.whole_name(name), &[len])?;
        let mut values = vec![0.0; len];
        rows.row(0, &mut values);
        Ok(values)
    }

    /// That a tensor is not there.
    pub(crate) fn missing(&self, name: &str) -> LoadError {
        self.problem(name, "is missing".to_owned())
    }

    /// That something is wrong with a tensor.
    pub(crate) fn problem(&self, name: &str, problem: String) -> LoadError {
        LoadError::Tensor {
            origin: self.origin.clone(),
            name: name.to_owned(),
            problem,
        }
    }
}

/// The weight files of a folder, in a stable order.
fn shard_names(files: &Files) -> Result<Vec<String>, LoadError> {
    // Before any index, as in transformers, which leaves the index of former shards beside it.
    if files.exists(SINGLE) {
        return Ok(vec![SINGLE.to_owned()]);
    }
    let Some(index) = files.optional(INDEX)? else {
        return Err(LoadError::MissingFile {
            file: SINGLE.to_owned(),
            origin: files.origin(),
            hint: "a checkpoint needs model.safetensors, or model.safetensors.index.json and its \
                   shards; PyTorch .bin files are not read",
        });
    };
    let names = shards(&index, &files.file(INDEX))?;
    if let Some(name) = names.iter().find(|name| !files.exists(name)) {
        return Err(LoadError::MissingFile {
            file: name.escape_debug().to_string(),
            origin: files.origin(),
            hint: "model.safetensors.index.json lists it as a shard",
        });
    }
    Ok(names.into_iter().collect())
}

/// Adds a file to a digest without holding it in memory.
pub(crate) fn hash_file(path: &Path, digest: &mut Sha256) -> Result<(), LoadError> {
    let io = |source| LoadError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = fs::File::open(path).map_err(io)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(io)?;
        if read == 0 {
            return Ok(());
        }
        digest.update(&buffer[..read]);
    }
}
