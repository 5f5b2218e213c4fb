//! Processes that were thought dead and come back.

use std::{thread, time::Duration};

use aligner_tests::{
    connector::{Config, Connector},
    events::{self, Events},
    group::Group,
    kafka::Kafka,
    proxy::{ApiKey, Fault, Held, Proxy},
    story::Story,
    wait,
};

const LIMIT: Duration = Duration::from_secs(90);

/// A member that is not heard of is given up after three seconds.
fn soon_missed(config: Config) -> Config {
    config
        .set(&["kafka", "session_timeout_ms"], 3_000)
        .set(&["kafka", "heartbeat_interval_ms"], 800)
}

#[test]
fn a_process_frozen_for_longer_than_session_and_transaction_writes_nothing_when_thawed() {
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "zombie", 4).with(|config| {
        soon_missed(config)
            .set(&["kafka", "transaction_timeout_ms"], 5_000)
            .property("socket.timeout.ms", "4000")
    });
    let mut events = Events::new(events::seed("zombie"), "zombie");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story.config.clone().through(&proxy);
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
    let story = Story::new(kafka, "cut-off", 4).with(|config| {
        soon_missed(config)
            .set(&["kafka", "transaction_timeout_ms"], 5_000)
            .property("socket.timeout.ms", "4000")
    });
    let mut events = Events::new(events::seed("cut-off"), "cut-off");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story.config.clone().through(&proxy);
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
    let story = Story::new(&kafka, "frozen-broker", 2).with(|config| {
        config
            .set(&["kafka", "transaction_timeout_ms"], 5_000)
            .property("socket.timeout.ms", "4000")
    });
    let mut events = Events::new(events::seed("frozen-broker"), "frozen");
    let proxy = Proxy::before(&kafka.addresses());
    let through = story.config.clone().through(&proxy);
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
        story.oracle.wait_all_done(LIMIT);
    }
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 400);
    assert!(connector.sigterm().success());
}

/// Kills the only broker again and again while a request of a transaction is held, which it never
/// gets, and starts it again after so many seconds.
fn killed_under(
    name: &str,
    change: impl FnOnce(Config) -> Config,
    hold: impl Fn(&Proxy) -> Held,
    seconds_away: [u64; 4],
) {
    let kafka = Kafka::start();
    let story = Story::new(&kafka, name, 12)
        .with(|config| change(config).property("socket.timeout.ms", "2500"));
    let mut events = Events::new(events::seed(name), name);
    let proxy = Proxy::before(&kafka.addresses());
    let mut connector = Connector::ready(name, &story.config.clone().through(&proxy));
    story.send(&mut events, 200);
    story.oracle.wait_done(200, LIMIT);
    for (round, away) in (1..).zip(seconds_away) {
        let held = hold(&proxy);
        story.send(&mut events, 200);
        held.wait_hit(LIMIT);
        kafka.kill(1);
        thread::sleep(Duration::from_secs(away));
        held.release();
        kafka.restart(1);
        story.oracle.wait_all_done(LIMIT);
        eprintln!("{name}: round {round}: {} done", story.oracle.done());
    }
    assert_eq!(story.oracle.settled(LIMIT).inputs, 1_000);
    assert!(connector.sigterm().success());
}

#[test]
fn a_broker_killed_under_an_open_transaction_aborts_it_in_every_partition() {
    // Whatever the broker forgets: it looks for transactions that are too old as soon as it is
    // back, when some partitions have no leader yet, and calls them aborted without a marker
    // there. The next commit must not commit what lies in those.
    killed_under(
        "crashed-broker",
        // Too old when the broker comes back.
        |config| config.set(&["kafka", "transaction_timeout_ms"], 3_000),
        // Outputs are there, their offsets are not.
        |proxy| proxy.on(ApiKey::TxnOffsetCommit).does(Fault::HoldRequest),
        [4, 4, 4, 4],
    );
}

#[test]
fn a_commit_that_is_lost_with_its_broker_is_settled_though_nobody_tells_of_its_offsets() {
    // The commit never reaches the broker. When that is back, it forgets in some partitions that it has
    // aborted, most likely in that of the offsets, too. Where it was away for longer than the session,
    // the partitions begin anew meanwhile, and what it forgot must not be committed with them.
    killed_under(
        "lost-commit",
        |config| soon_missed(config).set(&["kafka", "transaction_timeout_ms"], 5_000),
        |proxy| proxy.on(ApiKey::EndTxn).commits().does(Fault::HoldRequest),
        [1, 9, 1, 9],
    );
}

#[test]
fn offsets_under_an_open_transaction_are_waited_for_while_the_group_changes() {
    // A client that takes "not stable yet" for "none" reads partitions again from their beginning.
    let kafka = Kafka::shared();
    let story = Story::new(kafka, "unstable", 4)
        .with(|config| soon_missed(config).set(&["kafka", "transaction_timeout_ms"], 20_000));
    let mut events = Events::new(events::seed("unstable"), "unstable");
    let before = || Proxy::before(&kafka.addresses());
    let (before_victim, before_heir) = (before(), before());
    let through = |proxy| story.config.clone().through(proxy);
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
