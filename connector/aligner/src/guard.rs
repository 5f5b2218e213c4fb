//! The competence guard: knowing what the model does not know.
//!
//! A guard never edits text. It only chooses between the model's output and the original, with
//! a stable reason (see [`crate::reason`]).

use serde::{Deserialize, Serialize};

/// Limits of what a model is fit for; a limit that is absent does not apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Most tokens of a question.
    pub max_question_tokens: Option<u32>,
    /// Most tokens of an answer.
    pub max_answer_tokens: Option<u32>,
    /// Most tokens per whitespace-separated word of an answer: a byte-level vocabulary spends
    /// many tokens on words that it never saw.
    pub max_tokens_per_word: Option<f32>,
}
