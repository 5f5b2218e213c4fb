//! What holds for every command.

use aligner_tests::command::call;

#[test]
fn help_and_version_go_to_stdout_and_exit_with_0() {
    let help = call(&["--help"]).expect_code(0);
    for command in [
        "demo", "run", "correct", "show", "validate", "bench", "train", "eval",
    ] {
        assert!(
            help.stdout.contains(command),
            "{command} is not in the help"
        );
        let own = call(&[command, "--help"]).expect_code(0);
        assert!(
            own.stdout.contains("Usage: aligner-connector"),
            "{}",
            own.stdout
        );
        assert_eq!(own.stderr, "");
    }
    let version = call(&["--version"]).expect_code(0);
    assert!(
        version.stdout.starts_with("aligner-connector "),
        "{}",
        version.stdout
    );
}

#[test]
fn wrong_usage_goes_to_stderr_and_exits_with_2() {
    for arguments in [
        &["no-such-command"][..],
        &[],
        &["correct", "--no-such-flag"],
        &["correct", "--question", "an answer is missing"],
        &["correct", "--format", "xml", "-q", "q", "-a", "a"],
        &[
            "correct",
            "--model",
            "/no/such/folder",
            "-q",
            "q",
            "-a",
            "a",
        ],
        &["correct", "--dtype", "f7", "-q", "q", "-a", "a"],
        &["show", "--only", "odd"],
        &["run", "--config"],
        &["demo", "--events", "many"],
        &["train", "--data", "d", "--output", "o", "--steps", "0"],
    ] {
        let done = call(arguments).expect_code(2);
        assert_eq!(done.stdout, "", "{arguments:?}");
        assert!(
            !done.stderr.is_empty(),
            "{arguments:?} fails without a word"
        );
    }
}
