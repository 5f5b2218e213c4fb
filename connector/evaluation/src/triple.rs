//! Triples as files hold them: a JSON array or JSON Lines of question, answer, correction, or of
//! the preference pairs that the connector writes.
//!
//! Errors name file, line and key, and never quote a question, an answer or a correction.

use aligner_records::surrogates;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    row::{NUMBER, Row, text, text_within, type_name},
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

/// A file that does not hold triples.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TripleError {
    /// Still packed.
    #[error("{origin}: this looks like gzip: unpack it first, with `zcat {origin} > FILE`")]
    Gzip {
        /// File that it was read from.
        origin: String,
    },
    /// Not UTF-8.
    #[error("{origin}: byte {byte} is not UTF-8; save the file as UTF-8")]
    Encoding {
        /// File that it was read from.
        origin: String,
        /// Offset of the first bad byte.
        byte: usize,
    },
    /// Not JSON.
    #[error(
        "{origin}:{line}: not JSON ({problem}); expected a JSON array of objects, or one object a line"
    )]
    Json {
        /// File that it was read from.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// JSON, but not an object.
    #[error(
        "{origin}:{line}: {found} stands where an object with question, answer and correction is expected"
    )]
    NotAnObject {
        /// File that it was read from.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// JSON type that was found.
        found: &'static str,
    },
    /// A key is missing.
    #[error(
        "{origin}:{line}: key {key} is missing; a triple has question, answer and correction, a preference pair prompt, rejected and chosen"
    )]
    Missing {
        /// File that it was read from.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Key that is missing.
        key: &'static str,
    },
    /// A key stands twice.
    #[error(
        "{origin}:{line}: key {key} stands twice, and which value was meant cannot be told; write it once"
    )]
    Twice {
        /// File that it was read from.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Key that stands twice.
        key: &'static str,
    },
    /// A key has a value of the wrong type.
    #[error("{origin}:{line}: key {key} is {found}, expected {expected}")]
    WrongType {
        /// File that it was read from.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// Its key.
        key: &'static str,
        /// JSON type that was found.
        found: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// No triple in it.
    #[error("{origin} holds no triples; expected a JSON array of objects, or one object a line")]
    Empty {
        /// File that it was read from.
        origin: String,
    },
}

/// Reads every triple of a file, given its bytes; `origin` names the file in errors.
///
/// # Errors
/// On the first line that is not a triple or a preference pair, and for a file without any.
pub fn parse_triples(bytes: &[u8], origin: &str) -> Result<Vec<Triple>, TripleError> {
    if crate::is_gzip(bytes) {
        return Err(TripleError::Gzip {
            origin: origin.to_owned(),
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| TripleError::Encoding {
        origin: origin.to_owned(),
        byte: error.valid_up_to(),
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // What the connector takes for an event must do for a triple too.
    let mended = surrogates::mended(text);
    let text = mended.as_deref().unwrap_or(text);
    let triples = if text.trim_start().starts_with('[') {
        array(text, origin)?
    } else {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| element(line, origin, index + 1))
            .collect::<Result<_, _>>()?
    };
    if triples.is_empty() {
        return Err(TripleError::Empty {
            origin: origin.to_owned(),
        });
    }
    Ok(triples)
}

fn array(text: &str, origin: &str) -> Result<Vec<Triple>, TripleError> {
    let elements: Vec<&RawValue> =
        serde_json::from_str(text).map_err(|error| json_error(&error, origin, 1))?;
    let (mut line, mut read) = (1, 0);
    elements
        .into_iter()
        .map(|raw| {
            // The elements borrow from `text`, so an element's address tells its line.
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            line += text[read..start].matches('\n').count();
            read = start;
            element(raw.get(), origin, line)
        })
        .collect()
}

fn element(json: &str, origin: &str, line: usize) -> Result<Triple, TripleError> {
    if !json.trim_start().starts_with('{') {
        let value: &RawValue =
            serde_json::from_str(json).map_err(|error| json_error(&error, origin, line))?;
        return Err(TripleError::NotAnObject {
            origin: origin.to_owned(),
            line,
            found: type_name(value),
        });
    }
    let row: Row<'_> =
        serde_json::from_str(json).map_err(|error| json_error(&error, origin, line))?;
    match row.twice {
        Some(key) => Err(TripleError::Twice {
            origin: origin.to_owned(),
            line,
            key,
        }),
        None => Place { origin, line }.triple(&row),
    }
}

fn json_error(error: &serde_json::Error, origin: &str, first_line: usize) -> TripleError {
    let message = error.to_string();
    // The parser's own position is within the element; the file's line is named instead.
    let problem = message.split(" at line ").next().unwrap_or(&message);
    TripleError::Json {
        origin: origin.to_owned(),
        line: first_line + error.line().saturating_sub(1),
        problem: problem.to_owned(),
    }
}

struct Place<'a> {
    origin: &'a str,
    line: usize,
}

impl Place<'_> {
    fn triple(&self, row: &Row<'_>) -> Result<Triple, TripleError> {
        let pair = ["prompt", "chosen", "rejected"]
            .iter()
            .any(|key| row.has(key))
            && !row.has("question");
        let (question, answer, correction) = if pair {
            ("prompt", "rejected", "chosen")
        } else {
            ("question", "answer", "correction")
        };
        let id = match self.optional(row, "event_id")? {
            Some(id) => Some(id),
            None => self.optional(row, "id")?,
        };
        Ok(Triple {
            event_id: id.unwrap_or_else(|| format!("line-{}", self.line)),
            question: self.required(row, question)?,
            answer: self.required(row, answer)?,
            correction: self.optional(row, correction)?,
            kind: self.optional(row, "kind")?,
            upstream_model: self.optional(row, "upstream_model")?,
            faults: self.faults(row)?,
            aligner_name: row.text("aligner_name"),
            aligner_revision: row.text("aligner_revision"),
        })
    }

    fn required(&self, row: &Row<'_>, key: &'static str) -> Result<String, TripleError> {
        self.optional(row, key)?
            .ok_or_else(|| TripleError::Missing {
                origin: self.origin.to_owned(),
                line: self.line,
                key,
            })
    }

    fn optional(&self, row: &Row<'_>, key: &'static str) -> Result<Option<String>, TripleError> {
        let Some(value) = row.get(key) else {
            return Ok(None);
        };
        match text(value) {
            Some(text) => Ok(Some(text)),
            // Ids are often plain numbers.
            None if matches!(key, "event_id" | "id") && type_name(value) == NUMBER => {
                Ok(Some(value.get().to_owned()))
            }
            None => Err(self.wrong_type(key, value, "a string")),
        }
    }

    /// Strings, or objects whose `text` is the string.
    fn faults(&self, row: &Row<'_>) -> Result<Vec<String>, TripleError> {
        const EXPECTED: &str = "a list of strings or of objects with a text";
        let wrong = |value: &RawValue| self.wrong_type("faults", value, EXPECTED);
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

    fn wrong_type(
        &self,
        key: &'static str,
        value: &RawValue,
        expected: &'static str,
    ) -> TripleError {
        TripleError::WrongType {
            origin: self.origin.to_owned(),
            line: self.line,
            key,
            found: type_name(value),
            expected,
        }
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

    fn parse(text: &str) -> Result<Vec<Triple>, TripleError> {
        parse_triples(text.as_bytes(), "data.json")
    }

    #[test]
    fn arrays_lines_and_pairs_give_the_same_triples() {
        let array = r#"[{"event_id":"e","question":"q","answer":"a","correction":"c"}]"#;
        let lines = r#"
            {"event_id":"e","question":"q","answer":"a","correction":"c"}"#;
        let pairs =
            r#"{"correction_id":"x","event_id":"e","prompt":"q","chosen":"c","rejected":"a"}"#;
        let expected = parse(array).expect("array");
        assert_eq!(expected[0].correction.as_deref(), Some("c"));
        assert_eq!(parse(lines).expect("lines"), expected);
        assert_eq!(parse(pairs).expect("pairs"), expected);
    }

    #[test]
    fn what_is_optional_may_be_absent_and_ids_come_from_lines() {
        let triples = parse(
            "\u{feff}{\"question\":\"q\",\"answer\":\"a\"}\n\n\
             {\"id\":7,\"question\":\"q\",\"answer\":\"a\",\"faults\":[\"x\",{\"text\":\"y\",\"kind\":\"k\"}]}",
        )
        .expect("valid");
        assert_eq!(triples[0].event_id, "line-1");
        assert_eq!(triples[0].correction, None);
        assert_eq!(triples[1].event_id, "7");
        assert_eq!(triples[1].faults, ["x", "y"]);
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

    #[test]
    fn half_an_emoji_is_read_as_the_connector_reads_it() {
        let row = r#"{"question":"q \ud83d","answer":"\ude00 a","correction":"\ud83d\ude00"}"#;
        for text in [
            format!("{row}\n{row}"),
            format!("[{row},\n{row}]"),
            format!("\u{feff}{row}\n\n{row}"),
        ] {
            let triples = parse(&text).expect("triples");
            assert_eq!(triples.len(), 2);
            for triple in triples {
                assert_eq!(triple.question, "q \u{fffd}");
                assert_eq!(triple.answer, "\u{fffd} a");
                assert_eq!(triple.correction.as_deref(), Some("😀"));
            }
        }
        let error = parse(&format!("{row}\n{{")).expect_err("cut off");
        assert!(error.to_string().starts_with("data.json:2: not JSON"));
    }

    #[test]
    fn what_is_not_read_may_stand_twice_and_be_a_number_beyond_all_floats() {
        let row = r#"{"question":"q","answer":"a","x":1,"x":[1e400],"aligner_name":1e400,
            "faults":[{"text":"f","score":1e400}]}"#
            .replace('\n', " ");
        for text in [format!("{row}\n{row}"), format!("[{row},{row}]")] {
            let triples = parse(&text).expect("triples");
            assert_eq!(triples.len(), 2);
            assert_eq!(
                (&triples[0].faults[..], &triples[0].aligner_name),
                (&["f".to_owned()][..], &None)
            );
        }
    }

    #[test]
    fn an_id_keeps_its_digits() {
        let id = "123456789012345678901234567890";
        let triples = parse(&format!(r#"{{"id":{id},"question":"q","answer":"a"}}"#));
        assert_eq!(triples.expect("a triple")[0].event_id, id);
    }

    #[test]
    fn who_wrote_a_correction_is_read_where_the_file_says_so() {
        let triples = parse(
            r#"{"question":"q","answer":"a","aligner_name":"mini","aligner_revision":"7f"}
            {"prompt":"q","chosen":"c","rejected":"a","aligner_name":"mini"}
            {"question":"q","answer":"a","aligner_name":7,"aligner_revision":null}"#,
        )
        .expect("valid");
        let writers: Vec<_> = triples
            .iter()
            .map(|t| (t.aligner_name.as_deref(), t.aligner_revision.as_deref()))
            .collect();
        let expected = [
            (Some("mini"), Some("7f")),
            (Some("mini"), None),
            (None, None),
        ];
        assert_eq!(writers, expected);
    }

    #[test]
    fn errors_name_file_line_and_key_and_quote_no_text() {
        let cases = [
            (
                "{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"secret\"}",
                "data.json:2: key answer is missing; a triple has question, answer and correction, a preference pair prompt, rejected and chosen",
            ),
            (
                "{\"prompt\":\"secret\",\"chosen\":\"secret\"}",
                "data.json:1: key rejected is missing; a triple has question, answer and correction, a preference pair prompt, rejected and chosen",
            ),
            (
                "[\n{\"question\":\"q\",\"answer\":\"a\"},\n{\"question\":[\"secret\"],\"answer\":\"a\"}]",
                "data.json:3: key question is a list, expected a string",
            ),
            (
                "{\"question\":\"q\",\"answer\":\"a\"}\nsecret",
                "data.json:2: not JSON (expected value); expected a JSON array of objects, or one object a line",
            ),
            (
                "{\"question\":\"q\",\"answer\":\"a\"}\n{\"question\":\"secret\",\"answer\":\"a\",\"answer\":\"secret\"}",
                "data.json:2: key answer stands twice, and which value was meant cannot be told; write it once",
            ),
            (
                "{\"question\":\"q\",\"answer\":\"a\",\"faults\":[{\"text\":7}]}",
                "data.json:1: key faults is an object, expected a list of strings or of objects with a text",
            ),
            (
                "{\"question\":\"q\",\"answer\":1e400}",
                "data.json:1: key answer is a number, expected a string",
            ),
            (
                "[\n1]",
                "data.json:2: a number stands where an object with question, answer and correction is expected",
            ),
            (
                "{\"question\":\"q\",\"answer\":\"a\",\"faults\":\"secret\"}",
                "data.json:1: key faults is a string, expected a list of strings or of objects with a text",
            ),
            (
                " \n",
                "data.json holds no triples; expected a JSON array of objects, or one object a line",
            ),
            (
                "[]",
                "data.json holds no triples; expected a JSON array of objects, or one object a line",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).expect_err("bad").to_string(), message);
        }
        assert_eq!(
            parse_triples(b"{\"a\xff", "x")
                .expect_err("bad")
                .to_string(),
            "x: byte 3 is not UTF-8; save the file as UTF-8"
        );
    }
}
