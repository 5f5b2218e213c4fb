//! Two processes that claim to be one, and many that share a configuration.

use std::{
    panic,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    group::Group,
    kafka::Kafka,
    story::Story,
};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn of_two_processes_with_one_instance_id_one_stops_and_says_why() {
    let mut story = Story::new(Kafka::shared(), "duplicate", 4);
    story.config = story.config.clone().instance("0");
    let mut events = Events::new(events::seed("duplicate"), "duplicate");
    let mut first = Connector::ready("first", &story.config);
    story.send(&mut events, 200);
    story.oracle.wait_done(200, LIMIT);
    let mut second = Connector::start("second", &story.config);
    for connector in [&mut first, &mut second] {
        connector.allow_error("cannot go on");
        connector.allow_error("ended");
        connector.allow_error("fenced");
    }
    // Events keep coming, so that whoever lost finds out.
    let enough = AtomicBool::new(false);
    let stopped = thread::scope(|scope| {
        scope.spawn(|| story.feed(&mut events, 60_000, 400, &enough));
        let started = std::time::Instant::now();
        let stopped = loop {
            if first.exited().is_some() {
                break Some("first");
            }
            if second.exited().is_some() {
                break Some("second");
            }
            if started.elapsed() > LIMIT {
                break None;
            }
            thread::sleep(Duration::from_millis(50));
        };
        enough.store(true, Ordering::Relaxed);
        stopped
    });
    let stopped = stopped.expect("one of the two stops");
    let (mut loser, mut winner) = match stopped {
        "first" => (first, second),
        _ => (second, first),
    };
    let log = loser.log();
    assert!(
        log.contains("instance id") || log.contains("instance_id"),
        "the {stopped} one does not say why it stopped:\n{log}"
    );
    // No fencing loop: the other one stays, and does everything.
    winner.wait_ready();
    story.oracle.settled(LIMIT);
    assert!(winner.exited().is_none());
    assert!(winner.sigterm().success());
    loser.assert_log_is_clean();
}

#[test]
fn members_grow_from_one_to_three_and_shrink_to_one_under_load() {
    let story = Story::new(Kafka::shared(), "one-three-one", 6);
    let group = Group::of(story.kafka, &story.name);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = Events::new(events::seed("one-three-one"), "members");
            story.feed(&mut events, 60_000, 400, &enough);
        });
        let told = scope
            .spawn(|| {
                let some_more = || story.oracle.wait_done(story.oracle.done() + 200, LIMIT);
                let mut first = Connector::ready("first", &story.config);
                some_more();
                let mut second = Connector::ready("second", &story.config);
                let mut third = Connector::ready("third", &story.config);
                group.wait_stable(3, LIMIT);
                some_more();
                second.kill9();
                group.wait_stable(2, LIMIT);
                some_more();
                assert!(first.sigterm().success());
                group.wait_stable(1, LIMIT);
                some_more();
                enough.store(true, Ordering::Relaxed);
                story.oracle.settled(LIMIT);
                assert!(third.sigterm().success());
            })
            .join();
        enough.store(true, Ordering::Relaxed);
        if let Err(panic) = told {
            panic::resume_unwind(panic);
        }
    });
}
