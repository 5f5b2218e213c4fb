//! A document as it was written: members in their order, numbers with their own digits, and a name
//! that stands twice with both of its values, so that nobody has to guess which one was meant.

use std::borrow::Cow;

use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap},
};
use serde_json::{Number, value::RawValue};

use super::{draft::Kind, time_unit::TimeUnit};

/// A value; texts without escapes are borrowed from the document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree<'a> {
    Null,
    /// What JSON has no type for, such as bytes that are no text, and what is written in its place.
    /// It is taken for no text, number or absence itself.
    Foreign(Kind, Box<Tree<'a>>),
    Bool(bool),
    /// As JSON writes it: no type of ours holds every number.
    Number(Cow<'a, str>),
    /// A number whose type says that it is an instant, and in which unit.
    Instant(i64, TimeUnit),
    Text(Cow<'a, str>),
    Array(Vec<Tree<'a>>),
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

/// What stands at a place in a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Found<'t, 'a> {
    Nothing,
    /// The place, or one on the way to it, is there twice.
    Twice,
    One(&'t Tree<'a>),
}

impl<'a> Tree<'a> {
    /// A number, of which JSON has only the finite ones.
    pub(super) fn number(number: f64) -> Self {
        match Number::from_f64(number) {
            Some(number) => Self::Number(number.to_string().into()),
            None => Self::foreign(Kind::NotFinite, Self::Null),
        }
    }

    pub(super) fn foreign(kind: Kind, written: Self) -> Self {
        Self::Foreign(kind, Box::new(written))
    }

    pub(super) fn integer(number: i64) -> Self {
        Self::Number(number.to_string().into())
    }

    /// What it is, for whoever wrote it where something else belongs.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Null | Self::Bool(_) => Kind::Bool,
            Self::Foreign(kind, _) => *kind,
            Self::Number(_) | Self::Instant(..) => Kind::Number,
            Self::Text(_) => Kind::Text,
            Self::Array(_) => Kind::Array,
            Self::Object(_) => Kind::Object,
        }
    }

    /// The member of an object.
    pub(super) fn member(&self, name: &str) -> Found<'_, 'a> {
        let Self::Object(members) = self else {
            return Found::Nothing;
        };
        let mut named = members.iter().filter(|(member, _)| member == name);
        match (named.next(), named.next()) {
            (None, _) => Found::Nothing,
            (Some((_, value)), None) => Found::One(value),
            (Some(_), Some(_)) => Found::Twice,
        }
    }
}

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Foreign(_, written) => written.serialize(serializer),
            Self::Bool(value) => value.serialize(serializer),
            Self::Number(number) => serde_json::from_str::<&RawValue>(number)
                .map_err(S::Error::custom)?
                .serialize(serializer),
            Self::Instant(number, _) => number.serialize(serializer),
            Self::Text(text) => text.serialize(serializer),
            Self::Array(items) => items.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_has_no_value() {
        let member = |name: &'static str, number| (Cow::Borrowed(name), Tree::integer(number));
        let document = Tree::Object(vec![member("a", 1), member("b", 2), member("a", 1)]);
        assert_eq!(document.member("a"), Found::Twice);
        assert_eq!(document.member("b"), Found::One(&Tree::integer(2)));
        assert_eq!(document.member("c"), Found::Nothing);
        assert_eq!(Tree::Null.member("a"), Found::Nothing);
    }

    #[test]
    fn a_number_that_is_not_finite_is_written_as_null() {
        let items = [f64::NAN, f64::INFINITY, 0.1, 1.0].map(Tree::number);
        let written = serde_json::to_string(&Tree::Array(items.into())).expect("a tree");
        assert_eq!(written, "[null,null,0.1,1.0]");
    }
}
