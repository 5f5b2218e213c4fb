//! Three brokers, one cluster for all stories: bounced, and robbed of coordinators and leaders.

use std::{
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use aligner_tests::{
    client,
    connector::Connector,
    events::{self, Events},
    kafka::{Kafka, Options},
    proxy::{ApiKey, Fault, Proxy},
    story::{Story, meanwhile},
    wait,
};

/// Generous, because three brokers and a connector share what cores there are.
const LIMIT: Duration = Duration::from_secs(180);
/// Longer than a broker's session with its controller.
const FREEZE: Duration = Duration::from_secs(10);
/// Events per second; a cluster on one machine takes some hundred milliseconds a transaction.
const PER_SECOND: usize = 100;

/// The cluster, for one test at a time. Leaders that had to move go back as soon as they can, so
/// that every restart is also a move of leaders between brokers that are all there.
fn cluster() -> MutexGuard<'static, Kafka> {
    static CLUSTER: OnceLock<Mutex<Kafka>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            let options = Options {
                nodes: 3,
                ..Options::default()
            };
            Mutex::new(Kafka::with(
                options
                    .quick()
                    .with("leader.imbalance.check.interval.seconds", "1")
                    .with("leader.imbalance.per.broker.percentage", "0"),
            ))
        })
        .lock()
        // A story that failed may have left brokers dead; the next one says so by its own failure.
        .unwrap_or_else(PoisonError::into_inner)
}

/// Tells a story while events come in, and wants every one of them exactly once at its end.
fn under_load(story: &Story<'_>, tell: impl FnOnce(&dyn Fn())) {
    let mut events = Events::new(events::seed(&story.name), "event");
    meanwhile(
        |enough| story.feed(&mut events, 100_000, PER_SECOND, enough),
        || {
            tell(&|| {
                story
                    .oracle
                    .wait_done(story.oracle.done() + PER_SECOND, LIMIT);
            });
        },
    );
    let summary = story.oracle.settled(LIMIT);
    eprintln!("{}: {summary:?}", story.name);
}

/// Brokers go one after another, and each comes back before the next one goes.
fn one_after_another(name: &str, go: impl Fn(&Kafka, usize)) {
    let kafka = cluster();
    let story = Story::new(&kafka, name, 3);
    let mut connector = Connector::ready(&story.name, &story.config);
    under_load(&story, |some_more| {
        some_more();
        for broker in 1..=3 {
            eprintln!("{name}: broker {broker} goes");
            go(&kafka, broker);
            some_more();
            kafka.restart(broker);
            some_more();
        }
    });
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn three_brokers_killed_one_after_another_lose_and_double_nothing() {
    one_after_another("hard-bounce", Kafka::kill);
}

#[test]
fn three_brokers_stopped_one_after_another_lose_and_double_nothing() {
    one_after_another("rolling-bounce", Kafka::stop);
}

#[test]
fn three_brokers_frozen_at_once_for_longer_than_their_sessions_lose_and_double_nothing() {
    let kafka = cluster();
    let story = Story::new(&kafka, "frozen-cluster", 3);
    let mut connector = Connector::ready(&story.name, &story.config);
    under_load(&story, |some_more| {
        some_more();
        for _ in 0..2 {
            (1..=3).for_each(|broker| kafka.sigstop(broker));
            thread::sleep(FREEZE);
            (1..=3).for_each(|broker| kafka.sigcont(broker));
            some_more();
        }
    });
    assert!(connector.sigterm().success());
}

#[test]
fn the_coordinators_of_transactions_and_of_the_group_are_killed_and_replaced() {
    let kafka = cluster();
    let story = Story::new(&kafka, "coordinators", 3).with(|config| config.instance("0"));
    let transactional_id = format!("{}-0", story.name);
    let group = format!("connect-{}", story.name);
    let mut connector = Connector::ready(&story.name, &story.config);
    let consumer = client::silent_consumer(kafka.settings());
    under_load(&story, |some_more| {
        some_more();
        for (what, topic, key) in [
            ("transactions", "__transaction_state", &transactional_id),
            ("the group", "__consumer_offsets", &group),
        ] {
            let coordinator = wait::for_value(&format!("the coordinator of {what}"), LIMIT, || {
                client::coordinator(&consumer, topic, key)
            });
            eprintln!("coordinators: kill -9 of broker {coordinator}, which coordinates {what}");
            kafka.kill(coordinator);
            some_more();
            let next = client::coordinator(&consumer, topic, key);
            assert_ne!(next, Some(coordinator), "another broker coordinates {what}");
            kafka.restart(coordinator);
            some_more();
        }
    });
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}

#[test]
fn a_leader_that_moves_while_outputs_are_on_their_way_to_it_costs_nothing() {
    let kafka = cluster();
    let story = Story::new(&kafka, "leader", 1);
    let proxy = Proxy::before(&kafka.addresses());
    let config = story.config.clone().through(&proxy);
    let mut connector = Connector::ready(&story.name, &config);
    let consumer = client::silent_consumer(kafka.settings());
    let leader = || {
        client::leaders(&consumer, &story.topics.corrections)
            .and_then(|leaders| usize::try_from(leaders[0]).ok())
    };
    let first = wait::for_value("a leader", LIMIT, leader);
    under_load(&story, |some_more| {
        some_more();
        let held = proxy.on(ApiKey::Produce).does(Fault::HoldRequest);
        held.wait_hit(LIMIT);
        eprintln!("leader: broker {first} leads, and hands over while outputs wait");
        kafka.stop(first);
        let second = wait::for_value("another leader", LIMIT, || {
            leader().filter(|&now| now != first)
        });
        held.release();
        some_more();
        eprintln!("leader: broker {second} leads now; the first one comes back and takes over");
        kafka.restart(first);
        wait::until("the first leader to lead again", LIMIT, || {
            leader() == Some(first)
        });
        some_more();
    });
    assert!(connector.sigterm().success());
    connector.assert_log_is_clean();
}
