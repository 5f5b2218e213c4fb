//! Whether a path can be a checkpoint, as far as a glance at its files tells.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use aligner_checkpoint::{CONFIG, INDEX, SINGLE, shards};

use crate::config::{Aligner, ModelChoice, Problem};

const TOKENIZER: &str = "tokenizer.json";

/// What PEFT writes in place of a model's own configuration.
const ADAPTER: &str = "adapter_config.json";

/// What else a model needs that reads and writes texts, other than one that is only measured: a
/// folder without a tokenizer is no Aligner. A GGUF file may bring its own within.
pub fn no_tokenizer(aligner: &Aligner) -> Option<Problem> {
    let ModelChoice::Named(path) = &aligner.model else {
        return None;
    };
    let folder = Path::new(path);
    if !folder.is_dir() || folder.join(TOKENIZER).is_file() {
        return None;
    }
    Some(Problem {
        key: "aligner.model".to_owned(),
        value: Some(path.clone()),
        message: format!("a folder without {TOKENIZER}"),
        fix: Some(format!("put the {TOKENIZER} of the model there")),
    })
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
}

/// Why a folder holds no weights, as far as their names tell.
fn no_weights(folder: &Path) -> Option<String> {
    let exists = |name: &str| folder.join(name).is_file();
    if exists(SINGLE) {
        return None;
    }
    let path = folder.join(INDEX);
    match fs::read(&path) {
        Ok(index) => match shards(&index, &path.display().to_string()) {
            Ok(names) => names
                .iter()
                .find(|name| !exists(name))
                .map(|name| format!("a folder without {name}, which {INDEX} lists")),
            Err(error) => Some(error.to_string()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("a folder without {SINGLE} or {INDEX}"))
        }
        Err(error) => Some(unreadable(error)),
    }
}

/// What is wrong with a path that exists, and what to do about it.
pub(super) fn fault(path: &Path) -> Option<(String, &'static str)> {
    let message = no_checkpoint(path)?;
    if path.join(ADAPTER).is_file() {
        return Some((
            format!("an adapter ({ADAPTER}), which holds what it changes of a model, and no model"),
            "merge it first, in Python: PeftModel.from_pretrained(model, adapter)\
             .merge_and_unload().save_pretrained(folder)",
        ));
    }
    Some((
        message,
        "name a folder in Hugging Face layout or a GGUF file, which this user may read",
    ))
}

/// Why a path that exists cannot be a checkpoint.
fn no_checkpoint(path: &Path) -> Option<String> {
    if path.is_dir() {
        return match fs::metadata(path.join(CONFIG)) {
            Ok(_) => no_weights(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("a folder without {CONFIG}"))
            }
            Err(error) => Some(unreadable(error)),
        };
    }
    // Opening a pipe would wait for its other end.
    if !path.is_file() {
        return Some("neither a file nor a folder".to_owned());
    }
    let mut magic = [0; 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if magic == *b"GGUF" => None,
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Some(unreadable(error)),
        _ => Some("a file that is no GGUF file".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, check::check};

    #[test]
    fn a_folder_is_a_model_once_it_has_all_files_of_one() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut settings = Settings::default();
        settings.aligner.model = ModelChoice::Named(folder.path().display().to_string());
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        let refused = || {
            let problem = check(&settings).into_iter().next();
            problem
                .or_else(|| no_tokenizer(&settings.aligner))
                .map(|problem| problem.message)
        };
        let told = |message: &str| Some(message.to_owned());
        assert_eq!(refused(), told("a folder without config.json"));
        write("config.json", "{}");
        assert_eq!(
            refused(),
            told("a folder without model.safetensors or model.safetensors.index.json")
        );
        write(
            "model.safetensors.index.json",
            r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#,
        );
        write("1.safetensors", "");
        assert_eq!(
            refused(),
            told("a folder without 2.safetensors, which model.safetensors.index.json lists")
        );
        write("2.safetensors", "");
        assert_eq!(refused(), told("a folder without tokenizer.json"));
        write("tokenizer.json", "{}");
        assert_eq!(refused(), None);
        write("model.safetensors.index.json", "[");
        assert!(refused().is_some_and(|said| said.contains("is not valid")));
        // One file of all weights counts before any index.
        write("model.safetensors", "");
        assert_eq!(refused(), None);
    }

    #[test]
    fn an_adapter_is_told_to_be_merged_until_it_lies_beside_a_model() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let write = |name: &str| fs::write(folder.path().join(name), "{}").expect("written");
        let is_adapter = || {
            let (message, fix) = fault(folder.path())?;
            Some(message.starts_with("an adapter") && fix.contains("merge_and_unload()"))
        };
        assert_eq!(is_adapter(), Some(false));
        for name in [ADAPTER, CONFIG] {
            write(name);
            assert_eq!(is_adapter(), Some(true), "{name}");
        }
        write(SINGLE);
        assert_eq!(is_adapter(), None);
    }
}
