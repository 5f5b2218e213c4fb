//! Brokers that are not there.

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_broker_that_is_down_at_the_start_is_waited_for_and_named() {
    let kafka = Kafka::start();
    let story = Story::new(&kafka, "late-broker", 3);
    story.send(&mut Events::new(events::seed("late-broker"), "late"), 500);
    kafka.kill(1);
    let mut connector = Connector::start(&story.name, &story.config);
    wait::until(
        "the log to name the broker",
        Duration::from_secs(30),
        || {
            connector
                .log()
                .lines()
                .any(|line| line.contains("not reachable") && line.contains(kafka.bootstrap()))
        },
    );
    let ready = connector.get("/readyz").expect("the service listens");
    assert_eq!(ready.status, 503, "{}", ready.body);
    assert!(ready.body.contains("\"connecting\""), "{}", ready.body);
    assert_eq!(
        connector.metric("aligner_kafka_brokers_up", &[]),
        Some(0.0),
        "an alarm on no broker finds its figure before there ever was one"
    );
    let live = connector.get("/livez").expect("the service listens");
    assert_eq!(
        live.status, 200,
        "a restart would not bring the broker back: {}",
        live.body
    );
    kafka.restart(1);
    connector.wait_ready();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 500);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn a_broker_that_dies_in_the_middle_is_waited_for_and_nothing_is_lost_or_doubled() {
    let kafka = Kafka::start();
    let story = Story::new(&kafka, "broken-broker", 3);
    let mut connector = Connector::ready(&story.name, &story.config);
    thread::scope(|scope| {
        let feeding = scope.spawn(|| {
            let mut events = Events::new(events::seed("broken-broker"), "broken");
            story.feed(&mut events, 6_000, 1_000, &AtomicBool::new(false));
        });
        story.oracle.wait_done(1_500, LIMIT);
        kafka.kill(1);
        // Long enough that requests and the transaction in flight time out or fail.
        thread::sleep(Duration::from_secs(3));
        kafka.restart(1);
        story.oracle.wait_done(3_500, LIMIT);
        eprintln!("broken-broker: frozen for longer than a transaction may take");
        kafka.sigstop(1);
        thread::sleep(Duration::from_secs(12));
        kafka.sigcont(1);
        feeding.join().expect("feeding does not panic");
    });
    assert_eq!(story.oracle.settled(LIMIT).inputs, 6_000);
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}
