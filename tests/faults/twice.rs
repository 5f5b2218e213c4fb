//! Requests that a client sends twice by itself, because nobody answered, and whose first copy arrives when
//! the next transaction is open already.

use std::time::Duration;

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    proxy::{ApiKey, Fault, Proxy},
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: usize = 40;
/// ILLEGAL_GENERATION: these offsets are not taken, and the transaction must be aborted.
const NOT_THIS_GENERATION: i16 = 22;

/// A connector behind a proxy that has delivered some events, whose requests are sent again after 2.5 s.
fn begun<'a>(kafka: &'a Kafka, name: &str) -> (Story<'a>, Events, Proxy, Connector) {
    let story = Story::new(kafka, name, 2).with(|config| {
        config
            .set(&["kafka", "transaction_timeout_ms"], 8_000)
            .property("socket.timeout.ms", "2500")
    });
    let mut events = Events::new(events::seed(name), name);
    let proxy = Proxy::before(&kafka.addresses());
    let connector = Connector::ready(name, &story.config.clone().through(&proxy));
    story.send(&mut events, EVENTS);
    story.oracle.wait_done(EVENTS, LIMIT);
    (story, events, proxy, connector)
}

#[test]
fn a_producer_whose_requests_are_answered_soon_is_kept() {
    let kafka = Kafka::shared();
    let (story, mut events, proxy, mut connector) = begun(kafka, "kept");
    for round in 2..=10 {
        story.send(&mut events, EVENTS);
        story.oracle.wait_done(round * EVENTS, LIMIT);
    }
    let replaced = connector.metric("aligner_kafka_spent_producers_total", &[]);
    // On a machine that is slow enough, some are replaced, and each of those is told of.
    let claims = 1.0 + replaced.unwrap_or(0.0);
    assert_eq!(proxy.count(ApiKey::InitProducerId), claims as u64);
    assert!(proxy.count(ApiKey::EndTxn) >= 10);
    assert!(connector.sigterm().success());
}

#[test]
fn a_producer_knows_the_groups_coordinator_before_its_first_transaction() {
    // It would have to find it within the time in which nothing is sent twice.
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "met", 2);
    let mut events = Events::new(events::seed("met"), "met");
    let proxy = Proxy::before(&kafka.addresses());
    let mut connector = Connector::ready("met", &story.config.clone().through(&proxy));
    // The consumer has found it by then, and clients that only watch the group may wait.
    wait::until("the consumer to join its group", LIMIT, || {
        proxy.count(ApiKey::JoinGroup) > 0
    });
    let whereabouts = proxy
        .on(ApiKey::FindCoordinator)
        .groups()
        .times(u64::MAX)
        .does(Fault::HoldRequest);
    story.send(&mut events, EVENTS);
    // No more than that: where brokers are slow, a new producer follows, and looks for it as well.
    story.oracle.wait_done(1, LIMIT / 2);
    whereabouts.release();
    story.oracle.wait_done(EVENTS, LIMIT);
    assert!(connector.sigterm().success());
}

#[test]
fn a_commit_that_was_sent_twice_commits_no_part_of_the_next_transaction() {
    let kafka = Kafka::shared();
    let (story, mut events, proxy, mut connector) = begun(kafka, "commit-twice");
    let first = proxy.on(ApiKey::EndTxn).commits().does(Fault::HoldRequest);
    story.send(&mut events, EVENTS);
    first.wait_hit(LIMIT);
    // By the second copy.
    story.oracle.wait_done(2 * EVENTS, LIMIT);

    // Some outputs are written, others are not, as the first copy arrives.
    let others = proxy.on(ApiKey::Produce).after(1).does(Fault::HoldRequest);
    story.send(&mut events, EVENTS);
    others.wait_hit(LIMIT);
    first.release();
    first.wait_applied(LIMIT);
    others.release();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 3 * EVENTS);
    let replaced = connector.metric("aligner_kafka_spent_producers_total", &[]);
    assert!(replaced >= Some(1.0), "{replaced:?}");
    assert!(connector.sigterm().success());
}

#[test]
fn an_abort_that_was_sent_twice_takes_away_no_outputs_of_a_later_transaction() {
    let kafka = Kafka::shared();
    let (story, mut events, proxy, mut connector) = begun(kafka, "abort-twice");
    let refused = proxy
        .on(ApiKey::TxnOffsetCommit)
        .does(Fault::Refuse(NOT_THIS_GENERATION));
    let first = proxy.on(ApiKey::EndTxn).does(Fault::HoldRequest);
    story.send(&mut events, EVENTS);
    refused.wait_hit(LIMIT);
    first.wait_hit(LIMIT);

    // On a broker without replicas what was aborted is aborted again before anything else; behind that,
    // all outputs are written, and their offsets are not, as the first copy arrives.
    let offsets = proxy
        .on(ApiKey::AddOffsetsToTxn)
        .after(1)
        .does(Fault::HoldRequest);
    offsets.wait_hit(LIMIT);
    first.release();
    first.wait_applied(LIMIT);
    offsets.release();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 2 * EVENTS);
    assert!(connector.sigterm().success());
}

#[test]
fn offsets_that_were_sent_twice_move_no_later_ones_back() {
    let kafka = Kafka::shared();
    let (story, mut events, proxy, mut connector) = begun(kafka, "offsets-twice");
    let first = proxy.on(ApiKey::TxnOffsetCommit).does(Fault::HoldRequest);
    story.send(&mut events, EVENTS);
    first.wait_hit(LIMIT);
    // By the second copy.
    story.oracle.wait_done(2 * EVENTS, LIMIT);

    // Later offsets are part of a transaction as the first copy arrives.
    let commit = proxy.on(ApiKey::EndTxn).commits().does(Fault::HoldRequest);
    story.send(&mut events, EVENTS);
    commit.wait_hit(LIMIT);
    first.release();
    first.wait_applied(LIMIT);
    // Nobody is left to commit later ones again.
    connector.kill9();
    commit.release();
    commit.wait_applied(LIMIT);
    connector.restart();
    assert_eq!(story.oracle.settled(LIMIT).inputs, 3 * EVENTS);
    assert!(connector.sigterm().success());
}
