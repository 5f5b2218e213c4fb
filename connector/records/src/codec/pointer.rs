//! Places in a document: JSON Pointers (RFC 6901), and two more ways to name an item of a list.
//!
//! In an array the RFC knows digits and `-` only, so anything else is free to mean something.
//! Chat logs need it: which message is the user's last depends on how many there are.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A place in a JSON document, such as `/choices/0/message/content` (RFC 6901).
///
/// In an array, `-1` is the last item and `-2` the one before it; `role=user` is the last item that
/// is an object whose member `role` is the text `user`, as in `/messages/role=user/content`.
///
/// Where a text is met that holds an object or an array as JSON, the pointer goes on in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JsonPointer {
    text: String,
    steps: Vec<Step>,
}

/// A step of a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The member of an object.
    pub name: String,
    /// The item of an array, if it names one.
    pub item: Option<Item>,
}

/// An item of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Counted from 0.
    At(usize),
    /// Counted from the end, where 1 is the last.
    FromEnd(usize),
    /// The last whose member of this name is this text.
    Whose { name: String, text: String },
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
    /// An item of an array in brackets, as JSONPath has it, which would be the member `[0]` of an object.
    #[error(
        "pointer {pointer:?} names an item in brackets; a JSON Pointer does it without: {meant}"
    )]
    Brackets {
        /// As written.
        pointer: String,
        /// As it should be.
        meant: String,
    },
}

impl JsonPointer {
    /// Parses a pointer.
    ///
    /// # Errors
    /// If it is empty, has no leading slash, holds an escape other than `~0` and `~1`, or a step such as `[0]`.
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
        if path.split('/').any(|step| in_brackets(step).is_some()) {
            let steps = path
                .split('/')
                .map(|step| in_brackets(step).unwrap_or(step));
            let meant = steps.flat_map(|step| ["/", step]).collect();
            return Err(JsonPointerError::Brackets {
                pointer: text,
                meant,
            });
        }
        let steps = path.split('/').map(Step::new).collect();
        Ok(Self { text, steps })
    }

    /// The pointer as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// So many of its first steps, as written.
    pub(super) fn beginning(&self, steps: usize) -> &str {
        let end = self.text.match_indices('/').nth(steps);
        end.map_or(&self.text, |(end, _)| &self.text[..end])
    }

    /// Whether it leads into what stands at another place.
    pub(super) fn lies_within(&self, outer: &Self) -> bool {
        self.steps.len() > outer.steps.len() && self.steps.starts_with(&outer.steps)
    }
}

/// What a step names if it is a number in brackets.
fn in_brackets(step: &str) -> Option<&str> {
    let item = step.strip_prefix('[')?.strip_suffix(']')?;
    item.parse::<i64>().is_ok().then_some(item)
}

impl Step {
    fn new(token: &str) -> Self {
        // In this order, says the RFC: ~01 is ~1.
        let name = token.replace("~1", "/").replace("~0", "~");
        Self {
            item: Item::named(&name),
            name,
        }
    }
}

impl Item {
    fn named(name: &str) -> Option<Self> {
        if let Some((name, text)) = name.split_once('=') {
            let (name, text) = (name.to_owned(), text.to_owned());
            return Some(Self::Whose { name, text });
        }
        let digits = name.strip_prefix('-');
        let index = digits.unwrap_or(name);
        // No signs, and no second way to write a number.
        let is_plain = index.bytes().all(|byte| byte.is_ascii_digit())
            && (index == "0" || !index.starts_with('0'));
        let index = index.parse().ok().filter(|_| is_plain)?;
        match digits {
            None => Some(Self::At(index)),
            // Nothing is behind the last item, where -0 would be.
            Some(_) => (index > 0).then_some(Self::FromEnd(index)),
        }
    }
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

    #[test]
    fn a_step_names_an_item_by_its_place_or_by_what_it_says_of_itself() {
        let whose = |name: &str, text: &str| {
            let (name, text) = (name.to_owned(), text.to_owned());
            Some(Item::Whose { name, text })
        };
        for (step, item) in [
            ("0", Some(Item::At(0))),
            ("17", Some(Item::At(17))),
            ("-1", Some(Item::FromEnd(1))),
            ("role=user", whose("role", "user")),
            ("x~1y=~0z=", whose("x/y", "~z=")),
            ("=", whose("", "")),
            ("", None),
            ("-", None),
            ("-0", None),
            ("--1", None),
            ("+1", None),
            ("00", None),
            ("01", None),
            ("1x", None),
            ("99999999999999999999", None),
        ] {
            let pointer = JsonPointer::new(format!("/{step}")).expect("a pointer");
            assert_eq!(pointer.steps()[0].item, item, "{step}");
        }
    }

    #[test]
    fn an_item_in_brackets_is_refused_with_what_it_should_be() {
        for (pointer, meant) in [
            ("/choices/[0]/message", "/choices/0/message"),
            ("/messages/[-1]", "/messages/-1"),
        ] {
            let refused = JsonPointerError::Brackets {
                pointer: pointer.to_owned(),
                meant: meant.to_owned(),
            };
            assert_eq!(JsonPointer::new(pointer), Err(refused));
        }
        // Names of members all the same: a log may be flat.
        for pointer in ["/choices[0].message", "/[]", "/[a]", "/[role=user]"] {
            assert!(JsonPointer::new(pointer).is_ok(), "{pointer}");
        }
    }

    #[test]
    fn a_pointer_begins_with_so_many_of_its_steps() {
        let pointer = JsonPointer::new("/a~1b//c=d").expect("a pointer");
        for (steps, beginning) in [(0, ""), (1, "/a~1b"), (2, "/a~1b/"), (3, "/a~1b//c=d")] {
            assert_eq!(pointer.beginning(steps), beginning);
        }
    }
}
