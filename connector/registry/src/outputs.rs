//! Corrections and pairs in the Confluent wire format.

use aligner_records::{Correction, PreferencePair, Record, avro, framing};

/// The subject of a topic's values (Confluent's `TopicNameStrategy`).
pub fn subject(topic: &str) -> String {
    format!("{topic}-value")
}

/// Writes outputs with schemas whose ids are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisteredEncoder {
    corrections: u32,
    pairs: u32,
}

impl RegisteredEncoder {
    /// An encoder for these schema ids; see [`Registry::outputs`](crate::Registry::outputs).
    pub fn new(corrections: u32, pairs: u32) -> Self {
        Self { corrections, pairs }
    }

    /// The value of a correction.
    pub fn correction(&self, correction: &Correction) -> Vec<u8> {
        framed(self.corrections, correction)
    }

    /// The value of a preference pair.
    pub fn pair(&self, pair: &PreferencePair) -> Vec<u8> {
        framed(self.pairs, pair)
    }
}

fn framed<R: Record>(id: u32, record: &R) -> Vec<u8> {
    let mut value = Vec::with_capacity(2048);
    value.extend_from_slice(&framing::header(id));
    avro::encode_into(record, &mut value);
    value
}
