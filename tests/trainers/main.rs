//! What others make of ours: Hugging Face transformers of our checkpoints, TRL of our preference pairs.
//!
//! `make test-trainers` runs it; it is no part of `make test`, because it installs PyTorch.
//! `ALIGNER_TRAINERS_PYTHON` names an interpreter that has `requirements.txt` already.

mod bundled;
mod pairs;
mod recipe;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use aligner_tests::scratch::{downloads, workspace};

/// An interpreter with transformers and TRL, installed once.
fn python() -> PathBuf {
    if let Some(given) = std::env::var_os("ALIGNER_TRAINERS_PYTHON") {
        return given.into();
    }
    let (folder, wanted) = (
        downloads().join("trainers"),
        workspace().join("tests/trainers/requirements.txt"),
    );
    let (stamp, interpreter) = (folder.join(".complete"), folder.join("bin/python"));
    let wanted_text = fs::read(&wanted).expect("the requirements are in the repository");
    if fs::read(&stamp).ok().as_ref() != Some(&wanted_text) {
        eprintln!(
            "installing PyTorch, transformers and TRL into {}",
            folder.display()
        );
        run(Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder));
        run(Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&wanted));
        fs::write(stamp, wanted_text).expect("the environment is writable");
    }
    interpreter
}

fn run(command: &mut Command) {
    let status = command.status().expect("python3 starts");
    assert!(status.success(), "{command:?}: {status}");
}

/// One of the scripts beside this file, in that interpreter.
fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command
        .arg(workspace().join("tests/trainers").join(name))
        .env("HF_HUB_OFFLINE", "1");
    command
}

fn bundled_model() -> PathBuf {
    workspace().join("connector/bundled/model")
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("an ordinary path")
}
