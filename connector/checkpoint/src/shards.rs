//! The files that weights lie in: a single one, or shards and an index that names them.

use std::{collections::BTreeSet, path::Path};

use serde_json::Value;

use crate::CheckpointError;

/// The file that says which shards there are.
pub const INDEX: &str = "model.safetensors.index.json";
/// The file of all weights, where they are in one.
pub const SINGLE: &str = "model.safetensors";

/// The files that an index names, each beside it; `file` is what errors call the index. They become
/// paths, and anybody may have written it.
///
/// # Errors
/// If it is no index, or names no file or anything but files beside it.
pub fn shards(index: &[u8], file: &str) -> Result<BTreeSet<String>, CheckpointError> {
    let malformed = |problem: String| CheckpointError::Malformed {
        file: file.to_owned(),
        problem,
    };
    let json: Value =
        serde_json::from_slice(index).map_err(|error| malformed(error.to_string()))?;
    let map = json
        .get("weight_map")
        .and_then(Value::as_object)
        .filter(|map| !map.is_empty())
        .ok_or_else(|| malformed("its weight_map names no files".to_owned()))?;
    map.iter()
        .map(|(tensor, name)| {
            let beside = name.as_str().filter(|name| {
                let alone = Path::new(name).file_name();
                // Names are printed, and a terminal obeys what stands between control characters.
                alone.is_some_and(|file| file == *name) && !name.chars().any(char::is_control)
            });
            beside.map(str::to_owned).ok_or_else(|| {
                let name = name
                    .as_str()
                    .map_or_else(|| name.to_string(), |name| format!("{name:?}"));
                malformed(format!(
                    "its weight_map has {tensor:?} in {name}, which is not the name of a file \
                     beside it"
                ))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_names_anything_but_files_beside_it_is_refused() {
        let read = |index: &str| shards(index.as_bytes(), "base/index");
        let names = read(r#"{"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}"#);
        let names: Vec<String> = names.expect("names a file").into_iter().collect();
        assert_eq!(names, ["1.safetensors"]);
        for (index, problem) in [
            ("[", "base/index is not valid: EOF"),
            (
                "{}",
                "base/index is not valid: its weight_map names no files",
            ),
            (r#"{"weight_map": {}}"#, "its weight_map names no files"),
            (
                r#"{"weight_map": {"a": "../x"}}"#,
                r#"has "a" in "../x", which"#,
            ),
            (
                r#"{"weight_map": {"a": ".."}}"#,
                r#"has "a" in "..", which"#,
            ),
            (r#"{"weight_map": {"a": 1}}"#, r#"has "a" in 1, which"#),
            (
                r#"{"weight_map": {"a": "1\u001b[2K\u009b.safetensors"}}"#,
                r#"has "a" in "1\u{1b}[2K\u{9b}.safetensors", which"#,
            ),
        ] {
            let error = read(index).expect_err(index).to_string();
            assert!(error.contains(problem), "{index}: {error}");
        }
    }
}
