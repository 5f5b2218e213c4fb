//! A JSON object of a checkpoint that names itself in errors.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use crate::CheckpointError;

/// Sizes that are read; the limit keeps products of two far from overflow.
pub const SIZES: RangeInclusive<usize> = 1..=1 << 24;

/// An object of a file, with its dotted place in it.
#[derive(Debug, Clone)]
pub struct Json {
    file: String,
    prefix: String,
    map: Map<String, Value>,
}

impl Json {
    /// The object that a whole file is; `file` is what errors call it.
    ///
    /// # Errors
    /// If it is no JSON, or no object.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, CheckpointError> {
        match serde_json::from_slice(bytes) {
            Ok(map) => Ok(Self::whole(file, map)),
            Err(error) => Err(CheckpointError::Malformed {
                file: file.to_owned(),
                problem: format!("{error}{}", foreign_number(bytes, &error)),
            }),
        }
    }

    /// The object that a whole file is, parsed before; `file` is what errors call it.
    ///
    /// # Errors
    /// If it is no object.
    pub fn of(file: &str, value: &Value) -> Result<Self, CheckpointError> {
        match value {
            Value::Object(map) => Ok(Self::whole(file, map.clone())),
            _ => Err(CheckpointError::Malformed {
                file: file.to_owned(),
                problem: "it is not a JSON object".to_owned(),
            }),
        }
    }

    fn whole(file: &str, map: Map<String, Value>) -> Self {
        Self {
            file: file.to_owned(),
            prefix: String::new(),
            map,
        }
    }

    /// The value of a key, if it is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Whether the key is there and not null.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key is there, even if null.
    pub fn mentions(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether it has no keys.
    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// With what `beneath` says of keys that do not stand here; errors name all as if they did.
    pub(crate) fn over(mut self, beneath: &Self) -> Self {
        for (key, value) in &beneath.map {
            if !self.map.contains_key(key) {
                self.map.insert(key.clone(), value.clone());
            }
        }
        self
    }

    /// The object under a key, if it is there and not null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn object(&self, key: &str) -> Result<Option<Self>, CheckpointError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self {
                file: self.file.clone(),
                prefix: format!("{}{key}.", self.prefix),
                map: map.clone(),
            })),
            Some(_) => Err(self.problem(key, "must be an object".to_owned())),
        }
    }

    /// The text under a key.
    ///
    /// # Errors
    /// If it is missing, or something else.
    pub fn text(&self, key: &str) -> Result<&str, CheckpointError> {
        self.get(key)
            .ok_or_else(|| self.problem(key, "is missing".to_owned()))?
            .as_str()
            .ok_or_else(|| self.problem(key, "must be a string".to_owned()))
    }

    /// The text under a key, or `default` if it is missing or null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn text_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str, CheckpointError> {
        if self.has(key) {
            self.text(key)
        } else {
            Ok(default)
        }
    }

    /// The switch under a key, or `default` if it is missing or null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, CheckpointError> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.problem(key, format!("is {value}; it must be true or false")))
        })
    }

    /// The number under a key, from 0 on, if it is there and not null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        self.get(key)
            .map(|value| {
                value
                    .as_f64()
                    .filter(|number| number.is_finite() && *number >= 0.0)
                    .ok_or_else(|| {
                        let expected = "it must be a number from 0 on";
                        self.problem(key, format!("is {value}; {expected}"))
                    })
            })
            .transpose()
    }

    /// The number under a key, above 0, if it is there and not null.
    pub(crate) fn optional_positive(&self, key: &str) -> Result<Option<f64>, CheckpointError> {
        match self.optional_number(key)? {
            Some(number) if number <= 0.0 => {
                let problem = format!("is {number}; it must be a number above 0");
                Err(self.problem(key, problem))
            }
            number => Ok(number),
        }
    }

    /// The number under a key, from 0 on, or `default` if it is missing or null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, CheckpointError> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A number of things, none included.
    ///
    /// # Errors
    /// If it is something else.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        self.get(key).map_or(Ok(default), |value| {
            value
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .ok_or_else(|| self.problem(key, format!("is {value}, not a count")))
        })
    }

    /// One of [`SIZES`], if the key is there and not null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn optional_size(&self, key: &str) -> Result<Option<usize>, CheckpointError> {
        self.get(key)
            .map(|value| {
                value
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok())
                    .filter(|size| SIZES.contains(size))
                    .ok_or_else(|| {
                        let (least, most) = (*SIZES.start(), *SIZES.end());
                        let expected = format!("expected a whole number of {least} to {most}");
                        self.problem(key, format!("is {value}; {expected}"))
                    })
            })
            .transpose()
    }

    /// One of [`SIZES`], or `default` if the key is missing or null.
    ///
    /// # Errors
    /// If it is something else.
    pub fn size_or(&self, key: &str, default: usize) -> Result<usize, CheckpointError> {
        Ok(self.optional_size(key)?.unwrap_or(default))
    }

    /// A token id or a list of them.
    ///
    /// # Errors
    /// If it is something else.
    pub fn ids(&self, key: &str) -> Result<Vec<u32>, CheckpointError> {
        // Below 0 no token is meant, and none ends anything.
        let is_meant = |value: &&Value| value.as_i64().is_none_or(|id| id >= 0);
        let id = |value: &Value| {
            value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| {
                    self.problem(key, format!("is {value}, not a token id or a list of them"))
                })
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(ids)) => ids.iter().filter(is_meant).map(id).collect(),
            Some(value) => Some(value).filter(is_meant).map(id).into_iter().collect(),
        }
    }

    /// That something is wrong with the value of a key.
    pub fn problem(&self, key: &str, problem: String) -> CheckpointError {
        CheckpointError::Key {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            problem,
        }
    }

    /// That the value of a key is not implemented.
    pub fn unsupported(&self, key: &str, supported: &'static str) -> CheckpointError {
        CheckpointError::Unsupported {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            value: self
                .map
                .get(key)
                .map_or_else(|| "null".to_owned(), Value::to_string),
            supported,
        }
    }
}

/// What Python writes and reads as numbers, and nobody else, where the file is wrong.
fn foreign_number(bytes: &[u8], error: &serde_json::Error) -> String {
    let line = bytes
        .split(|byte| *byte == b'\n')
        .nth(error.line().saturating_sub(1));
    // From the sign before it on.
    let from = error.column().saturating_sub(2);
    let rest = line.and_then(|line| line.get(from..)).unwrap_or_default();
    let rest = String::from_utf8_lossy(&rest[..rest.len().min(12)]);
    match ["NaN", "Infinity"]
        .into_iter()
        .find(|word| rest.contains(word))
    {
        Some(word) => format!("; {word} is no JSON: write null, or remove the key"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_python_alone_reads_is_named() {
        let problem = |json: &[u8]| {
            let error = Json::parse("config.json", json).map(|_| ());
            error.expect_err("it is refused").to_string()
        };
        for (json, word) in [
            (r#"{"dropout": NaN}"#, "NaN"),
            ("{\n  \"a\": 1,\n  \"b\": Infinity\n}", "Infinity"),
            (r#"{"b": -Infinity}"#, "Infinity"),
        ] {
            let said = problem(json.as_bytes());
            let told = format!("{word} is no JSON: write null, or remove the key");
            assert!(said.ends_with(&told), "{said}");
        }
        for json in [
            "{",
            r#"{"note": "NaN is a bread", "a": "#,
            r#"{"note": "NaN", "a": tru}"#,
        ] {
            let said = problem(json.as_bytes());
            assert!(!said.contains("NaN"), "{said}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_shown_with_what_would_do() {
        let json = br#"{"theta": -1, "epsilon": "1e-5", "tied": 1, "cap": 2.5, "bias": true}"#;
        let json = Json::parse("config.json", json).expect("an object");
        let number = |key| json.optional_number(key).map_err(|error| error.to_string());
        for (key, value) in [("theta", "-1"), ("epsilon", "\"1e-5\""), ("bias", "true")] {
            let problem = format!("config.json: {key} is {value}; it must be a number from 0 on");
            assert_eq!(number(key), Err(problem));
        }
        assert_eq!(number("cap"), Ok(Some(2.5)));
        let tied = json.flag_or("tied", false).expect_err("it is refused");
        let problem = "config.json: tied is 1; it must be true or false";
        assert_eq!(tied.to_string(), problem);
        assert!(json.flag_or("bias", false).expect("a switch"));
    }
}
