//! The files of the repository, as git lists them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// One text file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path from the repository root, with `/` between parts.
    pub path: String,
    /// What it says.
    pub text: String,
}

/// The repository root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("tests/tidy lies two folders below the root")
}

/// All text files that git tracks, or would track: new files are checked before their first
/// commit. A file that is not UTF-8 is left out, see [`binary_files`].
///
/// In an export without `.git`, the folders are walked instead.
///
/// # Panics
/// If the root cannot be read.
#[must_use]
pub fn tracked_files() -> Vec<SourceFile> {
    let text = |(path, bytes)| {
        String::from_utf8(bytes)
            .ok()
            .map(|text| SourceFile { path, text })
    };
    contents().filter_map(text).collect()
}

/// The paths of all tracked files that are not UTF-8, such as weights.
///
/// # Panics
/// If the root cannot be read.
#[must_use]
pub fn binary_files() -> Vec<String> {
    contents()
        .filter(|(_, bytes)| str::from_utf8(bytes).is_err())
        .map(|(path, _)| path)
        .collect()
}

/// Each file, with what is in it, by its path.
fn contents() -> impl Iterator<Item = (String, Vec<u8>)> {
    let root = root();
    let mut paths = git_paths(&root).unwrap_or_else(|| walk(&root));
    paths.sort();
    // A file deleted but not yet committed is still listed.
    paths
        .into_iter()
        .filter_map(move |path| Some((path.clone(), fs::read(root.join(path)).ok()?)))
}

fn git_paths(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let names = String::from_utf8(listed.stdout).ok()?;
    Some(names.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("folders of the repository can be read");
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && !path.is_symlink() {
                if name != "target" && name != ".git" && name != "__pycache__" && name != ".venv" {
                    folders.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found
}
