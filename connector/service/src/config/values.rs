//! Values that may be written in more than one way.

use std::{fmt, path::Path};

use aligner::builtin::Rule;
use serde::{Deserialize, Serialize};

/// Which Aligner corrects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ModelChoice {
    /// The one that ships with the product.
    Bundled,
    /// One that reads neither prompts nor weights.
    StandIn(Rule),
    /// A completions server.
    Remote,
    /// A folder in Hugging Face layout, a GGUF file, or a model of the hub.
    Named(String),
}

impl ModelChoice {
    /// Whether there are weights in this process.
    pub fn has_weights(&self) -> bool {
        matches!(self, Self::Bundled | Self::Named(_))
    }

    /// Where it lies, if it is one that users have on their disk.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(name) => Some(Path::new(name)),
            Self::Bundled | Self::StandIn(_) | Self::Remote => None,
        }
    }
}

impl From<String> for ModelChoice {
    fn from(text: String) -> Self {
        match text.as_str() {
            "bundled" => Self::Bundled,
            "remote" => Self::Remote,
            name => Rule::named(name).map_or(Self::Named(text), Self::StandIn),
        }
    }
}

impl From<ModelChoice> for String {
    fn from(model: ModelChoice) -> Self {
        model.to_string()
    }
}

impl fmt::Display for ModelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bundled => "bundled",
            Self::StandIn(rule) => rule.name(),
            Self::Remote => "remote",
            Self::Named(name) => name.as_str(),
        })
    }
}

/// An instance id; a bare number (a StatefulSet ordinal) is taken as its digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct InstanceId(pub String);

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a text or a whole number")]
        enum Written {
            Text(String),
            Number(u64),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => Self(text),
            Written::Number(number) => Self(number.to_string()),
        })
    }
}

/// The items of a list that had to be written as a text: `a,b`, or `[a, b]` as YAML has it.
pub(super) fn items(text: &str) -> Vec<String> {
    let text = text.trim();
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    inner
        .split(',')
        .map(|item| item.trim().to_owned())
        .collect()
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for OneOrMany {
    /// A text with commas or brackets is a list: variables hold nothing but texts.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a text or a list of texts")]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) if text.contains(',') || text.starts_with('[') => {
                Self::Many(items(&text))
            }
            Written::Text(text) => Self::One(text),
            Written::List(values) => Self::Many(values),
        })
    }
}

impl OneOrMany {
    /// The values, in order.
    pub fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// Where a field may stand: a JSON Pointer, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Places(OneOrMany);

impl<'de> Deserialize<'de> for Places {
    /// A text is one pointer, commas and all, unless it begins with a bracket, as none does: it is
    /// a list then, in JSON where a name in it has a comma.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "expected a JSON Pointer or a list of JSON Pointers"
        )]
        enum Written {
            Text(String),
            List(Vec<String>),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) if text.starts_with('[') => {
                OneOrMany::Many(serde_json::from_str(&text).unwrap_or_else(|_| items(&text)))
            }
            Written::Text(text) => OneOrMany::One(text),
            Written::List(values) => OneOrMany::Many(values),
        }))
    }
}

impl Places {
    /// The pointers, in order.
    pub fn values(&self) -> &[String] {
        self.0.values()
    }

    /// The text that is the one pointer, if no list was written.
    pub fn one(&self) -> Option<&str> {
        match &self.0 {
            OneOrMany::One(pointer) => Some(pointer),
            OneOrMany::Many(_) => None,
        }
    }
}

impl From<&str> for Places {
    fn from(pointer: &str) -> Self {
        Self(OneOrMany::One(pointer.to_owned()))
    }
}

impl<const N: usize> From<[&str; N]> for Places {
    fn from(pointers: [&str; N]) -> Self {
        Self(OneOrMany::Many(pointers.map(str::to_owned).to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_pointer_and_in_brackets_a_list() {
        for (written, pointers) in [
            ("\"/a\"", &["/a"][..]),
            ("\"/a,b\"", &["/a,b"]),
            ("\"[/a, /b/role=user]\"", &["/a", "/b/role=user"]),
            (r#""[\"/a,b\",\"/c\"]""#, &["/a,b", "/c"]),
            (r#"["/a,b","/c"]"#, &["/a,b", "/c"]),
            (r#"["/a"]"#, &["/a"]),
            ("[]", &[]),
        ] {
            let places: Places = serde_json::from_str(written).expect(written);
            assert_eq!(places.values(), pointers, "{written}");
            let again = serde_json::to_value(&places).expect("JSON");
            assert_eq!(
                serde_json::from_value::<Places>(again).expect("as it was"),
                places
            );
        }
        serde_json::from_str::<Places>("7").expect_err("a number");
    }

    #[test]
    fn a_model_is_written_as_it_was_read() {
        let named = |name: &str| ModelChoice::Named(name.to_owned());
        for (text, model) in [
            ("bundled", ModelChoice::Bundled),
            ("identity", ModelChoice::StandIn(Rule::Identity)),
            ("marker", ModelChoice::StandIn(Rule::Marker)),
            ("marker-all", ModelChoice::StandIn(Rule::MarkerAll)),
            ("remote", ModelChoice::Remote),
            ("./remote", named("./remote")),
            ("owner/name@main", named("owner/name@main")),
        ] {
            let read: ModelChoice = serde_json::from_value(text.into()).expect("a text");
            assert_eq!(read, model);
            assert_eq!(serde_json::to_value(&read).expect("a text"), text);
        }
    }
}
