//! `replay`: what became dead letters goes back once, as it was, whatever happens to the command.

use std::{collections::BTreeMap, process::Command, time::Duration};

use aligner_tests::{
    client::{Outgoing, Reader, Record, Writer, alter_topic, create_topic, delete_topic},
    command::{self, Done},
    connector::{Config, Connector, Topics, binary},
    hanging::Hanging,
    kafka::Kafka,
    process::{Process, Signal},
    proxy::{ApiKey, Fault, Proxy},
    scratch::Scratch,
    wait,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(90);
/// More than two transactions of the command.
const RECORDS: usize = 1_200;
const PARTITIONS: usize = 3;

/// Events whose question is called `prompt`, with every shape of key and headers.
fn events() -> Vec<Outgoing> {
    (0..RECORDS)
        .map(|number| Outgoing {
            partition: Some((number % PARTITIONS) as i32),
            key: match number % 3 {
                0 => None,
                1 => Some(Vec::new()),
                _ => Some(vec![0xff, (number % 256) as u8]),
            },
            value: Some(
                format!(r#"{{"event_id": "event-{number}", "prompt": "why?", "answer": "a"}}"#)
                    .into_bytes(),
            ),
            headers: match number % 2 {
                0 => Vec::new(),
                _ => vec![
                    ("traceparent".to_owned(), vec![0, 0xff]),
                    ("aligner.reason".to_owned(), b"of another pipeline".to_vec()),
                    ("traceparent".to_owned(), Vec::new()),
                ],
            },
        })
        .collect()
}

/// A connector that does not find the questions, and its topics.
struct Setting {
    topics: Topics,
    config: Config,
    scratch: Scratch,
}

impl Setting {
    fn new(name: &str) -> Self {
        let topics = Topics::create(Kafka::shared(), name, PARTITIONS as i32);
        let name = topics.answers.trim_end_matches(".answers").to_owned();
        let config = Config::new(&name, Kafka::shared().bootstrap(), &topics)
            .set(&["aligner", "model"], "marker-all");
        Self {
            scratch: Scratch::new(&name),
            topics,
            config,
        }
    }

    /// Makes dead letters of all events, and of two records that nothing can be read of.
    fn bury(&self) {
        let mut writer = Writer::open(Kafka::shared().settings());
        for event in events() {
            writer.send(&self.topics.answers, &event);
        }
        for value in [Some(b"no JSON".to_vec()), None] {
            let broken = Outgoing {
                value,
                ..Outgoing::default()
            };
            writer.send(&self.topics.answers, &broken);
        }
        writer.settle(LIMIT);
        let mut connector = Connector::ready("bury", &self.config);
        let mut letters = Reader::open(Kafka::shared().settings(), &[&self.topics.dead_letters]);
        let mut buried = 0;
        while buried < RECORDS + 2 {
            buried += letters.next(LIMIT).map(|_| 1).expect("a letter comes");
        }
        assert!(connector.sigterm().success());
    }

    fn read(&self, topic: &str) -> Vec<Record> {
        Reader::open(Kafka::shared().settings(), &[topic]).read_to_end(LIMIT)
    }

    fn config_file(&self, config: &Config) -> String {
        let path = self.scratch.file("replay.yaml", config.text());
        path.to_str().expect("our paths are text").to_owned()
    }

    fn replay(&self, arguments: &[&str]) -> Done {
        let file = self.config_file(&self.config);
        command::call(&[&["replay", "--config", &file], arguments].concat())
    }

    /// Begins to replay through a proxy.
    fn begin(&self, name: &str, proxy: &Proxy) -> Process {
        let file = self.config_file(&self.config.clone().through(proxy));
        let log = self.scratch.path().join(format!("{name}.log"));
        let mut command = Command::new(binary());
        command.args(["replay", "--config", &file, "--reason", "missing_question"]);
        Process::start(name, command, &log)
    }

    /// Replays where answers are said to come from another topic.
    fn replay_elsewhere(&self, arguments: &[&str]) -> Done {
        let elsewhere = Topics::create(Kafka::shared(), "replay-elsewhere", 1);
        let answers = vec![elsewhere.answers.clone()];
        let config = self.config.clone().set(&["topics", "answers"], answers);
        let file = self.config_file(&config);
        let reason = ["--reason", "missing_question"];
        let asked = [&["replay", "--config", &file], &reason[..], arguments].concat();
        command::call(&asked)
    }

    /// The lines of the overview that have figures: letters and waiting, by reason.
    fn overview(&self) -> BTreeMap<String, (u64, u64)> {
        let shown = self.replay(&[]).expect_code(0).stdout;
        let figures = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [reason, letters, waiting, _] = words[..] else {
                return None;
            };
            Some((
                reason.to_owned(),
                (letters.parse().ok()?, waiting.parse().ok()?),
            ))
        };
        shown.lines().filter_map(figures).collect()
    }

    /// Each event is there as often as told, every time as it was and in its own partition.
    #[track_caller]
    fn each_is_there(&self, times: usize) {
        type Whole = (
            i32,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Vec<(String, Option<Vec<u8>>)>,
        );
        let mut found: BTreeMap<Whole, usize> = BTreeMap::new();
        for record in self.read(&self.topics.answers) {
            let whole = (record.partition, record.key, record.value, record.headers);
            *found.entry(whole).or_default() += 1;
        }
        for event in events() {
            let headers = event.headers.into_iter();
            let whole = (
                event.partition.expect("each has one"),
                event.key,
                event.value,
                headers.map(|(key, value)| (key, Some(value))).collect(),
            );
            assert_eq!(found.remove(&whole), Some(times), "{whole:?}");
        }
        // What is no event was sent once, by us.
        assert!(found.values().all(|count| *count == 1), "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
    }
}

/// How many records a call says that it sent.
#[track_caller]
fn sent(told: &str) -> u64 {
    let mut words = told.split_whitespace();
    words
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{told} has no figure"))
}

/// Begins a replay whose second commit meets this fault, kills it then, and has another call do the rest.
fn killed_in_its_second_commit(name: &str, fault: Fault) -> Setting {
    let setting = Setting::new(name);
    setting.bury();
    let before = setting.overview();
    let expected = BTreeMap::from([
        ("missing_question".to_owned(), (1_200, 1_200)),
        ("invalid_json".to_owned(), (1, 1)),
        ("tombstone".to_owned(), (1, 1)),
    ]);
    assert_eq!(before, expected);
    setting.each_is_there(1);

    let proxy = Proxy::before(&Kafka::shared().addresses());
    let held = proxy.on(ApiKey::EndTxn).commits().after(1).does(fault);
    let mut killed = setting.begin("killed", &proxy);
    held.wait_hit(LIMIT);
    if fault == Fault::HoldResponse {
        held.wait_applied(LIMIT);
    }
    killed.signal(Signal::Kill);
    killed.wait(LIMIT);

    let done = setting.replay(&["--reason", "missing_question"]);
    let done = done.expect_code(0);
    // Transactions have 500 records; of an answer that is held, the broker has done what was asked.
    let committed = if fault == Fault::HoldResponse {
        1_000
    } else {
        500
    };
    assert_eq!(sent(&done.stdout), 1_200 - committed, "{done:?}");
    // What was held comes late, and of a producer that is none any more.
    held.release();
    setting.each_is_there(2);
    assert_eq!(setting.overview()["missing_question"], (1_200, 0));
    setting
}

#[test]
fn dead_letters_come_back_once_each_as_they_were_though_the_command_is_killed_before_its_commit() {
    let setting = killed_in_its_second_commit("replay", Fault::HoldRequest);
    let none = setting.replay(&["--reason", "missing_question"]);
    let none = none.expect_code(0).stdout;
    assert!(none.starts_with("0 records"), "{none}");
    setting.each_is_there(2);

    // What it was all for: a connector that knows better reads them.
    let mended = setting.config.clone().set(
        &["input", "fields"],
        json!({"event_id": "/event_id", "question": "/prompt", "answer": "/answer"}),
    );
    let mut connector = Connector::ready("mended", &mended);
    let mut corrections = Reader::open(Kafka::shared().settings(), &[&setting.topics.corrections]);
    let mut corrected: BTreeMap<String, usize> = BTreeMap::new();
    while corrected.len() < RECORDS {
        let correction = corrections.next(LIMIT).expect("a correction comes");
        let value = correction.value.expect("corrections have values");
        let value: Value = serde_json::from_slice(&value).expect("a correction is JSON");
        let event = value["event_id"].as_str().expect("it has one").to_owned();
        *corrected.entry(event).or_default() += 1;
    }
    assert!(connector.sigterm().success());
    assert_eq!(setting.read(&setting.topics.corrections).len(), RECORDS);
    assert!(corrected.values().all(|count| *count == 1), "{corrected:?}");
}

#[test]
fn dead_letters_come_back_once_each_though_the_command_is_killed_before_it_learns_of_its_commit() {
    killed_in_its_second_commit("replay-unanswered", Fault::HoldResponse);
}

#[test]
fn a_replay_that_is_asked_for_a_few_sends_these_and_the_next_one_those_that_follow() {
    for (name, delivery) in [("few", "exactly_once"), ("few-at-least", "at_least_once")] {
        let mut setting = Setting::new(name);
        setting.bury();
        setting.config = setting.config.set(&["kafka", "delivery"], delivery);
        let waiting = |setting: &Setting| setting.overview()["missing_question"];
        for (arguments, said, waits) in [
            (&["--limit", "10"][..], "10 records", 1_190),
            (&["--limit", "5"], "5 records", 1_185),
            (&[], "1185 records", 0),
            (&["--again", "--limit", "7"], "7 records", 1_193),
            (&[], "1193 records", 0),
        ] {
            let arguments = [&["--reason", "missing_question"], arguments].concat();
            let done = setting.replay(&arguments).expect_code(0);
            assert!(done.stdout.starts_with(said), "{done:?}");
            assert_eq!(waiting(&setting), (1_200, waits), "{arguments:?}");
        }
        setting.each_is_there(3);

        // A list without their topic is no less mistaken where all was sent.
        let done = setting.replay_elsewhere(&["--again"]).expect_code(1);
        assert!(done.stderr.contains(&setting.topics.answers), "{done:?}");
    }
}

#[test]
fn marks_behind_the_open_transaction_of_another_producer_are_waited_for_and_never_overlooked() {
    let setting = Setting::new("replay-hidden");
    setting.bury();
    let letters = &setting.topics.dead_letters;
    let hanging = Hanging::over(Kafka::shared().settings(), letters, 0);
    let reason = ["--reason", "missing_question"];
    // It may be that marks lie behind it: nothing is sent.
    let refused = setting.replay(&reason).expect_code(1);
    let partition = format!("a transaction of another producer is open at {letters}-0, offset ");
    assert!(refused.stderr.contains(&partition), "{refused:?}");
    setting.each_is_there(1);
    hanging.abort();
    let done = setting.replay(&reason).expect_code(0);
    assert!(done.stdout.starts_with("1200 records"), "{done:?}");

    // One that ends while it is waited for costs nothing but time.
    let hanging = Hanging::over(Kafka::shared().settings(), letters, 0);
    let proxy = Proxy::before(&Kafka::shared().addresses());
    let mut waits = setting.begin("waits", &proxy);
    wait::until("its id to be claimed", LIMIT, || {
        proxy.count(ApiKey::InitProducerId) > 0
    });
    let asked = proxy.count(ApiKey::ListOffsets);
    wait::until(
        "it to ask again and again where the topic ends",
        LIMIT,
        || proxy.count(ApiKey::ListOffsets) > asked + 20,
    );
    hanging.abort();
    assert_eq!(waits.wait(LIMIT).code(), Some(0), "{}", waits.log());
    assert!(waits.log().contains("0 records"), "{}", waits.log());
    setting.each_is_there(2);
}

#[test]
fn an_interruption_while_its_id_is_claimed_again_ends_it_behind_what_it_has_read() {
    let setting = Setting::new("replay-interrupted");
    setting.bury();
    let proxy = Proxy::before(&Kafka::shared().addresses());
    let late = Duration::from_millis(1_500);
    let slow = proxy.on(ApiKey::EndTxn).does(Fault::LateResponse(late));
    let mut interrupted = setting.begin("interrupted", &proxy);
    slow.wait_hit(LIMIT);
    interrupted.signal(Signal::Term);
    let ended = interrupted.wait(LIMIT);
    let told = interrupted.log();
    assert_eq!(ended.code(), Some(130), "{told}");
    assert!(told.contains("the next call goes on behind them"), "{told}");
    let done = setting.replay(&["--reason", "missing_question"]);
    let rest = format!("{} records", RECORDS as u64 - sent(&told));
    assert!(done.expect_code(0).stdout.starts_with(&rest), "{told}");
    setting.each_is_there(2);
}

#[test]
fn records_of_partitions_that_are_gone_are_left_out_at_once_and_the_others_go_back() {
    let setting = Setting::new("replay-gone");
    setting.bury();
    let answers = &setting.topics.answers;
    let settings = Kafka::shared().settings();
    delete_topic(settings, answers);
    create_topic(settings, answers, 1, &[]);
    let reason = ["--reason", "missing_question"];
    let done = setting.replay(&reason).expect_code(1);
    assert!(done.stdout.starts_with("400 records"), "{done:?}");
    assert!(done.stdout.contains("800 left out"), "{done:?}");
    let gone = format!("topic \"{answers}\" has no partition 2 any more");
    assert!(done.stderr.contains(&gone), "{done:?}");
    let again = setting.replay(&reason).expect_code(0);
    assert!(again.stdout.starts_with("0 records"), "{again:?}");
    assert_eq!(setting.read(answers).len(), 400);
}

#[test]
fn a_replay_whose_commits_are_answered_late_claims_its_id_again_and_sends_nothing_twice() {
    let setting = Setting::new("replay-slow");
    setting.bury();
    let proxy = Proxy::before(&Kafka::shared().addresses());
    // Within this time librdkafka may send a request again without a word.
    let late = Duration::from_millis(700);
    proxy
        .on(ApiKey::EndTxn)
        .times(2)
        .does(Fault::LateResponse(late));
    let file = setting.config_file(&setting.config.clone().through(&proxy));
    let reason = ["--reason", "missing_question"];
    let replay = [&["replay", "--config", &file], &reason[..]].concat();
    let done = command::call(&replay).expect_code(0);
    assert!(done.stdout.starts_with("1200 records"), "{done:?}");
    let claims = proxy.count(ApiKey::InitProducerId);
    assert!(claims >= 3, "{claims}");
    setting.each_is_there(2);
    assert_eq!(setting.overview()["missing_question"], (1_200, 0));
}

#[test]
fn of_two_replays_of_one_reason_the_earlier_is_fenced_and_nothing_comes_twice() {
    let setting = Setting::new("replay-twice");
    setting.bury();
    let proxy = Proxy::before(&Kafka::shared().addresses());
    let held = proxy.on(ApiKey::EndTxn).does(Fault::HoldRequest);
    let mut earlier = setting.begin("earlier", &proxy);
    held.wait_hit(LIMIT);
    let later = setting.replay(&["--reason", "missing_question"]);
    assert!(later.expect_code(0).stdout.starts_with("1200 records"));
    held.release();
    wait::until("the earlier one to end", LIMIT, || {
        earlier.exited().is_some()
    });
    let told = earlier.log();
    assert_eq!(earlier.wait(LIMIT).code(), Some(1), "{told}");
    assert!(told.contains("0 records were sent before"), "{told}");
    setting.each_is_there(2);
}

#[test]
fn what_cannot_be_meant_stops_it_by_name_before_anything_is_sent() {
    let setting = Setting::new("replay-refused");
    setting.bury();
    let done = setting.replay_elsewhere(&[]).expect_code(1);
    assert!(done.stderr.contains(&setting.topics.answers), "{done:?}");
    assert!(done.stderr.contains("topics.answers"), "{done:?}");

    let mistyped = setting.replay(&["--reason", "mising_question"]);
    let mistyped = mistyped.expect_code(2).stderr;
    assert!(mistyped.contains("missing_question"), "{mistyped}");

    let gone = setting
        .config
        .clone()
        .set(&["topics", "dead_letters"], "not-there");
    let gone = setting.config_file(&gone);
    let gone = command::call(&["replay", "--config", &gone]).expect_code(1);
    assert!(gone.stderr.contains("not-there"), "{gone:?}");
    setting.each_is_there(1);
    let waiting = setting.overview();
    assert_eq!(waiting["missing_question"], (1_200, 1_200));
}

#[test]
fn records_that_their_topic_does_not_take_any_more_are_left_out_by_name_and_hold_no_other_back() {
    const ALL: u64 = 60;
    for (name, delivery) in [
        ("replay-large", "exactly_once"),
        ("replay-large-at-least", "at_least_once"),
    ] {
        let mut setting = Setting::new(name);
        setting.config = setting.config.set(&["kafka", "delivery"], delivery);
        let answers = setting.topics.answers.clone();
        let mut writer = Writer::open(Kafka::shared().settings());
        let mut large = 0;
        for number in 0..ALL {
            // No JSON, some are too large for the limit that is set below, and all take a while to queue.
            let is_large = number % 20 == 4;
            large += u64::from(is_large);
            let header = |index| (format!("header-{index}"), vec![b'h'; 20]);
            writer.send(
                &answers,
                &Outgoing {
                    partition: Some((number % 2) as i32),
                    value: Some(noise(if is_large { 200_000 } else { 100 }, number)),
                    headers: (0..2_000).map(header).collect(),
                    ..Outgoing::default()
                },
            );
        }
        writer.settle(LIMIT);
        let mut connector = Connector::ready("bury", &setting.config);
        let letters = &setting.topics.dead_letters;
        let mut letters = Reader::open(Kafka::shared().settings(), &[letters]);
        for _ in 0..ALL {
            letters.next(LIMIT).expect("a letter comes");
        }
        assert!(connector.sigterm().success());
        let settings = Kafka::shared().settings();
        alter_topic(settings, &answers, &[("max.message.bytes", "100000")]);

        let reason = ["--reason", "invalid_utf8"];
        let done = setting.replay(&reason).expect_code(1);
        let sent = format!("{} records", ALL - large);
        assert!(done.stdout.starts_with(&sent), "{done:?}");
        let left_out = format!("{large} left out");
        assert!(done.stdout.contains(&left_out), "{done:?}");
        let position = format!("left out: {answers}-0-2: ");
        assert!(done.stderr.contains(&position), "{done:?}");
        assert!(done.stderr.contains("max.message.bytes"), "{done:?}");
        let again = setting.replay(&reason).expect_code(0);
        assert!(again.stdout.starts_with("0 records"), "{again:?}");
        let there = setting.read(&answers).len() as u64;
        assert_eq!(there, ALL + ALL - large, "{delivery}");
    }
}

/// Bytes that no codec makes smaller, and that are no text.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut noise = vec![0; bytes];
    random.fill(&mut noise[..]);
    noise[0] = 0xff;
    noise
}
