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
    connector: &'a str,
    reason: &'a str,
    /// The dead-letter topic.
    topic: &'a str,
    /// Where each partition was begun.
    begun: Positions,
    /// Before which all is done.
    reached: Positions,
    /// The latest mark of each partition, unless another call wrote some.
    there: Positions,
}

impl<'a> Marks<'a> {
    /// Of letters that are read from where they were begun, beside the marks that are there.
    pub fn new(
        connector: &'a str,
        reason: &'a str,
        topic: &'a str,
        begun: Positions,
        there: Positions,
    ) -> Self {
        Self {
            connector,
            reason,
            topic,
            reached: begun.clone(),
            begun,
            there,
        }
    }

    /// Before which all is done once these letters are, too: partitions and offsets.
    pub fn behind(&self, letters: impl Iterator<Item = (i32, i64)>) -> Positions {
        let mut reached = self.reached.clone();
        reached.extend(letters.map(|(partition, offset)| (partition, offset + 1)));
        reached
    }

    /// Where a mark would say something new. The first call that begins anew sets all back that are further on.
    fn news(&self, positions: &Positions) -> Positions {
        let is_news = |partition, next: &i64| match self.there.get(partition) {
            Some(marked) => marked != next,
            None => self.begun.get(partition).is_none_or(|begun| begun < next),
        };
        let news = positions.iter();
        news.filter(|(partition, next)| is_news(partition, next))
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
        self.reached = positions;
    }

    /// Whether marks were found that we did not write. Some of ours may be deleted by now.
    pub fn are_from_another(&self, found: &Positions) -> bool {
        let mut found = found.iter();
        found.any(|(partition, next)| self.there.get(partition) != Some(next))
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

    fn marks(begun: &[(i32, i64)], there: &[(i32, i64)]) -> Marks<'static> {
        let positions = |of: &[(i32, i64)]| of.iter().copied().collect();
        Marks::new(
            "moderation",
            "missing_question",
            "llm.dead-letters",
            positions(begun),
            positions(there),
        )
    }

    /// Partitions and offsets of the marks that are to be written.
    fn told(marks: &Marks<'_>, positions: &Positions) -> Vec<(i32, i64)> {
        let written = marks.of(positions).into_iter().map(record);
        written
            .map(|record| (record.partition, Mark::read(&record).expect("a mark")))
            .map(|(partition, mark)| {
                assert_eq!(mark.reason, "missing_question");
                (partition, mark.next_offset)
            })
            .collect()
    }

    #[test]
    fn a_mark_is_read_as_it_was_written_and_written_where_there_is_news() {
        let mut marks = marks(&[(0, 5), (1, 7)], &[(1, 7)]);
        let positions = Positions::from([(0, 5), (1, 8), (2, 1)]);
        assert_eq!(told(&marks, &positions), [(1, 8), (2, 1)]);
        marks.written(positions.clone());
        assert_eq!(told(&marks, &positions), []);
        let behind = marks.behind([(0, 5), (0, 9)].into_iter());
        assert_eq!(behind, Positions::from([(0, 10), (1, 8), (2, 1)]));
        assert_eq!(told(&marks, &behind), [(0, 10)]);
    }

    #[test]
    fn who_begins_anew_sets_each_partition_back_at_once() {
        let mut marks = marks(&[(0, 0), (1, 0), (2, 0)], &[(0, 9), (1, 9)]);
        let first = Positions::from([(0, 3), (1, 0), (2, 0)]);
        assert_eq!(told(&marks, &first), [(0, 3), (1, 0)]);
        marks.written(first.clone());
        assert_eq!(told(&marks, &first), []);
    }

    #[test]
    fn marks_are_from_another_where_they_are_not_ours_and_not_where_ours_are_deleted() {
        let mut marks = marks(&[(0, 0), (1, 0)], &[]);
        marks.written(Positions::from([(0, 3), (1, 4)]));
        for (found, is_from_another) in [
            (Positions::new(), false),
            (Positions::from([(0, 3)]), false),
            (Positions::from([(0, 3), (1, 4)]), false),
            (Positions::from([(0, 4)]), true),
            (Positions::from([(0, 3), (2, 1)]), true),
        ] {
            assert_eq!(marks.are_from_another(&found), is_from_another, "{found:?}");
        }
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
