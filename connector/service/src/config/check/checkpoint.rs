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
            let message = format!("a folder without {SINGLE} or {INDEX}");
            Some(match other_weights(folder) {
                Some(name) => format!("{message}, but with {name}"),
                None => message,
            })
        }
        Err(error) => Some(unreadable(error)),
    }
}

/// A file of weights that is none of those that are read.
fn other_weights(folder: &Path) -> Option<String> {
    let names = fs::read_dir(folder).ok()?.flatten();
    let mut names: Vec<_> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            let is_torch = name.starts_with("pytorch_model") || name.starts_with("consolidated");
            is_torch || name.ends_with(".safetensors") || name.ends_with(".gguf")
        })
        .collect();
    names.sort();
    names.into_iter().next()
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
    let fix = match other_weights(path) {
        Some(name) if path.join(CONFIG).is_file() && !path.join(INDEX).exists() => {
            if name.ends_with(".gguf") {
                "name the GGUF file itself"
            } else {
                "have transformers write them again, in Python: \
                 AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder) (with \
                 variant=\"fp16\" where the name has one)"
            }
        }
        _ => "name a folder in Hugging Face layout or a GGUF file, which this user may read",
    };
    Some((message, fix))
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
        for (name, remedy) in [
            ("model.fp16.safetensors", "save_pretrained(folder)"),
            ("pytorch_model.bin", "save_pretrained(folder)"),
            ("model-q8_0.gguf", "name the GGUF file itself"),
        ] {
            write(name, "");
            let said = refused().expect("no weights that are read");
            assert!(said.ends_with(&format!(", but with {name}")), "{said}");
            let (_, fix) = fault(folder.path()).expect("it is refused");
            assert!(fix.contains(remedy), "{name}: {fix}");
            fs::remove_file(folder.path().join(name)).expect("it was written");
        }
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
