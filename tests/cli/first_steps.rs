//! What somebody types first corrects something: the README's first correction, which the demo
//! proposes, too.
//!
//! The bundled model corrects much, and not everything. Where another one leaves this sentence, write
//! one that it corrects into `proposal.txt` and the README.

use std::process::{Command, Stdio};

use aligner_tests::{connector::binary, scratch::workspace};
use serde_json::Value;

/// The command, as it stands in `proposal.txt`.
pub fn proposal() -> String {
    let path = workspace().join("connector/service/src/commands/demo/proposal.txt");
    let text = std::fs::read_to_string(path).expect("the demo includes it");
    text.trim_end().to_owned()
}

#[test]
fn the_readme_begins_with_the_correction_that_the_demo_proposes() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("it is there");
    let first = readme
        .lines()
        .map(|line| line.strip_prefix("$ ").unwrap_or(line))
        .find(|line| line.starts_with("aligner-connector correct"));
    assert_eq!(first, Some(&proposal()[..]), "exchange it in both");
}

#[test]
fn the_first_correction_corrects() {
    let proposal = proposal();
    let arguments = proposal
        .strip_prefix("aligner-connector ")
        .expect("it is a command of ours");
    // By a shell, whose quotes are part of what is proposed.
    let output = Command::new("sh")
        .arg("-c")
        .arg(format!("exec \"$0\" {arguments}"))
        .arg(binary())
        .stdin(Stdio::null())
        .output()
        .expect("there is a shell");
    assert!(output.status.success(), "{output:?}");
    let record: Value = serde_json::from_slice(&output.stdout).expect("one correction");
    assert_eq!(record["disposition"], "corrected", "{record}");
    let told = |field: &str| {
        record[field]
            .as_f64()
            .expect("the model tells how sure it was")
    };
    // It was less likely to leave the answer than to change it, and decoded what is likeliest.
    assert!(told("unchanged_logprob") < -0.5, "{record}");
    assert!((-0.1..=0.0).contains(&told("mean_logprob")), "{record}");
}
