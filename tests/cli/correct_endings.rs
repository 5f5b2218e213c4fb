//! `correct`: how it ends when its outputs break or its input is no good, and what it says then.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
};

use aligner_tests::{
    command::{call, call_with},
    connector::binary,
    scratch::Scratch,
};
use serde_json::{Value, json};

/// `correct` by the stand-in that corrects everything.
fn correct(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["correct", "--model", "marker-all"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

fn ended(command: &mut Command, code: i32) -> Output {
    let output = command.output().expect("the binary can be started");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A pipe that nobody reads, as `head` leaves it.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    let full = File::options().write(true).open("/dev/full");
    full.expect("linux has one").into()
}

/// Answers in a file.
fn answers(scratch: &Scratch, count: usize) -> String {
    let line = format!("{}\n", json!({"question": "why?", "answer": "so"}));
    let input = scratch.file("in.jsonl", line.repeat(count));
    input.display().to_string()
}

#[test]
fn a_reader_of_stdout_that_went_away_is_a_failure_only_where_another_output_is_cut_off() {
    let scratch = Scratch::new("correct-closed");
    let input = answers(&scratch, 100);
    let file = scratch.path().join("x.jsonl").display().to_string();
    let alone = ended(correct(&["--input", &input]).stdout(closed()), 0);
    assert_eq!(said(&alone), "");
    for (outputs, name) in [
        (["--output", &file, "--pairs", "-"], "--pairs -"),
        (["--output", "-", "--pairs", &file], "stdout"),
    ] {
        let arguments = [&["--input", &input][..], &outputs].concat();
        let done = said(&ended(correct(&arguments).stdout(closed()), 1));
        let said = format!(
            "error: {name} cannot be written: Broken pipe (os error 32); 0 lines were done, and \
             what is written of others may be cut off"
        );
        assert!(done.contains(&said), "{done}");
    }
}

#[test]
fn a_reader_of_a_named_pipe_that_went_away_is_a_failure() {
    let scratch = Scratch::new("correct-fifo");
    let input = answers(&scratch, 1_000);
    let pipe = scratch.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("coreutils are there").success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        // Opened once somebody writes, and closed at once.
        move || drop(File::open(pipe).expect("it was made"))
    });
    let pipe = pipe.display().to_string();
    let arguments = ["--input", &input, "--output", &pipe];
    let done = said(&ended(&mut correct(&arguments), 1));
    let said = format!("error: --output {pipe} cannot be written: Broken pipe (os error 32); ");
    assert!(done.contains(&said), "{done}");
    reader.join().expect("it only opens");
}

#[test]
fn a_full_disk_is_told_by_the_output_that_it_stopped_and_how_many_lines_were_done() {
    let scratch = Scratch::new("correct-full");
    let input = answers(&scratch, 3);
    let why = "cannot be written: No space left on device (os error 28)";
    let done = call(&[
        "correct",
        "--model",
        "marker-all",
        "--input",
        &input,
        "--output",
        "/dev/full",
    ]);
    let done = done.expect_code(1);
    let said_of_file = format!("error: --output /dev/full {why}; 0 lines were done");
    assert!(done.stderr.contains(&said_of_file), "{}", done.stderr);

    let done = said(&ended(correct(&["--input", &input]).stdout(full()), 1));
    let said_of_stdout = format!("error: stdout {why}; 0 lines were done");
    assert!(done.contains(&said_of_stdout), "{done}");

    // By CRC-32 `marker` leaves the first one alone, which so makes no pair.
    let file = scratch.path().join("c.jsonl").display().to_string();
    let ids = ["a", "123456789", "123456789"];
    let lines: String = ids
        .map(|id| json!({"event_id": id, "question": "why?", "answer": "so"}))
        .map(|event| format!("{event}\n"))
        .concat();
    let arguments = ["--output", &file, "--pairs", "/dev/full"];
    let arguments = [&["correct", "--model", "marker"][..], &arguments].concat();
    let done = call_with(&arguments, lines).expect_code(1);
    let said_of_pairs = format!("error: --pairs /dev/full {why}; 1 lines were done");
    assert!(done.stderr.contains(&said_of_pairs), "{}", done.stderr);
}

#[test]
fn what_a_shell_appends_to_may_not_be_the_input() {
    let scratch = Scratch::new("correct-loop");
    let input = answers(&scratch, 2);
    let before = fs::read(&input).expect("just written");
    let appended = |path: &Path| -> Stdio {
        let file = File::options().append(true).open(path);
        file.expect("it is there").into()
    };
    let path = Path::new(&input);
    let named = said(&ended(
        correct(&["--input", &input]).stdout(appended(path)),
        2,
    ));
    let said_of_file = "--output /dev/stdout is the file of --input, too: name another one";
    assert!(named.contains(said_of_file), "{named}");
    let stdin = File::open(path).expect("it is there");
    let piped = said(&ended(correct(&[]).stdin(stdin).stdout(appended(path)), 2));
    let said_of_stdin = "--output /dev/stdout is the file of stdin, too: name another one";
    assert!(piped.contains(said_of_stdin), "{piped}");
    let output = scratch.path().join("c.jsonl").display().to_string();
    let pairs = ["--input", &input, "--output", &output, "--pairs", "-"];
    let paired = said(&ended(correct(&pairs).stdout(appended(path)), 2));
    assert!(
        paired.contains("--pairs /dev/stdout is the file of --input"),
        "{paired}"
    );
    assert_eq!(fs::read(&input).expect("still there"), before);
}

#[test]
fn a_line_above_64_mib_is_told_what_correct_takes_and_not_a_limit_that_helps_nothing() {
    let scratch = Scratch::new("correct-long");
    let line = format!("{{\"answer\":\"{}\"}}\n", "a".repeat(65 << 20));
    let short = json!({"question": "why?", "answer": "so"});
    let input = scratch.file("in.jsonl", format!("{line}{short}\n"));
    let input = input.display().to_string();
    // The limits of a configuration leave no room for the line itself in its dead letter.
    let config = scratch
        .file("c.yaml", "name: tried\n")
        .display()
        .to_string();
    for limits in [&["--config", &config][..], &[]] {
        let arguments = ["correct", "--model", "marker-all", "--input", &input];
        let done = call(&[&arguments[..], limits].concat()).expect_code(1);
        let records = done.records();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0]["event_id"], "line-1");
        assert_eq!(records[0]["reason"], "too_large");
        let said =
            "the line is longer than 64 MiB, the most that correct takes: log shorter answers";
        assert_eq!(records[0]["message"], said);
        assert_eq!(records[1]["disposition"], "corrected");
        assert_eq!(records[1]["message"], Value::Null);
    }
}
