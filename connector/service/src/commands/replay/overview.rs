//! Which dead letters there are: by reason, how many, how many wait, and what the latest says.

use std::{collections::BTreeMap, fmt::Write};

use aligner_evaluation::render::harmless_line;
use aligner_kafka::{Positions, TopicRecord};
use aligner_pipeline::OpenedLetter;
use jiff::Timestamp;

use super::marks::Mark;
use crate::commands;

/// Reasons beyond are counted together: a header may hold anything.
const MOST_REASONS: usize = 100;
/// Topics of a reason beyond are not remembered.
const MOST_TOPICS: usize = 100;

/// Letters of one reason.
#[derive(Default)]
struct Row {
    /// By partition, their offsets, rising.
    letters: BTreeMap<i32, Vec<i64>>,
    /// By partition, how far it was replayed: what the latest mark says.
    replayed: Positions,
    /// By topic that letters came from and partition, the offset of the last.
    topics: BTreeMap<String, Positions>,
    latest: Option<i64>,
    message: String,
}

impl Row {
    fn letters(&self) -> usize {
        self.letters.values().map(Vec::len).sum()
    }

    fn done(&self, partition: i32) -> i64 {
        self.replayed.get(&partition).copied().unwrap_or(i64::MIN)
    }

    fn waiting(&self) -> usize {
        let waiting = |(partition, offsets): (&i32, &Vec<i64>)| {
            let done = self.done(*partition);
            offsets.len() - offsets.partition_point(|offset| *offset < done)
        };
        self.letters.iter().map(waiting).sum()
    }

    /// The topics of those that wait, or of all.
    fn topics(&self, all: bool) -> impl Iterator<Item = &str> {
        let is_meant = move |(_, last): &(&String, &Positions)| {
            let mut last = last.iter();
            all || last.any(|(partition, offset)| *offset >= self.done(*partition))
        };
        let topics = self.topics.iter().filter(is_meant);
        topics.map(|(topic, _)| topic.as_str())
    }
}

/// All that was read so far.
pub struct Overview {
    connector: String,
    rows: BTreeMap<String, Row>,
    /// Records that are no letters, or another connector's.
    others: u64,
    /// Letters of reasons for which there was no room.
    unlisted: u64,
}

impl Overview {
    /// Of the letters that this connector wrote.
    pub fn new(connector: &str) -> Self {
        Self {
            connector: connector.to_owned(),
            rows: BTreeMap::new(),
            others: 0,
            unlisted: 0,
        }
    }

    fn row(&mut self, reason: &str) -> Option<&mut Row> {
        if !self.rows.contains_key(reason) && self.rows.len() == MOST_REASONS {
            return None;
        }
        Some(self.rows.entry(reason.to_owned()).or_default())
    }

    /// Counts a record of the dead-letter topic, from its beginning on.
    pub fn add(&mut self, record: TopicRecord) {
        if let Some(mark) = Mark::read(&record) {
            let is_ours = mark.connector == self.connector;
            if let Some(row) = is_ours.then(|| self.row(&mark.reason)).flatten() {
                // A log that lost its end under a call has a mark that tells of what is gone.
                let next = mark.next_offset.min(record.offset);
                row.replayed.insert(record.partition, next);
            }
            return;
        }
        let letter = OpenedLetter::open(None, None, record.headers);
        let Some(letter) = letter.filter(|letter| letter.connector == self.connector) else {
            self.others += 1;
            return;
        };
        let Some(row) = self.row(&letter.reason) else {
            self.unlisted += 1;
            return;
        };
        let offsets = row.letters.entry(record.partition).or_default();
        offsets.push(record.offset);
        let topic: &str = &letter.source.topic;
        if row.topics.contains_key(topic) || row.topics.len() < MOST_TOPICS {
            let topic = row.topics.entry(topic.to_owned());
            topic.or_default().insert(record.partition, record.offset);
        }
        if record.timestamp >= row.latest {
            row.latest = record.timestamp;
            row.message = letter.message;
        }
    }

    /// The reasons that letters have.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        let rows = self.rows.iter().filter(|(_, row)| row.letters() > 0);
        rows.map(|(reason, _)| reason.as_str())
    }

    /// By partition, how far a reason was replayed.
    pub fn replayed(&self, reason: &str) -> Positions {
        let row = self.rows.get(reason);
        row.map(|row| row.replayed.clone()).unwrap_or_default()
    }

    /// The topics that letters of a reason came from, of those which wait or of all.
    pub fn topics(&self, reason: &str, all: bool) -> impl Iterator<Item = &str> {
        let row = self.rows.get(reason);
        row.into_iter().flat_map(move |row| row.topics(all))
    }

    /// The same for people.
    pub fn text(&self, topic: &str) -> String {
        let Self {
            connector,
            rows,
            others,
            unlisted,
        } = self;
        let mut text = String::new();
        let listed: usize = rows.values().map(Row::letters).sum();
        let all = listed as u64 + unlisted;
        let mut line = |line: String| {
            // A string takes everything.
            let _ = writeln!(text, "{line}");
        };
        line(format!(
            "{topic} holds {all} dead letters of connector {connector}{}.",
            match others {
                0 => String::new(),
                _ => format!(", and {others} other records"),
            }
        ));
        if all == 0 {
            return text;
        }
        let longest = rows.keys().map(String::len).max().unwrap_or(0);
        let width = longest.max("reason".len());
        line(String::new());
        line(format!(
            "{:width$}  {:>9}  {:>9}  latest",
            "reason", "letters", "waiting"
        ));
        for (reason, row) in rows.iter().filter(|(_, row)| row.letters() > 0) {
            let at = row
                .latest
                .and_then(|at| Timestamp::from_millisecond(at).ok());
            let at = at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
            line(format!(
                "{:width$}  {:>9}  {:>9}  {at}",
                harmless_line(reason),
                row.letters(),
                row.waiting()
            ));
            let message = harmless_line(&row.message);
            line(format!(
                "  {}",
                commands::cut(&message, commands::COLUMNS - 2)
            ));
        }
        if *unlisted > 0 {
            line(format!(
                "and {unlisted} of more than {MOST_REASONS} reasons"
            ));
        }
        let most = rows.iter().max_by_key(|(_, row)| row.waiting());
        if let Some((reason, _)) = most.filter(|(_, row)| row.waiting() > 0) {
            line(String::new());
            line(format!(
                "Once the cause of a reason is mended, and a connector runs that has what mended it, the same call \
                 with\n--reason {} sends the records of those that wait.",
                harmless_line(reason)
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::Header;

    use super::{super::marks::Marks, *};

    fn record(partition: i32, offset: i64, connector: &str, reason: &str) -> TopicRecord {
        let headers = [
            ("__connect.errors.topic", "llm.answers"),
            ("__connect.errors.partition", "0"),
            ("__connect.errors.offset", "7"),
            ("__connect.errors.connector.name", connector),
            (
                "__connect.errors.exception.message",
                "say \u{1b}[2Jwhat\nhelps",
            ),
            ("aligner.reason", reason),
        ];
        TopicRecord {
            topic: "llm.dead-letters".into(),
            partition,
            offset,
            key: None,
            value: None,
            headers: headers
                .map(|(key, value)| Header {
                    key: key.to_owned(),
                    value: Some(value.to_owned().into()),
                })
                .to_vec(),
            timestamp: Some(1_766_000_068_280 + offset),
        }
    }

    /// The mark of a reason in a partition, at an offset behind what it tells of.
    fn mark(connector: &str, reason: &str, partition: i32, next_offset: i64) -> TopicRecord {
        let begun = Positions::new();
        let marks = Marks::new(
            connector,
            reason,
            "llm.dead-letters",
            begun,
            Positions::new(),
        );
        let written = marks.of(&Positions::from([(partition, next_offset)]));
        let [mark] = <[_; 1]>::try_from(written).expect("one partition");
        TopicRecord {
            topic: "llm.dead-letters".into(),
            partition,
            offset: next_offset + 9,
            key: mark.key,
            value: mark.value,
            headers: mark.headers,
            timestamp: Some(1_766_000_068_280),
        }
    }

    #[test]
    fn letters_are_counted_by_reason_and_those_wait_that_no_mark_has_reached() {
        let mut overview = Overview::new("moderation");
        for (partition, offset, connector, reason) in [
            (0, 0, "moderation", "missing_question"),
            (0, 1, "moderation", "missing_question"),
            (0, 2, "moderation", "missing_question"),
            (1, 0, "moderation", "missing_question"),
            (0, 3, "moderation", "invalid_json"),
            (0, 4, "another", "invalid_json"),
        ] {
            overview.add(record(partition, offset, connector, reason));
        }
        overview.add(mark("moderation", "missing_question", 0, 3));
        overview.add(mark("moderation", "invalid_json", 0, 4));
        overview.add(mark("another", "missing_question", 1, 4));
        // It tells of letters before it alone.
        let mut early = mark("moderation", "invalid_json", 0, 9);
        early.offset = 4;
        overview.add(early);
        // The latest counts, as after a call that began anew and was interrupted.
        overview.add(mark("moderation", "missing_question", 0, 2));
        let text = overview.text("llm.dead-letters");
        assert_eq!(
            text,
            "llm.dead-letters holds 5 dead letters of connector moderation, and 1 other records.\n\
             \n\
             reason              letters    waiting  latest\n\
             invalid_json              1          0  2025-12-17T19:34:28Z\n\
             \x20 say \u{fffd}[2Jwhat helps\n\
             missing_question          4          2  2025-12-17T19:34:28Z\n\
             \x20 say \u{fffd}[2Jwhat helps\n\
             \n\
             Once the cause of a reason is mended, and a connector runs that has what mended it, the same call \
             with\n--reason missing_question sends the records of those that wait.\n"
        );
        let replayed = overview.replayed("missing_question");
        assert_eq!(replayed, Positions::from([(0, 2)]));
        let topics: Vec<_> = overview.topics("missing_question", false).collect();
        assert_eq!(topics, ["llm.answers"]);
        assert_eq!(overview.topics("invalid_json", false).count(), 0);
        assert_eq!(overview.topics("invalid_json", true).count(), 1);
        let reasons: Vec<_> = overview.reasons().collect();
        assert_eq!(reasons, ["invalid_json", "missing_question"]);
    }

    #[test]
    fn reasons_without_end_take_no_room_without_end() {
        let mut overview = Overview::new("moderation");
        for number in 0..MOST_REASONS + 5 {
            let reason = format!("reason_{number}");
            overview.add(record(0, 0, "moderation", &reason));
        }
        let text = overview.text("llm.dead-letters");
        assert!(text.contains("holds 105 dead letters"), "{text}");
        assert!(text.contains("and 5 of more than 100 reasons"), "{text}");
    }
}
