//! A triple, and what a row of a file says of one: question, answer, correction, or a preference
//! pair as the connector and others write them.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    messages::{Chat, chat, is_chat},
    row::{NUMBER, Row, text, text_within, type_name},
    row_faults::RowFault,
    text::same,
};

/// A question, an answer to it, and what the answer should have been.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    /// Id of the answer event; `line-<n>` where the file gives none.
    pub event_id: String,
    /// What the user asked.
    pub question: String,
    /// What the upstream model answered.
    pub answer: String,
    /// The wanted correction; the answer itself for a clean one (see [`Triple::keeps_answer`]),
    /// absent for plain traffic.
    pub correction: Option<String>,
    /// What is wrong with the answer, such as `insult`; `clean…` where nothing is.
    pub kind: Option<String>,
    /// Name of the upstream model.
    pub upstream_model: Option<String>,
    /// Strings that must not survive in the output.
    pub faults: Vec<String>,
    /// Name of the Aligner that wrote the correction, in what the connector wrote.
    pub aligner_name: Option<String>,
    /// Its revision.
    pub aligner_revision: Option<String>,
}

impl Triple {
    /// Whether the wanted correction is the answer itself. It is where the two differ in white
    /// space at their ends alone, as [`aligner::Outcome::normalized`] has it: what an Aligner
    /// makes of such an answer is delivered as the answer, byte for byte.
    pub fn keeps_answer(&self) -> bool {
        let wanted = self.correction.as_deref();
        wanted.is_some_and(|wanted| same(wanted, &self.answer))
    }
}

/// What the rows of a file are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be measured. Plain traffic has no correction, and an answer may be blank.
    Measuring,
    /// To be taught: each has an answer and a correction, and neither is blank.
    Training,
}

impl Triple {
    /// What a row says, and whether it is a conversation of which the question is a part; `line` is
    /// its id where it has none.
    pub(crate) fn of_row(
        row: &Row<'_>,
        line: usize,
        purpose: Purpose,
    ) -> Result<(Self, bool), RowFault> {
        if let Some(key) = row.twice {
            return Err(RowFault::Twice(key));
        }
        let is_pair = ["prompt", "chosen", "rejected"]
            .iter()
            .any(|key| row.has(key))
            && !row.has("question");
        let keys @ [_, answer_key, correction_key] = if is_pair {
            ["prompt", "rejected", "chosen"]
        } else {
            ["question", "answer", "correction"]
        };
        let said = if is_pair && is_chat(row) {
            chat(row)?
        } else {
            texts(row, keys)?
        };
        if purpose == Purpose::Training {
            let correction = said.correction.as_deref();
            let correction = correction.ok_or(RowFault::Missing(correction_key))?;
            for (key, text) in [(answer_key, &*said.answer), (correction_key, correction)] {
                if text.trim().is_empty() {
                    return Err(RowFault::Blank(key));
                }
            }
        }
        let id = match optional(row, "event_id")? {
            Some(id) => Some(id),
            None => optional(row, "id")?,
        };
        let triple = Self {
            event_id: id.unwrap_or_else(|| format!("line-{line}")),
            question: said.question,
            answer: said.answer,
            correction: said.correction,
            kind: optional(row, "kind")?,
            upstream_model: optional(row, "upstream_model")?,
            faults: faults(row)?,
            aligner_name: row.text("aligner_name"),
            aligner_revision: row.text("aligner_revision"),
        };
        Ok((triple, said.is_shortened))
    }
}

/// A row of texts alone, with its keys of question, answer and correction.
fn texts(row: &Row<'_>, keys: [&'static str; 3]) -> Result<Chat, RowFault> {
    let required = |key| optional(row, key)?.ok_or(RowFault::Missing(key));
    let [question, answer, correction] = keys;
    Ok(Chat {
        question: required(question)?,
        answer: required(answer)?,
        correction: optional(row, correction)?,
        is_shortened: false,
    })
}

fn optional(row: &Row<'_>, key: &'static str) -> Result<Option<String>, RowFault> {
    let Some(value) = row.get(key) else {
        return Ok(None);
    };
    match text(value) {
        Some(text) => Ok(Some(text)),
        // Ids are often plain numbers.
        None if matches!(key, "event_id" | "id") && type_name(value) == NUMBER => {
            Ok(Some(value.get().to_owned()))
        }
        None => Err(wrong_type(key, value, "a string")),
    }
}

/// Strings, or objects whose `text` is the string.
fn faults(row: &Row<'_>) -> Result<Vec<String>, RowFault> {
    const EXPECTED: &str = "a list of strings or of objects with a text";
    let wrong = |value: &RawValue| wrong_type("faults", value, EXPECTED);
    let Some(value) = row.get("faults") else {
        return Ok(Vec::new());
    };
    serde_json::from_str::<Vec<&RawValue>>(value.get())
        .map_err(|_| wrong(value))?
        .into_iter()
        .map(|fault| {
            text(fault)
                .or_else(|| text_within(fault))
                .ok_or_else(|| wrong(fault))
        })
        .filter(|fault| !matches!(fault, Ok(text) if text.trim().is_empty()))
        .collect()
}

fn wrong_type(key: &'static str, value: &RawValue, expected: &'static str) -> RowFault {
    RowFault::WrongType {
        key,
        found: type_name(value),
        expected,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row with these faults.
    pub(crate) fn triple(answer: &str, correction: Option<&str>, faults: &[&str]) -> Triple {
        Triple {
            event_id: "e".into(),
            question: "How do I reach them?".into(),
            answer: answer.into(),
            correction: correction.map(Into::into),
            faults: faults.iter().map(|&fault| fault.into()).collect(),
            ..Triple::default()
        }
    }

    #[test]
    fn an_answer_is_kept_by_a_correction_that_the_pipeline_takes_for_it() {
        let kept = |answer: &str, correction: Option<&str>| {
            let triple = Triple {
                answer: answer.into(),
                correction: correction.map(Into::into),
                ..Triple::default()
            };
            triple.keeps_answer()
        };
        assert!(kept("a b", Some("a b")) && kept("a b\n", Some(" a b")));
        assert!(!kept("a b", Some("a  b")) && !kept("a b", None));
    }
}
