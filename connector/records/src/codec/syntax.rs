//! What is wrong with a text that is no JSON: where, and in words that whoever wrote it knows.

use super::error::{DecodeError, reason};

/// How serde_json's words begin, and what we say instead. They tell what it expected, never what
/// it found.
const FAULTS: [(&str, &str); 18] = [
    ("EOF while parsing a list", "it ends within a list"),
    ("EOF while parsing an object", "it ends within an object"),
    ("EOF while parsing a string", "it ends within a text"),
    ("EOF while parsing a value", "it ends before a value"),
    ("expected `:`", "a colon is missing"),
    ("expected `,` or `]`", "a comma or ] is missing"),
    ("expected `,` or `}`", "a comma or } is missing"),
    ("expected ident", "a word is none of null, true and false"),
    ("expected value", "a value is missing"),
    ("invalid escape", "invalid escape in a text"),
    ("unexpected end of hex escape", "invalid escape in a text"),
    ("invalid number", "a number is not written as in JSON"),
    (
        "number out of range",
        "a number is too large for a float of 64 bits",
    ),
    ("control character", "a control character is not escaped"),
    ("key must be a string", "a name is no text in double quotes"),
    ("trailing comma", "a comma has nothing behind it"),
    ("trailing characters", "trailing characters behind its end"),
    (
        "recursion limit exceeded",
        "lists and objects stand more than 127 deep within each other",
    ),
];

/// The error for what the parser refuses.
pub(super) fn syntax(error: &serde_json::Error) -> DecodeError {
    debug_assert!(!error.is_data(), "the visitors take every type");
    let words = error.to_string();
    let fault = FAULTS
        .iter()
        .find(|(start, _)| words.starts_with(*start))
        .map_or("it is not written as JSON is", |(_, fault)| *fault);
    DecodeError::new(
        reason::INVALID_JSON,
        format!(
            "the value is not JSON: {fault}, at line {} column {}",
            error.line(),
            error.column()
        ),
    )
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    fn message(text: &str) -> String {
        let error = serde_json::from_str::<IgnoredAny>(text).expect_err(text);
        syntax(&error).message
    }

    #[test]
    fn every_fault_is_told_in_words_of_json_with_its_place() {
        for (text, fault) in [
            ("", "it ends before a value, at line 1 column 0"),
            ("[1", "it ends within a list, at line 1 column 2"),
            (r#"{"a":1"#, "it ends within an object, at line 1 column 6"),
            (r#"["a"#, "it ends within a text, at line 1 column 3"),
            (r#"{"a" 1}"#, "a colon is missing, at line 1 column 6"),
            ("[1 2]", "a comma or ] is missing, at line 1 column 4"),
            (
                r#"{"a":1 2}"#,
                "a comma or } is missing, at line 1 column 8",
            ),
            ("[nul]", "a word is none of null, true and false"),
            ("\n[x]", "a value is missing, at line 2 column 2"),
            (r#"["\x"]"#, "invalid escape in a text"),
            ("[01]", "a number is not written as in JSON"),
            ("[\"\n\"]", "a control character is not escaped"),
            ("{1:2}", "a name is no text in double quotes"),
            ("[1,]", "a value is missing, at line 1 column 4"),
            ("1 2", "trailing characters behind its end"),
        ] {
            let message = message(text);
            assert!(
                message.starts_with(&format!("the value is not JSON: {fault}")),
                "{text}: {message}"
            );
        }
    }
}
