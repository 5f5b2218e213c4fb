//! Each metric that operations rest on moves under the fault that it is for.
//!
//! Paused time and bytes in flight are watched under overload, and the number of brokers where the
//! broker's disk is full.

use std::time::Duration;

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    hanging::Hanging,
    java,
    kafka::{Kafka, Options},
    proxy::{ApiKey, Fault, Proxy},
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(60);
/// ILLEGAL_GENERATION: what a member meets while its group is being rebalanced.
const ILLEGAL_GENERATION: i16 = 22;

/// Waits until a metric is at least this.
#[track_caller]
fn reaches(connector: &Connector, name: &str, labels: &[&str], least: f64) {
    wait::until(&format!("{name} {labels:?} >= {least}"), LIMIT, || {
        connector
            .metric(name, labels)
            .is_some_and(|value| value >= least)
    });
}

#[test]
fn the_metrics_of_delivery_move_under_the_faults_that_they_are_for() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "metrics", 2).with(|config| {
        config
            .set(&["kafka", "transaction_timeout_ms"], 6_000)
            .property("socket.timeout.ms", "2500")
    });
    let proxy = Proxy::before(&kafka.addresses());
    let config = story.config.clone().through(&proxy);
    let mut connector = Connector::ready("metrics", &config);
    let mut events = Events::new(events::seed("metrics"), "metrics");

    // Dispositions by reason, and the time that transactions take.
    story.send(&mut events, 100);
    story
        .oracle
        .send([events::broken(None, Some(b"broken"), "invalid_json")]);
    story.oracle.wait_done(101, LIMIT);
    reaches(
        &connector,
        "aligner_records_total",
        &["disposition=\"dead_lettered\"", "reason=\"invalid_json\""],
        1.0,
    );
    reaches(
        &connector,
        "aligner_records_total",
        &["disposition=\"corrected\""],
        10.0,
    );
    let ends = "aligner_kafka_deliveries_total";
    reaches(&connector, ends, &["end=\"committed\""], 1.0);
    reaches(
        &connector,
        "aligner_kafka_delivery_duration_seconds_count",
        &["end=\"committed\""],
        1.0,
    );
    reaches(&connector, "aligner_kafka_brokers_up", &[], 1.0);

    // An abort.
    let refused = proxy
        .on(ApiKey::TxnOffsetCommit)
        .does(Fault::Refuse(ILLEGAL_GENERATION));
    story.send(&mut events, 20);
    refused.wait_hit(LIMIT);
    reaches(&connector, ends, &["end=\"aborted\""], 1.0);
    story.oracle.wait_done(121, LIMIT);

    // What waits, and since when: a delivery whose commit is not answered.
    let held = proxy
        .on(ApiKey::EndTxn)
        .commits()
        .times(100)
        .does(Fault::HoldRequest);
    story.send(&mut events, 20);
    held.wait_hit(LIMIT);
    reaches(&connector, "aligner_record_oldest_age_seconds", &[], 2.0);
    reaches(&connector, "aligner_records_undelivered", &[], 20.0);
    reaches(&connector, "aligner_kafka_lag", &[], 20.0);
    // And it ends in doubt.
    reaches(&connector, ends, &["end=\"ambiguous\""], 1.0);
    held.release();
    story.oracle.settled(LIMIT);
    wait::until("nothing to be old any more", LIMIT, || {
        connector.metric("aligner_record_oldest_age_seconds", &[]) == Some(0.0)
    });
    assert!(connector.sigterm().success());
}

#[test]
fn a_quota_that_holds_the_producer_back_is_counted_and_told() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "quota", 1).with(|config| {
        config
            .set(&["kafka", "instance_id"], "0")
            .set(&["kafka", "transaction_timeout_ms"], 60_000)
    });
    let client_id = format!("{}-0", story.name);
    let mut connector = Connector::ready("quota", &story.config);
    let mut events = Events::new(events::seed("quota"), "quota");
    story.send(&mut events, 20);
    story.oracle.wait_done(20, LIMIT);
    let throttled = "aligner_kafka_throttle_time_seconds_total";
    let producer = ["client=\"producer\""];
    assert_eq!(connector.metric(throttled, &producer), Some(0.0));

    java::limit_writing(kafka, &client_id, Some(2_000));
    // Little by little: what is too much is held back until it is within the quota, however long that takes.
    let mut sent = 20;
    wait::until("the quota to be exceeded", LIMIT, || {
        if story.oracle.done() == sent {
            story.send(&mut events, 20);
            sent += 20;
        }
        let seconds = connector.metric(throttled, &producer);
        seconds.is_some_and(|seconds| seconds >= 0.1)
    });
    wait::until("the log to say so", LIMIT, || {
        let log = connector.log();
        let mut lines = log.lines();
        lines.any(|line| {
            line.contains("a quota of the brokers slows this client") && line.contains("producer")
        })
    });
    java::limit_writing(kafka, &client_id, None);
    story.oracle.settled(LIMIT);
    assert_eq!(
        connector.metric(throttled, &["client=\"consumer\""]),
        Some(0.0)
    );
    assert!(connector.sigterm().success());
}

#[test]
fn a_group_that_takes_no_more_members_is_an_alarm_until_it_does() {
    let kafka = Kafka::with(Options::default().quick().with("group.max.size", "1"));
    let story = Story::new(&kafka, "full", 2);
    let mut events = Events::new(events::seed("full"), "full");
    let mut first = Connector::ready("first", &story.config);
    story.send(&mut events, 20);
    story.oracle.wait_done(20, LIMIT);
    let mut second = Connector::start("second", &story.config);
    wait::until("the alarm", LIMIT, || {
        second
            .get("/readyz")
            .is_some_and(|answer| answer.status == 503 && answer.body.contains("group_unreachable"))
    });
    assert_eq!(second.metric("aligner_kafka_in_group", &[]), Some(0.0));
    reaches(&second, "aligner_kafka_brokers_up", &[], 1.0);
    reaches(&first, "aligner_kafka_in_group", &[], 1.0);
    let live = second.get("/livez").expect("the service listens");
    assert_eq!(live.status, 200, "a restart would not help: {}", live.body);

    assert!(first.sigterm().success());
    second.wait_ready();
    reaches(&second, "aligner_kafka_in_group", &[], 1.0);
    story.send(&mut events, 20);
    assert_eq!(story.oracle.settled(LIMIT).inputs, 40);
    assert!(second.sigterm().success());
}

#[test]
fn transactions_that_hang_over_outputs_or_answers_are_alarms_until_they_are_ended() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "hanging", 1).with(|config| {
        config
            .set(&["kafka", "transaction_timeout_ms"], 5_000)
            .property("socket.timeout.ms", "4000")
    });
    let (hangs, withheld) = (
        "aligner_kafka_hanging_partitions",
        "aligner_kafka_withheld_partitions",
    );
    let mut connector = Connector::ready("hanging", &story.config);
    let mut events = Events::new(events::seed("hanging"), "hanging");
    story.send(&mut events, 20);
    story.oracle.wait_done(20, LIMIT);

    // Everything is delivered from here on, and no committed reader sees it.
    let hanging = Hanging::over(kafka.settings(), &story.topics.corrections, 0);
    story.send(&mut events, 20);
    reaches(&connector, hangs, &[], 1.0);
    assert_eq!(story.oracle.done(), 20);
    wait::until("the log to say where", LIMIT, || {
        let log = connector.log();
        log.contains("a transaction hangs at this offset")
            && log.contains(&story.topics.corrections)
    });
    hanging.abort();
    wait::until("the alarm to end", LIMIT, || {
        connector.metric(hangs, &[]) == Some(0.0)
    });
    assert_eq!(story.oracle.settled(LIMIT).inputs, 40);

    // Nothing is delivered from here on, and by the lag there is nothing to deliver.
    let hanging = Hanging::over(kafka.settings(), &story.topics.answers, 0);
    story.send(&mut events, 20);
    let longer = LIMIT + Duration::from_secs(70);
    wait::until("withheld answers to be an alarm", longer, || {
        connector.metric(withheld, &[]) == Some(1.0)
    });
    assert_eq!(story.oracle.done(), 40);
    wait::until("the log to say where", LIMIT, || {
        let log = connector.log();
        log.contains("has not ended its transaction") && log.contains(&story.topics.answers)
    });
    hanging.abort();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 60);
    reaches(&connector, withheld, &[], 0.0);
    assert!(connector.sigterm().success());
}
