//! The shell scripts of the repository.

use aligner_tidy::{root, tracked_files};

use crate::tools::{text, tool};

#[test]
fn shell_scripts_pass_their_linter() {
    let scripts: Vec<_> = tracked_files()
        .into_iter()
        .filter(|file| {
            let first = file.text.lines().next().unwrap_or_default();
            first.starts_with("#!") && (first.ends_with("bash") || first.ends_with("/sh"))
        })
        .map(|file| root().join(file.path))
        .collect();
    assert!(scripts.len() >= 3, "{scripts:?}");
    let output = tool("shellcheck")
        .args(&scripts)
        .output()
        .expect("shellcheck runs");
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
}
