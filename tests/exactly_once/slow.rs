//! An Aligner that takes longer than the poll interval, and one that is not there.

use std::{
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{
    completions::Completions, connector::Connector, events, group::Group, kafka::Kafka,
    ledger::Expected, story::Story, wait,
};

const LIMIT: Duration = Duration::from_secs(90);
/// The shortest that every client of the connector takes: librdkafka wants it to be no shorter
/// than a session, and a session that nobody sets has 45 seconds.
const POLL_INTERVAL: Duration = Duration::from_secs(46);

#[test]
fn an_aligner_slower_than_two_poll_intervals_causes_no_rebalance() {
    let server = Completions::start();
    let story = Story::new(Kafka::shared(), "slow", 3).with(|config| {
        config
            .corrected_by(&server)
            .set(&["aligner", "remote", "timeout_ms"], 500_000)
            .property(
                "max.poll.interval.ms",
                &POLL_INTERVAL.as_millis().to_string(),
            )
    });
    let mut connector = Connector::ready(&story.name, &story.config);
    let group = Group::of(story.kafka, &story.name);
    let settled = group.wait_stable(1, LIMIT);
    let watch = group.watch();
    server.hold();
    story.oracle.send((0..200).map(|number| {
        let id = format!("slow-{number}");
        let (outgoing, mut input) = events::event(Some(&id), "why?", "because it is so");
        input.expected = Expected::AnyCorrection;
        (outgoing, input)
    }));
    wait::until("the aligner to be busy", LIMIT, || server.waiting() > 0);
    // The time that passes is what is tested.
    let started = Instant::now();
    while started.elapsed() < 2 * POLL_INTERVAL + Duration::from_secs(2) {
        assert!(connector.exited().is_none(), "the connector ended");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        story.oracle.done(),
        0,
        "nothing can be done while answers are held"
    );
    server.release();
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 200);
    assert_eq!(
        watch.end(),
        [settled],
        "the group changed while the aligner was slow"
    );
    assert_eq!(server.asked(), 200, "each record is asked for once");
}

#[test]
fn while_its_server_turns_everything_away_it_is_not_ready_but_alive_and_no_record_is_given_up() {
    let server = Completions::start();
    let story =
        Story::new(Kafka::shared(), "turned-away", 1).with(|config| config.corrected_by(&server));
    let mut connector = Connector::ready(&story.name, &story.config);
    server.fail_on("", 503);
    story.oracle.send((0..20).map(|number| {
        let id = format!("turned-away-{number}");
        let (outgoing, mut input) = events::event(Some(&id), "why?", "because it is so");
        input.expected = Expected::AnyCorrection;
        (outgoing, input)
    }));
    let ready = || connector.get("/readyz").expect("the service listens");
    wait::until("the alarm", LIMIT, || {
        let answer = ready();
        answer.status == 503 && answer.body.contains("aligner_unavailable")
    });
    let live = connector.get("/livez").expect("the service listens");
    assert_eq!(live.status, 200, "a restart would not help: {}", live.body);
    server.recover();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 20);
    wait::until("the end of the alarm", LIMIT, || ready().status == 200);
    assert!(connector.sigterm().success());
}
