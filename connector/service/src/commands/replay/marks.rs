//! How far a reason was replayed, kept beside the letters themselves.
//!
//! A mark is a record in each partition of the dead-letter topic: of this connector's letters of this reason,
//! all before its offset are done. So it lasts as long as they do, is cut off with them, and is deleted after
//! them; offsets of a group that nobody joins are forgotten by brokers after seven days. It has a value, so that
//! a topic that is compacted keeps the latest.

use aligner_kafka::{Addressed, Positions, TopicRecord};
use aligner_pipeline::Header;
use serde::{Deserialize, Serialize};

/// The header by which readers of dead letters know a mark, and may leave it out; its value is the reason.
pub const MARK_HEADER: &str = "aligner.replayed";

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Name of the connector whose letters they are.
    pub connector: String,
    /// Their reason.
    pub reason: String,
    /// Letters of this partition before it are done.
    pub next_offset: i64,
}

impl Mark {
    /// The mark that a record is, if it is one.
    pub fn read(record: &TopicRecord) -> Option<Self> {
        // The last one: a letter may be of a record that was a mark, and goes on with headers of its own.
        let is_mark = record
            .headers
            .last()
            .is_some_and(|header| header.key == MARK_HEADER);
        if !is_mark {
            return None;
        }
        serde_json::from_slice(record.value.as_deref()?).ok()
    }

    fn addressed(&self, topic: &str, partition: i32) -> Addressed {
        let Self {
            connector, reason, ..
        } = self;
        let value = serde_json::to_vec(self).expect("texts and a number are JSON");
        Addressed {
            topic: topic.to_owned(),
            partition,
            key: Some(format!("{MARK_HEADER}/{connector}/{reason}").into()),
            value: Some(value.into()),
            headers: vec![Header {
                key: MARK_HEADER.to_owned(),
                value: Some(reason.clone().into()),
            }],
        }
    }
}

/// Marks of one reason, as they are written.
#[derive(Debug)]
pub struct Marks<'a> {
    pub connector: &'a str,
    pub reason: &'a str,
    /// The dead-letter topic.
    pub topic: &'a str,
    /// What is done.
    pub marked: Positions,
    /// The latest mark of each partition, as far as we know: unless another call wrote some.
    pub there: Positions,
}

impl Marks<'_> {
    /// Where these positions are beyond what is marked.
    fn news(&self, positions: &Positions) -> Positions {
        let is_news = |partition, next| self.marked.get(partition).is_none_or(|old| old < next);
        let news = positions.iter();
        news.filter(|(partition, next)| is_news(*partition, *next))
            .map(|(partition, next)| (*partition, *next))
            .collect()
    }

    /// Those that are to be written once everything before these positions is done.
    pub fn of(&self, positions: &Positions) -> Vec<Addressed> {
        let news = self.news(positions).into_iter();
        news.map(|(partition, next_offset)| {
            let mark = Mark {
                connector: self.connector.to_owned(),
                reason: self.reason.to_owned(),
                next_offset,
            };
            mark.addressed(self.topic, partition)
        })
        .collect()
    }

    /// They are written.
    pub fn written(&mut self, positions: Positions) {
        let news = self.news(&positions);
        self.there.extend(news);
        self.marked = positions;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(addressed: Addressed) -> TopicRecord {
        TopicRecord {
            topic: addressed.topic.as_str().into(),
            partition: addressed.partition,
            offset: 9,
            key: addressed.key,
            value: addressed.value,
            headers: addressed.headers,
            timestamp: Some(0),
        }
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_written_where_there_is_news() {
        let mut marks = Marks {
            connector: "moderation",
            reason: "missing_question",
            topic: "llm.dead-letters",
            marked: Positions::from([(0, 5), (1, 7)]),
            there: Positions::from([(1, 7)]),
        };
        let positions = Positions::from([(0, 5), (1, 8), (2, 1)]);
        let written: Vec<_> = marks.of(&positions).into_iter().map(record).collect();
        let read: Vec<_> = written
            .iter()
            .map(|record| (record.partition, Mark::read(record).expect("a mark")))
            .map(|(partition, mark)| (partition, mark.reason, mark.next_offset))
            .collect();
        let reason = || "missing_question".to_owned();
        assert_eq!(read, [(1, reason(), 8), (2, reason(), 1)]);
        marks.written(positions.clone());
        assert!(marks.of(&positions).is_empty());
        assert_eq!(marks.there, Positions::from([(1, 8), (2, 1)]));
    }

    #[test]
    fn a_letter_of_a_record_that_was_a_mark_is_none() {
        let mark = Mark {
            connector: "moderation".to_owned(),
            reason: "tombstone".to_owned(),
            next_offset: 1,
        };
        let mut letter = record(mark.addressed("t", 0));
        assert_eq!(Mark::read(&letter), Some(mark));
        letter.headers.push(Header {
            key: "aligner.reason".to_owned(),
            value: None,
        });
        assert_eq!(Mark::read(&letter), None);
    }
}
