//! For how long the consumer has had no place in its group.
//!
//! librdkafka says once a second whether it reaches the group's coordinator, and how far a join has
//! come. Without either nothing is read, while brokers are connected and no call fails. For a moment
//! that is ordinary: coordinators move, members come and go. After a session's time the group has
//! gone on without us.
//!
//! A join that goes on counts only while no partition is ours: the others are read meanwhile. In the
//! newer group protocol it does not count at all. A member in reserve never says more than "init"
//! there, and a group that takes no more members stops the client.

use std::time::{Duration, Instant};

/// Since when, and how long that may last.
#[derive(Debug)]
pub(crate) struct Absence {
    patience: Duration,
    joins_are_told: bool,
    since: Option<Instant>,
}

impl Absence {
    /// `joins_are_told` where a member that has joined says so, whatever it was given.
    pub(crate) fn new(patience: Duration, joins_are_told: bool) -> Self {
        Self {
            patience,
            joins_are_told,
            since: None,
        }
    }

    /// Takes in a report, in librdkafka's words, and how many partitions are ours.
    pub(crate) fn note(&mut self, state: &str, join_state: &str, partitions: usize, now: Instant) {
        let has_joined = !self.joins_are_told || partitions > 0 || join_state == "steady";
        self.since = if state == "up" && has_joined {
            None
        } else {
            self.since.or(Some(now))
        };
    }

    /// Whether it has lasted too long.
    pub(crate) fn is_long(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.duration_since(since) >= self.patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: Duration = Duration::from_secs(6);

    #[test]
    fn a_place_that_is_missing_for_longer_than_a_session_is_told() {
        /// Second, state, join state, partitions that are ours, and the verdict.
        type Look = (u64, &'static str, &'static str, usize, bool);
        let stories: [(&str, bool, &[Look]); 6] = [
            (
                "a start",
                true,
                &[
                    (0, "query-coord", "init", 0, false),
                    (1, "up", "wait-join", 0, false),
                    (4, "up", "steady", 3, false),
                    (90, "up", "steady", 3, false),
                ],
            ),
            (
                "a coordinator that is away, until it is back",
                true,
                &[
                    (0, "up", "steady", 3, false),
                    (1, "wait-broker-transport", "steady", 3, false),
                    (6, "query-coord", "steady", 3, false),
                    (7, "wait-coord", "wait-join", 0, true),
                    (9, "up", "steady", 3, false),
                ],
            ),
            (
                "a group that takes no more members",
                true,
                &[
                    (0, "up", "wait-join", 0, false),
                    (5, "up", "init", 0, false),
                    (6, "up", "wait-join", 0, true),
                ],
            ),
            (
                "a long rebalance, of which those that stay are read",
                true,
                &[
                    (0, "up", "wait-join", 3, false),
                    (60, "up", "wait-sync", 3, false),
                ],
            ),
            (
                "a member in reserve",
                true,
                &[
                    (0, "up", "steady", 0, false),
                    (60, "up", "steady", 0, false),
                ],
            ),
            (
                "a member in reserve, in the newer protocol",
                false,
                &[
                    (0, "up", "init", 0, false),
                    (60, "up", "init", 0, false),
                    (61, "wait-coord", "init", 0, false),
                    (67, "wait-coord", "init", 0, true),
                ],
            ),
        ];
        let start = Instant::now();
        for (story, joins_are_told, looks) in stories {
            let mut absence = Absence::new(SESSION, joins_are_told);
            for &(second, state, join_state, partitions, is_long) in looks {
                let now = start + Duration::from_secs(second);
                absence.note(state, join_state, partitions, now);
                assert_eq!(absence.is_long(now), is_long, "{story}: at second {second}");
            }
        }
    }

    #[test]
    fn a_client_that_says_nothing_any_more_is_judged_by_its_last_word() {
        let start = Instant::now();
        let mut absence = Absence::new(SESSION, true);
        assert!(!absence.is_long(start));
        absence.note("wait-coord", "init", 0, start);
        assert!(!absence.is_long(start + SESSION - Duration::from_millis(1)));
        assert!(absence.is_long(start + SESSION));
    }
}
