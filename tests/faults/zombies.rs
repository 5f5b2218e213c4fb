//! Processes that were thought dead and come back.

use std::{thread, time::Duration};

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    group::Group,
    kafka::Kafka,
    proxy::{ApiKey, Fault, Held, Proxy},
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_process_frozen_for_longer_than_session_and_transaction_writes_nothing_when_thawed() {
    let kafka = Kafka::shared();
    let mut story = Story::new(kafka, "zombie", 4);
    let mut events = Events::new(events::seed("zombie"), "zombie");
    story.config = story
        .config
        .clone()
        .set(&["kafka", "session_timeout_ms"], 3_000)
        .set(&["kafka", "heartbeat_interval_ms"], 800)
        .set(&["kafka", "transaction_timeout_ms"], 5_000)
        .property("socket.timeout.ms", "4000");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story
        .config
        .clone()
        .set(&["kafka", "bootstrap_servers"], proxy.bootstrap());
    let mut zombie = Connector::ready("zombie", &through);
    story.send(&mut events, 200);
    story.oracle.wait_done(200, LIMIT);

    // Frozen with a transaction open: its commit waits in the network.
    let held = proxy.on(ApiKey::EndTxn).commits().does(Fault::HoldRequest);
    story.send(&mut events, 200);
    held.wait_hit(LIMIT);
    zombie.sigstop();
    let mut heir = Connector::ready("heir", &story.config);
    story.oracle.wait_done(400, LIMIT);
    story.send(&mut events, 200);
    story.oracle.wait_done(600, LIMIT);
    zombie.sigcont();
    held.release();
    story.send(&mut events, 200);
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 800);
    // It is no outcast: once the heir leaves, it works again.
    assert!(heir.sigterm().success());
    story.send(&mut events, 200);
    assert_eq!(story.oracle.settled(LIMIT).inputs, 1_000);
    assert!(zombie.sigterm().success());
}

#[test]
fn a_process_cut_off_from_the_brokers_alone_writes_nothing_when_it_is_back() {
    let kafka = Kafka::shared();
    let mut story = Story::new(kafka, "cut-off", 4);
    let mut events = Events::new(events::seed("cut-off"), "cut-off");
    story.config = story
        .config
        .clone()
        .set(&["kafka", "session_timeout_ms"], 3_000)
        .set(&["kafka", "heartbeat_interval_ms"], 800)
        .set(&["kafka", "transaction_timeout_ms"], 5_000)
        .property("socket.timeout.ms", "4000");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story
        .config
        .clone()
        .set(&["kafka", "bootstrap_servers"], proxy.bootstrap());
    let mut island = Connector::ready("island", &through);
    let mut mainland = Connector::ready("mainland", &story.config);
    let group = Group::of(kafka, &story.name);
    group.wait_stable(2, LIMIT);
    story.send(&mut events, 400);
    story.oracle.wait_done(400, LIMIT);
    for hurt in [Proxy::freeze, Proxy::refuse] {
        hurt(&proxy);
        story.send(&mut events, 400);
        group.wait_stable(1, LIMIT);
        // All of them, the island's partitions too.
        story.oracle.settled(LIMIT);
        proxy.heal();
        group.wait_stable(2, LIMIT);
        story.send(&mut events, 400);
        story.oracle.settled(LIMIT);
    }
    assert!(island.sigterm().success());
    assert!(mainland.sigterm().success());
}

#[test]
fn a_frozen_broker_outlasting_the_transaction_leads_to_no_outputs_without_offsets() {
    // The broker takes the outputs, then freezes while offsets are sent: a commit after that
    // would write outputs without offsets once the broker thaws.
    let kafka = Kafka::start();
    let mut story = Story::new(&kafka, "frozen-broker", 2);
    story.config = story
        .config
        .clone()
        .set(&["kafka", "transaction_timeout_ms"], 5_000)
        .property("socket.timeout.ms", "4000");
    let mut events = Events::new(events::seed("frozen-broker"), "frozen");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story
        .config
        .clone()
        .set(&["kafka", "bootstrap_servers"], proxy.bootstrap());
    let mut connector = Connector::ready("frozen-broker", &through);
    story.send(&mut events, 100);
    story.oracle.wait_done(100, LIMIT);
    for api in [
        ApiKey::AddOffsetsToTxn,
        ApiKey::TxnOffsetCommit,
        ApiKey::EndTxn,
    ] {
        let met = proxy
            .on(api)
            .does(Fault::LateRequest(Duration::from_millis(1)));
        story.send(&mut events, 100);
        met.wait_hit(LIMIT);
        kafka.sigstop(1);
        thread::sleep(Duration::from_secs(12));
        kafka.sigcont(1);
        wait::until("the events around the freeze", LIMIT, || {
            story.oracle.assert_clean();
            story.oracle.missing() == 0
        });
    }
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 400);
    assert!(connector.sigterm().success());
}

/// Kills the only broker while a request of a transaction is held, which it never gets, and starts it
/// again after so many seconds. Returns once all that was sent is done.
fn crash_under(held: &Held, kafka: &Kafka, story: &Story, events: &mut Events, away_s: u64) {
    story.send(events, 200);
    held.wait_hit(LIMIT);
    kafka.kill(1);
    thread::sleep(Duration::from_secs(away_s));
    held.release();
    kafka.restart(1);
    wait::until("the events around the crash", LIMIT, || {
        story.oracle.assert_clean();
        story.oracle.missing() == 0
    });
}

#[test]
fn a_broker_killed_under_an_open_transaction_aborts_it_in_every_partition() {
    // Whatever the broker forgets: it looks for transactions that are too old as soon as it is
    // back, when some partitions have no leader yet, and calls them aborted without a marker
    // there. The next commit must not commit what lies in those.
    let kafka = Kafka::start();
    let mut story = Story::new(&kafka, "crashed-broker", 12);
    story.config = story
        .config
        .clone()
        .set(&["kafka", "transaction_timeout_ms"], 3_000)
        .property("socket.timeout.ms", "2500");
    let mut events = Events::new(events::seed("crashed-broker"), "crashed");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story
        .config
        .clone()
        .set(&["kafka", "bootstrap_servers"], proxy.bootstrap());
    let mut connector = Connector::ready("crashed-broker", &through);
    story.send(&mut events, 200);
    story.oracle.wait_done(200, LIMIT);
    for round in 1..=4 {
        // Outputs are there, their offsets are not.
        let held = proxy.on(ApiKey::TxnOffsetCommit).does(Fault::HoldRequest);
        // The transaction is too old when the broker comes back.
        crash_under(&held, &kafka, &story, &mut events, 4);
        eprintln!(
            "crashed-broker: round {round}: {} done",
            story.oracle.done()
        );
    }
    assert_eq!(story.oracle.settled(LIMIT).inputs, 1_000);
    assert!(connector.sigterm().success());
}

#[test]
fn a_commit_that_is_lost_with_its_broker_is_settled_though_nobody_tells_of_its_offsets() {
    // The commit never reaches the broker. When that is back, it forgets in some partitions that it has
    // aborted, most likely in that of the offsets, too. Where it was away for longer than the session,
    // the partitions begin anew meanwhile, and what it forgot must not be committed with them.
    let kafka = Kafka::start();
    let mut story = Story::new(&kafka, "lost-commit", 12);
    story.config = story
        .config
        .clone()
        .set(&["kafka", "session_timeout_ms"], 3_000)
        .set(&["kafka", "heartbeat_interval_ms"], 800)
        .set(&["kafka", "transaction_timeout_ms"], 5_000)
        .property("socket.timeout.ms", "2500");
    let mut events = Events::new(events::seed("lost-commit"), "lost");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story
        .config
        .clone()
        .set(&["kafka", "bootstrap_servers"], proxy.bootstrap());
    let mut connector = Connector::ready("lost-commit", &through);
    story.send(&mut events, 200);
    story.oracle.wait_done(200, LIMIT);
    for (round, away_s) in (1..).zip([1, 9, 1, 9]) {
        let held = proxy.on(ApiKey::EndTxn).commits().does(Fault::HoldRequest);
        crash_under(&held, &kafka, &story, &mut events, away_s);
        eprintln!("lost-commit: round {round}: {} done", story.oracle.done());
    }
    assert_eq!(story.oracle.settled(LIMIT).inputs, 1_000);
    assert!(connector.sigterm().success());
}

#[test]
fn offsets_under_an_open_transaction_are_waited_for_while_the_group_changes() {
    // A client that takes "not stable yet" for "none" reads partitions again from their beginning.
    let kafka = Kafka::shared();
    let mut story = Story::new(kafka, "unstable", 4);
    let mut events = Events::new(events::seed("unstable"), "unstable");
    story.config = story
        .config
        .clone()
        .set(&["kafka", "session_timeout_ms"], 3_000)
        .set(&["kafka", "heartbeat_interval_ms"], 800)
        .set(&["kafka", "transaction_timeout_ms"], 20_000);
    let through = |proxy: &Proxy| {
        story
            .config
            .clone()
            .set(&["kafka", "bootstrap_servers"], proxy.bootstrap())
    };
    let (before_victim, before_heir) = (
        Proxy::before(&kafka.addresses()),
        Proxy::before(&kafka.addresses()),
    );
    let mut victim = Connector::ready("victim", &through(&before_victim));
    let mut heir = Connector::ready("heir", &through(&before_heir));
    let group = Group::of(kafka, &story.name);
    group.wait_stable(2, LIMIT);
    story.send(&mut events, 400);
    story.oracle.wait_done(400, LIMIT);

    // Outputs and offsets are there, and nobody has decided on them.
    let commit = before_victim
        .on(ApiKey::EndTxn)
        .commits()
        .does(Fault::HoldRequest);
    story.send(&mut events, 200);
    commit.wait_hit(LIMIT);
    // Nor may the heir decide for now.
    let claim = before_heir
        .on(ApiKey::InitProducerId)
        .does(Fault::HoldRequest);
    let asked = before_heir.count(ApiKey::OffsetFetch);
    victim.kill9();
    wait::until("the heir to ask where to begin", LIMIT, || {
        before_heir.count(ApiKey::OffsetFetch) > asked
    });
    let mut third = Connector::start("third", &story.config);
    wait::until("the group to change again", LIMIT, || {
        group.look().is_some_and(|look| look.state != "Stable")
    });
    thread::sleep(Duration::from_secs(2));
    claim.release();
    third.wait_ready();
    story.send(&mut events, 200);
    assert_eq!(story.oracle.settled(LIMIT).inputs, 800);
    assert!(heir.sigterm().success());
    assert!(third.sigterm().success());
}
