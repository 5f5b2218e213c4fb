//! What one record of 1 kB costs to read and to write: `cargo run --release --example
//! codec_cost`.

use std::{hint::black_box, time::Instant};

use aligner_records::{
    AnswerEvent, Correction, Disposition, PreferencePair, Record, SourcePosition,
    avro::{self, AnswerReader},
    correction_id, json,
};

/// Short enough to fit between two turns of other programs.
const ROUNDS: u32 = 500;
const REPEATS: u32 = 400;

fn measure<T>(what: &str, bytes: usize, mut work: impl FnMut() -> T) {
    // The best repeat: the machine may be shared.
    let best = (0..REPEATS)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                black_box(work());
            }
            start.elapsed().as_secs_f64() / f64::from(ROUNDS)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{what:<28} {:>7.2} us  {bytes:>5} bytes", best * 1e6);
}

fn main() {
    let sentence = "The \"quick\" brown fox jumps over the lazy dog, and writes it down.\n";
    let event = AnswerEvent {
        event_id: Some("evt-000001".into()),
        question: sentence.repeat(2),
        answer: sentence.repeat(11),
        upstream_model: Some("upstream-7b".into()),
        created_at: Some(1_766_000_068_280),
        ..AnswerEvent::default()
    };
    let position = SourcePosition {
        topic: "llm.answers".into(),
        partition: 3,
        offset: 42,
    };
    let id = || correction_id(Some(&position), "evt-000001", "revision-1");
    let correction = Correction {
        correction_id: id(),
        event_id: "evt-000001".into(),
        question: Some(event.question.clone()),
        answer: Some(event.answer.clone()),
        correction: Some(event.answer.clone()),
        disposition: Disposition::Corrected,
        reason: None,
        message: None,
        similarity: Some(0.987),
        unchanged_logprob: Some(-11.25),
        mean_logprob: Some(-0.0625),
        upstream_model: event.upstream_model.clone(),
        conversation_id: None,
        user_id: None,
        metadata_json: None,
        created_at: event.created_at,
        aligner_name: "marker-all".into(),
        aligner_revision: "builtin-1".into(),
        template_hash: "00ff".repeat(16),
        max_new_tokens: 1024,
        temperature: 0.0,
        top_p: None,
        seed: None,
        source_topic: Some("llm.answers".into()),
        source_partition: Some(3),
        source_offset: Some(42),
        prompt_tokens: 200,
        correction_tokens: 180,
        queue_ms: 3,
        inference_ms: 12,
        corrected_at: 1_766_000_069_001,
        proposal: None,
    };
    let pair = PreferencePair {
        correction_id: correction.correction_id.clone(),
        event_id: correction.event_id.clone(),
        prompt: event.question.clone(),
        chosen: event.answer.clone(),
        rejected: event.answer.clone(),
        similarity: 0.987,
        unchanged_logprob: correction.unchanged_logprob,
        mean_logprob: correction.mean_logprob,
        upstream_model: event.upstream_model.clone(),
        aligner_name: correction.aligner_name.clone(),
        aligner_revision: correction.aligner_revision.clone(),
        template_hash: correction.template_hash.clone(),
        source_topic: correction.source_topic.clone(),
        source_partition: Some(3),
        source_offset: Some(42),
        corrected_at: correction.corrected_at,
        conversation_id: event.conversation_id.clone(),
        user_id: event.user_id.clone(),
        created_at: event.created_at,
    };
    let text = json::encode(&event);
    let datum = avro::encode(&event);
    let reader =
        AnswerReader::new(AnswerEvent::schema().clone(), Vec::new(), None).expect("our own schema");

    measure("read answer event, json", text.len(), || {
        json::decode_answer(&text)
    });
    measure("read answer event, avro", datum.len(), || {
        reader.decode(&datum)
    });
    measure("correction id", 0, id);
    let (c, p) = (json::encode(&correction).len(), json::encode(&pair).len());
    measure("write correction, json", c, || json::encode(&correction));
    measure("write pair, json", p, || json::encode(&pair));
    let (c, p) = (avro::encode(&correction).len(), avro::encode(&pair).len());
    measure("write correction, avro", c, || avro::encode(&correction));
    measure("write pair, avro", p, || avro::encode(&pair));
}
