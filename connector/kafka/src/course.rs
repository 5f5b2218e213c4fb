//! Whether a record goes on where its tenure stands, was read before, or is of another log.
//!
//! Offsets of a log rise. A record that does not lie behind the last one is either one that was read
//! already, and left out, or a new one at an offset that was used before: its brokers have lost the end
//! of the log and written it anew (an unclean election, a crash without replicas), or its topic was
//! deleted and made again. librdkafka goes on with such records within one assignment, so that we have
//! to see it ourselves. A record is the same if its offset, its leader's epoch and its time are; the
//! last ones are remembered, and what is not among them is new: better twice than never.
//!
//! A log that was cut holds a second trap: librdkafka throws away what it has fetched ahead, also the
//! part that is still there, and goes on behind it. Whoever writes after the cut is a new leader, so
//! where offsets jump with a leader's epoch, what lies between is asked for once more. Mostly there is
//! nothing: a transaction's marker, or records that compaction removed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use aligner_pipeline::PartitionEpoch;

/// Records of each tenure that are known again.
const REMEMBERED: usize = 512;

/// A record's place in its log, and what tells it from another at the same offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: i64,
    /// Epoch of the leader that wrote it; unknown where the record's format has none.
    pub(crate) leader_epoch: Option<i32>,
    /// Epoch milliseconds.
    pub(crate) timestamp: Option<i64>,
}

/// What a record is to its tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The next one.
    On,
    /// One that was read before.
    Again,
    /// The next one that came, but others may lie between: to be read from here once more.
    Gap { from: i64 },
    /// One of another log than the tenure has read.
    Back {
        /// Behind the last record of the tenure, or where it began.
        stood_at: i64,
        /// Of the last record.
        leader_epoch: Option<i32>,
    },
}

/// How far one tenure has come.
#[derive(Debug, Default)]
struct Course {
    began_at: Option<i64>,
    /// Its last records, by rising offset.
    recent: VecDeque<Place>,
    /// Offset of the record behind which a gap was read once more.
    gap_after: Option<i64>,
}

impl Course {
    fn stood_at(&self) -> Option<i64> {
        let last = self.recent.back();
        last.map_or(self.began_at, |last| Some(last.offset + 1))
    }

    fn note(&mut self, place: Place) -> Step {
        let last = self.recent.back().copied();
        if let Some(stood_at) = self.stood_at()
            && place.offset < stood_at
        {
            if self.knows(place) {
                return Step::Again;
            }
            return Step::Back {
                stood_at,
                leader_epoch: last.and_then(|last| last.leader_epoch),
            };
        }
        if let Some(last) = last
            && place.offset > last.offset + 1
            && has_risen(last.leader_epoch, place.leader_epoch)
            && self.gap_after != Some(last.offset)
        {
            self.gap_after = Some(last.offset);
            return Step::Gap {
                from: last.offset + 1,
            };
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(place);
        Step::On
    }

    fn knows(&self, place: Place) -> bool {
        // librdkafka may give the last record twice; of older ones only the time tells.
        self.recent.back() == Some(&place)
            || place.timestamp.is_some()
                && self
                    .recent
                    .binary_search_by_key(&place.offset, |known| known.offset)
                    .is_ok_and(|index| self.recent[index] == place)
    }
}

fn has_risen(last: Option<i32>, now: Option<i32>) -> bool {
    matches!((last, now), (Some(last), Some(now)) if now > last)
}

/// What has most likely happened to a log whose offsets went back, and what to look at.
pub(crate) fn cause(last: Option<i32>, now: Option<i32>) -> &'static str {
    match (last, now) {
        (Some(last), Some(now)) if now > last => {
            "the brokers have lost the end of this log and written it anew (look for an unclean leader \
             election, or a crash of the only broker with a replica)"
        }
        (Some(_), Some(_)) => "the topic was deleted and made again, or its log was emptied",
        _ => {
            "the brokers have lost the end of this log (look for an unclean leader election, or a \
             crash of the only broker with a replica), or the topic was deleted and made again"
        }
    }
}

/// How far all tenures have come, by their epochs.
#[derive(Debug, Default)]
pub(crate) struct Courses(HashMap<u64, Course>);

impl Courses {
    /// A tenure begins, at this offset where it is known.
    pub(crate) fn begin(&mut self, tenure: &PartitionEpoch, began_at: Option<i64>) {
        let course = Course {
            began_at,
            ..Course::default()
        };
        self.0.insert(tenure.epoch, course);
    }

    /// Forgets all tenures but these.
    pub(crate) fn keep(&mut self, tenures: &[Arc<PartitionEpoch>]) {
        let epochs: HashSet<u64> = tenures.iter().map(|tenure| tenure.epoch).collect();
        self.0.retain(|epoch, _| epochs.contains(epoch));
    }

    /// Says what a record is to its tenure, and takes it for read if it is the next one.
    pub(crate) fn note(&mut self, tenure: &PartitionEpoch, place: Place) -> Step {
        self.0.entry(tenure.epoch).or_default().note(place)
    }

    /// Behind the last record of a tenure, or where it began.
    pub(crate) fn stood_at(&self, tenure: &PartitionEpoch) -> Option<i64> {
        self.0.get(&tenure.epoch)?.stood_at()
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::Partition;

    use super::*;

    /// A record whose time follows from its offset.
    fn at(offset: i64, leader_epoch: i32) -> Place {
        Place {
            offset,
            leader_epoch: Some(leader_epoch),
            timestamp: Some(1_000 + 10 * offset),
        }
    }

    fn course(records: &[Place]) -> Course {
        let mut course = Course::default();
        for place in records {
            assert_eq!(course.note(*place), Step::On);
        }
        course
    }

    #[test]
    fn records_that_are_read_again_are_left_out_until_new_ones_come() {
        let mut course = course(&[at(5, 1), at(6, 1), at(9, 1)]);
        for place in [at(5, 1), at(6, 1), at(9, 1)] {
            assert_eq!(course.note(place), Step::Again);
        }
        assert_eq!(course.note(at(10, 1)), Step::On);
    }

    #[test]
    fn a_record_at_an_offset_that_was_used_before_is_of_another_log() {
        let read = [at(5, 3), at(6, 3), at(9, 3)];
        let later = |place: Place| Place {
            timestamp: place.timestamp.map(|at| at + 1),
            ..place
        };
        for (what, place) in [
            ("written by a later leader", at(6, 4)),
            ("of a topic that was made again", at(6, 0)),
            ("the same leader's epoch by chance", later(at(6, 3))),
            ("at an offset that had no record", at(7, 3)),
            ("before everything that was read", at(0, 3)),
            ("the last offset", at(9, 4)),
        ] {
            assert_eq!(
                course(&read).note(place),
                Step::Back {
                    stood_at: 10,
                    leader_epoch: Some(3),
                },
                "{what}"
            );
        }
    }

    #[test]
    fn a_record_without_a_time_is_known_again_only_if_it_was_the_last() {
        let without_time = |offset| Place {
            timestamp: None,
            ..at(offset, 1)
        };
        let mut course = course(&[without_time(5), without_time(6)]);
        assert_eq!(course.note(without_time(6)), Step::Again);
        let older = course.note(without_time(5));
        assert!(matches!(older, Step::Back { .. }), "{older:?}");
    }

    #[test]
    fn a_tenure_that_begins_behind_the_end_of_its_log_is_noticed_at_the_first_record() {
        let mut course = Course {
            began_at: Some(200),
            ..Course::default()
        };
        assert_eq!(
            course.note(at(0, 0)),
            Step::Back {
                stood_at: 200,
                leader_epoch: None,
            }
        );
        assert_eq!(course.note(at(200, 0)), Step::On);
        assert_eq!(course.note(at(230, 0)), Step::On);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_older_counts_as_new() {
        let mut course = Course::default();
        let all = i64::try_from(2 * REMEMBERED).expect("a small number");
        for offset in 0..all {
            assert_eq!(course.note(at(offset, 0)), Step::On);
        }
        assert_eq!(course.recent.len(), REMEMBERED);
        assert_eq!(course.note(at(all / 2, 0)), Step::Again);
        let older = course.note(at(all / 2 - 1, 0));
        assert!(matches!(older, Step::Back { .. }), "{older:?}");
    }

    #[test]
    fn a_gap_at_a_new_leader_is_read_once_more_and_others_are_stepped_over() {
        let mut course = course(&[at(0, 1), at(5, 1), at(6, 2)]);
        // What librdkafka has thrown away comes now.
        assert_eq!(course.note(at(9, 3)), Step::Gap { from: 7 });
        assert_eq!(course.note(at(7, 2)), Step::On);
        assert_eq!(course.note(at(8, 2)), Step::On);
        assert_eq!(course.note(at(9, 3)), Step::On);
        // There is nothing.
        assert_eq!(course.note(at(20, 4)), Step::Gap { from: 10 });
        assert_eq!(course.note(at(20, 4)), Step::On);
        // Nobody knows.
        let unknown = Place {
            leader_epoch: None,
            ..at(30, 0)
        };
        assert_eq!(course.note(unknown), Step::On);
        assert_eq!(course.note(at(40, 9)), Step::On);
    }

    #[test]
    fn the_cause_is_told_by_the_epochs_of_the_leaders() {
        for (last, now, unclean, made_again) in [
            (Some(3), Some(4), true, false),
            (Some(3), Some(3), false, true),
            (Some(3), Some(0), false, true),
            (None, Some(4), true, true),
            (Some(3), None, true, true),
        ] {
            let told = cause(last, now);
            assert_eq!(told.contains("unclean"), unclean, "{last:?} {now:?}");
            assert_eq!(told.contains("made again"), made_again, "{last:?} {now:?}");
        }
    }

    #[test]
    fn each_tenure_has_a_course_of_its_own_for_as_long_as_it_lasts() {
        let tenure = |epoch| {
            Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: "answers".into(),
                    number: 0,
                },
                epoch,
            })
        };
        let (first, second) = (tenure(1), tenure(2));
        let mut courses = Courses::default();
        courses.begin(&first, None);
        assert_eq!(courses.note(&first, at(7, 0)), Step::On);
        courses.begin(&second, Some(3));
        assert_eq!(courses.note(&second, at(3, 0)), Step::On);
        courses.keep(&[second]);
        assert_eq!(courses.0.len(), 1);
    }
}
