//! Whether every event came out, exactly once, and as the records it should.

use std::time::{Duration, Instant};

use aligner_tests::{client::Silent, connector::Topics};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use serde_json::{Value, json};

use crate::{Bench, workload};

/// One of so many events is compared field by field.
const SAMPLE: usize = 997;
const LIMIT: Duration = Duration::from_secs(120);
/// What depends on when and where a record was handled, and the names of who did it.
const FREE: [&str; 4] = ["queue_ms", "inference_ms", "corrected_at", "correction_id"];

/// Reads both outputs as a committed reader.
pub fn check(bench: &Bench, topics: &Topics) -> Result<(), String> {
    for (topic, of) in [
        (&topics.corrections, correction as Expected),
        (&topics.pairs, pair as Expected),
    ] {
        let mut seen = vec![0_u8; bench.events];
        read(bench, topic, |key, value| {
            let number = workload::number(key)
                .filter(|number| *number < seen.len())
                .ok_or_else(|| format!("{topic}: a key that no event has"))?;
            seen[number] = seen[number].saturating_add(1);
            if number % SAMPLE == 0 {
                compare(topic, value, &of(&bench.workload.event(number)))?;
            }
            Ok(())
        })?;
        let missing = seen.iter().filter(|times| **times == 0).count();
        let twice = seen.iter().filter(|times| **times > 1).count();
        if missing + twice > 0 {
            return Err(format!(
                "{topic}: of {} events {missing} are missing and {twice} are there more than once",
                bench.events
            ));
        }
    }
    Ok(())
}

type Expected = fn(&workload::Event) -> Value;

/// Hex SHA-256 of nothing: the stand-in Aligner has no template.
const NO_TEMPLATE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn marked(event: &workload::Event) -> String {
    format!("{} [marked]", event.answer)
}

/// A correction's fields, the free ones aside.
fn correction(event: &workload::Event) -> Value {
    let read: Value = serde_json::from_slice(&event.value).expect("events are JSON");
    json!({
        "event_id": event.id, "question": event.question, "answer": event.answer,
        "correction": marked(event), "disposition": "corrected", "reason": "extended", "message": null,
        "similarity": similarity(event), "unchanged_logprob": null, "mean_logprob": null,
        "upstream_model": "upstream-7b",
        "conversation_id": read["conversation_id"], "user_id": null, "metadata_json": null,
        "created_at": read["created_at"], "aligner_name": "marker-all",
        "aligner_revision": "builtin-1", "template_hash": NO_TEMPLATE, "max_new_tokens": 1024,
        "temperature": 0.0, "top_p": null, "seed": null, "prompt_tokens": 0,
        "correction_tokens": 0, "proposal": null,
    })
}

/// A pair's fields, the free ones aside.
fn pair(event: &workload::Event) -> Value {
    let read: Value = serde_json::from_slice(&event.value).expect("events are JSON");
    json!({
        "event_id": event.id, "prompt": event.question, "chosen": marked(event),
        "rejected": event.answer, "similarity": similarity(event),
        "unchanged_logprob": null, "mean_logprob": null,
        "upstream_model": "upstream-7b", "aligner_name": "marker-all",
        "aligner_revision": "builtin-1", "template_hash": NO_TEMPLATE,
        "conversation_id": read["conversation_id"], "user_id": null, "created_at": read["created_at"],
    })
}

/// Share of words and white spaces in common: the mark adds one of each.
fn similarity(event: &workload::Event) -> f64 {
    let mut words = 0;
    let mut before = None;
    for character in event.answer.chars() {
        let space = character.is_whitespace();
        words += usize::from(before != Some(space));
        before = Some(space);
    }
    (2 * words) as f64 / (2 * words + 2) as f64
}

fn compare(topic: &str, value: &[u8], expected: &Value) -> Result<(), String> {
    let found: Value =
        serde_json::from_slice(value).map_err(|error| format!("{topic}: {error}"))?;
    let found = found.as_object().ok_or("an output is no object")?;
    for (name, wanted) in expected.as_object().expect("an object was made") {
        if !found.get(name).is_some_and(|value| same(value, wanted)) {
            return Err(format!(
                "{topic}: field {name} is {:?} and should be {wanted}",
                found.get(name)
            ));
        }
    }
    let unknown: Vec<_> = found
        .keys()
        .filter(|name| !name.starts_with("source_") && !FREE.contains(&name.as_str()))
        .filter(|name| expected.get(name).is_none())
        .collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "{topic}: fields that should not be there: {unknown:?}"
        ))
    }
}

/// Writers of JSON differ in how they write a round number, and in the last digit of others.
fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() < 1e-6,
        _ => left == right,
    }
}

/// Reads a topic to its committed end.
fn read(
    bench: &Bench,
    topic: &str,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let consumer: BaseConsumer<Silent> = bench
        .kafka
        .settings()
        .clone()
        .set("group.id", "bench-books")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create_with_context(Silent)
        .expect("constant settings are valid");
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(bench.partitions).expect("few partitions") {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("the beginning is a valid offset");
    }
    consumer.assign(&list).expect("the list is not empty");
    let started = Instant::now();
    let mut left = bench.partitions;
    while left > 0 {
        if started.elapsed() > LIMIT {
            return Err(format!(
                "{topic}: could not be read to its end within {LIMIT:?}"
            ));
        }
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => each(
                message.key().unwrap_or_default(),
                message.payload().unwrap_or_default(),
            )?,
            Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
            Some(Err(error)) => return Err(format!("{topic}: {error}")),
            None => {}
        }
    }
    Ok(())
}
