//! An object of a file of triples, as far as it is read.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// The keys of triples and preference pairs.
const KEYS: [&str; 13] = [
    "event_id",
    "id",
    "question",
    "answer",
    "correction",
    "prompt",
    "rejected",
    "chosen",
    "kind",
    "upstream_model",
    "faults",
    "aligner_name",
    "aligner_revision",
];

/// What an object holds under our keys. What else it holds is no concern of ours, not even a number
/// that no float holds, and so no value is taken before it is asked for.
#[derive(Default)]
pub(crate) struct Row<'a> {
    values: BTreeMap<&'static str, &'a RawValue>,
    /// A key with two values: which one was meant cannot be told.
    pub(crate) twice: Option<&'static str>,
}

impl<'a> Row<'a> {
    pub(crate) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The value, where there is one that is not null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a RawValue> {
        let value = self.values.get(key).copied();
        value.filter(|value| value.get() != "null")
    }

    /// The text under `key`; whatever else other programs keep there is no concern of ours.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(text)
    }
}

impl<'de> Deserialize<'de> for Row<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RowVisitor)
    }
}

struct RowVisitor;

impl<'de> Visitor<'de> for RowVisitor {
    type Value = Row<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Row<'de>, A::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        let mut row = Row::default();
        while let Some(Key(key)) = map.next_key()? {
            match KEYS.into_iter().find(|known| *known == key) {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(known) => {
                    if row.values.insert(known, map.next_value()?).is_some() {
                        row.twice.get_or_insert(known);
                    }
                }
            }
        }
        Ok(row)
    }
}

/// A value that is a text.
pub(crate) fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The `text` of an object.
pub(crate) fn text_within(value: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Fault {
        text: String,
    }
    let object = Some(value.get()).filter(|json| json.starts_with('{'))?;
    let fault: Fault = serde_json::from_str(object).ok()?;
    Some(fault.text)
}

/// The type of a number.
pub(crate) const NUMBER: &str = "a number";

/// What a value is, by its first byte.
pub(crate) fn type_name(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        _ => NUMBER,
    }
}
