//! Two processes that claim to be one, and many that share a configuration.

use std::time::Duration;

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    group::Group,
    kafka::Kafka,
    story::{Story, meanwhile},
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn of_two_processes_with_one_instance_id_the_older_stops_and_says_why() {
    let story = Story::new(Kafka::shared(), "duplicate", 4).with(|config| config.instance("0"));
    let mut events = Events::new(events::seed("duplicate"), "duplicate");
    let mut older = Connector::ready("older", &story.config);
    story.send(&mut events, 200);
    story.oracle.wait_done(200, LIMIT);
    let mut newer = Connector::start("newer", &story.config);
    for error in ["cannot go on", "ended", "fenced"] {
        older.allow_error(error);
    }
    // Where it was slow to join, the older one has claimed their id once more.
    newer.allow_error("fenced");
    // Events keep coming, so that whoever lost finds out.
    let status = meanwhile(
        |enough| story.feed(&mut events, 60_000, 400, enough),
        || {
            wait::for_value("the end of the older one", LIMIT, || {
                assert!(newer.exited().is_none(), "the newer one ended");
                older.exited()
            })
        },
    );
    assert_eq!(status.code(), Some(1), "{status}");
    let log = older.log();
    assert!(
        log.contains("instance id") || log.contains("instance_id"),
        "it does not say why it stopped:\n{log}"
    );
    // No fencing loop: the other one stays, and does everything.
    newer.wait_ready();
    story.oracle.settled(LIMIT);
    assert!(newer.exited().is_none());
    assert!(newer.sigterm().success());
    older.assert_log_is_clean();
}

#[test]
fn members_grow_from_one_to_three_and_shrink_to_one_under_load() {
    let story = Story::new(Kafka::shared(), "one-three-one", 6);
    let group = Group::of(story.kafka, &story.name);
    let mut events = Events::new(events::seed("one-three-one"), "members");
    let some_more = || story.oracle.wait_done(story.oracle.done() + 200, LIMIT);
    let mut last = meanwhile(
        |enough| story.feed(&mut events, 60_000, 400, enough),
        || {
            let mut first = Connector::ready("first", &story.config);
            some_more();
            let mut second = Connector::ready("second", &story.config);
            let third = Connector::ready("third", &story.config);
            group.wait_stable(3, LIMIT);
            some_more();
            second.kill9();
            group.wait_stable(2, LIMIT);
            some_more();
            assert!(first.sigterm().success());
            group.wait_stable(1, LIMIT);
            some_more();
            third
        },
    );
    story.oracle.settled(LIMIT);
    assert!(last.sigterm().success());
}
