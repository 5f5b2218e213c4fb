//! `show`: corrections that were written before, for people.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use aligner_tests::{
    command::{Done, call, call_in, call_with, spawn},
    completions::{ANSWER, Completions, MODEL},
    connector::binary,
    scratch::Scratch,
};
use serde_json::{Value, json};

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

fn show(arguments: &[&str], input: impl AsRef<[u8]>) -> Done {
    call_with(&[&["show"], arguments].concat(), input)
}

/// What `correct` writes of these events by a stand-in that goes by their ids, with the longest
/// bypassed and the last one no event.
fn corrections(scratch: &Scratch) -> String {
    let config = "aligner: {model: marker}\npipeline: {max_answer_chars: 4}\n";
    let config = scratch.file("c.yaml", config).display().to_string();
    let event = |id: &str, answer: &str| json!({"event_id": id, "question": "why?", "answer": answer, "upstream_model": "big-7b"});
    let events = [
        event("123456789", "so"),
        event("a", "so"),
        event("b", "longer"),
        json!({"event_id": "c", "question": "why?"}),
    ];
    let done = call_with(&["correct", "--config", &config], lines(&events));
    done.expect_code(1).stdout
}

#[test]
fn what_correct_wrote_is_shown_as_it_shows_it_and_with_the_upstream_model() {
    let scratch = Scratch::new("show-correct");
    let written = corrections(&scratch);
    let record = |at: usize| -> Value {
        let line = written.lines().nth(at).expect("one to a line");
        serde_json::from_str(line).expect("JSON")
    };
    let (because, missing) = (record(2), record(3));
    let (because, missing) = (&because["message"], &missing["message"]);
    let [because, missing] = [because, missing].map(|said| said.as_str().expect("a sentence"));
    let expected = format!(
        "corrected 123456789 (extended) model=big-7b\n  Q: why?\n  so{{+ [marked]+}}\n\n\
         unchanged a model=big-7b\n\
         bypassed b (too_long) model=big-7b\n  {because}\n  Q: why?\n  longer\n\n\
         dead_lettered c (missing_answer)\n  Q: why?\n  {missing}\n\n"
    );
    let file = scratch.file("c.jsonl", &written).display().to_string();
    let by_stdin = [show(&[], &written), show(&["-"], &written)];
    for done in by_stdin.into_iter().chain([show(&[&file], "")]) {
        let done = done.expect_code(0);
        assert_eq!(
            (done.stdout, done.stderr),
            (expected.clone(), String::new())
        );
    }
    let twice = show(&[&file, "-"], &written).expect_code(0);
    assert_eq!(twice.stdout, expected.repeat(2));
}

#[test]
fn only_what_is_asked_for_is_shown_and_unchanged_answers_with_their_texts() {
    let scratch = Scratch::new("show-only");
    let written = corrections(&scratch);
    let heads = |only: &str| -> Vec<String> {
        let shown = show(&["--only", only], &written).expect_code(0).stdout;
        let heads = shown.lines().filter(|line| !line.starts_with(' '));
        let words = heads.filter_map(|line| line.split(' ').next());
        words
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(heads("corrected,bypassed"), ["corrected", "bypassed"]);
    assert_eq!(heads("dead_lettered"), ["dead_lettered"]);
    let unchanged = show(&["--only", "unchanged"], &written).expect_code(0);
    assert_eq!(
        unchanged.stdout,
        "unchanged a model=big-7b\n  Q: why?\n  so\n\n"
    );
    let refused = show(&["--only", "odd"], &written).expect_code(2);
    for said in ["'odd'", "corrected, unchanged, bypassed, dead_lettered"] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    assert_eq!(refused.stdout, "");
    let none = lines(&[json!({"event_id": "e1", "disposition": "unchanged"})]);
    let none = show(&["--only", "bypassed,corrected"], none).expect_code(0);
    assert_eq!(
        none.stderr,
        "of 1 corrections none is bypassed or corrected\n"
    );
}

#[test]
fn reasons_choose_what_is_shown_and_are_counted() {
    let scratch = Scratch::new("show-reason");
    let written = corrections(&scratch);
    let done = show(&["--reason", "extended,too_long"], &written).expect_code(0);
    let heads = done.stdout.lines().filter(|line| line.contains("model="));
    let heads: Vec<_> = heads.map(|head| head.split(" model=").next()).collect();
    assert_eq!(
        heads,
        [
            Some("corrected 123456789 (extended)"),
            Some("bypassed b (too_long)")
        ]
    );
    assert_eq!(done.stderr, "2 of 4 corrections (1 extended, 1 too_long)\n");
    let none = show(&["--only", "corrected", "--reason", "too_long"], &written).expect_code(0);
    assert_eq!(
        none.stderr,
        "of 4 corrections none is corrected and too_long; there are 1 extended\n"
    );
}

#[test]
fn who_judges_a_record_has_its_whole_question_and_whose_it_was() {
    let record = json!({
        "event_id": "e1", "disposition": "bypassed", "reason": "low_confidence", "message": "unsure",
        "question": format!("Human: a{}\nHuman: and b?", " word".repeat(40)), "answer": "so",
        "user_id": "u1\u{1b}[2J", "conversation_id": "c1",
    });
    let shown = show(&[], lines(&[record])).expect_code(0).stdout;
    assert_eq!(
        shown,
        format!(
            "bypassed e1 (low_confidence) user=u1\u{fffd}[2J conversation=c1\n  unsure\n  \
             Q: Human: a{}\n  Human: and b?\n  so\n\n",
            " word".repeat(40)
        )
    );
}

#[test]
fn a_row_of_a_warehouse_does_as_well_as_a_record() {
    let row = json!({
        "event_id": "e1", "disposition": "corrected", "answer": "so", "correction": "thus",
        "unchanged_logprob": -9.5, "corrected_at": "2026-01-31 12:00:00 UTC", "_partition": 7,
        "loaded": {"by": "a sink"},
    });
    let done = show(&[], lines(&[row])).expect_code(0);
    let shown = "corrected e1 unchanged_logprob=-9.50\n  [-so-]{+thus+}\n\n";
    assert_eq!((&*done.stdout, &*done.stderr), (shown, ""));
}

#[test]
fn an_answer_without_text_is_shown_as_bypassed_by_correct_and_by_show() {
    let scratch = Scratch::new("show-no-text");
    let config = "input: {fields: {question: /question, answer: /answer}}\n";
    let config = scratch.file("c.yaml", config).display().to_string();
    let log = lines(&[json!({"question": "why?", "answer": null})]);
    let correct = |format: &str| {
        let arguments = [
            "correct", "--model", "marker", "--config", &config, "--format", format,
        ];
        call_with(&arguments, &log).expect_code(0)
    };
    let shown = correct("text").stdout;
    assert!(shown.starts_with("bypassed line-1 (no_text)\n"), "{shown}");
    let written = correct("json").stdout;
    assert_eq!(show(&[], written).expect_code(0).stdout, shown);
}

#[test]
fn a_line_that_is_no_correction_is_told_by_its_number_and_the_rest_is_shown() {
    let unchanged = json!({"event_id": "e1", "disposition": "unchanged"});
    let pair = json!({"prompt": "canary", "chosen": "canary", "rejected": "canary"});
    let input = format!("canary\n\n{unchanged}\r\n{pair}\n\0canary\n{{\"event_id\": \"canary");
    let done = show(&[], input).expect_code(1);
    assert_eq!(done.stdout, "unchanged e1\n");
    assert_eq!(
        done.stderr,
        "stdin: line 1: no JSON from column 1 on\n\
         stdin: line 4: a preference pair, no correction: those are in topics.corrections\n\
         stdin: line 5: this looks like Avro: only JSON is shown\n\
         stdin: line 6: this JSON is cut off\n"
    );
}

#[test]
fn of_many_lines_that_are_no_corrections_ten_are_told_and_the_others_counted() {
    let done = show(&[], "canary\n".repeat(1_000)).expect_code(1);
    let told: Vec<_> = done.stderr.lines().collect();
    assert_eq!(told.len(), 11, "{}", done.stderr);
    assert_eq!(told[9], "stdin: line 10: no JSON from column 1 on");
    assert_eq!(
        told[10],
        "stdin: and 990 more lines that are no corrections"
    );
}

#[test]
fn what_is_no_json_lines_is_2_and_told_how_to_make_it_that() {
    let scratch = Scratch::new("show-beginning");
    for (content, said) in [
        (&b"\x1f\x8b\x08\0"[..], " | aligner-connector show`"),
        (b"[{\"event_id\": \"e1\"},\n", "`jq -c '.[]'`"),
        (b"{\n  \"event_id\": \"e1\"\n}\n", "`jq -c .`"),
    ] {
        let input = scratch.file("in", content).display().to_string();
        let done = show(&[&input], "").expect_code(2);
        for said in [said, &input] {
            assert!(done.stderr.contains(said), "{said}: {}", done.stderr);
        }
        assert_eq!(done.stdout, "");
    }
    let missing = scratch.path().join("none.jsonl").display().to_string();
    let line = lines(&[json!({"event_id": "e1", "disposition": "unchanged"})]);
    let done = show(&[&missing, "-"], line).expect_code(1);
    assert!(done.stderr.contains(&missing), "{}", done.stderr);
    assert_eq!(done.stdout, "unchanged e1\n");
    let empty = show(&[], "\n \n").expect_code(0);
    assert_eq!(empty.stderr, "warning: stdin holds no lines\n");
}

#[test]
fn a_line_is_shown_as_soon_as_it_is_there_and_a_reader_that_went_away_is_no_failure() {
    let line = lines(&[json!({"event_id": "e1", "disposition": "unchanged"})]);
    let mut child = spawn(&[], &["show"]);
    let mut stdin = child.stdin.take().expect("it was asked for");
    let stdout = child.stdout.take().expect("it was asked for");
    let mut shown = String::new();
    stdin.write_all(line.as_bytes()).expect("it reads");
    // The input goes on, as that of a consumer does.
    let read = BufReader::new(stdout).read_line(&mut shown);
    read.expect("it is shown");
    assert_eq!(shown, "unchanged e1\n");
    stdin.write_all(line.as_bytes()).expect("it reads on");
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");

    let (reader, writer) = std::io::pipe().expect("there are pipes");
    drop(reader);
    let scratch = Scratch::new("show-closed");
    let input = scratch.file("c.jsonl", line.repeat(1_000));
    let output = Command::new(binary())
        .arg("show")
        .arg(input)
        .stdin(Stdio::null())
        .stdout(writer)
        .output()
        .expect("the binary can be started");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_the_guard_rejected_is_written_and_shown_as_not_delivered() {
    let server = Completions::start();
    let url = server.url();
    let scratch = Scratch::new("show-rejected");
    let profile = json!({
        "name": "strict", "template": "{question}\n{answer}\n", "guard": {"max_novel_words": 0.0},
    });
    let profile = scratch
        .file("p.json", profile.to_string())
        .display()
        .to_string();
    let environment = [
        ("ALIGNER__ALIGNER__REMOTE__URL", url.as_str()),
        ("ALIGNER__ALIGNER__REMOTE__MODEL", MODEL),
    ];
    let arguments = ["correct", "--model", "remote", "--profile", &profile];
    let line = lines(&[json!({"event_id": "e1", "question": "why?", "answer": "Here is this."})]);
    let written = call_in(&environment, &arguments, line).expect_code(0);
    let record = written.records().remove(0);
    assert_eq!(record["disposition"], "bypassed");
    assert_eq!(record["reason"], "inconsistent_copy");
    assert_eq!(record["correction"], "Here is this.");
    assert_eq!(record["proposal"], ANSWER);
    let done = show(&[], &written.stdout).expect_code(0);
    let because = record["message"].as_str().expect("a sentence");
    assert_eq!(
        done.stdout,
        format!(
            "bypassed e1 (inconsistent_copy)\n  {because}\n  Q: why?\n  \
             not delivered: Here is [-this-]{{+a better answer than that+}}.\n\n"
        )
    );
}

#[test]
fn the_help_names_what_is_read_and_what_is_not() {
    let help = call(&["show", "--help"]).expect_code(0);
    let words: Vec<_> = help.stdout.split_whitespace().collect();
    let words = words.join(" ");
    for said in [
        "JSON Lines",
        "kafka-console-consumer.sh",
        "in Avro are not read",
    ] {
        assert!(words.contains(said), "{said}: {}", help.stdout);
    }
}
