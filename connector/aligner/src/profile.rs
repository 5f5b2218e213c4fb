//! A model's profile: what belongs to a checkpoint besides its weights.
//!
//! It lies beside the weights as `aligner.json`. A checkpoint without one is used with the
//! paper's template, no learnt *unchanged* token, and no guard.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    bounds::{self, Misfit},
    guard::Guard,
    prompt::{PAPER, Template},
};

/// Name, prompt and guard of an Aligner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The Aligner's name, recorded with each correction.
    pub name: String,
    /// How question and answer become the prompt.
    pub template: Template,
    /// The special token that the model decodes first when the answer stands as it is.
    #[serde(default)]
    pub unchanged_token: Option<String>,
    /// What the model is fit for; chooses between its output and the original.
    #[serde(default)]
    pub guard: Guard,
}

/// A profile that cannot be used.
#[derive(Debug, Error)]
pub enum ProfileError {
    /// Not JSON, or not of a profile's shape.
    #[error("{origin} is not a profile: {problem}")]
    Malformed {
        /// File that it came from.
        origin: String,
        /// What the parser says; a template that lacks a field is its matter, too.
        problem: serde_json::Error,
    },
    /// A limit of the guard that cannot be.
    #[error("{origin}: guard.{key} is {value}, expected {expected}")]
    Limit {
        /// File that it came from.
        origin: String,
        /// The limit.
        key: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
}

impl Profile {
    /// Parses the JSON of `aligner.json`; `origin` names it in errors.
    ///
    /// # Errors
    /// If it is not JSON, has unknown keys, its template lacks a field, or its guard has a limit
    /// that cannot be.
    pub fn from_json(json: &[u8], origin: &str) -> Result<Self, ProfileError> {
        let profile: Self =
            serde_json::from_slice(json).map_err(|problem| ProfileError::Malformed {
                origin: origin.to_owned(),
                problem,
            })?;
        bounds::check(&profile.guard).map_err(
            |Misfit {
                 key,
                 value,
                 expected,
             }| ProfileError::Limit {
                origin: origin.to_owned(),
                key,
                value,
                expected,
            },
        )?;
        Ok(profile)
    }

    /// The profile of a checkpoint that brings none: the paper's template and no guard.
    pub fn paper(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            template: Template::new(PAPER).expect("the paper's template has both fields"),
            unchanged_token: None,
            guard: Guard::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(json: &str) -> String {
        let error = Profile::from_json(json.as_bytes(), "mine/aligner.json").expect_err(json);
        error.to_string()
    }

    #[test]
    fn what_cannot_be_used_of_a_profile_is_named_with_its_file() {
        let with = |guard: &str| {
            format!(r#"{{"name": "a", "template": "{{question}}{{answer}}", "guard": {guard}}}"#)
        };
        assert_eq!(
            said(&with(r#"{"max_answer_tokens": 0}"#)),
            "mine/aligner.json: guard.max_answer_tokens is 0, expected at least 1"
        );
        for (json, problem) in [
            ("{".to_owned(), "EOF"),
            (with(r#"{"max_words": 1}"#), "unknown field `max_words`"),
            (
                r#"{"name": "a", "template": "{question}"}"#.to_owned(),
                "template must contain {answer} exactly once, found 0",
            ),
        ] {
            let said = said(&json);
            let start = format!("mine/aligner.json is not a profile: {problem}");
            assert!(said.starts_with(&start), "{said}");
        }
        Profile::from_json(with("{}").as_bytes(), "mine/aligner.json").expect("a profile");
    }
}
