//! Two instances that come and go while events come in.

use std::time::Duration;

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    group::Group,
    kafka::Kafka,
    story::{Story, meanwhile},
};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn two_instances_joining_and_leaving_share_the_work_exactly_once() {
    let story = Story::new(Kafka::shared(), "members", 6);
    let group = Group::of(story.kafka, &story.name);
    let mut events = Events::new(events::seed("members"), "members");
    let some_more = || story.oracle.wait_done(story.oracle.done() + 300, LIMIT);
    let mut second = None;
    let mut first = Connector::ready("first", &story.config);
    meanwhile(
        |enough| story.feed(&mut events, 40_000, 500, enough),
        || {
            group.wait_stable(1, LIMIT);
            some_more();
            for round in 1..=2 {
                eprintln!("members: round {round}: a second one joins");
                let joined = second.insert(Connector::start("second", &story.config));
                group.wait_stable(2, LIMIT);
                joined.wait_ready();
                some_more();
                eprintln!("members: round {round}: the first one leaves");
                assert!(first.sigterm().success());
                group.wait_stable(1, LIMIT);
                some_more();
                eprintln!("members: round {round}: it comes back, and the second one leaves");
                first.restart();
                group.wait_stable(2, LIMIT);
                some_more();
                assert!(joined.sigterm().success());
                group.wait_stable(1, LIMIT);
                some_more();
            }
        },
    );
    let summary = story.oracle.settled(LIMIT);
    eprintln!("members: {summary:?}");
    assert!(summary.inputs >= 2_000);
    drop(first);
}
