//! A file's metadata by key: present or not, of the right type, within bounds. What is wrong is told by
//! key and value.

use std::ops::RangeInclusive;

use aligner_checkpoint::{CheckpointError, SIZES};
use candle_core::quantized::gguf_file::Value;

use super::{
    GgufFile,
    text::{integer, number, shown},
};
use crate::LoadError;

impl GgufFile {
    /// A key as the file spells it.
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// A number as [`Json`](aligner_checkpoint::Json) takes it, if the key is there.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        let key = self.key(key);
        let Some(value) = self.content.metadata.get(&key) else {
            return Ok(None);
        };
        match number(value).filter(|number| number.is_finite() && *number >= 0.0) {
            Some(number) => Ok(Some(number)),
            None => {
                let problem = format!("is {}; it must be a number from 0 on", shown(value));
                Err(self.problem(key, problem))
            }
        }
    }

    pub(super) fn positive(&self, key: &str) -> Result<Option<f64>, LoadError> {
        match self.number(key)? {
            Some(number) if number <= 0.0 => {
                let problem = format!("is {number}; it must be a number above 0");
                Err(self.problem(self.key(key), problem))
            }
            number => Ok(number),
        }
    }

    /// A whole number within `allowed`, if the key is there.
    pub(super) fn count(
        &self,
        key: &str,
        allowed: RangeInclusive<usize>,
    ) -> Result<Option<usize>, LoadError> {
        let key = self.key(key);
        let Some(value) = self.content.metadata.get(&key) else {
            return Ok(None);
        };
        let count = integer(value).and_then(|count| usize::try_from(count).ok());
        match count.filter(|count| allowed.contains(count)) {
            Some(count) => Ok(Some(count)),
            None => {
                let (least, most) = (allowed.start(), allowed.end());
                let expected = format!("expected a whole number of {least} to {most}");
                Err(self.problem(key, format!("is {}; {expected}", shown(value))))
            }
        }
    }

    pub(super) fn optional_size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.count(key, SIZES)
    }

    pub(super) fn size(&self, key: &str) -> Result<usize, LoadError> {
        let size = self.optional_size(key)?;
        size.ok_or_else(|| self.problem(self.key(key), "is missing".to_owned()))
    }

    pub(super) fn text(&self, key: &str) -> Result<String, LoadError> {
        self.content
            .metadata
            .get(key)
            .and_then(|value: &Value| value.to_string().ok().cloned())
            .ok_or_else(|| self.problem(key.to_owned(), "is missing or no text".to_owned()))
    }

    pub(super) fn problem(&self, key: String, problem: String) -> LoadError {
        CheckpointError::Key {
            file: self.origin.clone(),
            key,
            problem,
        }
        .into()
    }
}
