//! Where a field may stand: at one place, or at several of which the first with a value counts.
//!
//! A log may hold the same thing in two shapes: what is asked of OpenAI's Responses API is a text or
//! a list of messages. No single pointer leads to both.

use std::fmt;

use super::{
    draft::Slot,
    pointer::JsonPointer,
    tree::Tree,
    walk::{Reading, Twice},
};

/// Pointers, of which the first counts that leads to a value.
///
/// Null is no value, nor is an item that a list lacks. A place around one where the log has no value
/// is passed over: with `/output/content` before `/output`, a message whose content is null is not
/// taken for its own content. A value of a wrong type is one, and not passed over without a word. So
/// is an empty text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointers(Vec<JsonPointer>);

impl Pointers {
    /// These, in this order; there are none of none.
    pub fn new(pointers: Vec<JsonPointer>) -> Option<Self> {
        (!pointers.is_empty()).then_some(Self(pointers))
    }

    /// The pointers in their order, of which there is at least one.
    pub fn as_slice(&self) -> &[JsonPointer] {
        &self.0
    }

    /// What stands where the first of them leads to a value. Where none does, it is null if the log
    /// has none at one of the places, and the end of the first that ended on something else if it
    /// does not.
    pub(super) fn read<T, R: Fn(&Tree<'_>) -> Slot<T>>(
        &self,
        document: &Tree<'_>,
        reading: &Reading<T, R>,
    ) -> Result<Slot<T>, Twice> {
        let mut none = Slot::Absent;
        let mut silent: Vec<&JsonPointer> = Vec::new();
        for pointer in &self.0 {
            if silent.iter().any(|silent| silent.lies_within(pointer)) {
                continue;
            }
            none = match (reading.at(pointer, document)?, none) {
                (Slot::Null, _) => {
                    silent.push(pointer);
                    Slot::Null
                }
                (ended @ Slot::Ended(_), Slot::Absent) => ended,
                (Slot::Absent | Slot::Ended(_), none) => none,
                (value, _) => return Ok(value),
            };
        }
        Ok(none)
    }
}

impl fmt::Display for Pointers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pointer) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" or ")?;
            }
            pointer.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{document, draft::Kind};

    fn pointers(texts: &[&str]) -> Pointers {
        let pointer = |text: &&str| JsonPointer::new(*text).expect("a pointer");
        Pointers::new(texts.iter().map(pointer).collect()).expect("there are some")
    }

    #[test]
    fn the_first_that_leads_to_a_value_counts_and_null_is_none() {
        let text = Reading::of_last(|tree: &Tree<'_>| match tree {
            Tree::Null => Slot::Null,
            Tree::Text(text) => Slot::Is(text.to_string()),
            other => Slot::Wrong(other.kind()),
        });
        let is = |text: &str| Ok(Slot::Is(text.to_owned()));
        let ended = |why: &str| Ok(Slot::Ended(why.to_owned()));
        for (json, found) in [
            (r#"{"a":{"b":"1"},"c":["2"],"d":"3"}"#, is("1")),
            (r#"{"a":{"b":null},"c":["2"],"d":"3"}"#, is("2")),
            (r#"{"a":"text","c":["2"]}"#, is("2")),
            (r#"{"c":[],"d":"3"}"#, is("3")),
            (r#"{"d":"3"}"#, is("3")),
            (r#"{"a":{"b":""},"d":"3"}"#, is("")),
            (r#"{"a":{"b":7},"d":"3"}"#, Ok(Slot::Wrong(Kind::Number))),
            (r#"{"a":{"b":"1","b":"2"},"d":"3"}"#, Err(Twice)),
            (r#"{"a":{"b":"1"},"d":"3","d":"4"}"#, is("1")),
            (r#"{}"#, Ok(Slot::Absent)),
            (r#"{"a":"text","c":[]}"#, Ok(Slot::Null)),
            (r#"{"a":null,"c":"text"}"#, Ok(Slot::Null)),
            (
                r#"{"a":"text","c":7}"#,
                ended("/a is a string, not an object"),
            ),
            (r#"{"a":{},"c":7}"#, ended("/c is a number, not an array")),
        ] {
            let document = document::read(json).expect("JSON");
            let pointers = pointers(&["/a/b", "/c/0", "/d"]);
            assert_eq!(pointers.read(&document, &text), found, "{json}");
        }
    }

    #[test]
    fn what_is_around_a_place_without_a_value_is_no_alternative_to_it() {
        let text = Reading::of_last(|tree: &Tree<'_>| match tree {
            Tree::Null => Slot::Null,
            Tree::Text(text) => Slot::Is(text.to_string()),
            other => Slot::Wrong(other.kind()),
        });
        let is = |text: &str| Ok(Slot::Is(text.to_owned()));
        for (json, found) in [
            (r#"{"out":{"content":"1"}}"#, is("1")),
            (r#"{"out":"2"}"#, is("2")),
            (r#"{"out":{"content":null}}"#, Ok(Slot::Null)),
            (r#"{"out":"{\"content\":null}","output":"3"}"#, is("3")),
            (r#"{"out":{"content":null},"output":null}"#, Ok(Slot::Null)),
            (r#"{"out":{"text":"1"}}"#, Ok(Slot::Wrong(Kind::Object))),
        ] {
            let document = document::read(json).expect("JSON");
            let pointers = pointers(&["/out/content", "/out", "/output"]);
            assert_eq!(pointers.read(&document, &text), found, "{json}");
        }
    }

    #[test]
    fn several_are_told_as_one_or_another() {
        assert_eq!(pointers(&["/a"]).to_string(), "/a");
        assert_eq!(pointers(&["/a", "/b/0"]).to_string(), "/a or /b/0");
        assert_eq!(Pointers::new(Vec::new()), None);
    }
}
