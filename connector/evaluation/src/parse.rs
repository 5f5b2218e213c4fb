//! Files of triples: a JSON array or JSON Lines of question, answer, correction, or of preference
//! pairs, of texts or of messages.
//!
//! A file is read to its end, and its rows are told from each other: those that say what is right,
//! those of no verdict, which are left out and counted, and those that cannot be used, which are
//! gathered in [`RowFaults`] for one error over all files of a command. Only a file that is no such
//! file ends the reading at once. Errors name file, line and key, and never quote a question, an
//! answer or a correction.

use aligner_records::surrogates;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::{
    dispositions::is_undecided,
    row::{Row, type_name},
    row_faults::{Place, RowFault, RowFaults},
    triple::{Purpose, Triple},
};

/// The rows of a file, but for those that cannot be used.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Those that say what is right, or are plain traffic.
    pub triples: Vec<Triple>,
    /// How many others there are: of no verdict (see `dispositions`).
    pub undecided: usize,
    /// Of how many triples the question is the last of several messages, and the others are left
    /// out.
    pub shortened: usize,
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
    /// An array that is not JSON.
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
    /// No row in it.
    #[error("{origin} holds no triples; expected a JSON array of objects, or one object a line")]
    Empty {
        /// File that it was read from.
        origin: String,
    },
    /// Rows that cannot be used.
    #[error(transparent)]
    Rows(#[from] RowFaults),
}

/// Reads every triple of a file that is to be measured, given its bytes, and leaves out rows of no
/// verdict; `origin` names the file in errors.
///
/// # Errors
/// If the file is no such file, and for all of its rows that cannot be used.
pub fn parse_triples(bytes: &[u8], origin: &str) -> Result<Vec<Triple>, TripleError> {
    let mut faults = RowFaults::default();
    let rows = parse_rows(bytes, origin, Purpose::Measuring, &mut faults)?;
    faults.check()?;
    Ok(rows.triples)
}

/// Reads the rows of a file, given its bytes; `origin` names it in errors. Those that cannot be used
/// for this purpose are added to `faults`, which the caller checks when all files are read.
///
/// # Errors
/// If the file is no such file.
pub fn parse_rows(
    bytes: &[u8],
    origin: &str,
    purpose: Purpose,
    faults: &mut RowFaults,
) -> Result<Rows, TripleError> {
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
    let mut reader = Reader {
        origin,
        purpose,
        faults,
        is_empty: true,
        rows: Rows::default(),
    };
    if text.trim_start().starts_with('[') {
        reader.array(text)?;
    } else {
        for (index, line) in text.lines().enumerate() {
            if !line.trim().is_empty() {
                let place = Place {
                    line: index + 1,
                    index: None,
                };
                reader.row(line, place);
            }
        }
    }
    if reader.is_empty {
        return Err(TripleError::Empty {
            origin: origin.to_owned(),
        });
    }
    Ok(reader.rows)
}

/// A file on its way into rows.
struct Reader<'a> {
    origin: &'a str,
    purpose: Purpose,
    faults: &'a mut RowFaults,
    is_empty: bool,
    rows: Rows,
}

impl Reader<'_> {
    fn array(&mut self, text: &str) -> Result<(), TripleError> {
        let elements: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|error| TripleError::Json {
                origin: self.origin.to_owned(),
                line: error.line().max(1),
                problem: problem(&error),
            })?;
        let (mut line, mut read) = (1, 0);
        for (index, raw) in elements.into_iter().enumerate() {
            // The elements borrow from `text`, so an element's address tells its line.
            let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
            line += text[read..start].matches('\n').count();
            read = start;
            let index = Some(index);
            self.row(raw.get(), Place { line, index });
        }
        Ok(())
    }

    fn row(&mut self, json: &str, place: Place) {
        self.is_empty = false;
        self.faults.read_row();
        if is_undecided(json) {
            self.rows.undecided += 1;
            return;
        }
        match triple(json, place.line, self.purpose) {
            Ok((triple, is_shortened)) => {
                self.rows.triples.push(triple);
                self.rows.shortened += usize::from(is_shortened);
            }
            Err(fault) => self.faults.add(self.origin, place, &fault),
        }
    }
}

fn triple(json: &str, line: usize, purpose: Purpose) -> Result<(Triple, bool), RowFault> {
    let not_json = |error| RowFault::Json(problem(&error));
    if !json.trim_start().starts_with('{') {
        let value: &RawValue = serde_json::from_str(json).map_err(not_json)?;
        return Err(RowFault::NotAnObject(type_name(value)));
    }
    let row: Row<'_> = serde_json::from_str(json).map_err(not_json)?;
    Triple::of_row(&row, line, purpose)
}

/// What the parser says, without its own position, which is within the row.
fn problem(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let problem = message.split(" at line ").next().unwrap_or(&message);
    problem.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let told = error.to_string();
        assert!(told.contains("\n  data.json:2: not JSON"), "{told}");
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

    /// What is told of single rows, without the line that all such errors begin with and their fix.
    fn told(text: &str, purpose: Purpose) -> Vec<String> {
        let mut faults = RowFaults::default();
        parse_rows(text.as_bytes(), "data.json", purpose, &mut faults).expect("a file of rows");
        let told = faults.check().expect_err("bad rows").to_string();
        let rows = told
            .lines()
            .skip(2)
            .take_while(|line| !line.contains("fix: "));
        rows.map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn all_rows_that_cannot_be_used_are_told_at_once_and_quote_no_text() {
        use Purpose::{Measuring, Training};
        let good = r#"{"question":"q","answer":"a","correction":"c"}"#;
        let cases: [(&str, Purpose, &[&str]); 8] = [
            (
                "{\"question\":\"secret\"}\n\nsecret\nGOOD\n[\"secret\"]\n{\"prompt\":\"secret\",\"chosen\":\"secret\"}",
                Measuring,
                &[
                    "data.json:1: key answer is missing",
                    "data.json:3: not JSON (expected value)",
                    "data.json:5: a list stands where an object is expected",
                    "data.json:6: key rejected is missing",
                ],
            ),
            (
                "[\n1,\nGOOD, {\"question\":[\"secret\"],\"answer\":\"a\"},\n{\"answer\":\"secret\"}]",
                Measuring,
                &[
                    "data.json:2 (.[0]): a number stands where an object is expected",
                    "data.json:3 (.[2]): key question is a list, expected a string",
                    "data.json:4 (.[3]): key question is missing",
                ],
            ),
            (
                "{\"question\":\"secret\",\"answer\":\"a\",\"answer\":\"secret\"}\n{\"question\":\"q\",\"answer\":1e400}",
                Measuring,
                &[
                    "data.json:1: key answer stands twice, and which value was meant cannot be told",
                    "data.json:2: key answer is a number, expected a string",
                ],
            ),
            (
                "{\"question\":\"q\",\"answer\":\"a\",\"faults\":[{\"text\":7}]}\n{\"question\":\"q\",\"answer\":\"a\",\"faults\":\"secret\"}",
                Measuring,
                &[
                    "data.json:1: key faults is an object, expected a list of strings or of objects with a text",
                    "data.json:2: key faults is a string, expected a list of strings or of objects with a text",
                ],
            ),
            // What may be measured cannot always be taught.
            (
                "GOOD\n{\"question\":\"secret\",\"answer\":\" \",\"correction\":\"secret\"}\n{\"question\":\"q\",\"answer\":\"a\"}\n{\"prompt\":\"q\",\"rejected\":\"secret\",\"chosen\":\"\"}",
                Training,
                &[
                    "data.json:2: key answer is blank",
                    "data.json:3: key correction is missing",
                    "data.json:4: key chosen is blank",
                ],
            ),
            // Of no verdict, and so not missed.
            (
                "{\"answer\":null,\"disposition\":\"dead_lettered\"}\n{\"answer\":null}",
                Training,
                &["data.json:2: key question is missing"],
            ),
            (
                "[{\"disposition\":\"bypassed\"}, {\"question\":null}]",
                Measuring,
                &["data.json:1 (.[1]): key question is missing"],
            ),
            (
                "{\"prompt\":[{\"role\":\"user\",\"content\":\"q\"}],\"rejected\":[],\"chosen\":\"secret\"}",
                Training,
                &["data.json:1: the last message of key rejected is not the assistant's"],
            ),
        ];
        for (text, purpose, expected) in cases {
            assert_eq!(
                told(&text.replace("GOOD", good), purpose),
                expected,
                "{text}"
            );
        }
        let blank = r#"{"question":"q","answer":"","correction":""}"#;
        assert_eq!(parse(blank).expect("measured").len(), 1);
    }

    #[test]
    fn rows_of_several_files_are_told_together() {
        let mut faults = RowFaults::default();
        for (text, origin) in [
            ("7\n{\"question\":\"q\",\"answer\":\"a\"}", "a"),
            ("[7]", "b"),
        ] {
            parse_rows(text.as_bytes(), origin, Purpose::Measuring, &mut faults).expect("rows");
        }
        let told = faults.check().expect_err("two are bad").to_string();
        assert!(
            told.starts_with("2 of 3 rows cannot be used\n\n  a:1: "),
            "{told}"
        );
        assert!(told.contains("\n  b:1 (.[0]): "), "{told}");
    }

    #[test]
    fn conversations_are_counted_of_which_the_question_is_a_part() {
        let turn = |role: &str| serde_json::json!({"role": role, "content": "c"});
        let rows: String = [vec![turn("user")], vec![turn("system"), turn("user")]]
            .map(|prompt| {
                let row = serde_json::json!({
                    "prompt": prompt, "chosen": [turn("assistant")], "rejected": [turn("assistant")],
                });
                format!("{row}\n")
            })
            .concat();
        let mut faults = RowFaults::default();
        let rows = parse_rows(rows.as_bytes(), "x", Purpose::Training, &mut faults).expect("rows");
        assert_eq!((rows.triples.len(), rows.shortened), (2, 1));
        assert_eq!(faults.check(), Ok(()));
    }

    #[test]
    fn a_file_that_holds_no_rows_is_told_as_a_whole() {
        let empty =
            "data.json holds no triples; expected a JSON array of objects, or one object a line";
        for (text, message) in [
            (" \n", empty),
            ("[]", empty),
            (
                "[\n{\"question\":\"secret\",",
                "data.json:2: not JSON (EOF while parsing an object); expected a JSON array of objects, or one object a line",
            ),
        ] {
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
