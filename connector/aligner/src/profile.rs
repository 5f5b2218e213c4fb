//! A model's profile: what belongs to a checkpoint besides its weights.
//!
//! It lies beside the weights as `aligner.json`. A checkpoint without one is used with the
//! paper's template, no learnt *unchanged* token, and no guard.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    guard::Guard,
    prompt::{PAPER, Template, TemplateError},
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
    #[error("{origin} is not a profile: {source}")]
    Malformed {
        /// File or preset that it came from.
        origin: String,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// The template lacks a field.
    #[error("{origin}: {source}")]
    Template {
        /// File or preset that it came from.
        origin: String,
        /// What is wrong with it.
        source: TemplateError,
    },
}

impl Profile {
    /// Parses the JSON of `aligner.json`; `origin` names it in errors.
    ///
    /// # Errors
    /// If it is not JSON, has unknown keys, or its template lacks a field.
    pub fn from_json(json: &[u8], origin: &str) -> Result<Self, ProfileError> {
        serde_json::from_slice(json).map_err(|source| ProfileError::Malformed {
            origin: origin.to_owned(),
            source,
        })
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
