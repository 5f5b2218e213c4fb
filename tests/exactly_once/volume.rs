//! The plain case, at full speed.

use std::time::Duration;

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    story::Story,
};

#[test]
fn twenty_thousand_events_over_six_partitions_arrive_exactly_once_in_order() {
    let story = Story::new(Kafka::shared(), "volume", 6);
    let mut events = Events::new(events::seed("volume"), "volume");
    story.send(&mut events, 20_000);
    let mut connector = Connector::ready(&story.name, &story.config);
    let summary = story.oracle.settled(Duration::from_secs(120));
    assert_eq!(summary.inputs, 20_000);
    let corrected = summary.dispositions["corrected"];
    // The marker marks half of all ids; three standard deviations are 212.
    assert!(corrected.abs_diff(10_000) < 300, "{summary:?}");
    assert_eq!(corrected + summary.dispositions["unchanged"], 20_000);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn a_drained_connector_exits_with_0_and_its_successor_starts_where_it_ended() {
    let story = Story::new(Kafka::shared(), "drain", 3);
    let mut events = Events::new(events::seed("drain"), "drain");
    for _ in 0..3 {
        // Counted before: the connector may be done with all of them once it says that it is ready.
        let before = story.oracle.done();
        story.send(&mut events, 1_000);
        let mut connector = Connector::ready(&story.name, &story.config);
        // In the middle of its work, most likely; wherever it is, what it leaves must fit.
        story.oracle.wait_done(before + 1, Duration::from_secs(60));
        assert!(connector.sigterm_within(Duration::from_secs(45)).success());
        story
            .oracle
            .assert_offsets_match_outputs(Duration::from_secs(30));
    }
    let _last = Connector::ready(&story.name, &story.config);
    let summary = story.oracle.settled(Duration::from_secs(60));
    assert_eq!(summary.inputs, 3_000);
}
