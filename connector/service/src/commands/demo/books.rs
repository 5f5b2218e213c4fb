//! What went in against what came out: every event exactly once, and a pair for each correction.

use std::collections::{BTreeMap, HashMap, HashSet};

use aligner_kafka::TopicRecord;
use aligner_records::{AnswerEvent, Correction, Disposition, PreferencePair, json};
use anyhow::Context;

/// The accounts of a demo.
#[derive(Debug, Default)]
pub struct Books {
    /// Answers that were sent and have no end yet.
    open: HashMap<String, Option<String>>,
    /// Answers that have their end.
    closed: HashSet<String>,
    /// Pairs that are missing: corrections that came before their pair, or the other way round.
    unpaired: HashSet<String>,
    /// Ends by disposition, and by upstream model.
    by_disposition: BTreeMap<&'static str, u32>,
    by_model: BTreeMap<String, (u32, u32)>,
    twice: u32,
    total: u32,
    inference_ms: Vec<i64>,
}

impl Books {
    /// Opens the books with what will be sent.
    pub fn new(events: &[AnswerEvent]) -> Self {
        let open: HashMap<_, _> = events
            .iter()
            .filter_map(|event| Some((event.event_id.clone()?, event.upstream_model.clone())))
            .collect();
        Self {
            total: u32::try_from(open.len()).unwrap_or(u32::MAX),
            open,
            ..Self::default()
        }
    }

    /// Enters one output; returns it if it is a correction of a changed answer.
    pub fn enter(&mut self, record: &TopicRecord) -> anyhow::Result<Option<Correction>> {
        let id = std::str::from_utf8(record.key.as_deref().unwrap_or_default())
            .context("a key is not text")?
            .to_owned();
        let value = record.value.as_deref().unwrap_or_default();
        if record.topic.ends_with(".pairs") {
            json::decode::<PreferencePair>(value).context("a pair cannot be read")?;
            if self.open.contains_key(&id) || self.closed.contains(&id) {
                self.pair(id);
            }
            return Ok(None);
        }
        let correction = if record.topic.ends_with(".corrections") {
            Some(json::decode::<Correction>(value).context("a correction cannot be read")?)
        } else {
            None
        };
        let disposition = correction
            .as_ref()
            .map_or(Disposition::DeadLettered, |found| found.disposition);
        let Some(model) = self.open.remove(&id) else {
            // On a shared cluster another demo may write at the same time.
            self.twice += u32::from(self.closed.contains(&id));
            return Ok(None);
        };
        self.closed.insert(id.clone());
        *self.by_disposition.entry(disposition.as_str()).or_default() += 1;
        let (all, corrected) = self.by_model.entry(model.unwrap_or_default()).or_default();
        *all += 1;
        if disposition != Disposition::Corrected {
            return Ok(None);
        }
        *corrected += 1;
        self.pair(id);
        self.inference_ms
            .extend(correction.as_ref().map(|found| found.inference_ms));
        Ok(correction)
    }

    /// A correction and its pair meet in any order.
    fn pair(&mut self, id: String) {
        if !self.unpaired.remove(&id) {
            self.unpaired.insert(id);
        }
    }

    /// Events, and pairs, that are still to come.
    pub fn open(&self) -> usize {
        self.open.len() + self.unpaired.len()
    }

    /// Events that never came out, came out twice, or lack their pair.
    pub fn lost(&self) -> usize {
        self.open() + self.twice as usize
    }

    /// Events that came out.
    pub fn done(&self) -> u32 {
        self.total - u32::try_from(self.open.len()).unwrap_or(self.total)
    }

    /// Events in all.
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Events that ended so.
    pub fn count(&self, disposition: Disposition) -> u32 {
        self.by_disposition
            .get(disposition.as_str())
            .copied()
            .unwrap_or_default()
    }

    /// Answers and corrections of each upstream model.
    pub fn by_model(&self) -> &BTreeMap<String, (u32, u32)> {
        &self.by_model
    }

    /// Median inference time of a correction, milliseconds.
    pub fn median_inference_ms(&self) -> Option<i64> {
        let mut sorted = self.inference_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}
