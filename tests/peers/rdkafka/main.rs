//! A plain loop around librdkafka that does what the connector does with the `marker-all` Aligner:
//! the least that exactly-once costs with this client. No batches for a model, no results kept
//! across an abort, no bounded memory, no metrics.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, DeliveryResult},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Reads answers, marks them, writes corrections and pairs.
#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    bootstrap_servers: String,
    #[arg(long)]
    answers: String,
    #[arg(long)]
    corrections: String,
    #[arg(long)]
    pairs: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    compression: String,
    #[arg(long)]
    commit_interval_ms: u64,
}

#[derive(Deserialize)]
struct Answer {
    event_id: String,
    question: String,
    answer: String,
    upstream_model: Option<String>,
    created_at: Option<i64>,
    conversation_id: Option<String>,
    user_id: Option<String>,
    metadata_json: Option<String>,
}

#[derive(Serialize)]
struct Correction<'a> {
    correction_id: &'a str,
    event_id: &'a str,
    question: &'a str,
    answer: &'a str,
    correction: &'a str,
    disposition: &'a str,
    reason: Option<&'a str>,
    message: Option<&'a str>,
    similarity: f64,
    unchanged_logprob: Option<f64>,
    mean_logprob: Option<f64>,
    upstream_model: &'a Option<String>,
    conversation_id: &'a Option<String>,
    user_id: &'a Option<String>,
    metadata_json: &'a Option<String>,
    created_at: Option<i64>,
    aligner_name: &'a str,
    aligner_revision: &'a str,
    template_hash: &'a str,
    max_new_tokens: i32,
    temperature: f64,
    top_p: Option<f64>,
    seed: Option<i64>,
    source_topic: &'a str,
    source_partition: i32,
    source_offset: i64,
    prompt_tokens: i32,
    correction_tokens: i32,
    queue_ms: i64,
    inference_ms: i64,
    corrected_at: i64,
    proposal: Option<&'a str>,
}

#[derive(Serialize)]
struct Pair<'a> {
    correction_id: &'a str,
    event_id: &'a str,
    prompt: &'a str,
    chosen: &'a str,
    rejected: &'a str,
    similarity: f64,
    unchanged_logprob: Option<f64>,
    mean_logprob: Option<f64>,
    upstream_model: &'a Option<String>,
    aligner_name: &'a str,
    aligner_revision: &'a str,
    template_hash: &'a str,
    source_topic: &'a str,
    source_partition: i32,
    source_offset: i64,
    corrected_at: i64,
    conversation_id: &'a Option<String>,
    user_id: &'a Option<String>,
    created_at: Option<i64>,
}

const ALIGNER: &str = "marker-all";
const REVISION: &str = "builtin-1";
const NO_TEMPLATE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Counts what is on its way.
#[derive(Default)]
struct Outstanding(AtomicUsize);

impl ClientContext for Outstanding {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        eprintln!("{level:?} {facility} {message}");
    }
}

impl ProducerContext for Outstanding {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            panic!("an output was not delivered: {error}");
        }
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn main() {
    let arguments = Arguments::parse();
    let mut common = ClientConfig::new();
    common.set("bootstrap.servers", &arguments.bootstrap_servers);
    let consumer: BaseConsumer = common
        .clone()
        .set("group.id", &arguments.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .create()
        .expect("constant settings are valid");
    let producer: ThreadedProducer<Outstanding> = common
        .clone()
        .set("transactional.id", &arguments.group)
        .set("compression.type", &arguments.compression)
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "500000")
        .create_with_context(Outstanding::default())
        .expect("constant settings are valid");
    producer
        .init_transactions(CALL_LIMIT)
        .expect("an id of our own");
    consumer
        .subscribe(&[&arguments.answers])
        .expect("a valid name");

    let asked_to_stop = stop_at_sigterm();
    let interval = Duration::from_millis(arguments.commit_interval_ms);
    while !asked_to_stop.load(Ordering::Relaxed) {
        let Some(first) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        producer.begin_transaction().expect("none is open");
        let mut offsets = TopicPartitionList::new();
        let until = Instant::now() + interval;
        let mut next = Some(first);
        loop {
            if let Some(message) = next {
                handle(
                    &producer,
                    &arguments,
                    &message.expect("a readable record"),
                    &mut offsets,
                );
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            next = consumer.poll(left);
        }
        // A flush waits in steps of 100 ms, so the reports are awaited first.
        while producer.context().0.load(Ordering::Acquire) > 0 {
            thread::sleep(Duration::from_micros(200));
        }
        let group = consumer.group_metadata().expect("a member of the group");
        producer
            .send_offsets_to_transaction(&offsets, &group, CALL_LIMIT)
            .and_then(|()| producer.commit_transaction(CALL_LIMIT))
            .expect("nothing disturbs a benchmark");
    }
}

fn handle(
    producer: &ThreadedProducer<Outstanding>,
    arguments: &Arguments,
    message: &BorrowedMessage<'_>,
    offsets: &mut TopicPartitionList,
) {
    let value = message.payload().expect("no tombstones");
    let event: Answer = serde_json::from_slice(value).expect("an answer event");
    let (partition, offset) = (message.partition(), message.offset());
    let corrected = [event.answer.as_str(), " [marked]"].concat();
    let id = correction_id(&arguments.answers, partition, offset);
    let similarity = similarity(&event.answer);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let corrected_at = i64::try_from(now.as_millis()).expect("before the year 292 million");
    let correction = Correction {
        correction_id: &id,
        event_id: &event.event_id,
        question: &event.question,
        answer: &event.answer,
        correction: &corrected,
        disposition: "corrected",
        // The mark is always put behind the answer.
        reason: Some("extended"),
        message: None,
        similarity,
        unchanged_logprob: None,
        mean_logprob: None,
        upstream_model: &event.upstream_model,
        conversation_id: &event.conversation_id,
        user_id: &event.user_id,
        metadata_json: &event.metadata_json,
        created_at: event.created_at,
        aligner_name: ALIGNER,
        aligner_revision: REVISION,
        template_hash: NO_TEMPLATE,
        max_new_tokens: 1024,
        temperature: 0.0,
        top_p: None,
        seed: None,
        source_topic: &arguments.answers,
        source_partition: partition,
        source_offset: offset,
        prompt_tokens: 0,
        correction_tokens: 0,
        queue_ms: 0,
        inference_ms: 0,
        corrected_at,
        proposal: None,
    };
    let pair = Pair {
        correction_id: &id,
        event_id: &event.event_id,
        prompt: &event.question,
        chosen: &corrected,
        rejected: &event.answer,
        similarity,
        unchanged_logprob: None,
        mean_logprob: None,
        upstream_model: &event.upstream_model,
        aligner_name: ALIGNER,
        aligner_revision: REVISION,
        template_hash: NO_TEMPLATE,
        source_topic: &arguments.answers,
        source_partition: partition,
        source_offset: offset,
        corrected_at,
        conversation_id: &event.conversation_id,
        user_id: &event.user_id,
        created_at: event.created_at,
    };
    send(
        producer,
        &arguments.corrections,
        &event.event_id,
        &correction,
    );
    send(producer, &arguments.pairs, &event.event_id, &pair);
    let next = Offset::Offset(offset + 1);
    match offsets.find_partition(message.topic(), partition) {
        Some(mut entry) => entry.set_offset(next),
        None => offsets.add_partition_offset(message.topic(), partition, next),
    }
    .expect("a valid offset");
}

fn send(producer: &ThreadedProducer<Outstanding>, topic: &str, key: &str, value: &impl Serialize) {
    let mut bytes = Vec::with_capacity(2048);
    serde_json::to_writer(&mut bytes, value).expect("records are JSON");
    producer.context().0.fetch_add(1, Ordering::Relaxed);
    let mut record = BaseRecord::to(topic).key(key).payload(&bytes);
    while let Err((error, again)) = producer.send(record) {
        assert!(
            matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ),
            "send: {error}"
        );
        thread::sleep(Duration::from_millis(1));
        record = again;
    }
}

/// The first 128 bits, in hex, of the hash of the record's position and the Aligner's revision.
fn correction_id(topic: &str, partition: i32, offset: i64) -> String {
    let lines = format!("kafka\n{topic}\n{partition}\n{offset}\n{REVISION}");
    let digest = Sha256::digest(lines.as_bytes());
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Share of words and white spaces in common: the mark adds one of each.
fn similarity(answer: &str) -> f64 {
    let mut words = 0;
    let mut before = None;
    for byte in answer.bytes() {
        let space = byte.is_ascii_whitespace();
        words += usize::from(before != Some(space));
        before = Some(space);
    }
    (2 * words) as f64 / (2 * words + 2) as f64
}

fn stop_at_sigterm() -> Arc<AtomicBool> {
    let asked = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&asked);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be started");
        runtime.block_on(async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            let mut signal = tokio::signal::unix::signal(kind).expect("a handler can be set");
            signal.recv().await;
        });
        tell.store(true, Ordering::Relaxed);
    });
    asked
}
