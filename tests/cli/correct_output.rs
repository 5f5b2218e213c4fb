//! `correct`: what people see of it, where its outputs go, and what it makes of inputs that are no
//! JSON Lines.

use std::{
    fs::{self, File},
    io::{Read, Write},
    process::{Command, Stdio},
};

use aligner_tests::{
    command::{Done, call, call_with},
    connector::binary,
    scratch::Scratch,
};
use serde_json::{Value, json};

use crate::correct::terminal;

fn line(answer: &str) -> String {
    format!("{}\n", json!({"question": "why?", "answer": answer}))
}

/// `correct` by the stand-in that corrects everything.
fn correct(arguments: &[&str], input: &str) -> Done {
    let arguments = [&["correct", "--model", "marker-all"][..], arguments].concat();
    call_with(&arguments, input)
}

#[test]
fn an_output_keeps_what_it_holds_when_the_command_refuses_to_start() {
    let scratch = Scratch::new("correct-kept");
    let output = scratch.file("prev.jsonl", "kept").display().to_string();
    let other = scratch.path().join("link.jsonl").display().to_string();
    fs::hard_link(&output, &other).expect("one folder");
    let absent = scratch.path().join("absent/p.jsonl").display().to_string();
    for (pairs, code, said) in [
        (&output, 2, "is the file of --output, too"),
        (&other, 2, "is the file of --output, too"),
        (&absent, 1, "make its folder"),
    ] {
        let arguments = ["--output", &output, "--pairs", pairs];
        let done = correct(&arguments, &line("so")).expect_code(code);
        assert!(done.stderr.contains(said), "{}", done.stderr);
        let kept = fs::read_to_string(&output).expect("it is still there");
        assert_eq!(kept, "kept", "--pairs {pairs}");
    }
    let missing = scratch.path().join("m.jsonl").display().to_string();
    correct(&["--output", &missing, "--pairs", &missing], "").expect_code(2);
    assert!(!fs::exists(&missing).expect("the folder can be read"));
}

#[test]
fn outputs_take_the_place_of_earlier_ones_and_may_be_devices() {
    let scratch = Scratch::new("correct-replaced");
    let earlier = "stale\n".repeat(1_000);
    let output = scratch.file("c.jsonl", &earlier).display().to_string();
    let pairs = scratch.file("p.jsonl", &earlier).display().to_string();
    correct(&["--output", &output, "--pairs", &pairs], &line("so")).expect_code(0);
    for path in [&output, &pairs] {
        let written = fs::read_to_string(path).expect("it was written");
        let mut lines = written.lines();
        let record: Value = serde_json::from_str(lines.next().expect("a line")).expect("JSON");
        assert!(record.is_object(), "{written}");
        assert_eq!(lines.next(), None, "something of the earlier one is left");
    }
    let devices = ["--output", "/dev/stdout", "--pairs", "/dev/null"];
    let done = correct(&devices, &line("so")).expect_code(0);
    assert_eq!(done.records().len(), 1);
    correct(&["--output", "/dev/null", "--pairs", "/dev/null"], "").expect_code(0);
}

#[test]
fn pairs_go_to_stdout_where_corrections_do_not() {
    let scratch = Scratch::new("correct-pairs");
    let output = scratch.path().join("c.jsonl").display().to_string();
    let done = correct(&["--output", &output, "--pairs", "-"], &line("so")).expect_code(0);
    let pairs = done.records();
    assert_eq!(pairs.len(), 1);
    assert_eq!(pairs[0]["rejected"], "so");
    let written = fs::read_to_string(&output).expect("it was written");
    assert!(written.contains("\"corrected\""), "{written}");

    let done = correct(&["--pairs", "-"], &line("so")).expect_code(2);
    let said = "--pairs -: stdout already has the corrections; name a file for one of them";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    let help = call(&["correct", "--help"]).expect_code(0);
    let words: Vec<_> = help.stdout.split_whitespace().collect();
    let said = "- is stdout where --output names a file";
    assert!(words.join(" ").contains(said), "{}", help.stdout);
}

/// What stands on a terminal after `correct`, of two answers.
fn on_terminal(term: &str, no_color: &str) -> String {
    let (theirs, ours) = terminal();
    let errors = theirs.try_clone().expect("it can be opened twice");
    let mut child = Command::new(binary())
        .args(["correct", "--model", "marker-all"])
        .env("TERM", term)
        .env("NO_COLOR", no_color)
        .stdin(Stdio::piped())
        .stdout(theirs)
        .stderr(errors)
        .spawn()
        .expect("the binary can be started");
    let mut stdin = child.stdin.take().expect("stdin was asked for");
    let input = format!("{}{}", line("so"), line("thus"));
    stdin
        .write_all(input.as_bytes())
        .expect("the command reads its input");
    drop(stdin);
    let mut shown = Vec::new();
    // A terminal that everybody else has left ends with an error.
    let _ = File::from(ours).read_to_end(&mut shown);
    let status = child.wait().expect("our own child can be waited for");
    assert!(status.success(), "{status}");
    String::from_utf8_lossy(&shown).replace("\r\n", "\n")
}

#[test]
fn on_a_terminal_lines_are_all_that_is_drawn() {
    for (term, no_color) in [("xterm", "1"), ("dumb", "")] {
        assert_eq!(
            on_terminal(term, no_color),
            "corrected line-1 (extended)\n  Q: why?\n  so{+ [marked]+}\n\n\
             corrected line-2 (extended)\n  Q: why?\n  thus{+ [marked]+}\n\n"
        );
    }
    let coloured = on_terminal("xterm", "");
    assert!(
        coloured.contains("so\u{1b}[32;4m [marked]\u{1b}[0m\n"),
        "{coloured:?}"
    );
}

#[test]
fn text_shows_changes_and_reasons_and_no_answer_that_is_unchanged() {
    let scratch = Scratch::new("correct-text");
    let config = "aligner: {model: marker}\npipeline: {max_answer_chars: 4}\n";
    let config = scratch.file("c.yaml", config).display().to_string();
    // `marker` goes by the CRC-32 of the id.
    let input: String = [("a", "so"), ("123456789", "so"), ("b", "longer")]
        .map(|(id, answer)| json!({"event_id": id, "question": "why?", "answer": answer}))
        .map(|event| format!("{event}\n"))
        .concat();
    let arguments = ["correct", "--config", &config];
    let text = call_with(&[&arguments[..], &["--format", "text"]].concat(), &input);
    let records = call_with(&arguments, &input).expect_code(0).records();
    let because = records[2]["message"].as_str().expect("a sentence");
    assert_eq!(
        text.expect_code(0).stdout,
        format!(
            "unchanged a\n\
             corrected 123456789 (extended)\n  Q: why?\n  so{{+ [marked]+}}\n\n\
             bypassed b (too_long)\n  {because}\n  Q: why?\n  longer\n\n"
        )
    );
    assert_eq!(records[0]["answer"], "so", "JSON has all of it");
}

#[test]
fn text_shows_the_question_on_one_line_that_drives_no_terminal() {
    let shown = |question: &str| {
        let event = json!({"question": question, "answer": "so"});
        let done = correct(&["--format", "text"], &format!("{event}\n")).expect_code(0);
        let mut lines = done.stdout.lines().map(str::to_owned);
        assert_eq!(lines.next().as_deref(), Some("corrected line-1 (extended)"));
        let question = lines.next().expect("a question");
        assert!(lines.next().is_some_and(|line| line.contains("[marked]")));
        question
    };
    assert_eq!(shown("why?\n\u{1b}[2J"), "  Q: why? \u{fffd}[2J");
    let long = shown(&format!("{}what was asked?", "long ".repeat(100)));
    assert!(long.starts_with("  Q: long long"), "{long}");
    assert!(
        long.contains('…') && long.ends_with("long what was asked?"),
        "{long}"
    );
    assert!(long.chars().count() <= 100, "{long}");
}

#[test]
fn what_became_of_all_lines_is_counted_where_nobody_sees_them_pass() {
    let scratch = Scratch::new("correct-counted");
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (output, pairs) = (path("c.jsonl"), path("p.jsonl"));
    let config = "aligner: {model: marker-all}\npipeline: {max_answer_chars: 4}\n";
    let config = scratch.file("c.yaml", config).display().to_string();
    let input = format!("{}{}\n{}", line("so"), line("longer"), line("also longer"));
    let said = "3 lines: 1 corrected (1 extended), 2 bypassed (2 too_long)\n";
    for arguments in [
        &["correct", "--config", &config, "--output", &output][..],
        &["correct", "--config", &config, "--pairs", &pairs],
    ] {
        let done = call_with(arguments, &input).expect_code(0);
        assert_eq!(done.stderr, said);
    }
    let done = call_with(&["correct", "--config", &config], &input).expect_code(0);
    assert_eq!(done.stderr, "", "whoever reads stdout has them");

    let input = format!("{}not json\n", line("so"));
    let done = correct(&["--output", &output], &input).expect_code(1);
    let said = "2 lines: 1 corrected (1 extended), 1 dead_lettered (1 invalid_json)\n1 of 2 lines";
    assert!(done.stderr.starts_with(said), "{}", done.stderr);
    let done = correct(&["-q", "why?", "-a", "so", "--output", &output], "").expect_code(0);
    assert_eq!(done.stderr, "1 line: 1 corrected (1 extended)\n");
}

#[test]
fn an_input_without_lines_is_said_to_have_none() {
    let scratch = Scratch::new("correct-empty");
    for text in ["", "\n  \n"] {
        let input = scratch.file("empty.jsonl", text).display().to_string();
        let done = correct(&["--input", &input], "").expect_code(0);
        assert_eq!(done.stdout, "");
        let said = format!("warning: --input {input} holds no lines\n");
        assert_eq!(done.stderr, said);
    }
    let done = correct(&[], "").expect_code(0);
    assert_eq!(done.stderr, "warning: stdin holds no lines\n");
}

#[test]
fn a_log_of_another_layout_is_told_where_layouts_are_described() {
    let hint = "--config with input.fields, see config/existing-log.yaml";
    let log = "{\"prompt\": \"why?\"}\n{\"question\": \"why?\"}\n";
    let done = correct(&[], log).expect_code(1);
    assert!(done.stderr.contains(hint), "{}", done.stderr);
    for (record, field) in done.records().iter().zip(["question", "answer"]) {
        let message = record["message"].as_str().expect("a sentence");
        let said = format!("or say where it is with input.fields.{field}");
        assert!(message.ends_with(&said), "{message}");
    }
    // A line that was cut off says nothing about the layout of the others.
    let done = correct(&[], &format!("{log}{{\"pro")).expect_code(1);
    assert!(done.stderr.contains(hint), "{}", done.stderr);
    // One line of ours tells that the layout is the right one.
    let done = correct(&[], &format!("{log}{}", line("so"))).expect_code(1);
    assert!(!done.stderr.contains(hint), "{}", done.stderr);
    let mapping = "input: {fields: {question: /q, answer: /a}}\n";
    let scratch = Scratch::new("correct-layout");
    let mapping = scratch.file("m.yaml", mapping).display().to_string();
    let done = correct(&["--config", &mapping], log).expect_code(1);
    assert!(!done.stderr.contains(hint), "{}", done.stderr);
    let hint = "mend input.fields, see config/existing-log.yaml";
    assert!(done.stderr.contains(hint), "{}", done.stderr);
    let message = done.records()[0]["message"].to_string();
    assert!(
        message.contains("or mend input.fields.question"),
        "{message}"
    );
}

#[test]
fn what_is_no_json_lines_is_2_and_told_how_to_make_it_that() {
    let scratch = Scratch::new("correct-beginning");
    let output = scratch.file("out.jsonl", "kept").display().to_string();
    let pretty = serde_json::to_string_pretty(&json!({"question": "q", "answer": "a"}));
    let pretty = pretty.expect("JSON");
    let of_powershell: Vec<u8> = "\u{feff}{\"question\": \"q\", \"answer\": \"a\"}\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (content, said) in [
        (&b"\x1f\x8b\x08\0"[..], "this looks like gzip: `zcat "),
        (pretty.as_bytes(), "`jq -c .`"),
        (&b"question,answer\nq,a\n"[..], "this looks like CSV: "),
        (&of_powershell[..], "`iconv -f UTF-16 -t UTF-8 "),
    ] {
        let input = scratch.file("in", content).display().to_string();
        let done = correct(&["--input", &input, "--output", &output], "").expect_code(2);
        assert_eq!(done.stdout, "");
        for said in [said, &input] {
            assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
        }
    }
    let kept = fs::read_to_string(&output).expect("it is still there");
    assert_eq!(kept, "kept");
}

#[test]
fn an_error_repeats_nothing_of_an_input_that_is_no_json_lines() {
    for input in ["ann.lee@example.com,why?,so\n", "ann.lee@example.com\n"] {
        let done = correct(&[], input).expect_code(2);
        assert!(done.stderr.contains("this looks like "), "{}", done.stderr);
        assert!(!done.stderr.contains("ann.lee"), "{}", done.stderr);
    }
}

#[test]
fn a_bypassed_line_says_why_in_a_sentence_and_a_corrected_one_nothing() {
    let scratch = Scratch::new("correct-bypassed");
    let config = "aligner: {model: marker-all}\npipeline: {max_answer_chars: 4}\n";
    let config = scratch.file("c.yaml", config).display().to_string();
    let input = format!("{}{}", line("longer"), line("so"));
    let done = call_with(&["correct", "--config", &config], input).expect_code(0);
    let records = done.records();
    assert_eq!(records[0]["reason"], "too_long");
    let message = records[0]["message"].as_str().expect("a sentence");
    assert!(message.contains("max_answer_chars"), "{message}");
    assert_eq!(records[1]["message"], Value::Null);
}
