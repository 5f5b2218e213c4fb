//! A login by access tokens of an identity provider, which end again and again.

use std::{sync::OnceLock, time::Duration};

use aligner_tests::{
    connector::{Config, Connector, Topics},
    events::{self, Events},
    issuer::{LIFE_SECONDS, TokenKafka},
    story::{Story, meanwhile},
    wait,
};

use crate::{NAMED_WITHIN, refused};

/// Every client's, so that a look for it finds it anywhere.
const SECRET: &str = "issuer-secret-canary";
/// How any of the issuer's tokens begins.
const TOKEN: &str = "eyJ";
/// A token's life, and what a busy machine adds.
const LIFE: Duration = Duration::from_secs(LIFE_SECONDS);
const PATIENCE: Duration = Duration::from_secs(60);

fn broker() -> &'static TokenKafka {
    static BROKER: OnceLock<TokenKafka> = OnceLock::new();
    BROKER.get_or_init(TokenKafka::start)
}

/// A story whose connector logs in by tokens, as a client of the story's name.
fn story(name: &str) -> Story<'static> {
    let broker = broker();
    let mut story = Story::new(&broker.kafka, name, 3);
    broker.issuer.knows(&story.name, SECRET);
    story.config = broker.login(story.config.clone(), &story.name, SECRET);
    story
}

fn assert_no_secret(connector: &Connector) {
    let logs = connector.logs();
    for secret in [SECRET, TOKEN] {
        assert!(!logs.contains(secret), "{secret} is in\n{logs}");
    }
}

#[test]
fn records_flow_past_the_lives_of_several_tokens_each_fetched_once_for_all_clients() {
    let story = story("tokens");
    let issuer = &broker().issuer;
    let mut events = Events::new(events::seed("tokens"), "tokens");
    let mut connector = Connector::ready(&story.name, &story.config);
    // Consumer, producer and those who look at the group and at ends had theirs by then.
    let at_first = issuer.issued(&story.name);
    assert!(at_first <= 3, "{at_first} tokens for one start");
    meanwhile(
        |enough| story.feed(&mut events, 100_000, 100, enough),
        || {
            wait::until("three more tokens", 4 * LIFE + PATIENCE, || {
                issuer.issued(&story.name) >= at_first + 3
            });
        },
    );
    let settled = story.oracle.settled(PATIENCE);
    assert!(settled.inputs > 0);
    assert_eq!(issuer.asked(&story.name), issuer.issued(&story.name));
    assert!(connector.sigterm().success());
    assert_no_secret(&connector);
}

#[test]
fn a_token_endpoint_that_is_down_past_the_end_of_the_last_token_costs_nothing_but_time() {
    let story = story("issuer-away");
    let issuer = &broker().issuer;
    let mut events = Events::new(events::seed("issuer-away"), "issuer-away");
    story.send(&mut events, 100);
    let mut connector = Connector::ready(&story.name, &story.config);
    story.oracle.wait_done(100, PATIENCE);

    issuer.fails(&story.name, 503);
    wait::until("a word about it", PATIENCE, || {
        let log = connector.log();
        log.lines()
            .any(|line| line.contains("no further access token") && line.contains("503"))
    });
    story.send(&mut events, 100);
    wait::until("the brokers to let nobody in any more", PATIENCE, || {
        let answer = connector.get("/readyz");
        answer
            .is_some_and(|answer| answer.status == 503 && answer.body.contains("kafka_unreachable"))
    });
    // A session is long over when it has asked twice more: it does not end over that.
    let asked = issuer.asked(&story.name);
    wait::until("it to go on asking", PATIENCE, || {
        issuer.asked(&story.name) >= asked + 2
    });
    story.send(&mut events, 100);
    assert!(connector.exited().is_none(), "it waits");

    issuer.recovers(&story.name);
    connector.wait_ready();
    assert_eq!(story.oracle.settled(PATIENCE).inputs, 300);
    assert!(connector.sigterm().success());
    assert_no_secret(&connector);
}

#[test]
fn a_token_endpoint_that_is_down_at_the_start_is_named_and_waited_for() {
    let broker = broker();
    let topics = Topics::named("issuer-late");
    let name = topics.answers.clone();
    broker.kafka.create_topic(&topics.answers, 3);
    broker.issuer.knows(&name, SECRET);
    broker.issuer.fails(&name, 503);
    // Topics are made by a client that nobody polls.
    let config =
        Config::new(&name, broker.kafka.bootstrap(), &topics).set(&["topics", "create"], true);
    let config = broker.login(config, &name, SECRET);
    let mut connector = Connector::start(&name, &config);
    wait::until("the log to name the endpoint", NAMED_WITHIN, || {
        connector.log().lines().any(|line| {
            line.contains("waiting for one")
                && line.contains(&broker.issuer.url())
                && line.contains("it answers 503")
        })
    });
    assert!(connector.exited().is_none(), "it waits");
    broker.issuer.recovers(&name);
    connector.wait_ready();
    let oracle = aligner_tests::oracle::Oracle::watch(&broker.kafka, &topics, &name);
    let mut events = Events::new(1, "issuer-late");
    oracle.send((0..50).map(|_| events.next_json()));
    assert_eq!(oracle.settled(PATIENCE).inputs, 50);
    assert!(connector.sigterm().success());
    assert_no_secret(&connector);
}

#[test]
fn a_wrong_secret_is_named_with_the_endpoint_and_the_setting_and_not_repeated() {
    let story = story("wrong-secret");
    let wrong = "canary-of-a-wrong-secret";
    let config = broker().login(story.config.clone(), &story.name, wrong);
    let cause = refused("wrong-secret", &config);
    let url = broker().issuer.url();
    for named in [
        &*url,
        "401",
        "invalid_client",
        "sasl.oauthbearer.client.secret",
    ] {
        assert!(cause.contains(named), "{named}: {cause}");
    }
    assert!(!cause.contains(wrong), "{cause}");
}

#[test]
fn a_token_that_is_meant_for_another_cluster_is_named() {
    let story = story("other-audience");
    broker().issuer.issues_for(&story.name, "another-cluster");
    let cause = refused("other-audience", &story.config);
    assert!(cause.contains("refuses the access token"), "{cause}");
    assert!(cause.contains("audience"), "{cause}");
    assert!(!cause.contains(TOKEN), "{cause}");
}

#[test]
fn a_secret_that_was_changed_ends_the_process_once_the_last_token_has_ended() {
    let story = story("changed-secret");
    let issuer = &broker().issuer;
    story.send(&mut Events::new(events::seed("changed"), "changed"), 100);
    let mut connector = Connector::ready(&story.name, &story.config);
    assert_eq!(story.oracle.settled(PATIENCE).inputs, 100);
    issuer.knows(&story.name, "another-secret");
    connector.allow_error("no further access token");
    connector.allow_error("no access token is left");
    let status = connector.wait_exit(Duration::from_secs(90));
    let log = connector.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let cause = log.lines().find(|line| line.contains("cannot go on"));
    let cause = cause.unwrap_or_else(|| panic!("no line says why:\n{log}"));
    assert!(cause.contains("invalid_client"), "{cause}");
    assert!(cause.contains("start again"), "{cause}");
    // Whoever starts it again with the new one goes on where it was.
    let config = broker().login(story.config.clone(), &story.name, "another-secret");
    let mut again = Connector::ready(&story.name, &config);
    assert!(again.sigterm().success());
}
