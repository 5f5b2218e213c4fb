//! Words and habits that stay out of the repository.

use aligner_tidy::{SourceFile, binary_files, tracked_files};

/// Hosts of package registries: which mirror somebody uses is their machine's business. Written in
/// halves, so that this list does not find itself.
const REGISTRY_HOSTS: [(&str, &str); 14] = [
    ("crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("proxy.golang", ".org"),
    ("sum.golang", ".org"),
    ("npmjs", ".org"),
    ("npmjs", ".com"),
    ("repo1.maven", ".org"),
    ("repo.maven", ".apache.org"),
    ("deb.debian", ".org"),
    ("archive.ubuntu", ".com"),
    ("ghcr", ".io"),
    ("docker", ".io"),
    ("quay", ".io"),
];

/// Folders of somebody's own machine.
const PRIVATE_FOLDERS: [(&str, &str); 2] = [("/ro", "ot/"), ("/ho", "me/")];

/// Promises instead of work.
const UNFINISHED: [(&str, &str); 5] = [
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X:"),
    ("to", "do!("),
    ("unimple", "mented!("),
];

/// Written by tools.
fn generated(file: &SourceFile) -> bool {
    file.path == "Cargo.lock" || file.path == "LICENSE"
}

fn places(words: &[(&str, &str)], skip: fn(&SourceFile) -> bool) -> Vec<String> {
    let words: Vec<String> = words
        .iter()
        .map(|(start, end)| format!("{start}{end}"))
        .collect();
    let mut found = Vec::new();
    for file in tracked_files().iter().filter(|file| !skip(file)) {
        for (index, line) in file.text.lines().enumerate() {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(word.as_str()))
                    .map(|word| format!("{}:{}: {word}", file.path, index + 1)),
            );
        }
    }
    found
}

#[test]
fn no_registry_host_is_named() {
    let found = places(&REGISTRY_HOSTS, generated);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_path_of_a_private_machine_is_named() {
    let found = places(&PRIVATE_FOLDERS, generated);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_is_left_to_do() {
    // The clippy lints of the same names are switched on by name.
    let found = places(&UNFINISHED, |file| generated(file) || !is_source(file));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn is_source(file: &SourceFile) -> bool {
    [".rs", ".py", ".sh", ".yaml", ".tpl"]
        .iter()
        .any(|end| file.path.ends_with(end))
}

fn rust_files() -> Vec<SourceFile> {
    tracked_files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .collect()
}

#[test]
fn every_rust_file_says_what_it_is_for() {
    let silent: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| !file.text.starts_with("//!"))
        .map(|file| file.path)
        .collect();
    assert!(
        silent.is_empty(),
        "these do not begin with `//!`:\n{}",
        silent.join("\n")
    );
}

#[test]
fn tests_are_named_as_claims() {
    let mut found = Vec::new();
    for file in rust_files() {
        let lines: Vec<_> = file.text.lines().map(str::trim).collect();
        for (index, line) in lines.iter().enumerate() {
            let name = line.split_once("fn test_").map(|(before, _)| before);
            let is_function = name.is_some_and(|before| matches!(before, "" | "async "));
            if is_function && index > 0 && lines[index - 1].starts_with("#[") {
                found.push(format!("{}:{}", file.path, index + 1));
            }
        }
    }
    assert!(
        found.is_empty(),
        "name the claim, without `test_`:\n{}",
        found.join("\n")
    );
}

#[test]
fn whatever_is_ignored_says_why() {
    let bare = format!("#[{}]", "ignore");
    let found: Vec<_> = rust_files()
        .into_iter()
        .filter(|file| file.text.lines().any(|line| line.trim() == bare))
        .map(|file| file.path)
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Past 500 lines a file has a seam somewhere; past this it has several.
const MOST_LINES: usize = 800;

#[test]
fn files_are_short_enough_to_proofread() {
    let long: Vec<_> = rust_files()
        .into_iter()
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "more than {MOST_LINES} lines:\n{}",
        long.join("\n")
    );
}

#[test]
fn what_is_no_text_is_weights() {
    // Anything else came in by accident, and stays in the history of every clone.
    let found: Vec<_> = binary_files()
        .into_iter()
        .filter(|path| !path.ends_with(".safetensors"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
