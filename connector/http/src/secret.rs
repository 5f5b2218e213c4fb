//! A value that is never printed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A password, token or key. `Debug` and `Serialize` give `[redacted]`; only [`Secret::expose`] tells.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the client that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Numbers and booleans are taken, for librdkafka's properties are texts, and `10` is one of
    /// them. Who wants a text alone refuses the others before, while it is known how they were
    /// written.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Bool(bool),
            Integer(i64),
            Unsigned(u64),
            Float(f64),
        }
        // serde's own message would quote the value.
        let written = Written::deserialize(deserializer)
            .map_err(|_| de::Error::custom("expected a text or a number"))?;
        Ok(Self(match written {
            Written::Text(text) => text,
            Written::Bool(value) => value.to_string(),
            Written::Integer(value) => value.to_string(),
            Written::Unsigned(value) => value.to_string(),
            Written::Float(value) => value.to_string(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_printed_by_nothing() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").expect("text");
        assert_eq!(secret.expose(), "hunter2");
        let number: Secret = serde_json::from_str("12345678901234567890").expect("a number");
        assert_eq!(number.expose(), "12345678901234567890");
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(
            serde_json::to_string(&secret).expect("serialises"),
            "\"[redacted]\""
        );
        let refused = serde_json::from_str::<Secret>("[\"hunter2\"]").expect_err("a list");
        assert!(!refused.to_string().contains("hunter2"));
    }
}
