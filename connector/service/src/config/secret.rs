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

/// Whether the value of a librdkafka property may be shown: not that of a secret, nor of a name that
/// librdkafka does not know, for it may be the misspelt one of a secret.
pub(super) fn is_shown(property: &str) -> bool {
    !aligner_kafka::is_secret(property) && !aligner_kafka::is_unknown(property)
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
    /// Numbers and booleans are taken, for librdkafka's properties are texts, and `10` is one of
    /// them. Where the value is a secret indeed they were refused before.
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
    use crate::config::{Layers, Problems, read};

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

    fn read_file(ending: &str, text: &str) -> Result<(), Problems> {
        let file = tempfile::Builder::new()
            .suffix(ending)
            .tempfile()
            .expect("temporary file");
        fs::write(&file, text).expect("written");
        read(&Layers {
            file: Some(file.path().to_owned()),
            ..Layers::default()
        })
        .map(drop)
    }

    #[test]
    fn a_secret_that_is_not_text_is_refused_and_not_repeated() {
        let sections = [
            (
                "kafka.properties.sasl.password",
                "kafka: {properties: {sasl.password: ",
                "}}",
            ),
            (
                "kafka.properties.sasl.password",
                "kafka: {properties: {sasl: {password: ",
                "}}}",
            ),
            (
                "kafka.properties.sasl.oauthbearer.client.secret",
                "kafka: {properties: {sasl.oauthbearer.client.secret: ",
                "}}",
            ),
            (
                "formats.schema_registry.password",
                "formats: {schema_registry: {password: ",
                "}}",
            ),
            (
                "aligner.remote.api_key",
                "aligner: {remote: {api_key: ",
                "}}",
            ),
        ];
        for (key, before, after) in sections {
            for value in ["4711", "004711", "4711e3", "0x4711", "4.711", "True"] {
                let Problems(problems) =
                    read_file(".yaml", &format!("{before}{value}{after}\n")).expect_err(value);
                let problem = problems
                    .iter()
                    .find(|problem| problem.key == key)
                    .unwrap_or_else(|| panic!("{key}: {value}: {problems:?}"));
                assert_eq!(
                    problem.fix.as_deref(),
                    Some("write it in quotes"),
                    "{value}"
                );
                assert_eq!(problem.value.as_deref(), Some("[redacted]"));
                let told = format!("{problems:?}");
                assert!(!told.contains("4711"), "{told}");
            }
        }
        let toml = "[aligner.remote]\napi_key = 4711\n";
        let problems = read_file(".toml", toml).expect_err("a number").to_string();
        assert!(problems.contains("write it in quotes"), "{problems}");
    }

    #[test]
    fn a_secret_in_quotes_and_a_number_that_is_no_secret_are_taken() {
        for text in [
            "kafka: {properties: {security.protocol: sasl_ssl, sasl.mechanism: PLAIN, \
             sasl.username: ada, sasl.password: '004711'}}\n",
            "kafka: {properties: {fetch.wait.max.ms: 10}}\n",
        ] {
            read_file(".yaml", text).unwrap_or_else(|problems| panic!("{text}: {problems}"));
        }
    }
}
