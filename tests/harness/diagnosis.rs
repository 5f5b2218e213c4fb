//! A failure says what stands between the readers and what is missing.

use std::{
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use aligner_tests::{
    connector::Topics,
    diagnosis::{Ends, verdict},
    events,
    hanging::Hanging,
    kafka::Kafka,
    oracle::Oracle,
};

#[test]
fn a_transaction_that_hangs_is_told_from_one_that_is_open_and_from_none() {
    let ends = |stable, all| Ends { stable, all };
    for (before, after, told) in [
        (None, ends(5, 5), "nothing is hidden"),
        (Some(ends(3, 5)), ends(5, 5), "nothing is hidden"),
        (Some(ends(3, 5)), ends(4, 9), "a transaction is open"),
        (None, ends(4, 9), "a transaction is open"),
        (Some(ends(3, 5)), ends(3, 5), "hanging transaction"),
        (Some(ends(3, 5)), ends(3, 9), "hanging transaction"),
    ] {
        let found = verdict(before, after);
        assert!(found.contains(told), "{before:?}, {after:?}: {found}");
    }
}

#[test]
fn outputs_that_are_missing_behind_a_hanging_transaction_are_said_to_be() {
    let kafka = Kafka::shared();
    let topics = Topics::create(kafka, "hidden", 1);
    let oracle = Oracle::watch(kafka, &topics, &topics.answers);
    oracle.send([events::event(Some("a"), "why?", "because")]);
    let hanging = Hanging::over(kafka.settings(), &topics.corrections, 0);
    let settled = AssertUnwindSafe(|| oracle.settled(Duration::from_secs(1)));
    let failure = panic::catch_unwind(settled).expect_err("nothing corrects the input");
    hanging.abort();
    let failure = failure.downcast::<String>().expect("it is formatted");
    let line_of = |topic: &str| {
        let start = format!("{topic}-0: ");
        let found = failure
            .lines()
            .find_map(|line| line.trim().strip_prefix(&start));
        found.unwrap_or_else(|| panic!("{topic} is not in {failure}"))
    };
    assert!(line_of(&topics.corrections).contains("stands still: hanging transaction"));
    assert!(line_of(&topics.dead_letters).contains("nothing is hidden"));
    let nothing = "a fresh read_committed reader sees none of the 1 missing outputs";
    assert!(failure.contains(nothing), "{failure}");
}
