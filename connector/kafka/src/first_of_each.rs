//! Objects of JSON whose keys come more than once.
//!
//! librdkafka's reports name a broker that it has dropped, and still refers to, beside the one at the
//! same address that it has learned of since. The newest comes first.

use std::{collections::HashMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// Reads an object, of each key the first value.
pub(crate) fn first_of_each<'de, D, T>(deserializer: D) -> Result<HashMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(FirstOfEach(PhantomData))
}

struct FirstOfEach<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstOfEach<T> {
    type Value = HashMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = HashMap::new();
        while let Some((key, value)) = object.next_entry()? {
            found.entry(key).or_insert(value);
        }
        Ok(found)
    }
}
