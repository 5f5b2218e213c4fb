//! Secrets of the configuration: given in place or in a file, and which of librdkafka's values are some.

use std::fs;

use aligner_http::Secret;
use anyhow::Context;

/// The secret in a file; a trailing line break is not part of it.
///
/// # Errors
/// If the file cannot be read.
pub fn secret_in(path: &str) -> anyhow::Result<Secret> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// A secret that is given in place or in a file.
///
/// # Errors
/// If the file cannot be read.
pub fn secret(value: Option<&Secret>, file: Option<&str>) -> anyhow::Result<Option<Secret>> {
    match file {
        Some(path) => secret_in(path).map(Some),
        None => Ok(value.cloned()),
    }
}

/// Whether the value of a librdkafka property may be shown: not that of a secret, nor of a name that
/// librdkafka does not know, for it may be the misspelt one of a secret.
pub(super) fn is_shown(property: &str) -> bool {
    !aligner_kafka::is_secret(property) && !aligner_kafka::is_unknown(property)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, Problems, read};

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
