//! A JSON object of a checkpoint that names itself in errors.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::LoadError;

/// Sizes that are read; the limit keeps products of two far from overflow.
pub(crate) const SIZES: RangeInclusive<usize> = 1..=1 << 24;

/// An object of a file, with its dotted place in it.
#[derive(Debug, Clone)]
pub(crate) struct Json {
    file: &'static str,
    prefix: String,
    map: Map<String, Value>,
}

impl Json {
    pub(crate) fn parse(file: &'static str, bytes: &[u8]) -> Result<Self, LoadError> {
        let map = serde_json::from_slice(bytes).map_err(|error| LoadError::Malformed {
            file: file.to_owned(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            file,
            prefix: String::new(),
            map,
        })
    }

    /// The value of a key, if it is there and not null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key is there, even if null.
    pub(crate) fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    pub(crate) fn object(&self, key: &str) -> Result<Option<Self>, LoadError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                file: self.file,
                prefix: format!("{}{key}.", self.prefix),
                map: map.clone(),
            })),
            Some(_) => Err(self.problem(key, "must be an object".to_owned())),
        }
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, LoadError> {
        self.get(key)
            .ok_or_else(|| self.problem(key, "is missing".to_owned()))?
            .as_str()
            .ok_or_else(|| self.problem(key, "must be a string".to_owned()))
    }

    pub(crate) fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str, LoadError> {
        if self.has(key) {
            self.text(key)
        } else {
            Ok(default)
        }
    }

    pub(crate) fn flag_or(&self, key: &str, default: bool) -> Result<bool, LoadError> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.problem(key, "must be true or false".to_owned()))
        })
    }

    pub(crate) fn optional_number(&self, key: &str) -> Result<Option<f64>, LoadError> {
        self.get(key)
            .map(|value| {
                value
                    .as_f64()
                    .filter(|number| number.is_finite() && *number >= 0.0)
                    .ok_or_else(|| self.problem(key, "must be a number".to_owned()))
            })
            .transpose()
    }

    pub(crate) fn number_or(&self, key: &str, default: f64) -> Result<f64, LoadError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A number of things, none included.
    pub(crate) fn count_or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| self.problem(key, format!("is {value}, not a count")))
        })
    }

    /// One of [`SIZES`].
    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, LoadError> {
        self.get(key)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok())
                    .filter(|size| SIZES.contains(size))
                    .ok_or_else(|| self.problem(key, format!("is {value}, not a size")))
            })
            .transpose()
    }

    pub(crate) fn size_or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// A token id or a list of them.
    pub(crate) fn ids(&self, key: &str) -> Result<Vec<u32>, LoadError> {
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| {
                    self.problem(key, format!("is {value}, not a token id or a list of them"))
                })
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
        }
    }

    pub(crate) fn problem(&self, key: &str, problem: String) -> LoadError {
        LoadError::Key {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.prefix),
            problem,
        }
    }

    pub(crate) fn unsupported(&self, key: &str, supported: &'static str) -> LoadError {
        LoadError::Unsupported {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.prefix),
            value: self
                .map
                .get(key)
                .map_or_else(|| "null".to_owned(), Value::to_string),
            supported,
        }
    }
}
