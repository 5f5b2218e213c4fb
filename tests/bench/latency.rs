//! How long an event takes at a steady, moderate rate.
//!
//! An event is out when a committed reader has read both of its outputs. Two times are taken:
//! from sending the event (end to end), and from when the same reader could read the event itself
//! (added: what the subject puts on top of the log).

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{client::Silent, connector::Topics};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    Bench,
    figures::quantile,
    subject::{Job, Subject},
    workload,
};

/// Events a second.
pub const RATE: usize = 2_000;
/// How often peers commit here: about as often as the connector does at this rate.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(10);
/// Until a subject takes part: its group is joined, and what compiles has compiled.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long the last outputs may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Figures of one run, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub added_p50_ms: f64,
    pub added_p99_ms: f64,
}

/// When one event was where.
#[derive(Debug, Clone, Copy)]
struct Passage {
    sent: Instant,
    logged: Option<Instant>,
    out: [Option<Instant>; 2],
}

/// Sends events at the rate for `length` and takes their times; the first quarter is left out.
pub fn run(bench: &Bench, subject: Subject, length: Duration) -> Result<Figures, String> {
    let topics = Topics {
        answers: bench.topic("latency", bench.partitions),
        ..bench.outputs(bench.partitions)
    };
    let group = topics.corrections.clone();
    let running = subject.start(&Job {
        kafka: &bench.kafka,
        topics: &topics,
        group: &group,
        commit_interval: COMMIT_INTERVAL,
        compression: &bench.compression,
    });
    let reader = reader(bench, &topics);
    let producer = workload::producer(bench.kafka.settings(), "0");
    let send = |number: usize| {
        let event = bench.workload.event(number);
        let sent = Instant::now();
        workload::send(
            &producer,
            &topics.answers,
            number % bench.partitions,
            &event,
        );
        Passage {
            sent,
            logged: None,
            out: [None; 2],
        }
    };

    // Event 0 shows that the subject takes part.
    let mut passages = BTreeMap::from([(0, send(0))]);
    let started = Instant::now();
    while passages[&0].out.contains(&None) {
        take(&reader, &topics, &mut passages);
        if started.elapsed() > START_LIMIT {
            return Err(format!(
                "{}: nothing came out within {START_LIMIT:?}\n{}",
                subject.name(),
                running.log()
            ));
        }
    }

    let count = usize::try_from(length.as_secs()).expect("a short run") * RATE;
    let begin = Instant::now();
    let mut next = 1;
    let mut left = count;
    while left > 0 {
        let due =
            usize::try_from(begin.elapsed().as_micros()).expect("a short run") * RATE / 1_000_000;
        while next <= due.min(count) {
            passages.insert(next, send(next));
            next += 1;
        }
        left -= take(&reader, &topics, &mut passages);
        if begin.elapsed() > length + LIMIT {
            return Err(format!(
                "{}: {left} of {count} events did not come out\n{}",
                subject.name(),
                running.log()
            ));
        }
    }
    running.stop();
    bench.remove(&topics);
    bench.remove_topic(&topics.answers);

    let mut whole = Vec::new();
    let mut added = Vec::new();
    for passage in passages.range(count / 4..).map(|(_, passage)| passage) {
        let out = passage.out.into_iter().flatten().max();
        let (Some(out), Some(logged)) = (out, passage.logged) else {
            return Err("an event was not read back".to_owned());
        };
        let ms = |since: Instant| out.saturating_duration_since(since).as_secs_f64() * 1e3;
        whole.push(ms(passage.sent));
        added.push(ms(logged));
    }
    Ok(Figures {
        p50_ms: quantile(&mut whole, 0.5),
        p99_ms: quantile(&mut whole, 0.99),
        added_p50_ms: quantile(&mut added, 0.5),
        added_p99_ms: quantile(&mut added, 0.99),
    })
}

/// Notes what can be read within a millisecond or so; returns how many events are out by it.
fn take(
    reader: &BaseConsumer<Silent>,
    topics: &Topics,
    passages: &mut BTreeMap<usize, Passage>,
) -> usize {
    let mut wait = Duration::from_millis(1);
    let mut out = 0;
    for _ in 0..256 {
        let Some(Ok(message)) = reader.poll(wait) else {
            break;
        };
        wait = Duration::ZERO;
        let now = Instant::now();
        let number = message.key().and_then(workload::number);
        let Some(passage) = number.and_then(|number| passages.get_mut(&number)) else {
            continue;
        };
        if message.topic() == topics.answers {
            passage.logged.get_or_insert(now);
            continue;
        }
        let which = usize::from(message.topic() == topics.pairs);
        if passage.out[which].replace(now).is_none() && passage.out[1 - which].is_some() {
            out += 1;
        }
    }
    if out == 0 {
        thread::yield_now();
    }
    out
}

fn reader(bench: &Bench, topics: &Topics) -> BaseConsumer<Silent> {
    let consumer: BaseConsumer<Silent> = bench
        .kafka
        .settings()
        .clone()
        .set("group.id", "bench-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create_with_context(Silent)
        .expect("constant settings are valid");
    let mut list = TopicPartitionList::new();
    for topic in [&topics.answers, &topics.corrections, &topics.pairs] {
        for partition in 0..i32::try_from(bench.partitions).expect("few partitions") {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("the beginning is a valid offset");
        }
    }
    consumer.assign(&list).expect("the list is not empty");
    consumer
}
