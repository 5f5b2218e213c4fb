//! Where a checkpoint's files come from: a folder, or bytes inside the program.

use std::{borrow::Cow, fs, io, path::PathBuf};

use crate::LoadError;

/// What to load.
#[derive(Debug, Clone)]
pub enum ModelSource {
    /// A folder in Hugging Face layout.
    Folder(PathBuf),
    /// A GGUF file; its tokenizer may lie beside it as `tokenizer.json`.
    Gguf(PathBuf),
    /// A checkpoint that is part of the program.
    Embedded(EmbeddedModel),
}

/// A Hugging Face-layout checkpoint inside the program.
#[derive(Debug, Clone)]
pub struct EmbeddedModel {
    /// What to call it where a folder's name would stand.
    pub name: String,
    /// The files by name, such as `config.json`.
    pub files: &'static [(&'static str, &'static [u8])],
}

/// The files of one checkpoint.
#[derive(Debug)]
pub(crate) enum Files {
    Folder(PathBuf),
    Embedded(EmbeddedModel),
}

impl Files {
    /// How errors call the place.
    pub(crate) fn origin(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Embedded(model) => format!("the embedded model {}", model.name),
        }
    }

    /// How errors call one of them.
    pub(crate) fn file(&self, name: &str) -> String {
        match self {
            Self::Folder(folder) => folder.join(name).display().to_string(),
            Self::Embedded(model) => format!("{}/{name}", model.name),
        }
    }

    /// Last part of the folder's name, or the bundle's name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => folder.file_name().map_or_else(
                || "model".to_owned(),
                |name| name.to_string_lossy().into_owned(),
            ),
            Self::Embedded(model) => model.name.clone(),
        }
    }

    pub(crate) fn borrowed(&self, name: &str) -> Option<&'static [u8]> {
        match self {
            Self::Folder(_) => None,
            Self::Embedded(model) => model
                .files
                .iter()
                .find(|(file, _)| *file == name)
                .map(|(_, bytes)| *bytes),
        }
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).is_file(),
            Self::Embedded(_) => self.borrowed(name).is_some(),
        }
    }

    /// The bytes of a file, if it exists.
    pub(crate) fn optional(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        match self {
            Self::Embedded(_) => Ok(self.borrowed(name).map(Cow::Borrowed)),
            Self::Folder(folder) => {
                let path = folder.join(name);
                match fs::read(&path) {
                    Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(LoadError::Io { path, source }),
                }
            }
        }
    }

    pub(crate) fn required(
        &self,
        name: &str,
        hint: &'static str,
    ) -> Result<Cow<'static, [u8]>, LoadError> {
        self.optional(name)?.ok_or_else(|| LoadError::MissingFile {
            file: name.to_owned(),
            origin: self.origin(),
            hint,
        })
    }
}
