//! A value that is never printed.

use std::{fmt, fs};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A secret. `Debug`, `Display` and `Serialize` give `[redacted]`; only [`Secret::expose`] tells.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The one in a file; a trailing line break is not part of it.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &str) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
        Ok(Self::new(text.trim_end_matches(['\r', '\n'])))
    }

    /// The value itself, for the client that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A secret that is given in place or in a file.
///
/// # Errors
/// If the file cannot be read.
pub fn secret(value: Option<&Secret>, file: Option<&str>) -> anyhow::Result<Option<Secret>> {
    match file {
        Some(path) => Secret::read(path).map(Some),
        None => Ok(value.cloned()),
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Numbers and booleans are taken as they are written: librdkafka's properties are texts.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Bool(bool),
            Integer(i64),
            Float(f64),
        }
        // serde's own message would quote the value.
        let written = Written::deserialize(deserializer)
            .map_err(|_| serde::de::Error::custom("expected a text or a number"))?;
        Ok(Self(match written {
            Written::Text(text) => text,
            Written::Bool(value) => value.to_string(),
            Written::Integer(value) => value.to_string(),
            Written::Float(value) => value.to_string(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_printed_by_nothing() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").expect("text");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(
            serde_json::to_string(&secret).expect("serialises"),
            "\"[redacted]\""
        );
        let refused = serde_json::from_str::<Secret>("[\"hunter2\"]").expect_err("a list");
        assert!(!refused.to_string().contains("hunter2"));
    }
}
