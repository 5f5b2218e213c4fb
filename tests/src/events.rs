//! Answer events from a seed: varied in length, language and fields, alike on every run.

use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::{
    client::{Outgoing, Record},
    ledger::{Expected, Input},
};

/// Words of the texts; some lie outside ASCII, because lengths in bytes and in characters differ.
const WORDS: [&str; 24] = [
    "the",
    "answer",
    "depends",
    "on",
    "water",
    "boils",
    "at",
    "a",
    "hundred",
    "degrees",
    "naïve",
    "größer",
    "日本",
    "😀",
    "because",
    "nobody",
    "knows",
    "\"quoted\"",
    "back\\slash",
    "tab\there",
    "of",
    "course",
    "never",
    "again",
];
/// Upstream models that the events name.
const UPSTREAM: [&str; 3] = ["gpt-oss", "llama-next", "in-house"];

/// Makes answer events.
#[derive(Debug)]
pub struct Events {
    random: ChaCha8Rng,
    prefix: String,
    made: u64,
}

impl Events {
    /// Events of `seed`; ids begin with `prefix`.
    pub fn new(seed: u64, prefix: &str) -> Self {
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            prefix: prefix.to_owned(),
            made: 0,
        }
    }

    /// The next event: most have an id, some leave it to the position; some have extra fields.
    pub fn next_json(&mut self) -> (Outgoing, Input) {
        self.made += 1;
        let question = self.words(2, 12);
        let answer = self.words(1, 60);
        let mut event = Map::new();
        let event_id = self
            .random
            .random_bool(0.9)
            .then(|| format!("{}-{}", self.prefix, self.made));
        if let Some(id) = &event_id {
            event.insert("event_id".into(), json!(id));
        }
        event.insert("question".into(), json!(question));
        event.insert("answer".into(), json!(answer));
        if self.random.random_bool(0.7) {
            let model = UPSTREAM
                .choose(&mut self.random)
                .expect("the list has members");
            event.insert("upstream_model".into(), json!(model));
        }
        if self.random.random_bool(0.5) {
            event.insert("created_at".into(), json!(1_780_000_000_000_i64));
        }
        if self.random.random_bool(0.3) {
            event.insert(
                "conversation_id".into(),
                json!(format!("c-{}", self.made / 4)),
            );
            event.insert("metadata_json".into(), json!("{\"region\":\"eu\"}"));
        }
        let value = serde_json::to_vec(&Value::Object(event)).expect("strings make valid JSON");
        let key = self
            .random
            .random_bool(0.5)
            .then(|| format!("key-{}", self.made % 97).into_bytes());
        let outgoing = Outgoing {
            partition: None,
            key: key.clone(),
            value: Some(value.clone()),
            headers: Vec::new(),
        };
        let input = Input {
            key,
            value: Some(value),
            event_id,
            question,
            answer,
            expected: Expected::ByMarker,
        };
        (outgoing, input)
    }

    /// Between `least` and `most` words.
    pub fn words(&mut self, least: usize, most: usize) -> String {
        let count = self.random.random_range(least..=most);
        let mut text = String::new();
        for index in 0..count {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(
                WORDS
                    .choose(&mut self.random)
                    .expect("the list has members"),
            );
        }
        text
    }
}

/// One JSON event with the given texts.
pub fn event(event_id: Option<&str>, question: &str, answer: &str) -> (Outgoing, Input) {
    let mut event = Map::new();
    if let Some(id) = event_id {
        event.insert("event_id".into(), json!(id));
    }
    event.insert("question".into(), json!(question));
    event.insert("answer".into(), json!(answer));
    let value = serde_json::to_vec(&Value::Object(event)).expect("strings make valid JSON");
    let outgoing = Outgoing {
        value: Some(value.clone()),
        ..Outgoing::default()
    };
    let input = Input {
        key: None,
        value: Some(value),
        event_id: event_id.map(str::to_owned),
        question: question.to_owned(),
        answer: answer.to_owned(),
        expected: Expected::ByMarker,
    };
    (outgoing, input)
}

/// A record that is no valid event and must become a dead letter for `reason`.
pub fn broken(key: Option<&[u8]>, value: Option<&[u8]>, reason: &'static str) -> (Outgoing, Input) {
    let outgoing = Outgoing {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        ..Outgoing::default()
    };
    let input = Input {
        key: outgoing.key.clone(),
        value: outgoing.value.clone(),
        event_id: None,
        question: String::new(),
        answer: String::new(),
        expected: Expected::DeadLetter(reason),
    };
    (outgoing, input)
}

/// Offset of the input of a correction.
pub fn source_offset(correction: &Record) -> i64 {
    let value: serde_json::Value =
        serde_json::from_slice(correction.value.as_deref().expect("no tombstones"))
            .expect("corrections are JSON");
    value["source_offset"].as_i64().expect("a number")
}

/// The seed of this run: `ALIGNER_TEST_SEED`, or a fixed one; printed, so that a failure can be
/// had again.
pub fn seed(what: &str) -> u64 {
    let seed = std::env::var("ALIGNER_TEST_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_260_721);
    eprintln!("{what}: seed {seed} (ALIGNER_TEST_SEED changes it)");
    seed
}
