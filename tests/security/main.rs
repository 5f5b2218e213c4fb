//! A secured broker: work with the right credentials, and a cause by name with wrong ones.
//!
//! Everything that a person can mistake at the start must be named within 30 seconds of it.

mod tokens;

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use aligner_tests::{
    command::{self, Done},
    connector::{Config, Connector, Topics},
    events::{self, Events},
    kafka::{Kafka, free_port},
    secure::{ADMIN, ALICE, SecureKafka, User},
    story::Story,
    wait,
};

/// Within this time a wrong start is named.
const NAMED_WITHIN: Duration = Duration::from_secs(30);

fn broker() -> &'static SecureKafka {
    static BROKER: OnceLock<SecureKafka> = OnceLock::new();
    BROKER.get_or_init(SecureKafka::start)
}

/// Starts a connector that must end with code 1, and gives the line that says why.
fn refused(name: &str, config: &Config) -> String {
    let mut connector = Connector::start(name, config);
    connector.allow_error("cannot go on");
    let started = Instant::now();
    let status = connector.wait_exit(NAMED_WITHIN);
    let log = connector.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let cause = log
        .lines()
        .find(|line| line.contains("cannot go on"))
        .unwrap_or_else(|| panic!("no line says why:\n{log}"))
        .to_owned();
    eprintln!("{name}: {:?}: {cause}", started.elapsed());
    connector.assert_log_is_clean();
    cause
}

#[test]
fn with_scram_over_tls_records_flow_and_no_secret_is_logged() {
    let broker = broker();
    let story =
        Story::new(&broker.kafka, "secured", 3).with(|config| broker.credentials(config, ADMIN));
    story.send(&mut Events::new(events::seed("secured"), "secured"), 1_000);
    let mut connector = Connector::ready(&story.name, &story.config);
    assert_eq!(story.oracle.settled(Duration::from_secs(60)).inputs, 1_000);
    assert!(connector.sigterm().success());
    assert!(!connector.logs().contains(ADMIN.password));
}

#[test]
fn a_password_may_come_from_a_file() {
    let broker = broker();
    let file = broker
        .folder()
        .file("password", format!("{}\n", ADMIN.password));
    let story = Story::new(&broker.kafka, "password-file", 1).with(|config| {
        broker
            .credentials(config, ADMIN)
            .remove(&["kafka", "properties", "sasl.password"])
            .set(
                &["kafka", "property_files", "sasl.password"],
                file.display().to_string(),
            )
    });
    story.send(&mut Events::new(1, "password-file"), 10);
    let _connector = Connector::ready(&story.name, &story.config);
    assert_eq!(story.oracle.settled(Duration::from_secs(60)).inputs, 10);
}

#[test]
fn a_wrong_password_is_named() {
    let broker = broker();
    let topics = Topics::create(&broker.kafka, "wrong-password", 1);
    let config = Config::new(&topics.answers, broker.kafka.bootstrap(), &topics);
    let wrong = User {
        password: "not-the-password",
        ..ADMIN
    };
    let cause = refused("wrong-password", &broker.credentials(config, wrong));
    assert!(cause.contains("refuses the login"), "{cause}");
    assert!(cause.contains("sasl.password"), "{cause}");
    assert!(!cause.contains(wrong.password), "{cause}");
}

#[test]
fn a_password_that_was_changed_ends_the_process_so_that_the_new_one_is_read() {
    // Its own: connections have to log in again now and then, which a restart of brokers does, too.
    let broker = SecureKafka::with(&[("connections.max.reauth.ms", "3000")]);
    let story =
        Story::new(&broker.kafka, "rotated", 1).with(|config| broker.credentials(config, ADMIN));
    story.send(&mut Events::new(events::seed("rotated"), "rotated"), 100);
    let mut connector = Connector::ready(&story.name, &story.config);
    assert_eq!(story.oracle.settled(Duration::from_secs(60)).inputs, 100);
    broker.change_password(ADMIN, "another-secret");
    connector.allow_error("no broker lets this client in any more");
    let status = connector.wait_exit(Duration::from_secs(90));
    let log = connector.log();
    assert_eq!(status.code(), Some(1), "{log}");
    let cause = log
        .lines()
        .find(|line| line.contains("no broker lets this client in any more"))
        .unwrap_or_else(|| panic!("no line says why:\n{log}"));
    assert!(cause.contains("Authentication failed"), "{cause}");
    assert!(cause.contains("put the right ones in place"), "{cause}");
    // Whoever starts it again with the new one goes on where it was.
    let rotated = User {
        password: "another-secret",
        ..ADMIN
    };
    let config = broker.credentials(story.config.clone(), rotated);
    let mut again = Connector::ready(&story.name, &config);
    assert!(again.sigterm().success());
}

#[test]
fn an_untrusted_certificate_is_named() {
    let broker = broker();
    let topics = Topics::create(&broker.kafka, "untrusted", 1);
    let other = broker.folder().path().join("broker.pem");
    let config = Config::new(&topics.answers, broker.kafka.bootstrap(), &topics);
    let config = broker
        .credentials(config, ADMIN)
        .property("ssl.ca.location", &other.display().to_string());
    let cause = refused("untrusted", &config);
    assert!(cause.contains("TLS"), "{cause}");
    assert!(cause.contains("ssl.ca.location"), "{cause}");
}

#[test]
fn a_missing_permission_is_named() {
    let broker = broker();
    let topics = Topics::create(&broker.kafka, "forbidden", 1);
    let config = Config::new(&topics.answers, broker.kafka.bootstrap(), &topics);
    let cause = refused("forbidden", &broker.credentials(config, ALICE));
    assert!(cause.contains("does not permit"), "{cause}");
    assert!(cause.contains(&topics.answers), "{cause}");
}

#[test]
fn with_the_documented_permissions_records_flow_until_one_is_taken_away_and_is_named() {
    let broker = broker();
    let story =
        Story::new(&broker.kafka, "permitted", 1).with(|config| broker.credentials(config, ALICE));
    let topics = &story.topics;
    let group = format!("connect-{}", story.name);
    let prefix = format!("{}-", story.name);
    let corrections = ["--topic", topics.corrections.as_str()];
    let outputs = [
        "--topic",
        &topics.corrections,
        "--topic",
        &topics.pairs,
        "--topic",
        &topics.dead_letters,
    ];
    let ids = [
        "--transactional-id",
        &prefix,
        "--resource-pattern-type",
        "prefixed",
    ];
    broker.allow(ALICE, &["Read"], &["--group", &group]);
    broker.allow(ALICE, &["Read", "Describe"], &["--topic", &topics.answers]);
    broker.allow(ALICE, &["Write", "Describe"], &outputs);
    broker.allow(ALICE, &["Write", "Describe"], &ids);

    let mut events = Events::new(events::seed("permitted"), "permitted");
    let mut connector = Connector::ready(&story.name, &story.config);
    connector.allow_error("cannot go on");
    story.send(&mut events, 100);
    story.oracle.wait_done(100, Duration::from_secs(60));

    broker.take_back(ALICE, &["Write"], &corrections);
    // The broker may take a moment to know.
    wait::until("the connector to end", NAMED_WITHIN, || {
        story.send(&mut events, 1);
        connector.exited().is_some()
    });
    let log = connector.log();
    let cause = log.lines().find(|line| line.contains("cannot go on"));
    let cause = cause.unwrap_or_else(|| panic!("no line says why:\n{log}"));
    assert!(cause.contains("this user may not write"), "{cause}");
    assert!(cause.contains(&topics.corrections), "{cause}");

    broker.allow(ALICE, &["Write"], &corrections);
    connector.restart();
    story.oracle.settled(Duration::from_secs(60));
    assert!(connector.sigterm().success());
}

#[test]
fn a_replay_names_each_permission_that_it_lacks_and_works_with_the_documented_ones() {
    let broker = broker();
    let story = Story::new(&broker.kafka, "replayed", 1);
    let (topics, name) = (&story.topics, &story.name);
    story.oracle.send((0..5).map(|_| {
        let value = br#"{"answer": "a"}"#;
        events::broken(None, Some(value), "missing_question")
    }));
    let config = story.config.clone();
    let mut connector = Connector::ready(name, &broker.credentials(config.clone(), ADMIN));
    story.oracle.settled(Duration::from_secs(60));
    assert!(connector.sigterm().success());

    let folder = broker.folder();
    let file = folder.file("replay.yaml", broker.credentials(config, ALICE).text());
    let file = file.to_str().expect("our paths are text");
    let replay = || command::call(&["replay", "--config", file, "--reason", "missing_question"]);
    // What the connector itself has.
    let outputs = ["--topic", &topics.corrections, "--topic", &topics.pairs];
    let letters = ["--topic", &topics.dead_letters];
    let answers = ["--topic", &topics.answers];
    let prefix = format!("{name}-");
    let group = format!("connect-{name}");
    let ids = ["--transactional-id", &prefix];
    let prefixed = ["--resource-pattern-type", "prefixed"];
    broker.allow(ALICE, &["Write", "Describe"], &outputs);
    broker.allow(ALICE, &["Write", "Describe"], &letters);
    broker.allow(ALICE, &["Read", "Describe"], &answers);
    broker.allow(ALICE, &["Write", "Describe"], &[ids, prefixed].concat());
    broker.allow(ALICE, &["Read"], &["--group", &group]);
    for (named, operation, on) in [
        (&topics.dead_letters, "Read", &letters),
        (&topics.answers, "Write", &answers),
    ] {
        let told = |done: &Done| done.stderr.contains(named);
        wait::until(&format!("{named} to be named"), NAMED_WITHIN, || {
            let done = replay();
            assert_ne!(done.code, 0, "{done:?}");
            eprintln!("replay: {}", done.stderr);
            assert!(!done.stderr.contains(ALICE.password), "{done:?}");
            told(&done) && done.stderr.contains("allow ")
        });
        broker.allow(ALICE, &[operation], on);
    }
    wait::until("the records to be sent again", NAMED_WITHIN, || {
        replay().stdout.starts_with("5 records")
    });
}

#[test]
fn a_missing_topic_is_named_with_the_command_that_makes_it() {
    let broker = broker();
    let topics = Topics::named("missing");
    broker.kafka.create_topic(&topics.answers, 4);
    let config = Config::new(&topics.answers, broker.kafka.bootstrap(), &topics);
    let cause = refused("missing", &broker.credentials(config, ADMIN));
    for topic in [&topics.corrections, &topics.pairs, &topics.dead_letters] {
        let command = format!("--create --topic {topic} --partitions 4");
        assert!(cause.contains(&command), "{command} is not in {cause}");
    }
}

#[test]
fn missing_output_topics_are_made_if_that_is_configured() {
    let kafka = Kafka::shared();
    let topics = Topics::named("made");
    kafka.create_topic(&topics.answers, 4);
    let name = topics.answers.clone();
    let config = Config::new(&name, kafka.bootstrap(), &topics).set(&["topics", "create"], true);
    let _connector = Connector::ready(&name, &config);
    // Only now are there topics to watch.
    let oracle = aligner_tests::oracle::Oracle::watch(kafka, &topics, &name);
    let mut events = Events::new(1, "made");
    oracle.send((0..50).map(|_| events.next_json()));
    assert_eq!(oracle.settled(Duration::from_secs(60)).inputs, 50);
}

#[test]
fn an_unreachable_broker_is_named_and_waited_for() {
    let topics = Topics::named("unreachable");
    let nobody = format!("127.0.0.1:{}", free_port());
    let config = Config::new("unreachable", &nobody, &topics);
    let mut connector = Connector::start("unreachable", &config);
    wait::until("the log to name the broker", NAMED_WITHIN, || {
        connector
            .log()
            .lines()
            .any(|line| line.contains(&nobody) && line.contains("not reachable"))
    });
    assert!(connector.exited().is_none(), "it waits");
    assert!(
        connector.sigterm_within(Duration::from_secs(15)).success(),
        "and lets itself be stopped while it waits"
    );
}
