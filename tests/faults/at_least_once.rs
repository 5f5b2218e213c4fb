//! `kafka.delivery: at_least_once`: offsets follow outputs, and what is written twice has one id.

use std::time::Duration;

use aligner_tests::{
    client::{Committed, Reader, Writer},
    connector::{Config, Connector, Topics},
    events::{self, Events},
    kafka::Kafka,
    proxy::{ApiKey, Fault, Proxy},
    wait,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
/// Events before the kills, and as many under them.
const EVENTS: i64 = 40;

/// Source offset and id of each correction that came since the last look, in the order of the log.
fn corrections(reader: &mut Reader) -> Vec<(i64, String)> {
    let records = reader.read_to_end(LIMIT);
    let each = records.iter().map(|record| {
        let value = record.value.as_deref().expect("no tombstones");
        let value: Value = serde_json::from_slice(value).expect("corrections are JSON");
        let id = value["correction_id"].as_str().expect("an id");
        (events::source_offset(record), id.to_owned())
    });
    each.collect()
}

#[test]
fn at_least_once_kills_lose_nothing_and_what_is_written_again_has_the_same_ids() {
    let kafka = Kafka::shared();
    let topics = Topics::create(kafka, "at-least-once", 1);
    let name = topics.answers.clone();
    let proxy = Proxy::before(&kafka.addresses());
    let config =
        Config::new(&name, proxy.bootstrap(), &topics).set(&["kafka", "delivery"], "at_least_once");
    let mut events = Events::new(events::seed("at-least-once"), "event");
    let mut writer = Writer::open(kafka.settings());
    let mut send = || {
        for _ in 0..EVENTS {
            writer.send(&topics.answers, &events.next_json().0);
        }
        writer.settle(LIMIT);
    };
    let mut group = Committed::of(
        kafka.settings(),
        &format!("connect-{name}"),
        &topics.answers,
    );
    let mut committed = || {
        let offsets = wait::for_value("committed offsets", LIMIT, || group.fetch());
        offsets.get(&0).copied()
    };
    let mut reader = Reader::open(kafka.settings(), &[&topics.corrections]);

    let mut connector = Connector::ready("at-least-once", &config);
    send();
    wait::until("the first ones to be committed", LIMIT, || {
        committed() == Some(EVENTS)
    });
    assert_eq!(corrections(&mut reader).len() as i64, EVENTS);

    // Their outputs do not reach the broker, so that neither may their offsets.
    let held = proxy.on(ApiKey::Produce).does(Fault::HoldRequest);
    send();
    held.wait_hit(LIMIT);
    // A commit that did not wait for them would go the way of heartbeats, and before the second one.
    let beats = proxy.count(ApiKey::Heartbeat);
    wait::until("two heartbeats", LIMIT, || {
        proxy.count(ApiKey::Heartbeat) >= beats + 2
    });
    connector.kill9();
    let written = corrections(&mut reader);
    assert!(written.is_empty(), "{written:?}");
    assert_eq!(committed(), Some(EVENTS), "the offset has not moved");

    // Outputs are there, and their offsets are not.
    let held = proxy.on(ApiKey::OffsetCommit).does(Fault::HoldRequest);
    connector.restart();
    held.wait_hit(LIMIT);
    let first = corrections(&mut reader);
    connector.kill9();
    assert!(
        !first.is_empty(),
        "offsets were to be committed before outputs"
    );
    assert_eq!(committed(), Some(EVENTS), "the offset has not moved");

    connector.restart();
    wait::until("all of them to be committed", LIMIT, || {
        committed() == Some(2 * EVENTS)
    });
    let again = corrections(&mut reader);
    let offsets: Vec<i64> = again.iter().map(|(offset, _)| *offset).collect();
    let expected: Vec<i64> = (EVENTS..2 * EVENTS).collect();
    assert_eq!(
        offsets, expected,
        "each of them, from the first that was not committed"
    );
    assert_eq!(again[..first.len()], first, "duplicates have their ids");
    assert!(connector.sigterm().success());
}
