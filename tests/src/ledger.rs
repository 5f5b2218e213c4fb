//! The books of exactly-once: what went in, what must come out, what came out.
//!
//! Pure: records are fed in as they are read, in any interleaving of partitions, and complaints
//! come out. It knows nothing of brokers, so that tables can prove that it catches each lie.
//!
//! Checked for every record as it comes: it stems from a known input, for the first time (I1),
//! with the texts, key and disposition that the input must have, and after its predecessors of
//! the same source partition (I3). Checked at the end: no input is missing (I1), and there is a
//! pair exactly for each corrected answer, with the same id (I2).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::client::Record;

/// What the marking Aligners append.
pub const MARK: &str = " [marked]";

/// Fields that every correction has, `null` where there is no value (a contract with users).
pub const CORRECTION_FIELDS: [&str; 23] = [
    "correction_id",
    "event_id",
    "question",
    "answer",
    "correction",
    "disposition",
    "reason",
    "similarity",
    "unchanged_logprob",
    "mean_logprob",
    "upstream_model",
    "aligner_name",
    "aligner_revision",
    "template_hash",
    "source_topic",
    "source_partition",
    "source_offset",
    "prompt_tokens",
    "correction_tokens",
    "queue_ms",
    "inference_ms",
    "corrected_at",
    "proposal",
];

/// Where an input record lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.topic, self.partition, self.offset)
    }
}

/// How an input must end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// By the rule of the `marker` Aligner: marked where the id's CRC-32 is even.
    ByMarker,
    /// By the rule of `marker-all`.
    Marked,
    /// Let stand.
    Unchanged,
    /// Not fit for the model, for this reason.
    Bypassed(&'static str),
    /// Any valid end of a valid event: for real models, whose text nobody can foretell.
    AnyCorrection,
    /// A dead letter with this `aligner.reason`.
    DeadLetter(&'static str),
}

/// One input record and what must become of it.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its bytes.
    pub value: Option<Vec<u8>>,
    /// The producer's id; the position stands in for it.
    pub event_id: Option<String>,
    /// Question, where the record is a valid event.
    pub question: String,
    /// Answer, where the record is a valid event.
    pub answer: String,
    /// How it must end.
    pub expected: Expected,
}

/// Which output topic a record was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    /// Corrections.
    Correction,
    /// Preference pairs.
    Pair,
    /// Dead letters.
    DeadLetter,
}

#[derive(Debug)]
struct Seen {
    correction_id: String,
    correction: Value,
}

/// The books.
#[derive(Debug, Default)]
pub struct Ledger {
    inputs: BTreeMap<Position, Input>,
    corrections: BTreeMap<Position, Seen>,
    pairs: BTreeMap<Position, Value>,
    dead_letters: BTreeSet<Position>,
    /// The last source offset, per source partition and output partition.
    order: BTreeMap<(String, i32, Output, i32), i64>,
    correction_ids: BTreeSet<String>,
    /// Outputs whose input is not noted yet: a fast connector is ahead of the test's books.
    parked: Vec<(Output, Record)>,
    dispositions: BTreeMap<String, u64>,
    complaints: Vec<String>,
}

impl Ledger {
    /// Notes input records; those of a partition must come in offset order over all calls.
    pub fn inputs(&mut self, inputs: impl IntoIterator<Item = (Position, Input)>) {
        for (position, input) in inputs {
            let before = self.inputs.insert(position, input);
            assert!(
                before.is_none(),
                "two inputs at one position: the test is wrong"
            );
        }
        for (output, record) in std::mem::take(&mut self.parked) {
            self.observe(output, &record);
        }
    }

    /// Notes an output record.
    pub fn observe(&mut self, output: Output, record: &Record) {
        let checked = position_of(output, record).and_then(|(position, value)| {
            let Some(input) = self.inputs.get(&position).cloned() else {
                self.parked.push((output, record.clone()));
                return Ok(());
            };
            self.check_order(output, record.partition, &position)?;
            match output {
                Output::Correction => self.correction_of(position, &input, record, value),
                Output::Pair => self.pair_of(position, &input, record, value),
                Output::DeadLetter => self.dead_letter_of(position, &input, record),
            }
        });
        if let Err(complaint) = checked {
            self.complain(format!(
                "{output:?} at {}-{}: {complaint}",
                record.partition, record.offset
            ));
        }
    }

    /// Everything that was wrong so far.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// Inputs that have no output yet.
    pub fn missing(&self) -> Vec<Position> {
        self.inputs
            .keys()
            .filter(|position| !self.is_settled(position))
            .cloned()
            .collect()
    }

    /// How many inputs have no output yet.
    pub fn missing_count(&self) -> usize {
        self.inputs.len() - self.corrections.len() - self.dead_letters.len()
    }

    /// Fresh books of the inputs that have no output yet, for another reader.
    pub fn still_missing(&self) -> Self {
        Self {
            inputs: self
                .inputs
                .iter()
                .filter(|(position, _)| !self.is_settled(position))
                .map(|(position, input)| (position.clone(), input.clone()))
                .collect(),
            ..Self::default()
        }
    }

    /// How many inputs were noted.
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// How many inputs ended in each disposition.
    pub fn dispositions(&self) -> &BTreeMap<String, u64> {
        &self.dispositions
    }

    /// The correction of an input, as it was read.
    pub fn correction(&self, position: &Position) -> Option<&Value> {
        self.corrections.get(position).map(|seen| &seen.correction)
    }

    /// Complains about every input below `committed` without an output (I4), and, where `exact`,
    /// about every output at or above it: outputs and offsets are one transaction.
    pub fn check_committed(&mut self, topic: &str, committed: &BTreeMap<i32, i64>, exact: bool) {
        let mut found = Vec::new();
        for position in self
            .inputs
            .keys()
            .filter(|position| position.topic == topic)
        {
            let offset = committed.get(&position.partition).copied().unwrap_or(0);
            let settled = self.is_settled(position);
            if position.offset < offset && !settled {
                found.push(format!(
                    "offset {offset} is committed, but {position} has no output (I4)"
                ));
            }
            if exact && position.offset >= offset && settled {
                found.push(format!(
                    "{position} has an output, but only offset {offset} is committed (I4)"
                ));
            }
        }
        for complaint in found {
            self.complain(complaint);
        }
    }

    /// The last check: everything that can only be said once nothing more will come.
    pub fn close(&mut self) {
        for (output, record) in std::mem::take(&mut self.parked) {
            let position = position_of(output, &record)
                .map_or_else(|complaint| complaint, |(position, _)| position.to_string());
            self.complain(format!(
                "{output:?} at {}-{}: it stems from {position}, which is no input (I1)",
                record.partition, record.offset
            ));
        }
        let missing = self.missing();
        if !missing.is_empty() {
            let first: Vec<_> = missing.iter().take(5).map(ToString::to_string).collect();
            self.complain(format!(
                "{} of {} inputs have no output, the first of them {} (I1)",
                missing.len(),
                self.inputs.len(),
                first.join(", ")
            ));
        }
        let mut found = Vec::new();
        for (position, seen) in &self.corrections {
            let corrected = seen.correction["disposition"] == "corrected";
            match (corrected, self.pairs.get(position)) {
                (true, None) => found.push(format!("{position} is corrected but has no pair (I2)")),
                (false, Some(_)) => {
                    found.push(format!("{position} has a pair but is not corrected (I2)"));
                }
                (true, Some(pair)) if pair["correction_id"] != seen.correction_id.as_str() => {
                    found.push(format!(
                        "{position}: pair and correction differ in their id (I2)"
                    ));
                }
                _ => {}
            }
        }
        for position in self.pairs.keys() {
            if !self.corrections.contains_key(position) {
                found.push(format!("{position} has a pair but no correction (I2)"));
            }
        }
        for complaint in found {
            self.complain(complaint);
        }
    }

    fn is_settled(&self, position: &Position) -> bool {
        self.corrections.contains_key(position) || self.dead_letters.contains(position)
    }

    fn complain(&mut self, complaint: String) {
        // One fault can make thousands of lines; the first ones tell the story.
        if self.complaints.len() < 50 {
            self.complaints.push(complaint);
        }
    }

    fn check_order(
        &mut self,
        output: Output,
        partition: i32,
        position: &Position,
    ) -> Result<(), String> {
        let lane = (
            position.topic.clone(),
            position.partition,
            output,
            partition,
        );
        match self.order.insert(lane, position.offset) {
            Some(before) if before >= position.offset => Err(format!(
                "source offset {} of partition {} comes after {before} (I1, I3)",
                position.offset, position.partition
            )),
            _ => Ok(()),
        }
    }

    fn first_of(&self, position: &Position) -> Result<(), String> {
        if self.is_settled(position) {
            return Err(format!("{position} has an output already (I1)"));
        }
        Ok(())
    }

    fn correction_of(
        &mut self,
        position: Position,
        input: &Input,
        record: &Record,
        value: Value,
    ) -> Result<(), String> {
        self.first_of(&position)?;
        for field in CORRECTION_FIELDS {
            if value.get(field).is_none() {
                return Err(format!("field {field} is absent"));
            }
        }
        let disposition = text(&value, "disposition")?;
        let event_id = identified(input, &position, record, &value)?;
        same("question", text(&value, "question")?, &input.question)?;
        same("answer", text(&value, "answer")?, &input.answer)?;
        let (expected, reason) = expected_end(input, &position, &event_id, disposition)?;
        same("disposition", disposition, expected)?;
        if let Some(reason) = reason {
            same("reason", text(&value, "reason")?, reason)?;
        }
        let correction = text(&value, "correction")?;
        match (&input.expected, disposition) {
            (Expected::AnyCorrection, "corrected") => {
                if correction.trim() == input.answer.trim() {
                    return Err("it is called corrected, but nothing was changed".into());
                }
            }
            (_, "corrected") => {
                same("correction", correction, &[&input.answer, MARK].concat())?;
            }
            _ => same("correction", correction, &input.answer)?,
        }
        let correction_id = text(&value, "correction_id")?.to_owned();
        if !self.correction_ids.insert(correction_id.clone()) {
            return Err(format!("correction_id {correction_id} was seen before"));
        }
        *self.dispositions.entry(disposition.to_owned()).or_default() += 1;
        self.corrections.insert(
            position,
            Seen {
                correction_id,
                correction: value,
            },
        );
        Ok(())
    }

    fn pair_of(
        &mut self,
        position: Position,
        input: &Input,
        record: &Record,
        value: Value,
    ) -> Result<(), String> {
        identified(input, &position, record, &value)?;
        same("prompt", text(&value, "prompt")?, &input.question)?;
        same("rejected", text(&value, "rejected")?, &input.answer)?;
        let chosen = text(&value, "chosen")?;
        if input.expected == Expected::AnyCorrection {
            if chosen.trim() == input.answer.trim() {
                return Err("chosen and rejected are equal".into());
            }
        } else {
            // Between the white space at the ends of the answer.
            let end = &input.answer[input.answer.trim_end().len()..];
            same(
                "chosen",
                chosen,
                &[input.answer.as_str(), MARK, end].concat(),
            )?;
        }
        if self.pairs.insert(position.clone(), value).is_some() {
            return Err(format!("{position} has a pair already (I1)"));
        }
        Ok(())
    }

    fn dead_letter_of(
        &mut self,
        position: Position,
        input: &Input,
        record: &Record,
    ) -> Result<(), String> {
        self.first_of(&position)?;
        let Expected::DeadLetter(reason) = &input.expected else {
            return Err(format!(
                "{position} is a dead letter ({}: {}), {:?} was expected",
                record.header("aligner.reason").unwrap_or("no reason"),
                record
                    .header("__connect.errors.exception.message")
                    .unwrap_or("no message"),
                input.expected
            ));
        };
        let key = input
            .key
            .clone()
            .unwrap_or_else(|| position.to_string().into_bytes());
        same_bytes("key", record.key.as_deref(), Some(&key))?;
        match record.header("aligner.value_omitted") {
            None => same_bytes("value", record.value.as_deref(), input.value.as_deref())?,
            // Too large for the topic: only its size is told.
            Some(bytes) => {
                same_bytes("value", record.value.as_deref(), None)?;
                let size = input.value.as_ref().map_or(0, Vec::len);
                same("aligner.value_omitted", bytes, &size.to_string())?;
            }
        }
        let found = record
            .header("aligner.reason")
            .ok_or("it has no aligner.reason")?;
        if !reason.is_empty() {
            same("aligner.reason", found, reason)?;
        }
        for header in ["stage", "exception.message", "connector.name"] {
            let name = format!("__connect.errors.{header}");
            if record.header(&name).is_none_or(str::is_empty) {
                return Err(format!("header {name} is absent"));
            }
        }
        *self
            .dispositions
            .entry("dead_lettered".to_owned())
            .or_default() += 1;
        self.dead_letters.insert(position);
        Ok(())
    }
}

/// The event's id, which the output must name, and have for its key.
fn identified(
    input: &Input,
    position: &Position,
    record: &Record,
    value: &Value,
) -> Result<String, String> {
    let event_id = input
        .event_id
        .clone()
        .unwrap_or_else(|| position.to_string());
    same("event_id", text(value, "event_id")?, &event_id)?;
    same_bytes("key", record.key.as_deref(), Some(event_id.as_bytes()))?;
    Ok(event_id)
}

/// The disposition that a correction must have, and its reason where that is known.
fn expected_end<'a>(
    input: &Input,
    position: &Position,
    event_id: &str,
    disposition: &'a str,
) -> Result<(&'a str, Option<&'static str>), String> {
    Ok(match &input.expected {
        Expected::ByMarker if crc32fast::hash(event_id.as_bytes()).is_multiple_of(2) => {
            ("corrected", Some("extended"))
        }
        Expected::Marked => ("corrected", Some("extended")),
        Expected::ByMarker | Expected::Unchanged => ("unchanged", None),
        Expected::Bypassed(reason) => ("bypassed", Some(*reason)),
        Expected::AnyCorrection if disposition != "dead_lettered" => (disposition, None),
        Expected::AnyCorrection => {
            return Err(format!("disposition is {disposition} in a correction"));
        }
        Expected::DeadLetter(_) => {
            return Err(format!(
                "{position} is a correction, a dead letter was expected"
            ));
        }
    })
}

fn position_of(output: Output, record: &Record) -> Result<(Position, Value), String> {
    match output {
        Output::DeadLetter => Ok((dead_letter_position(record)?, Value::Null)),
        Output::Correction | Output::Pair => {
            let bytes = record.value.as_deref().ok_or("it is a tombstone")?;
            let value: Value =
                serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))?;
            Ok((record_position(&value)?, value))
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str, String> {
    value
        .get(field)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("field {field} is no text"))
}

fn same(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "{what} is {:?}, expected {:?}",
        shortened(found),
        shortened(expected)
    ))
}

fn same_bytes(what: &str, found: Option<&[u8]>, expected: Option<&[u8]>) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let show = |bytes: Option<&[u8]>| {
        bytes.map_or("null".to_owned(), |bytes| {
            shortened(&String::from_utf8_lossy(bytes))
        })
    };
    Err(format!(
        "{what} is {}, expected {}",
        show(found),
        show(expected)
    ))
}

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn record_position(value: &Value) -> Result<Position, String> {
    let number = |field: &str| {
        value
            .get(field)
            .and_then(Value::as_i64)
            .ok_or_else(|| format!("field {field} is no number"))
    };
    Ok(Position {
        topic: text(value, "source_topic")?.to_owned(),
        partition: i32::try_from(number("source_partition")?).map_err(|error| error.to_string())?,
        offset: number("source_offset")?,
    })
}

fn dead_letter_position(record: &Record) -> Result<Position, String> {
    let header = |name: &str| {
        let name = format!("__connect.errors.{name}");
        record
            .header(&name)
            .ok_or_else(|| format!("header {name} is absent"))
    };
    let number = |name: &str| -> Result<i64, String> {
        header(name)?
            .parse()
            .map_err(|error| format!("header __connect.errors.{name}: {error}"))
    };
    Ok(Position {
        topic: header("topic")?.to_owned(),
        partition: i32::try_from(number("partition")?).map_err(|error| error.to_string())?,
        offset: number("offset")?,
    })
}
