//! Corrections as triples: which of their rows say what an answer should have been.
//!
//! What `correct` and the connector write has a `correction` in every row. Where the Aligner was not
//! fit for the answer, or failed, that is the answer as it came: nobody judged it, so it teaches
//! and measures nothing, least of all that such an answer is left unchanged. Where it is another
//! text, somebody wrote it there, and that is a verdict.

use std::borrow::Cow;

use aligner_records::surrogates;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{Triple, TripleError, parse_triples, text::same};

/// Of answers that nobody judged, as the records of `connector/records` spell them.
const UNDECIDED: [&str; 2] = ["bypassed", "dead_lettered"];

/// Reads the triples of a file as [`parse_triples`] does, but for rows of no verdict: how many these
/// are is the second of the pair, and where there are no others the first is empty.
///
/// # Errors
/// As [`parse_triples`], of the rows that are left.
pub fn parse_decided(bytes: &[u8], origin: &str) -> Result<(Vec<Triple>, usize), TripleError> {
    let (rows, undecided) = decided(bytes);
    let triples = match parse_triples(&rows, origin) {
        // It held rows.
        Err(TripleError::Empty { .. }) if undecided > 0 => Vec::new(),
        read => read?,
    };
    Ok((triples, undecided))
}

/// The rows of a file without those of no verdict, and how many these are. The others keep their
/// lines, which errors and ids name. A file that cannot be read is left to whoever reads it next.
fn decided(bytes: &[u8]) -> (Cow<'_, [u8]>, usize) {
    let Some(text) = std::str::from_utf8(bytes)
        .ok()
        .filter(|text| text.contains("\"disposition\""))
    else {
        return (Cow::Borrowed(bytes), 0);
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (kept, skipped) = if text.trim_start().starts_with('[') {
        match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(rows) => array(text, &rows),
            Err(_) => return (Cow::Borrowed(bytes), 0),
        }
    } else {
        lines(text)
    };
    (Cow::Owned(kept.into_bytes()), skipped)
}

fn lines(text: &str) -> (String, usize) {
    let (mut kept, mut skipped) = (String::with_capacity(text.len()), 0);
    for line in text.lines() {
        if is_undecided(line) {
            skipped += 1;
        } else {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    (kept, skipped)
}

fn array(text: &str, rows: &[&RawValue]) -> (String, usize) {
    let line_breaks = |text: &str| "\n".repeat(text.matches('\n').count());
    let (mut kept, mut skipped) = (String::with_capacity(text.len()), 0);
    kept.push('[');
    let (mut read, mut first) = (0, true);
    for row in rows.iter().map(|row| row.get()) {
        // The rows borrow from `text`, so a row's address tells its place.
        let start = row.as_ptr() as usize - text.as_ptr() as usize;
        kept.push_str(&line_breaks(&text[read..start]));
        read = start + row.len();
        if is_undecided(row) {
            skipped += 1;
            kept.push_str(&line_breaks(row));
            continue;
        }
        if !first {
            kept.push(',');
        }
        first = false;
        kept.push_str(row);
    }
    kept.push(']');
    (kept, skipped)
}

fn is_undecided(row: &str) -> bool {
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
        /// As [`Triple::keeps_answer`] has it.
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

    const ROWS: [&str; 5] = [
        r#"{"question":"q","answer":"a","correction":"b","disposition":"corrected"}"#,
        r#"{"question":"q","answer":"a","correction":"a","disposition":"bypassed"}"#,
        r#"{"question":null,"answer":null,"correction":null,"disposition":"dead_lettered"}"#,
        r#"{"question":"q","answer":"a","correction":"a","disposition":"unchanged"}"#,
        r#"{"question":"q","answer":"\"disposition\":\"bypassed\"","correction":"b"}"#,
    ];

    fn ids(text: &str) -> (Vec<String>, usize) {
        let (kept, skipped) = decided(text.as_bytes());
        let triples = parse_triples(&kept, "data").expect("triples");
        let ids = triples.into_iter().map(|triple| triple.event_id).collect();
        (ids, skipped)
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
        let (kept, skipped) = decided(b"[{\"disposition\":\"bypassed\"}]");
        assert_eq!((&*kept, skipped), (&b"[]"[..], 1));
    }

    #[test]
    fn files_that_know_no_dispositions_or_cannot_be_read_stay_as_they_are() {
        for bytes in [
            &b"{\"question\":\"q\",\"answer\":\"a\"}\n"[..],
            b"[{\"disposition\":\"bypassed\"}",
            b"\xff\"disposition\"",
        ] {
            let (kept, skipped) = decided(bytes);
            assert_eq!((&*kept, skipped), (bytes, 0));
        }
        let (kept, skipped) = decided(b"{\"disposition\": 7}\nnot json \"disposition\"");
        let same = &b"{\"disposition\": 7}\nnot json \"disposition\"\n"[..];
        assert_eq!((&*kept, skipped), (same, 0));
    }
}
