//! `eval`: what it refuses before hours go into it, and what becomes of its report.

use std::{
    fs::File,
    process::{Command, Stdio},
    time::Duration,
};

use aligner_tests::{
    command::{call, call_with},
    completions::{Completions, MODEL},
    connector::binary,
    process::{Process, Signal},
    scratch::{Scratch, workspace},
    wait,
};
use serde_json::json;

fn triple() -> String {
    let triple = json!({"question": "why?", "answer": "because", "correction": "because"});
    format!("{triple}\n")
}

#[test]
fn the_report_may_not_be_the_data_by_any_name() {
    let scratch = Scratch::new("eval");
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    let other = scratch.path().join("link.jsonl").display().to_string();
    std::fs::hard_link(&data, &other).expect("one folder");
    for report in [&data, &other] {
        #[rustfmt::skip]
        let done = call(&["eval", "--model", "identity", "--data", &data, "--report", report])
            .expect_code(2);
        let said = format!("--report {report} is the file of --data, too");
        assert!(done.stderr.contains(&said), "{}", done.stderr);
        assert_eq!(done.stdout, "");
        let left = std::fs::read_to_string(&data).expect("the data is still there");
        assert_eq!(left, triple());
    }
}

#[test]
fn a_report_that_cannot_be_written_is_found_before_anything_is_measured() {
    let scratch = Scratch::new("eval");
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    let report = scratch.path().join("absent/r.html").display().to_string();
    let done = call(&[
        "eval", "--model", "identity", "--data", &data, "--report", &report,
    ]);
    let done = done.expect_code(1);
    assert_eq!(done.stdout, "", "it was measured");
    let said = format!("--report {report} cannot be written");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
    assert!(done.stderr.contains("make its folder"), "{}", done.stderr);
}

#[test]
fn a_report_takes_the_place_of_an_earlier_one() {
    let scratch = Scratch::new("eval");
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    let earlier = "stale ".repeat(100_000);
    let report = scratch.file("r.html", earlier).display().to_string();
    call(&[
        "eval", "--model", "identity", "--data", &data, "--report", &report,
    ])
    .expect_code(0);
    let written = std::fs::read_to_string(&report).expect("it was written");
    assert!(written.contains("<html"), "{written}");
    assert!(
        !written.contains("stale"),
        "something of the earlier one is left"
    );
}

#[test]
fn a_report_of_two_shows_where_they_differ() {
    let scratch = Scratch::new("eval");
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    let report = scratch.path().join("r.html").display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "eval", "--model", "identity", "--against", "marker-all", "--data", &data,
        "--report", &report, "--json",
    ])
    .expect_code(0);
    assert!(!done.stdout.contains("because"), "{}", done.stdout);
    let written = std::fs::read_to_string(&report).expect("it was written");
    let shown = written
        .split("Where the two differ most")
        .nth(1)
        .expect("is there");
    assert!(shown.contains("<ins> [marked]</ins>"), "{shown}");
}

#[test]
fn an_interrupted_run_leaves_no_report_and_an_earlier_one_as_it_was() {
    const LIMIT: Duration = Duration::from_secs(60);
    let server = Completions::start();
    server.hold();
    let scratch = Scratch::new("eval-interrupted");
    let data = scratch.file("v.jsonl", triple());
    let earlier = scratch.file("earlier.html", "kept");
    let report = scratch.path().join("r.html");
    for (number, path) in [&report, &earlier].into_iter().enumerate() {
        let mut command = Command::new(binary());
        command
            .args(["eval", "--model", "remote", "--data"])
            .arg(&data)
            .arg("--report")
            .arg(path)
            .env("ALIGNER__ALIGNER__REMOTE__URL", server.url())
            .env("ALIGNER__ALIGNER__REMOTE__MODEL", MODEL);
        let before = server.asked();
        let log = scratch.path().join(format!("log-{number}"));
        let mut process = Process::start("eval", command, &log);
        wait::until("the row's call", LIMIT, || server.asked() > before);
        process.signal(Signal::Int);
        assert!(!process.wait(LIMIT).success(), "{}", process.log());
    }
    server.release();
    assert!(!report.exists(), "an empty report would pass for a report");
    let kept = std::fs::read_to_string(&earlier).expect("it is still there");
    assert_eq!(kept, "kept");
}

#[test]
fn neither_report_nor_figures_are_lost_by_what_becomes_of_the_other() {
    let scratch = Scratch::new("eval");
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("linux has one");
    let (reader, closed) = std::io::pipe().expect("there are pipes");
    drop(reader);
    for (name, stdout, code) in [
        ("full.html", Stdio::from(full), 1),
        ("closed.html", Stdio::from(closed), 0),
    ] {
        let report = scratch.path().join(name);
        let done = Command::new(binary())
            .args(["eval", "--model", "identity", "--data", &data, "--report"])
            .arg(&report)
            .stdout(stdout)
            .output()
            .expect("the binary can be started");
        assert_eq!(done.status.code(), Some(code), "{done:?}");
        let written = std::fs::read_to_string(&report).expect("it was written");
        assert!(written.contains("<html"), "{written}");
    }
    let arguments = ["eval", "--model", "identity", "--data", &data];
    let done = call(&[&arguments[..], &["--report", "/dev/full"]].concat()).expect_code(1);
    let said = "writing --report /dev/full";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    assert!(done.stdout.contains("by kind"), "{}", done.stdout);
}

#[test]
fn wrong_words_are_2_and_named_by_their_flags() {
    let scratch = Scratch::new("eval");
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    for (flag, value) in [("--limit", "0"), ("--against", "nonsense")] {
        let done = call(&["eval", "--model", "identity", "--data", &data, flag, value]);
        let done = done.expect_code(2);
        assert!(done.stderr.contains(flag), "{}", done.stderr);
        assert!(!done.stderr.contains("aligner.model"), "{}", done.stderr);
    }
}

#[test]
fn a_limit_takes_a_sample_of_the_whole_file_and_says_so() {
    let scratch = Scratch::new("eval");
    let row = |id: usize, kind: &str, correction: &str| {
        let row = json!({
            "event_id": format!("{id:02}"), "question": "why?", "answer": "because",
            "correction": correction, "kind": kind,
        });
        format!("{row}\n")
    };
    // Sorted by kind, so that the first twenty are all clean.
    let rows: String = (0..40)
        .map(|id| match id {
            0..20 => row(id, "clean", "because"),
            _ => row(id, "unhelpful", "because it is so"),
        })
        .collect();
    let data = scratch.file("v.jsonl", rows).display().to_string();
    let measured = || {
        let done = call(&[
            "eval", "--model", "identity", "--data", &data, "--limit", "20", "--json",
        ])
        .expect_code(0);
        let said = "measuring 20 of 40 rows";
        assert!(done.stderr.contains(said), "{}", done.stderr);
        let report: serde_json::Value =
            serde_json::from_str(&done.stdout).expect("one JSON object");
        let verdicts = report["verdicts"].as_array().expect("a list");
        let ids = verdicts.iter().map(|v| v["event_id"].to_string());
        let ids: Vec<String> = ids.collect();
        for kind in ["clean", "unhelpful"] {
            assert!(report["kinds"][kind].is_object(), "{kind}: {report}");
        }
        ids
    };
    let ids = measured();
    assert_eq!(ids.len(), 20);
    assert!(ids.is_sorted(), "not in the order of the file: {ids:?}");
    assert_eq!(ids, measured(), "another sample");
}

#[test]
fn data_that_cannot_be_read_is_named_with_its_option() {
    let done = call(&["eval", "--model", "identity", "--data", "/no/such/file"]).expect_code(1);
    let said = "--data /no/such/file cannot be opened";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn a_packed_file_is_told_with_the_way_to_unpack_it() {
    let scratch = Scratch::new("eval");
    let packed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00";
    let data = scratch.file("v.jsonl.gz", packed).display().to_string();
    let done = call(&["eval", "--model", "identity", "--data", &data]).expect_code(1);
    let said = format!("`zcat {data} > FILE`");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
    assert!(!done.stderr.contains("UTF-8"), "{}", done.stderr);
}

#[test]
fn corrections_without_a_verdict_are_skipped_and_counted() {
    let scratch = Scratch::new("eval");
    let unjudged = [
        json!({"question": "q", "answer": "a", "correction": "a", "disposition": "bypassed"}),
        json!({"question": null, "answer": null, "disposition": "dead_lettered"}),
    ]
    .map(|row| format!("{row}\n"))
    .concat();
    let data = scratch.file("v.jsonl", format!("{}{unjudged}", triple()));
    let data = data.display().to_string();
    let page = scratch.path().join("r.html").display().to_string();
    #[rustfmt::skip]
    let done = call(&[
        "eval", "--model", "identity", "--data", &data, "--json", "--report", &page,
    ])
    .expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(report["all"]["answers"], 1, "{report}");
    // Whoever reads the figures later has nobody's stderr.
    let note = report["notes"][0].as_str().expect("a note");
    let page = std::fs::read_to_string(&page).expect("it was written");
    for told in [note, &done.stderr, &page] {
        assert!(told.contains("2 rows were skipped"), "{told}");
    }

    let data = scratch.file("u.jsonl", unjudged).display().to_string();
    let done = call(&["eval", "--model", "identity", "--data", &data]).expect_code(1);
    let said = "each of 2 rows was bypassed or dead-lettered";
    assert!(done.stderr.contains(said), "{}", done.stderr);
}

#[test]
fn a_correction_that_somebody_mended_counts_though_its_answer_was_bypassed() {
    let scratch = Scratch::new("eval");
    let row = json!({"question": "q", "answer": "a", "correction": "b", "disposition": "bypassed"});
    let data = scratch.file("v.jsonl", format!("{row}\n"));
    let data = data.display().to_string();
    let done = call(&["eval", "--model", "identity", "--data", &data, "--json"]).expect_code(0);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    assert_eq!(report["all"]["faulty"]["exact"]["of"], 1, "{report}");
    assert!(!done.stderr.contains("skipped"), "{}", done.stderr);
}

#[test]
fn a_kind_that_tells_no_dimension_is_named_once() {
    let scratch = Scratch::new("eval");
    let row = |kind: &str| {
        let row = json!({"question": "q", "answer": "a", "correction": "b", "kind": kind});
        format!("{row}\n")
    };
    let rows = ["folks", "self-injury", "folks", "PII"].map(row).concat();
    let data = scratch.file("v.jsonl", rows).display().to_string();
    let done = call(&["eval", "--model", "identity", "--data", &data]).expect_code(0);
    let named = "warning: kind folks, of 2 faulty rows, counts in none";
    assert!(done.stderr.contains(named), "{}", done.stderr);
    let warnings = done.stderr.matches("warning: kind").count();
    assert_eq!(warnings, 1, "{}", done.stderr);
}

#[test]
fn faults_that_no_answer_has_are_counted_in_a_warning_and_mend_nothing() {
    let scratch = Scratch::new("eval");
    let row = |id: &str, fault: &str| {
        let row = json!({
            "id": id, "question": "who?", "answer": "You utter fool. It is open.",
            "correction": "It is open.", "kind": "insult", "faults": [fault],
        });
        format!("{row}\n")
    };
    let rows = [row("a", "utter fool"), row("b", "utter  fool")].concat();
    let data = scratch.file("v.jsonl", rows).display().to_string();
    let done = call(&["eval", "--model", "marker-all", "--data", &data, "--json"]).expect_code(0);
    let warning =
        "warning: 1 of 2 faults stand in no answer of their row, the first of them in row b,";
    assert!(done.stderr.contains(warning), "{}", done.stderr);
    let report: serde_json::Value = serde_json::from_str(&done.stdout).expect("one JSON object");
    let absent = [0, 1].map(|at| report["verdicts"][at]["absent"].clone());
    assert_eq!(absent, [0, 1], "{report}");
    assert_eq!(report["verdicts"][1]["settled"], false, "{report}");
    assert_eq!(report["all"]["faulty"]["mended"]["count"], 0, "{report}");
}

#[test]
fn data_that_says_nothing_of_its_answers_is_said_to_be_unlabelled() {
    let scratch = Scratch::new("eval");
    let plain = format!("{}\n", json!({"question": "why?", "answer": "because"}));
    for (rows, unlabelled) in [(plain, true), (triple(), false)] {
        let data = scratch.file("v.jsonl", rows).display().to_string();
        let done = call(&["eval", "--model", "identity", "--data", &data]).expect_code(0);
        let said = done.stderr.contains("\"correction\"");
        assert_eq!(said, unlabelled, "{}", done.stderr);
    }
}

#[test]
fn rows_that_the_measured_aligner_wrote_are_counted_in_a_warning() {
    let scratch = Scratch::new("eval");
    let events = triple().repeat(2);
    let done = call_with(&["correct", "--model", "marker-all"], events).expect_code(0);
    let rows = format!("{}{}", done.stdout, triple());
    let data = scratch.file("v.jsonl", rows).display().to_string();
    let warning = "2 of 3 rows were corrected by marker-all, the model that is measured";
    // `marker` has the same word for a revision.
    for (model, warned) in [("marker-all", true), ("marker", false)] {
        let done = call(&["eval", "--model", model, "--data", &data]).expect_code(0);
        let said = done.stderr.contains(warning);
        assert_eq!(said, warned, "{model}: {}", done.stderr);
    }
}

#[test]
fn a_model_without_a_profile_is_warned_of_unless_one_is_given() {
    let scratch = Scratch::new("eval-profile");
    let fixture = workspace().join("connector/engine/tests/fixtures/llama2");
    let at = |name: &str| scratch.path().join(name);
    for name in [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "model.safetensors",
    ] {
        std::fs::copy(fixture.join(name), at(name)).expect("copied");
    }
    let model = scratch.path().display().to_string();
    let data = scratch.file("v.jsonl", triple()).display().to_string();
    let output = at("mine").display().to_string();
    let eval = ["eval", "--data", &data, "--max-new-tokens", "4", "--model"];
    let correct = [
        "correct",
        "-q",
        "why?",
        "-a",
        "so",
        "--max-new-tokens",
        "4",
        "--model",
    ];
    // Data that is not there ends it before anything is trained.
    let train = [
        "train",
        "--data",
        "/no/such/file",
        "--output",
        &output,
        "--from",
    ];
    let warnings = |command: &[&str], given: &[&str], code: i32| {
        let done = call(&[command, &[&model], given].concat()).expect_code(code);
        done.stderr.matches("the prompt is the paper's").count()
    };
    let against = ["--against", &model];
    assert_eq!(warnings(&eval, &[], 0), 1);
    assert_eq!(warnings(&eval, &against, 0), 2, "of both");
    assert_eq!(warnings(&correct, &[], 0), 1);
    assert_eq!(warnings(&train, &[], 1), 1);
    for command in [&eval[..], &correct] {
        assert_eq!(warnings(command, &["--profile", "paper"], 0), 0);
    }
    let profile = json!({"name": "tiny", "template": "{question} {answer} "});
    scratch.file("aligner.json", profile.to_string());
    assert_eq!(warnings(&eval, &against, 0), 0);
    assert_eq!(warnings(&correct, &[], 0), 0);
    assert_eq!(warnings(&train, &[], 1), 0);
}
