//! Corrections as triples: which of their rows say what an answer should have been.
//!
//! What `correct` and the connector write has a `correction` in every row. Where the Aligner was not
//! fit for the answer, or failed, that is the answer as it came: nobody judged it, so it teaches
//! and measures nothing, least of all that such an answer is left unchanged. Where it is another
//! text, somebody wrote it there, and that is a verdict.

use aligner_records::surrogates;
use serde::Deserialize;
use serde_json::Value;

use crate::text::same;

/// Of answers that nobody judged, as the records of `connector/records` spell them.
const UNDECIDED: [&str; 2] = ["bypassed", "dead_lettered"];

/// Whether a row, an object or not, says nothing of what is right.
pub(crate) fn is_undecided(row: &str) -> bool {
    #[derive(Deserialize)]
    struct Row {
        #[serde(default)]
        disposition: Value,
        #[serde(default)]
        answer: Value,
        #[serde(default)]
        correction: Value,
    }
    impl Row {
        /// As [`Triple::keeps_answer`](crate::Triple::keeps_answer) has it.
        fn keeps_answer(&self) -> bool {
            match (self.correction.as_str(), self.answer.as_str()) {
                (Some(correction), Some(answer)) => same(correction, answer),
                _ => self.correction == self.answer,
            }
        }
    }
    if !row.contains("\"disposition\"") {
        return false;
    }
    let mended = surrogates::mended(row);
    let row = mended.as_deref().unwrap_or(row);
    serde_json::from_str::<Row>(row).is_ok_and(|row| {
        let disposition = row.disposition.as_str();
        disposition.is_some_and(|word| UNDECIDED.contains(&word))
            && (row.correction.is_null() || row.keeps_answer())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Purpose, RowFaults, Rows, parse_rows};

    const ROWS: [&str; 5] = [
        r#"{"question":"q","answer":"a","correction":"b","disposition":"corrected"}"#,
        r#"{"question":"q","answer":"a","correction":"a","disposition":"bypassed"}"#,
        r#"{"question":null,"answer":null,"correction":null,"disposition":"dead_lettered"}"#,
        r#"{"question":"q","answer":"a","correction":"a","disposition":"unchanged"}"#,
        r#"{"question":"q","answer":"\"disposition\":\"bypassed\"","correction":"b"}"#,
    ];

    fn ids(text: &str) -> (Vec<String>, usize) {
        let mut faults = RowFaults::default();
        let rows = parse_rows(text.as_bytes(), "data", Purpose::Measuring, &mut faults);
        let Rows {
            triples, undecided, ..
        } = rows.expect("a file of rows");
        faults.check().expect("each can be used");
        let ids = triples.into_iter().map(|triple| triple.event_id).collect();
        (ids, undecided)
    }

    #[test]
    fn rows_without_a_verdict_are_left_out_and_the_others_keep_their_lines() {
        let expected = (
            ["line-1", "line-4", "line-5"].map(str::to_owned).to_vec(),
            2,
        );
        assert_eq!(ids(&ROWS.join("\n")), expected);
        assert_eq!(ids(&format!("\u{feff}{}\r\n", ROWS.join("\r\n"))), expected);
        assert_eq!(ids(&format!("[{}]", ROWS.join(",\n"))), expected);
        assert_eq!(ids(&format!("[{}\n]", ROWS.join("\n,"))), expected);
    }

    #[test]
    fn a_correction_that_differs_from_the_answer_is_a_verdict() {
        for (texts, undecided) in [
            (r#""answer":"a","correction":"b""#, false),
            (r#""answer":"a","correction":"a""#, true),
            (r#""answer":"a\n","correction":"a""#, true),
            (r#""answer":"a","correction":null"#, true),
            (r#""answer":"a""#, true),
            // The same text, however it is written.
            (r#""answer":"é","correction":"\u00e9""#, true),
            (r#""answer":"a \ud83d","correction":"a \ud83d""#, true),
            (r#""answer":"a \ud83d","correction":"a""#, false),
        ] {
            for disposition in UNDECIDED {
                let row = format!(r#"{{"question":"q",{texts},"disposition":"{disposition}"}}"#);
                assert_eq!(is_undecided(&row), undecided, "{row}");
            }
        }
    }

    #[test]
    fn an_array_may_begin_or_end_with_rows_that_are_left_out() {
        for rows in [
            [ROWS[1], ROWS[0], ROWS[2]],
            [ROWS[0], ROWS[1], ROWS[2]],
            [ROWS[1], ROWS[2], ROWS[0]],
        ] {
            let (ids, skipped) = ids(&format!("[{}]", rows.join(", ")));
            assert_eq!((ids.len(), skipped), (1, 2));
        }
        assert_eq!(ids("[{\"disposition\":\"bypassed\"}]"), (Vec::new(), 1));
    }

    #[test]
    fn rows_that_know_no_dispositions_or_cannot_be_read_are_left_to_whoever_reads_them() {
        for row in [
            r#"{"question":"q","answer":"a"}"#,
            r#"{"disposition": 7}"#,
            r#"not json "disposition""#,
            r#"{"disposition":"bypassed""#,
            r#""disposition""#,
        ] {
            assert!(!is_undecided(row), "{row}");
        }
    }
}
