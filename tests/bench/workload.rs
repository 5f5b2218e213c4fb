//! The events that every subject reads: one kilobyte of JSON each, the same on every run.
//!
//! Their texts come from the corpus, so that they compress as prose does and not as noise or as
//! one sentence repeated. An event's id holds its number, which is how it is found again among the
//! outputs.

use std::time::Duration;

use aligner_corpus::{Corpus, Split};
use aligner_tests::client::Silent;
use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use serde_json::json;

/// Bytes of one event's value.
pub const EVENT_BYTES: usize = 1_000;
/// Different texts; what lies within a compressed batch never repeats.
const TEXTS: usize = 4_096;
/// Longer questions would leave no room for an answer.
const MAX_QUESTION_BYTES: usize = 300;
const SEED: u64 = 20_260_721;

/// Makes events by number.
pub struct Workload {
    texts: Vec<(String, String)>,
}

/// One event and what is known of it.
pub struct Event {
    pub id: String,
    pub question: String,
    pub answer: String,
    pub value: Vec<u8>,
}

impl Workload {
    pub fn new() -> Self {
        let mut triples = Corpus::new(SEED, Split::Test).filter(|triple| {
            triple.question.is_ascii()
                && triple.question.len() <= MAX_QUESTION_BYTES
                && triple.answer.is_ascii()
        });
        let texts = (0..TEXTS)
            .map(|_| {
                let first = triples.next().expect("the corpus has no end");
                let mut answer = first.answer;
                while answer.len() < EVENT_BYTES {
                    answer.push(' ');
                    answer += &triples.next().expect("the corpus has no end").answer;
                }
                (first.question, answer)
            })
            .collect();
        Self { texts }
    }

    /// The event with this number.
    pub fn event(&self, number: usize) -> Event {
        let (question, answer) = &self.texts[number % TEXTS];
        let id = event_id(number);
        let encode = |answer: &str| {
            json!({
                "event_id": id,
                "question": question,
                "answer": answer,
                "upstream_model": "upstream-7b",
                "created_at": 1_780_000_000_000_i64,
                "conversation_id": format!("conversation-{}", number / 4),
            })
            .to_string()
        };
        // The texts are ASCII. Escapes take more room than their characters, and an answer that
        // ends in a space would share it with the mark.
        let mut answer = &answer[..EVENT_BYTES.saturating_sub(encode("").len())];
        let mut value = encode(answer);
        while value.len() > EVENT_BYTES || answer.ends_with(char::is_whitespace) {
            answer = &answer[..answer.len() - 1];
            value = encode(answer);
        }
        Event {
            id: id.clone(),
            question: question.clone(),
            answer: answer.to_owned(),
            value: value.into_bytes(),
        }
    }

    /// Writes the first `count` events to a topic, spread evenly over its partitions.
    pub fn load(&self, settings: &ClientConfig, topic: &str, partitions: usize, count: usize) {
        let producer = producer(settings, "20");
        for number in 0..count {
            let event = self.event(number);
            send(&producer, topic, number % partitions, &event);
        }
        producer
            .flush(Duration::from_secs(120))
            .expect("the broker takes the events");
    }
}

/// The id of an event.
pub fn event_id(number: usize) -> String {
    format!("event-{number:08}")
}

/// The number in an event's id.
pub fn number(event_id: &[u8]) -> Option<usize> {
    std::str::from_utf8(event_id.strip_prefix(b"event-")?)
        .ok()?
        .parse()
        .ok()
}

/// A producer for events.
pub fn producer(settings: &ClientConfig, linger_ms: &str) -> ThreadedProducer<Silent> {
    settings
        .clone()
        .set("linger.ms", linger_ms)
        .set("enable.idempotence", "true")
        .set("queue.buffering.max.kbytes", "65536")
        .create_with_context(Silent)
        .expect("constant settings are valid")
}

/// Sends an event, waiting for room.
pub fn send(producer: &ThreadedProducer<Silent>, topic: &str, partition: usize, event: &Event) {
    let partition = i32::try_from(partition).expect("few partitions");
    let mut record = BaseRecord::to(topic)
        .partition(partition)
        .key(event.id.as_bytes())
        .payload(&event.value);
    while let Err((error, again)) = producer.send(record) {
        assert!(
            matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ),
            "send to {topic}: {error}"
        );
        std::thread::sleep(Duration::from_millis(1));
        record = again;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_size_and_is_found_by_its_id() {
        let workload = Workload::new();
        for wanted in [0, 1, 4_095, 4_096, 399_999] {
            let event = workload.event(wanted);
            assert!((EVENT_BYTES - 8..=EVENT_BYTES).contains(&event.value.len()));
            assert_eq!(number(event.id.as_bytes()), Some(wanted));
            serde_json::from_slice::<serde_json::Value>(&event.value).expect("JSON");
        }
    }
}
