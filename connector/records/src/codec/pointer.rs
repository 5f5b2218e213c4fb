//! Places in a document: JSON Pointers (RFC 6901), and two more ways to name an item of a list.
//!
//! In an array the RFC knows digits and `-` only, so anything else is free to mean something.
//! Chat logs need it: which message is the user's last depends on how many there are.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::tree::{Found, Tree};

/// A place in a JSON document, such as `/choices/0/message/content` (RFC 6901).
///
/// In an array, `-1` is the last item and `-2` the one before it; `role=user` is the last item that
/// is an object whose member `role` is the text `user`, as in `/messages/role=user/content`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPointer {
    text: String,
    tokens: Vec<String>,
}

/// A text that is not a JSON Pointer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonPointerError {
    /// The empty pointer means the whole document, which is no field.
    #[error("a pointer must name a place within the document, such as /answer, and is empty")]
    Empty,
    /// No leading slash.
    #[error("pointer {0:?} must begin with a slash, as in /choices/0/message/content")]
    NoSlash(String),
    /// A tilde that stands for nothing.
    #[error("pointer {0:?} has a ~ that is followed by neither 0 (for ~) nor 1 (for /)")]
    Escape(String),
}

impl JsonPointer {
    /// Parses a pointer.
    ///
    /// # Errors
    /// If it is empty, has no leading slash, or holds an escape other than `~0` and `~1`.
    pub fn new(text: impl Into<String>) -> Result<Self, JsonPointerError> {
        let text = text.into();
        if text.is_empty() {
            return Err(JsonPointerError::Empty);
        }
        let Some(path) = text.strip_prefix('/') else {
            return Err(JsonPointerError::NoSlash(text));
        };
        if text
            .split('~')
            .skip(1)
            .any(|tail| !tail.starts_with(['0', '1']))
        {
            return Err(JsonPointerError::Escape(text));
        }
        // In this order, says the RFC: ~01 is ~1.
        let unescaped = |token: &str| token.replace("~1", "/").replace("~0", "~");
        let tokens = path.split('/').map(unescaped).collect();
        Ok(Self { text, tokens })
    }

    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands there in a document.
    pub(super) fn find<'t, 'a>(&self, document: &'t Tree<'a>) -> Found<'t, 'a> {
        let mut place = document;
        for token in &self.tokens {
            let found = match place {
                Tree::Array(items) => item(items, token),
                other => other.member(token),
            };
            match found {
                Found::One(next) => place = next,
                other => return other,
            }
        }
        Found::One(place)
    }
}

fn item<'t, 'a>(items: &'t [Tree<'a>], token: &str) -> Found<'t, 'a> {
    if let Some((name, value)) = token.split_once('=') {
        for item in items.iter().rev() {
            match item.member(name) {
                Found::One(Tree::Text(text)) if text == value => return Found::One(item),
                Found::Twice => return Found::Twice,
                _ => {}
            }
        }
        return Found::Nothing;
    }
    let from_end = token.starts_with('-');
    let digits = token.strip_prefix('-').unwrap_or(token);
    // No signs, and no second way to write a number.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits == "0" || !digits.starts_with('0'));
    let index = digits.parse::<usize>().ok().filter(|_| plain);
    let index = if from_end {
        index.and_then(|index| items.len().checked_sub(index))
    } else {
        index
    };
    // Nothing is behind the last item, and -0 is there.
    index
        .and_then(|index| items.get(index))
        .map_or(Found::Nothing, Found::One)
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl TryFrom<String> for JsonPointer {
    type Error = JsonPointerError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<JsonPointer> for String {
    fn from(pointer: JsonPointer) -> Self {
        pointer.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::document;

    /// What is found, as JSON; `nothing` and `twice` otherwise.
    fn at(pointer: &str, document: &str) -> String {
        let pointer = JsonPointer::new(pointer).expect("a pointer");
        let document = document::read(document).expect("JSON");
        match pointer.find(&document) {
            Found::Nothing => "nothing".to_owned(),
            Found::Twice => "twice".to_owned(),
            Found::One(tree) => serde_json::to_string(tree).expect("a tree"),
        }
    }

    #[test]
    fn the_examples_of_the_rfc_are_found() {
        // RFC 6901, section 5.
        let document = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,
            "k\"l":6," ":7,"m~n":8}"#;
        for (pointer, value) in [
            ("/foo", r#"["bar","baz"]"#),
            ("/foo/0", r#""bar""#),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
            ("/foo/-", "nothing"),
            ("/foo/2", "nothing"),
            ("/foo/00", "nothing"),
            ("/foo/+1", "nothing"),
            ("/foo/bar", "nothing"),
            ("/foo/0/deeper", "nothing"),
            ("/m~01", "nothing"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
    }

    #[test]
    fn items_are_counted_from_the_end() {
        let document = r#"{"a":[1,2,3],"-1":4}"#;
        for (pointer, value) in [
            ("/a/-1", "3"),
            ("/a/-3", "1"),
            ("/a/-4", "nothing"),
            ("/a/-0", "nothing"),
            ("/a/--1", "nothing"),
            ("/-1", "4"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
    }

    #[test]
    fn an_item_is_found_by_what_it_says_of_itself_and_the_last_one_counts() {
        let document = r#"{"messages":[
            {"role":"system","content":"s"},{"role":"user","content":"first"},
            {"role":"assistant","content":"a"},{"role":"user","content":"last"},
            {"role":"tool","content":"t"},"text",{"content":"nobody"},{"role":7}],"role=user":1}"#;
        for (pointer, value) in [
            ("/messages/role=user/content", r#""last""#),
            ("/messages/role=system/content", r#""s""#),
            ("/messages/role=developer/content", "nothing"),
            ("/messages/role=/content", "nothing"),
            ("/messages/role=7/content", "nothing"),
            ("/role=user", "1"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
        assert_eq!(at("/a/x~1y=~0z/b", r#"{"a":[{"x/y":"~z","b":1}]}"#), "1");
    }

    #[test]
    fn a_name_that_stands_twice_on_the_way_is_told_and_elsewhere_it_is_not() {
        let document = r#"{"a":{"b":1},"a":{"b":1},"c":[{"d":1,"d":2,"e":3}],"f":4}"#;
        for (pointer, value) in [
            ("/a/b", "twice"),
            ("/c/0/d", "twice"),
            ("/c/d=1/e", "twice"),
            ("/c/0/e", "3"),
            ("/f", "4"),
        ] {
            assert_eq!(at(pointer, document), value, "{pointer}");
        }
    }
}
