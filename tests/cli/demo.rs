//! `demo`: the whole service offline, and on a real Kafka.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use aligner_tests::{
    command::{Done, call},
    connector::binary,
    kafka::{self, Kafka},
    process::Signal,
};

use crate::{correct::terminal, first_steps::proposal};

/// Every id that a line of stdout calls corrected.
fn corrected(done: &Done) -> BTreeSet<&str> {
    let lines = done
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix("corrected "));
    let mut ids = BTreeSet::new();
    for line in lines {
        let id = line.split_whitespace().next().expect("an id follows");
        assert!(ids.insert(id), "{id} is corrected twice");
    }
    ids
}

#[test]
fn without_a_terminal_it_prints_one_plain_line_for_each_corrected_answer_and_a_summary() {
    let done = call(&["demo", "--events", "60"]).expect_code(0);
    let ids = corrected(&done);
    assert!((1..=60).contains(&ids.len()), "{}", done.stdout);
    assert!(
        !done.stdout.contains('\u{1b}'),
        "no colours without a terminal"
    );
    assert!(
        done.stdout
            .lines()
            .any(|line| !line.starts_with("corrected ")),
        "there is a summary: {}",
        done.stdout
    );
    let lines = done.stdout.lines();
    for line in lines.filter(|line| line.starts_with("corrected ")) {
        // Whether a correction is right is judged by what was asked.
        assert!(line.contains(" Q: "), "{line}");
    }
    assert!(done.took < Duration::from_secs(180), "{:?}", done.took);
    for of_its_own_broker in ["group could not be looked at", "AllBrokersDown"] {
        assert!(!done.stderr.contains(of_its_own_broker), "{}", done.stderr);
    }
    // As it was called, so that it can be typed where it was called.
    let called = binary().display().to_string();
    let next = proposal().replacen("aligner-connector", &called, 1);
    let next = format!("Next:\n  {next}\n");
    assert!(done.stdout.contains(&next), "{}", done.stdout);
    let run = "run --config config/connector.yaml --set topics.create=true";
    assert!(done.stdout.contains(run), "{}", done.stdout);
}

#[test]
fn on_a_terminal_that_draws_nothing_there_is_a_line_for_each_corrected_answer_all_the_same() {
    let (theirs, ours) = terminal();
    let mut child = Command::new(binary())
        .args(["demo", "--events", "30"])
        .env("TERM", "dumb")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(theirs)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary can be started");
    let mut shown = Vec::new();
    // A terminal that everybody else has left ends with an error.
    let _ = File::from(ours).read_to_end(&mut shown);
    let status = child.wait().expect("our own child can be waited for");
    assert!(status.success(), "{status}");
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("\ncorrected "), "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn it_runs_on_a_kafka_of_the_users_own() {
    let kafka = Kafka::shared();
    // Made beforehand, as on clusters where not everybody may make topics.
    for topic in ["answers", "corrections", "pairs", "dead-letters"] {
        kafka.create_topic(&format!("aligner-demo.{topic}"), 3);
    }
    let done = call(&[
        "demo",
        "--events",
        "30",
        "--bootstrap-servers",
        kafka.bootstrap(),
    ])
    .expect_code(0);
    assert!(!corrected(&done).is_empty(), "{}", done.stdout);
}

#[test]
fn without_a_broker_it_says_so_and_the_exit_code_is_1() {
    let nobody = format!("127.0.0.1:{}", kafka::free_port());
    let done = call(&["demo", "--events", "5", "--bootstrap-servers", &nobody]).expect_code(1);
    let said = format!("no broker answers at {nobody} (--bootstrap-servers)");
    assert!(done.stderr.contains(&said), "{}", done.stderr);
    assert!(done.stderr.contains("is it running"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    assert!(done.took < Duration::from_secs(15), "{:?}", done.took);
}

#[test]
fn an_interrupted_demo_is_130_and_says_how_far_it_came() {
    // Whoever stops a group of processes may signal one of them twice at once.
    for signals in [&[Signal::Int, Signal::Int][..], &[Signal::Term]] {
        interrupted_by(signals);
    }
}

fn interrupted_by(signals: &[Signal]) {
    let mut child = Command::new(binary())
        .args(["demo", "--events", "3000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary can be started");
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout was asked for"));
    let mut shown = String::new();
    while !shown.contains("\ncorrected ") {
        let read = stdout.read_line(&mut shown).expect("stdout is text");
        assert_ne!(read, 0, "it ended by itself: {shown}");
    }
    for signal in signals {
        signal.send(&child);
    }
    stdout.read_to_string(&mut shown).expect("stdout is text");
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("stderr was asked for");
    stderr.read_to_string(&mut said).expect("stderr is text");
    let status = child.wait().expect("our own child can be waited for");
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted: "), "{said}");
    assert!(!said.contains("ended at once"), "{said}");
    assert!(said.contains(" of 3000 answers were done"), "{said}");
    assert!(!shown.contains(" lost."), "nothing is lost: {shown}");
}
