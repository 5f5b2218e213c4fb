//! A JSON document as it was written: members in their order, and a name that stands twice with
//! both of its values, so that nobody has to guess which one was meant.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Number;

use super::draft::Kind;

/// A value; texts without escapes are borrowed from the document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree<'a> {
    Null,
    /// What JSON has no value for: bytes that are no text, or a number that is not finite. It is
    /// written as null, but is not taken for an absence.
    Foreign(Kind),
    Bool(bool),
    Number(Number),
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
        Number::from_f64(number).map_or(Self::Foreign(Kind::NotFinite), Self::Number)
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
            Self::Null | Self::Foreign(_) => serializer.serialize_unit(),
            Self::Bool(value) => value.serialize(serializer),
            Self::Number(number) => number.serialize(serializer),
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

impl<'de: 'a, 'a> Deserialize<'de> for Tree<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree<'de>, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'de>, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree<'de>, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree<'de>, E> {
        Ok(Tree::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree<'de>, E> {
        Ok(Tree::number(number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(text.into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(text.to_owned().into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Tree::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(json: &str) -> Tree<'_> {
        serde_json::from_str(json).expect("JSON")
    }

    #[test]
    fn a_document_is_written_as_it_was_read() {
        for json in [
            r#"{"b":1,"a":[null,true,-7,18446744073709551615,0.25,"é\n"],"b":{}}"#,
            "[]",
            r#""text""#,
        ] {
            assert_eq!(serde_json::to_string(&tree(json)).expect("a tree"), json);
        }
    }

    #[test]
    fn texts_without_escapes_are_borrowed() {
        let Tree::Object(members) = tree(r#"{"plain":"text","\u0065":"\n"}"#) else {
            unreachable!("it is an object");
        };
        let borrowed = |text: &Cow<'_, str>| matches!(text, Cow::Borrowed(_));
        let Tree::Text(text) = &members[0].1 else {
            unreachable!("it is a text");
        };
        assert!(borrowed(&members[0].0) && borrowed(text));
        assert_eq!(members[1], ("e".into(), Tree::Text("\n".into())));
    }

    #[test]
    fn a_name_that_stands_twice_has_no_value() {
        let document = tree(r#"{"a":1,"b":2,"a":1}"#);
        assert_eq!(document.member("a"), Found::Twice);
        assert_eq!(document.member("b"), Found::One(&Tree::Number(2.into())));
        assert_eq!(document.member("c"), Found::Nothing);
        assert_eq!(Tree::Null.member("a"), Found::Nothing);
    }
}
