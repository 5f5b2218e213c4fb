//! What a folder of the cache holds of a model, and whether that is all of it.

use std::{collections::BTreeSet, fs, io, path::Path};

use aligner_checkpoint::{INDEX, SINGLE, shards};
use anyhow::Context;

use super::HubId;

/// What the engine reads besides weights.
pub(super) const SMALL: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "aligner.json",
    INDEX,
];

/// The note in a snapshot that we completed it. It goes where the snapshot goes, whoever removes
/// that, and tools of the cache take it for one file more.
const NOTE: &str = ".aligner-connector";

/// The weight files of a snapshot: the single one, or what its index names where that is not there.
pub(super) fn weights(folder: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = folder.join(INDEX);
    if folder.join(SINGLE).is_file() || !path.is_file() {
        return Ok(BTreeSet::from([SINGLE.to_owned()]));
    }
    let index = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(shards(&index, &path.display().to_string())?)
}

/// Notes that nothing is missing.
pub(super) fn note(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(NOTE), inventory(folder))
}

/// What a note says: which of the small files are there. So it is void where one was taken away,
/// and where a later version reads more of them.
fn inventory(folder: &Path) -> String {
    let line = |name: &&str| {
        let found = if folder.join(name).is_file() {
            "has"
        } else {
            "lacks"
        };
        format!("{found} {name}\n")
    };
    SMALL.iter().map(line).collect()
}

/// Whether we completed a snapshot, and nothing was taken away since.
pub(super) fn is_noted(folder: &Path) -> bool {
    fs::read_to_string(folder.join(NOTE)).is_ok_and(|note| note == inventory(folder))
}

/// Says which files another tool may have left out, where nobody can be asked.
pub(super) fn warn_of_gaps(id: &HubId, folder: &Path) {
    let missing: Vec<&str> = (SMALL.into_iter())
        .filter(|&name| name != INDEX && !folder.join(name).is_file())
        .collect();
    if !missing.is_empty() && !is_noted(folder) {
        tracing::warn!(
            model = %id,
            folder = %folder.display(),
            missing = missing.join(", "),
            "another tool fetched this model and may have left these files out; without its \
             aligner.json a model gets the paper's prompt and no guard: fetch it once into a cache \
             that can be written, without HF_HUB_OFFLINE, or set aligner.profile"
        );
    }
}

/// Whether a snapshot holds a configuration, a tokenizer and all of its weights.
pub(super) fn is_whole(folder: &Path) -> bool {
    let exists = |name: &str| folder.join(name).is_file();
    exists("config.json")
        && exists("tokenizer.json")
        && weights(folder).is_ok_and(|names| names.iter().all(|name| exists(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        fs::write(folder.join(name), text).expect("a temporary folder can be written");
    }

    #[test]
    fn the_weights_are_what_the_index_names_whatever_lies_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        write(folder.path(), "consolidated.safetensors", "the same again");
        let names = weights(folder.path()).expect("no index is needed");
        assert_eq!(names, BTreeSet::from([SINGLE.to_owned()]));

        write(
            folder.path(),
            INDEX,
            r#"{"metadata": {"total_size": 1}, "weight_map":
                {"a": "2.safetensors", "b": "1.safetensors", "c": "2.safetensors"}}"#,
        );
        let names = weights(folder.path()).expect("an index");
        let expected = ["1.safetensors", "2.safetensors"].map(str::to_owned);
        assert_eq!(names, BTreeSet::from(expected));
    }

    #[test]
    fn a_path_in_an_index_is_refused_by_file_and_entry() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in [
            "/etc/passwd",
            "/",
            "..",
            "../model.safetensors",
            "shards/../../model.safetensors",
            "shards/model.safetensors",
            "./model.safetensors",
            "model.safetensors/",
            ".",
            "",
        ] {
            let index = serde_json::json!({
                "weight_map": {"model.norm.weight": name, "other": "model.safetensors"}
            });
            write(folder.path(), INDEX, &index.to_string());
            let error = weights(folder.path()).expect_err(name);
            let error = format!("{error:#}");
            let path = folder.path().join(INDEX).display().to_string();
            for part in [path, format!("{name:?}"), "model.norm.weight".to_owned()] {
                assert!(error.contains(&part), "{part} in {error}");
            }
        }
    }

    #[test]
    fn an_index_without_names_of_files_is_refused_by_its_path() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for index in [
            "<html>",
            "[]",
            "{}",
            r#"{"weight_map": {}}"#,
            r#"{"weight_map": {"a": 1}}"#,
        ] {
            write(folder.path(), INDEX, index);
            let error = weights(folder.path()).expect_err(index);
            assert!(format!("{error:#}").contains(INDEX), "{error:#}");
            assert!(!is_whole(folder.path()));
        }
    }

    #[test]
    fn a_snapshot_is_whole_with_the_single_file_or_every_file_that_its_index_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let index = r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
        for (name, text) in [
            ("config.json", ""),
            ("tokenizer.json", ""),
            (INDEX, index),
            ("1.safetensors", ""),
            ("2.safetensors", ""),
        ] {
            assert!(!is_whole(folder.path()), "without {name}");
            write(folder.path(), name, text);
        }
        assert!(is_whole(folder.path()));

        // The engine takes it first, and transformers leaves an older index beside it.
        fs::remove_file(folder.path().join("1.safetensors")).expect("it is there");
        assert!(!is_whole(folder.path()));
        write(folder.path(), SINGLE, "");
        assert!(is_whole(folder.path()));
    }

    #[test]
    fn a_note_is_void_once_a_file_is_gone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["config.json", "tokenizer.json", "aligner.json"] {
            write(folder.path(), name, "");
        }
        assert!(!is_noted(folder.path()), "nobody noted anything");
        note(folder.path()).expect("a temporary folder can be written");
        assert!(is_noted(folder.path()));
        fs::remove_file(folder.path().join("aligner.json")).expect("it is there");
        assert!(!is_noted(folder.path()));
    }
}
