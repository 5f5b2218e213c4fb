//! A JSON document to a [`Tree`], with each number as it is written.
//!
//! serde_json hands numbers over as integers of 64 bits or as floats: it rounds long ones, writes
//! others in another way, and refuses a whole document for one number beyond 1e308, wherever that
//! stands. So serde_json says here what is JSON, for which it looks at no number's value, and the
//! values are taken from a text that is known to be JSON. Each of the two passes goes over the text
//! once.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::{
    error::{DecodeError, reason},
    surrogates,
    syntax::syntax,
    tree::Tree,
};

/// How deep lists and objects may stand within each other, as for serde_json: a tree is read,
/// walked and dropped by recursion.
const MAX_DEPTH: usize = 127;

/// Reads a document. Halves of surrogate pairs are read as U+FFFD.
pub(super) fn read(text: &str) -> Result<Tree<'_>, DecodeError> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| syntax(&error))?;
    Reader { text, at: 0 }.value(0)
}

/// Goes over a text that is known to be JSON, and so looks for no fault but depth.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next value, which stands within so many lists and objects.
    fn value(&mut self, depth: usize) -> Result<Tree<'a>, DecodeError> {
        Ok(match self.peek() {
            b'[' | b'{' if depth == MAX_DEPTH => return Err(too_deep()),
            b'[' => Tree::Array(self.items(depth + 1)?),
            b'{' => Tree::Object(self.members(depth + 1)?),
            b'"' => Tree::Text(self.string()),
            b'n' => self.word("null", Tree::Null),
            b't' => self.word("true", Tree::Bool(true)),
            b'f' => self.word("false", Tree::Bool(false)),
            _ => Tree::Number(self.number().into()),
        })
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Tree<'a>>, DecodeError> {
        let mut items = Vec::new();
        self.at += 1;
        while self.peek() != b']' {
            items.push(self.value(depth)?);
            self.skip_comma();
        }
        self.at += 1;
        Ok(items)
    }

    fn members(&mut self, depth: usize) -> Result<Vec<(Cow<'a, str>, Tree<'a>)>, DecodeError> {
        let mut members = Vec::new();
        self.at += 1;
        while self.peek() != b'}' {
            let name = self.string();
            // The colon.
            self.peek();
            self.at += 1;
            members.push((name, self.value(depth)?));
            self.skip_comma();
        }
        self.at += 1;
        Ok(members)
    }

    /// Goes to the next byte that is no white space, and shows it.
    fn peek(&mut self) -> u8 {
        let rest = &self.text.as_bytes()[self.at..];
        let blanks = rest
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count();
        self.at += blanks;
        rest[blanks]
    }

    fn skip_comma(&mut self) {
        if self.peek() == b',' {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Tree<'a>) -> Tree<'a> {
        self.at += word.len();
        value
    }

    fn number(&mut self) -> &'a str {
        let text = self.text;
        let rest = &text[self.at..];
        let is_part = |byte: &u8| matches!(*byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let length = rest.bytes().take_while(is_part).count();
        self.at += length;
        &rest[..length]
    }

    fn string(&mut self) -> Cow<'a, str> {
        let (text, start) = (self.text, self.at);
        let bytes = text.as_bytes();
        let mut end = start + 1;
        while bytes[end] != b'"' {
            // Whatever is escaped, it does not end the text.
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        self.at = end + 1;
        let written = &text[start + 1..end];
        if written.contains('\\') {
            unescaped(&text[start..self.at]).into()
        } else {
            written.into()
        }
    }
}

/// What a text in its quotes stands for.
fn unescaped(quoted: &str) -> String {
    let mended = surrogates::mended(quoted);
    serde_json::from_str(mended.as_deref().unwrap_or(quoted))
        .expect("it is a text of JSON, and halves of pairs are all that serde_json refuses there")
}

fn too_deep() -> DecodeError {
    DecodeError::new(
        reason::INVALID_JSON,
        format!(
            "lists and objects stand more than {MAX_DEPTH} deep within each other: write the \
             record flatter"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(json: &str) -> Tree<'_> {
        read(json).expect("JSON")
    }

    #[test]
    fn a_document_is_written_as_it_was_read() {
        for json in [
            r#"{"b":1,"a":[null,true,false,-7,0.25,"é\n"],"b":{}}"#,
            "[]",
            r#""text""#,
            // Numbers that a float holds in part, in another way, or not at all.
            "[18446744073709551616,0.1000000000000000055511151231257827,1E2,1e+2,-0,-0.0,1.50]",
            "[1e400,-1e400,1e-400]",
            "1e400",
        ] {
            assert_eq!(serde_json::to_string(&tree(json)).expect("a tree"), json);
        }
    }

    #[test]
    fn white_space_stands_between_all_parts() {
        let spaced = "\r\n{ \"a\" : [ 1 , \"b\" ,{\t} , [ ] ] , \"c\"\n:\ntrue }\t";
        let written = serde_json::to_string(&tree(spaced)).expect("a tree");
        assert_eq!(written, r#"{"a":[1,"b",{},[]],"c":true}"#);
    }

    #[test]
    fn texts_without_escapes_are_borrowed() {
        let Tree::Object(members) = tree(r#"{"plain":"text","\u0065":"\n\"\\"}"#) else {
            unreachable!("it is an object");
        };
        let borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
        let Tree::Text(text) = &members[0].1 else {
            unreachable!("it is a text");
        };
        assert!(borrowed(&members[0].0) && borrowed(text));
        assert_eq!(members[1], ("e".into(), Tree::Text("\n\"\\".into())));
    }

    #[test]
    fn half_a_pair_is_mended_in_names_and_texts() {
        assert_eq!(
            tree(r#"{"\ud83d":"\ude00 \ud83d\ude00 \\ud83d"}"#),
            Tree::Object(vec![(
                "\u{fffd}".into(),
                Tree::Text("\u{fffd} 😀 \\ud83d".into())
            )])
        );
    }

    #[test]
    fn what_is_no_json_is_refused_where_it_stops_being_it() {
        for (text, place) in [
            ("", "line 1 column 0"),
            ("[1,]", "line 1 column 4"),
            ("[01]", "line 1 column 3"),
            ("{\"a\":1e}", "line 1 column 8"),
            ("[\n\"\\x\"]", "line 2 column 3"),
            ("[1] 2", "line 1 column 5"),
        ] {
            let error = read(text).expect_err(text);
            assert_eq!(error.reason, reason::INVALID_JSON);
            assert!(error.message.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn what_nests_too_deeply_is_refused_by_the_limit() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        read(&nested(MAX_DEPTH)).expect("as deep as may be");
        let error = read(&nested(MAX_DEPTH + 1)).expect_err("deeper");
        assert_eq!(error.reason, reason::INVALID_JSON);
        assert!(error.message.contains("more than 127 deep"), "{error}");
        assert_eq!(read(&nested(1_000_000)), Err(error));
    }
}
