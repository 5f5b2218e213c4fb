//! `errors.tolerance: none`: the first bad record stops the connector, and nothing is lost with it.

use std::time::Duration;

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    story::Story,
};

const LIMIT: Duration = Duration::from_secs(60);
const BEFORE: usize = 40;
const AFTER: usize = 5;

#[test]
fn what_lies_before_a_record_that_is_not_tolerated_is_delivered_and_nothing_is_lost() {
    for delivery in ["exactly_once", "at_least_once"] {
        let story = Story::new(Kafka::shared(), "tolerance", 1);
        let mut events = Events::new(events::seed("tolerance"), "tolerance");
        let bad = events::broken(None, Some(b"no event"), "invalid_json");
        let mut records: Vec<_> = (0..BEFORE).map(|_| events.next_json()).collect();
        records.push(bad);
        records.extend((0..AFTER).map(|_| events.next_json()));
        story.oracle.send(records);

        let config = story.config.clone().set(&["kafka", "delivery"], delivery);
        let strict = config.clone().set(&["errors", "tolerance"], "none");
        let mut connector = Connector::start(&story.name, &strict);
        connector.allow_error("errors.tolerance is none");
        for again in [false, true] {
            if again {
                // It begins with that record now, and has nothing to deliver before it.
                connector.restart();
            }
            assert_eq!(connector.wait_exit(LIMIT).code(), Some(1), "{delivery}");
            let log = connector.log();
            let record = format!("record {}-0-{BEFORE} ", story.topics.answers);
            assert!(log.contains(&record), "{record}is not named: {log}");
            let delivered = if again { 0 } else { BEFORE };
            let counted = format!("\"delivered\":{delivered},");
            let stopped = log
                .lines()
                .find(|line| line.contains("\"message\":\"stopped\""));
            assert!(stopped.is_some_and(|line| line.contains(&counted)), "{log}");
            story.oracle.assert_offsets_match_outputs(LIMIT);
            assert_eq!(story.oracle.done(), BEFORE, "{delivery}");
        }

        let mut patient = Connector::ready(&story.name, &config);
        let summary = story.oracle.settled(LIMIT);
        assert_eq!(summary.inputs, BEFORE + 1 + AFTER);
        assert_eq!(summary.dispositions["dead_lettered"], 1);
        assert!(patient.sigterm().success());
    }
}
