//! Prompt templates: how a question and an answer become the model's input.
//!
//! Three different templates of published Aligners are in use, so the template belongs to the
//! model's [`Profile`](crate::Profile), and its hash to every correction.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::hex;

const QUESTION: &str = "{question}";
const ANSWER: &str = "{answer}";

/// The template of the paper's training code
/// (PKU-Alignment/aligner, `aligner/training/datasets/raw/correction.py`).
pub const PAPER: &str = "BEGINNING OF CONVERSATION: USER: ##Question: {question}\n\
    ##Answer: {answer}\n##Correction:  ASSISTANT:";

/// The template of the published Aligner-2B runs
/// (tatsu-lab/alpaca_eval, `models_configs/aligner-2b_*/prompt.txt`).
pub const ALPACA_EVAL: &str = "BEGINNING OF CONVERSATION: USER: ##Question: {question} \
    ##Answer: {answer} ##Revision:  ASSISTANT:";

/// A text with one `{question}` and one `{answer}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Question,
    Answer,
}

/// A template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("template must contain {field} exactly once, found {found}")]
pub struct TemplateError {
    field: &'static str,
    found: usize,
}

/// A piece of a rendered prompt. Only [`Piece::Literal`] may hold special tokens: a marker that
/// a user typed into a question is text, not structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text of the template itself.
    Literal(&'a str),
    /// Text of a field, never parsed for special tokens.
    Field(&'a str),
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// If `{question}` or `{answer}` does not occur exactly once.
    pub fn new(text: impl Into<String>) -> Result<Self, TemplateError> {
        let text = text.into();
        for field in [QUESTION, ANSWER] {
            let found = text.matches(field).count();
            if found != 1 {
                return Err(TemplateError { field, found });
            }
        }
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some(start) = rest
            .find(QUESTION)
            .into_iter()
            .chain(rest.find(ANSWER))
            .min()
        {
            let (literal, tail) = rest.split_at(start);
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            }
            let (part, field) = if tail.starts_with(QUESTION) {
                (Part::Question, QUESTION)
            } else {
                (Part::Answer, ANSWER)
            };
            parts.push(part);
            rest = &tail[field.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { text, parts })
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Hex SHA-256 of the template as written.
    pub fn hash(&self) -> String {
        digest(&self.text)
    }

    /// The prompt in pieces, in order.
    pub fn pieces<'a>(&'a self, question: &'a str, answer: &'a str) -> Vec<Piece<'a>> {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Literal(text) => Piece::Literal(text),
                Part::Question => Piece::Field(question),
                Part::Answer => Piece::Field(answer),
            })
            .collect()
    }

    /// The whole prompt as one string.
    pub fn render(&self, question: &str, answer: &str) -> String {
        self.pieces(question, answer)
            .into_iter()
            .map(|piece| match piece {
                Piece::Literal(text) | Piece::Field(text) => text,
            })
            .collect()
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

/// Hex SHA-256 of a text.
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_templates_render_byte_for_byte() {
        let render = |text| {
            Template::new(text)
                .expect("valid")
                .render("Why?", "Because.")
        };
        assert_eq!(
            render(PAPER),
            "BEGINNING OF CONVERSATION: USER: ##Question: Why?\n##Answer: Because.\n\
             ##Correction:  ASSISTANT:"
        );
        assert_eq!(
            render(ALPACA_EVAL),
            "BEGINNING OF CONVERSATION: USER: ##Question: Why? ##Answer: Because. \
             ##Revision:  ASSISTANT:"
        );
    }

    #[test]
    fn fields_are_never_rescanned_for_placeholders() {
        let template = Template::new("<q>{question}<a>{answer}<c>").expect("valid");
        assert_eq!(
            template.render("{answer}", "{question}"),
            "<q>{answer}<a>{question}<c>"
        );
        assert_eq!(
            template.pieces("{answer}", "x"),
            [
                Piece::Literal("<q>"),
                Piece::Field("{answer}"),
                Piece::Literal("<a>"),
                Piece::Field("x"),
                Piece::Literal("<c>"),
            ]
        );
    }

    #[test]
    fn a_template_names_the_field_that_is_missing_or_repeated() {
        let missing = Template::new("{question} only").expect_err("no answer");
        assert_eq!(
            missing.to_string(),
            "template must contain {answer} exactly once, found 0"
        );
        let twice = Template::new("{question}{question}{answer}").expect_err("twice");
        assert_eq!(
            twice.to_string(),
            "template must contain {question} exactly once, found 2"
        );
    }
}
