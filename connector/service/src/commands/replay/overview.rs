//! Which dead letters there are: by reason, how many, how many wait, and what the latest says.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Write,
};

use aligner_evaluation::render::harmless_line;
use aligner_kafka::{StartError, TopicRecord};
use aligner_pipeline::OpenedLetter;
use jiff::Timestamp;

use crate::commands;

/// Reasons beyond are counted together: a header may hold anything.
const MOST_REASONS: usize = 100;

/// Letters of one reason.
struct Row {
    /// By partition of the dead-letter topic, the offset behind the last that was sent again.
    sent: BTreeMap<i32, i64>,
    letters: u64,
    waiting: u64,
    latest: Option<i64>,
    message: String,
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

    /// Counts a record; `sent` is asked once for each reason how far it was sent again.
    ///
    /// # Errors
    ///
    /// Those of `sent`.
    pub fn add(
        &mut self,
        record: &TopicRecord,
        sent: impl FnOnce(&str) -> Result<BTreeMap<i32, i64>, StartError>,
    ) -> Result<(), StartError> {
        let letter = OpenedLetter::open(None, None, record.headers.clone());
        let Some(letter) = letter.filter(|letter| letter.connector == self.connector) else {
            self.others += 1;
            return Ok(());
        };
        let has_room = self.rows.len() < MOST_REASONS;
        let row = match self.rows.entry(letter.reason) {
            Entry::Occupied(row) => row.into_mut(),
            Entry::Vacant(_) if !has_room => {
                self.unlisted += 1;
                return Ok(());
            }
            Entry::Vacant(place) => {
                let sent = sent(place.key())?;
                place.insert(Row {
                    sent,
                    letters: 0,
                    waiting: 0,
                    latest: None,
                    message: String::new(),
                })
            }
        };
        row.letters += 1;
        let sent = row.sent.get(&record.partition).copied();
        row.waiting += u64::from(sent.is_none_or(|sent| record.offset >= sent));
        if record.timestamp >= row.latest {
            row.latest = record.timestamp;
            row.message = letter.message;
        }
        Ok(())
    }

    /// The same for people.
    pub fn text(&self, topic: &str, called: &str) -> String {
        let Self {
            connector,
            rows,
            others,
            unlisted,
        } = self;
        let mut text = String::new();
        let all: u64 = rows.values().map(|row| row.letters).sum::<u64>() + unlisted;
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
        if rows.is_empty() {
            return text;
        }
        let width = rows
            .keys()
            .map(String::len)
            .max()
            .unwrap_or(0)
            .max("reason".len());
        line(String::new());
        line(format!(
            "{:width$}  {:>9}  {:>9}  latest",
            "reason", "letters", "waiting"
        ));
        for (reason, row) in rows {
            let at = row
                .latest
                .and_then(|at| Timestamp::from_millisecond(at).ok());
            let at = at.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
            line(format!(
                "{:width$}  {:>9}  {:>9}  {at}",
                harmless_line(reason),
                row.letters,
                row.waiting
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
        let most = rows.iter().max_by_key(|(_, row)| row.waiting);
        if let Some((reason, _)) = most.filter(|(_, row)| row.waiting > 0) {
            line(String::new());
            line("Once the cause of a reason is mended, and a connector runs that has what mended it:".to_owned());
            line(format!("  {called} --reason {}", harmless_line(reason)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::Header;

    use super::*;

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

    #[test]
    fn letters_are_counted_by_reason_and_those_wait_that_lie_behind_what_was_sent() {
        let mut overview = Overview::new("moderation");
        let mut asked = Vec::new();
        for (partition, offset, connector, reason) in [
            (0, 0, "moderation", "missing_question"),
            (0, 1, "moderation", "missing_question"),
            (0, 2, "moderation", "missing_question"),
            (1, 0, "moderation", "missing_question"),
            (0, 3, "moderation", "invalid_json"),
            (0, 4, "another", "invalid_json"),
        ] {
            let record = record(partition, offset, connector, reason);
            overview
                .add(&record, |reason| {
                    asked.push(reason.to_owned());
                    Ok(match reason {
                        "missing_question" => BTreeMap::from([(0, 2)]),
                        _ => BTreeMap::from([(0, 4)]),
                    })
                })
                .expect("nothing fails");
        }
        assert_eq!(asked, ["missing_question", "invalid_json"], "once each");
        let text = overview.text("llm.dead-letters", "aligner-connector replay");
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
             Once the cause of a reason is mended, and a connector runs that has what mended it:\n\
             \x20 aligner-connector replay --reason missing_question\n"
        );
    }

    #[test]
    fn reasons_without_end_take_no_room_without_end() {
        let mut overview = Overview::new("moderation");
        for number in 0..MOST_REASONS + 5 {
            let record = record(0, 0, "moderation", &format!("reason_{number}"));
            overview
                .add(&record, |_| Ok(BTreeMap::new()))
                .expect("nothing fails");
        }
        let text = overview.text("llm.dead-letters", "replay");
        assert!(text.contains("holds 105 dead letters"), "{text}");
        assert!(text.contains("and 5 of more than 100 reasons"), "{text}");
    }
}
