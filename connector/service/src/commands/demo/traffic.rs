//! The demo's traffic: answers of several upstream models, some of them in need of correction.
//! They come from templates and values that the bundled Aligner was never trained on.

use std::time::Duration;

use aligner_corpus::{Corpus, Split};
use aligner_kafka::{Connection, TopicWriter};
use aligner_records::AnswerEvent;

/// Events a second, while there are any.
const RATE: u32 = 20;
/// Long enough to be real, short enough to be read as they pass.
const WORDS: (usize, usize) = (20, 70);

/// The events of a seed.
///
/// Ids are of this run: the topics of a shared cluster hold those of others.
pub fn events(seed: u64, count: u32) -> Vec<AnswerEvent> {
    let run = crate::commands::now_ms() / 1000;
    Corpus::new(seed, Split::Test)
        .digressions(0.0)
        .words(WORDS.0, WORDS.1)
        .take(count as usize)
        .enumerate()
        .map(|(index, triple)| AnswerEvent {
            event_id: Some(format!("demo-{run}-{index}")),
            question: triple.question,
            answer: triple.answer,
            upstream_model: Some(triple.upstream_model),
            created_at: Some(crate::commands::now_ms()),
            ..AnswerEvent::default()
        })
        .collect()
}

/// Writes the events at a steady rate.
pub async fn produce(
    connection: Connection,
    topic: String,
    events: Vec<AnswerEvent>,
) -> anyhow::Result<()> {
    let writer = TopicWriter::open(&connection)?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / RATE);
    for mut event in events {
        pace.tick().await;
        event.created_at = Some(crate::commands::now_ms());
        let key = event
            .event_id
            .clone()
            .expect("every event of the demo has an id");
        let value = serde_json::to_vec(&event)?;
        writer
            .write(&topic, Some(key.as_bytes()), Some(&value), &[])
            .await?;
    }
    Ok(())
}
