//! Every kind of bad record in its documented disposition, and the source goes on.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aligner_tests::{
    client::{Outgoing, Reader, Writer},
    connector::{Config, Connector, Topics},
    events,
    kafka::Kafka,
    ledger::{Expected, Input},
    oracle::Oracle,
    story::Story,
    wait,
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

fn epoch_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    i64::try_from(since.as_millis()).expect("milliseconds fit for ages")
}

/// Bad records and the reason that each is dead-lettered for.
fn bad_records() -> Vec<(Outgoing, Input)> {
    let broken = |value: &[u8], reason| events::broken(Some(b"its-key"), Some(value), reason);
    vec![
        broken(b"{\"question\": \"q\", \"answer\": ", "invalid_json"),
        broken(b"not json at all", "invalid_json"),
        broken(b"", "invalid_json"),
        broken(b"[1, 2]", "not_an_object"),
        broken(
            b"{\"question\": \"q\", \"answer\": \"\xff\xfe\"}",
            "invalid_utf8",
        ),
        broken(b"\xff\xfe\x00", "invalid_utf8"),
        broken(b"{\"answer\": \"a\"}", "missing_question"),
        broken(b"{\"question\": \"q\"}", "missing_answer"),
        broken(b"{\"question\": \"q\", \"answer\": null}", "missing_answer"),
        broken(b"{\"question\": \"q\", \"answer\": 7}", "wrong_type"),
        broken(b"{\"question\": \"q\", \"answer\": \"\"}", "empty_answer"),
        broken(
            b"{\"question\": \" \", \"answer\": \"a\"}",
            "empty_question",
        ),
        broken(
            b"{\"question\": \"q\", \"answer\": \"a\", \"created_at\": 1766000068280000}",
            "out_of_range",
        ),
        events::broken(Some(b"gone"), None, "tombstone"),
        events::broken(None, None, "tombstone"),
        events::broken(None, Some(b"no key either"), "invalid_json"),
    ]
}

#[test]
fn invalid_records_are_dead_lettered_for_their_reason_and_the_source_goes_on() {
    let story = Story::new(Kafka::shared(), "dispositions", 1);
    let mut records = Vec::new();
    for (number, bad) in bad_records().into_iter().enumerate() {
        records.push(bad);
        records.push(events::event(
            Some(&format!("good-{number}")),
            "why?",
            "because",
        ));
    }
    let bad = bad_records().len();
    let started_at = epoch_ms();
    story.oracle.send(records);
    let mut connector = Connector::ready(&story.name, &story.config);
    let summary = story.oracle.settled(LIMIT);
    assert_eq!(summary.inputs, 2 * bad);
    assert_eq!(summary.dispositions["dead_lettered"], bad as u64);
    assert!(connector.sigterm().success());

    // A person can act on each: it says what is wrong and when it was logged, and never repeats the
    // record.
    let mut letters = Reader::open(story.kafka.settings(), &[&story.topics.dead_letters]);
    for letter in letters.read_to_end(LIMIT) {
        let cause = letter
            .header("__connect.errors.exception.message")
            .expect("a dead letter names its cause");
        assert!(cause.len() > 15, "{cause}");
        assert!(!cause.contains("not json at all"), "{cause}");
        let logged_at: i64 = letter
            .header("aligner.logged_at")
            .and_then(|at| at.parse().ok())
            .expect("kafka knows when it was logged");
        assert!(logged_at >= started_at, "{logged_at}");
    }
    // An event that brings no time has that of its record.
    let mut corrections = Reader::open(story.kafka.settings(), &[&story.topics.corrections]);
    for record in corrections.read_to_end(LIMIT) {
        let value = record.value.expect("corrections are no tombstones");
        let value: Value = serde_json::from_slice(&value).expect("JSON");
        let created_at = value["created_at"].as_i64().expect("an instant");
        assert!(created_at >= started_at, "{created_at}");
    }
}

#[test]
fn an_answer_of_two_megabytes_is_dead_lettered_with_its_size_and_those_around_it_go_on() {
    let kafka = Kafka::shared();
    let topics = Topics::named("huge");
    kafka.create_topic_with(&topics.answers, 1, &[("max.message.bytes", "4000000")]);
    topics.create_outputs(kafka, 1);
    let name = topics.answers.clone();
    let oracle = Oracle::watch(kafka, &topics, &name);
    let config = Config::new(&name, kafka.bootstrap(), &topics)
        .set(&["pipeline", "max_output_bytes"], 1_000_000);

    // Incompressible enough that no codec hides its size.
    let mut random = events::Events::new(events::seed("huge"), "huge");
    let mut text = |bytes: usize| {
        let mut text = String::with_capacity(bytes + 4_000);
        while text.len() < bytes {
            text.push_str(&random.words(30, 60));
        }
        text
    };
    let dead = |(outgoing, mut input): (Outgoing, Input), reason| {
        input.expected = Expected::DeadLetter(reason);
        (outgoing, input)
    };
    let (two_megabytes, half_a_megabyte) = (text(2_000_000), text(550_000));
    oracle.send([
        events::event(Some("before"), "why?", "because"),
        dead(
            events::event(Some("huge"), "why?", &two_megabytes),
            "too_large",
        ),
        // Fits as an input, and would not as a correction, which holds it twice.
        dead(
            events::event(Some("large"), "why?", &half_a_megabyte),
            "output_too_large",
        ),
        events::event(Some("after"), "why?", "because"),
    ]);
    let mut connector = Connector::ready(&name, &config);
    let summary = oracle.settled(LIMIT);
    assert_eq!(summary.dispositions["dead_lettered"], 2);
    assert!(connector.sigterm().success());

    let mut letters = Reader::open(kafka.settings(), &[&topics.dead_letters]);
    let letters = letters.read_to_end(LIMIT);
    assert!(
        letters[0].header("aligner.value_omitted").is_some(),
        "two megabytes do not fit"
    );
    assert!(
        letters[1].header("aligner.value_omitted").is_none(),
        "the original fits, so it is kept"
    );
}

#[test]
fn with_the_default_limits_half_a_megabyte_is_corrected_and_two_are_kept_in_their_dead_letter() {
    let kafka = Kafka::shared();
    let topics = Topics::named("default-limits");
    kafka.create_topic_with(&topics.answers, 1, &[("max.message.bytes", "4000000")]);
    topics.create_outputs(kafka, 1);
    let name = topics.answers.clone();
    let oracle = Oracle::watch(kafka, &topics, &name);
    let config =
        Config::new(&name, kafka.bootstrap(), &topics).set(&["aligner", "model"], "marker-all");
    let text = |bytes: usize| "one word after another ".repeat(bytes / 23);
    // The pair and the correction hold it twice: over a megabyte, which the broker's limit of one
    // takes compressed.
    let (outgoing, mut large) = events::event(Some("large"), "why?", &text(550_000));
    large.expected = Expected::Marked;
    let (too_large, mut huge) = events::event(Some("huge"), "why?", &text(2_000_000));
    huge.expected = Expected::DeadLetter("too_large");
    oracle.send([(outgoing, large), (too_large, huge)]);
    let mut connector = Connector::ready(&name, &config);
    oracle.settled(LIMIT);
    assert!(connector.sigterm().success());
    let letters = Reader::open(kafka.settings(), &[&topics.dead_letters]).read_to_end(LIMIT);
    assert_eq!(letters.len(), 1);
    let value = letters[0].value.as_deref().expect("the value is kept");
    assert!(value.len() > 1_900_000);
}

#[test]
fn an_answer_of_two_megabytes_is_corrected_where_limits_are_raised() {
    let kafka = Kafka::shared();
    let topics = Topics::named("raised");
    for topic in [
        &topics.answers,
        &topics.corrections,
        &topics.pairs,
        &topics.dead_letters,
    ] {
        kafka.create_topic_with(topic, 1, &[("max.message.bytes", "16000000")]);
    }
    let name = topics.answers.clone();
    let oracle = Oracle::watch(kafka, &topics, &name);
    let config = Config::new(&name, kafka.bootstrap(), &topics)
        .set(&["pipeline", "max_input_bytes"], 8_000_000)
        .set(&["pipeline", "max_output_bytes"], 15_000_000)
        .set(&["aligner", "model"], "marker-all");
    let (outgoing, mut input) = events::event(Some("huge"), "why?", &"word ".repeat(400_000));
    input.expected = Expected::Marked;
    oracle.send([(outgoing, input)]);
    let _connector = Connector::ready(&name, &config);
    oracle.settled(LIMIT);
}

#[test]
fn at_least_once_an_output_above_a_segment_is_dead_lettered_and_those_around_it_go_on() {
    let kafka = Kafka::shared();
    let topics = Topics::named("above-a-segment");
    kafka.create_topic(&topics.answers, 1);
    // 1.6 MB for the answer and its correction: each record may be so large, no segment is.
    let large_records = ("max.message.bytes", "4000000");
    let small_segments = ("segment.bytes", "1048576");
    kafka.create_topic_with(&topics.corrections, 1, &[large_records, small_segments]);
    kafka.create_topic_with(&topics.pairs, 1, &[large_records]);
    kafka.create_topic(&topics.dead_letters, 1);
    let name = topics.answers.clone();
    let config = Config::new(&name, kafka.bootstrap(), &topics)
        .set(&["kafka", "delivery"], "at_least_once")
        .set(&["aligner", "model"], "marker-all")
        .property("compression.type", "none");
    let large = "word ".repeat(160_000);
    let mut writer = Writer::open(kafka.settings());
    for (id, answer) in [
        ("before", "because"),
        ("large", large.as_str()),
        ("after", "because"),
    ] {
        let (outgoing, _) = events::event(Some(id), "why?", answer);
        writer.send(&topics.answers, &outgoing);
    }
    writer.settle(LIMIT);
    let mut connector = Connector::ready(&name, &config);
    wait::until("three records to be delivered", LIMIT, || {
        let records = connector.metric("aligner_records_total", &[]);
        records.is_some_and(|records| records >= 3.0)
    });
    assert!(connector.sigterm().success());

    // No oracle: at least once, what was written before the refusal is written again.
    let event_id = |value: Option<Vec<u8>>| {
        let value = value.expect("neither output is a tombstone");
        let value: Value = serde_json::from_slice(&value).expect("JSON");
        value["event_id"].as_str().expect("an id").to_owned()
    };
    let mut letters = Reader::open(kafka.settings(), &[&topics.dead_letters]);
    let letters = letters.read_to_end(LIMIT);
    assert!(!letters.is_empty(), "nothing was refused");
    for letter in letters {
        assert_eq!(letter.header("aligner.reason"), Some("output_refused"));
        let cause = letter.header("__connect.errors.exception.message");
        assert!(
            cause.is_some_and(|cause| cause.contains("raise its segment.bytes")),
            "{cause:?}"
        );
        assert_eq!(event_id(letter.value), "large");
    }
    let mut corrections = Reader::open(kafka.settings(), &[&topics.corrections]);
    let corrected: BTreeSet<_> = corrections
        .read_to_end(LIMIT)
        .into_iter()
        .map(|record| event_id(record.value))
        .collect();
    let around_it = ["before", "after"].map(str::to_owned);
    assert_eq!(corrected, BTreeSet::from(around_it));
}

#[test]
fn a_chat_log_is_read_as_it_is_and_calls_of_tools_page_nobody() {
    let kafka = Kafka::shared();
    let topics = Topics::create(kafka, "chat-log", 1);
    let name = topics.answers.clone();
    let pointers = [
        ("event_id", "/id"),
        ("question", "/messages/role=user/content"),
        ("answer", "/choices/0/message/content"),
        ("created_at", "/created"),
    ];
    let config = pointers
        .into_iter()
        .fold(
            Config::new(&name, kafka.bootstrap(), &topics),
            |config, (field, pointer)| config.set(&["input", "fields", field], pointer),
        )
        .set(&["input", "created_at_unit"], "seconds")
        .set(&["aligner", "model"], "marker-all");
    let mut writer = Writer::open(kafka.settings());
    for (id, content) in [
        ("spoken", json!("A cat.")),
        ("called", Value::Null),
        (
            "in-parts",
            json!([{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}]),
        ),
    ] {
        let log = json!({
            "id": id, "created": 1_741_569_952,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is this?"},
                {"role": "tool", "content": "{}"},
            ],
            "choices": [{"message": {"role": "assistant", "content": content}}],
        });
        let record = Outgoing {
            value: Some(log.to_string().into_bytes()),
            ..Outgoing::default()
        };
        writer.send(&topics.answers, &record);
    }
    writer.settle(LIMIT);
    let mut connector = Connector::ready(&name, &config);
    let outputs = [topics.corrections.as_str(), topics.dead_letters.as_str()];
    let mut reader = Reader::open(kafka.settings(), &outputs);
    let mut records = Vec::new();
    wait::until("three outputs", LIMIT, || {
        records.extend(reader.read_to_end(LIMIT));
        records.len() >= 3
    });
    assert!(connector.sigterm().success());
    let ends: Vec<Value> = records
        .into_iter()
        .map(|record| {
            assert_eq!(record.topic, topics.corrections);
            let value = record.value.expect("corrections are no tombstones");
            let value: Value = serde_json::from_slice(&value).expect("JSON");
            assert_eq!(value["question"], "What is this?");
            assert_eq!(value["created_at"], 1_741_569_952_000_i64);
            json!([value["event_id"], value["reason"], value["correction"]])
        })
        .collect();
    assert_eq!(
        ends,
        [
            json!(["spoken", "extended", "A cat. [marked]"]),
            json!(["called", "no_text", null]),
            json!(["in-parts", "extended", "A cat. [marked]"]),
        ]
    );
}
