//! `replay` without a broker: what it refuses, and that it can be ended while it waits.

use std::io::{BufRead, BufReader};

use aligner_tests::{
    command::{call, spawn},
    kafka::free_port,
    process::Signal,
};

#[test]
fn what_a_replay_cannot_be_asked_for_is_refused_before_a_broker_is() {
    for (arguments, named) in [
        (
            &["--reason", "invalid_json", "--limit", "0"][..],
            "--limit 0",
        ),
        (&["--limit", "1"], "--reason"),
        (&["--again"], "--reason"),
        (&["--set", "kafka.delivery=once"], "kafka.delivery"),
    ] {
        let done = call(&[&["replay"], arguments].concat()).expect_code(2);
        assert!(
            done.stderr.contains(named),
            "{arguments:?}: {}",
            done.stderr
        );
        assert_eq!(done.stdout, "");
    }
}

#[test]
fn while_it_waits_for_a_broker_it_says_so_and_a_signal_ends_it() {
    let nobody = format!("kafka.bootstrap_servers=127.0.0.1:{}", free_port());
    for more in [&[][..], &["--reason", "invalid_json"]] {
        let mut child = spawn(&[], &[&["replay", "--set", &nobody], more].concat());
        let stderr = child.stderr.take().expect("stderr was asked for");
        let waits = BufReader::new(stderr)
            .lines()
            .map(|line| line.expect("stderr is text"))
            .find(|line| line.contains("kafka is not reachable"));
        assert!(waits.is_some(), "it ended without a word");
        Signal::Term.send(&child);
        let status = child.wait().expect("our own child can be waited for");
        assert_eq!(status.code(), Some(130), "{more:?}");
    }
}
