//! How long each call of the Aligner has been without progress, and which is to be given up.
//!
//! A call that hears nothing may only wait for its turn: an Aligner has room for so many requests
//! and serves the others later. What speaks against a call is that nothing goes on which may be
//! served before it. So each answer of a call, and its end, begins the wait anew for the call
//! itself and for every call *behind* it. Answers of the calls behind do not, or a record that
//! never ends would be waited for as long as others are answered.
//!
//! Behind a call are those that were started later, and those whose records have waited less: what
//! is tried again starts late, and an Aligner that serves the longest waiting takes it first.
//! Whether this one does, cannot be seen from here; two calls may be behind each other.
//!
//! Every wait is bounded: of calls that were started before and of records that came before there
//! are so many and no more, and each of them is answered or given up within limits of its own. A call
//! that was silent itself when another one was given up is spared that once, and no second time.
//!
//! A pure core: time is an argument, and [`Turns::deadline`] tells when to ask again.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// All calls that go on.
pub(crate) struct Turns {
    patience: Duration,
    /// By number, which is the order in which they were started.
    calls: BTreeMap<u64, Turn>,
}

struct Turn {
    /// When the first of its records came.
    waiting_since: Instant,
    /// Last progress of this call, or of one that it is behind.
    still_since: Instant,
    /// Its beginning, or its last answer.
    silent_since: Instant,
    /// Whether it was waited for once more when another call was given up, with no answer since that
    /// it may have waited for.
    spared: bool,
}

impl Turns {
    /// Gives calls up that go without progress for so long.
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            calls: BTreeMap::new(),
        }
    }

    /// A call was started; numbers rise. `waiting_since` is when the first of its records came.
    pub(crate) fn begin(&mut self, call: u64, waiting_since: Instant, now: Instant) {
        let turn = Turn {
            waiting_since,
            still_since: now,
            silent_since: now,
            spared: false,
        };
        self.calls.insert(call, turn);
    }

    /// A call has an answer. Does nothing once it has ended.
    pub(crate) fn progress(&mut self, call: u64, now: Instant) {
        if let Some(turn) = self.calls.get_mut(&call) {
            turn.silent_since = now;
        }
        for turn in self.behind(call) {
            turn.still_since = now;
            turn.spared = false;
        }
    }

    /// The call itself, if it goes on, and those that may wait for it.
    fn behind(&mut self, call: u64) -> impl Iterator<Item = &mut Turn> {
        let since = self.calls.get(&call).map(|turn| turn.waiting_since);
        self.calls
            .iter_mut()
            .filter(move |(other, turn)| {
                since.is_some_and(|since| **other >= call || turn.waiting_since > since)
            })
            .map(|(_, turn)| turn)
    }

    /// A call has ended, for whatever reason: what it held up can go on. Does nothing the second
    /// time.
    pub(crate) fn end(&mut self, call: u64, now: Instant) {
        self.progress(call, now);
        self.calls.remove(&call);
    }

    /// Begins every wait anew.
    pub(crate) fn wait_on(&mut self, now: Instant) {
        for turn in self.calls.values_mut() {
            turn.still_since = now;
        }
    }

    /// Ends a call that has gone without progress for too long, if there is one. Asked again, it
    /// ends the next.
    pub(crate) fn give_up(&mut self, now: Instant) -> Option<u64> {
        let (call, moment) = self.first_due()?;
        if moment > now {
            return None;
        }
        let patience = self.patience;
        for turn in self.behind(call) {
            let silent = turn.silent_since + patience <= now;
            if !(silent && turn.spared) {
                turn.still_since = now;
                turn.spared = silent;
            }
        }
        self.calls.remove(&call);
        Some(call)
    }

    /// When the next call is given up if nothing happens until then.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.first_due().map(|(_, moment)| moment)
    }

    /// Forgets all calls.
    pub(crate) fn clear(&mut self) {
        self.calls.clear();
    }

    /// The call that is given up next. Of several at one instant it is the one that was started
    /// first: the others may wait for nothing but its end.
    fn first_due(&self) -> Option<(u64, Instant)> {
        let (call, turn) = self.calls.iter().min_by_key(|(_, turn)| turn.still_since)?;
        Some((*call, turn.still_since + self.patience))
    }
}

#[cfg(test)]
mod tests {
    use self::Step::{Answer, Begin, End};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// This call starts, with records that came in that second.
        Begin(u64, u64),
        Answer(u64),
        End(u64),
    }

    /// In which second which call is given up, if these steps are taken in theirs.
    fn given_up(steps: &[(u64, Step)]) -> Vec<(u64, u64)> {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut turns = Turns::new(PATIENCE);
        let mut given_up = Vec::new();
        for second in 0..100 {
            let now = at(second);
            for (_, step) in steps.iter().filter(|(when, _)| *when == second) {
                match *step {
                    Begin(call, came) => turns.begin(call, at(came), now),
                    Answer(call) => turns.progress(call, now),
                    End(call) => turns.end(call, now),
                }
            }
            let due = turns.deadline().is_some_and(|deadline| deadline <= now);
            let before = given_up.len();
            while let Some(call) = turns.give_up(now) {
                given_up.push((second, call));
            }
            assert_eq!(given_up.len() > before, due, "the deadline tells when");
        }
        assert_eq!(turns.deadline(), None, "no call is waited for without end");
        given_up
    }

    #[test]
    fn a_call_is_given_up_once_nothing_that_may_be_served_before_it_goes_on() {
        type Case = (&'static str, &'static [(u64, Step)], &'static [(u64, u64)]);
        let cases: [Case; 14] = [
            ("no call", &[], &[]),
            ("silence", &[(3, Begin(0, 0))], &[(13, 0)]),
            (
                "its own answers count",
                &[(0, Begin(0, 0)), (6, Answer(0)), (12, Answer(0))],
                &[(22, 0)],
            ),
            (
                "an end is an end",
                &[(0, Begin(0, 0)), (6, Answer(0)), (6, End(0))],
                &[],
            ),
            (
                "answers and end of an older call count",
                &[
                    (0, Begin(0, 0)),
                    (0, Begin(1, 0)),
                    (6, Answer(0)),
                    (12, Answer(0)),
                    (21, End(0)),
                ],
                &[(31, 1)],
            ),
            (
                "those of a younger call do not",
                &[
                    (0, Begin(0, 0)),
                    (0, Begin(1, 0)),
                    (0, Begin(2, 1)),
                    (4, Answer(1)),
                    (8, End(1)),
                    (9, Answer(2)),
                    (16, Answer(2)),
                ],
                &[(10, 0), (26, 2)],
            ),
            (
                "nor does the beginning of one",
                &[(0, Begin(0, 0)), (9, Begin(1, 0))],
                &[(10, 0), (20, 1)],
            ),
            (
                "those that waited for the first to end have their time once more, together",
                &[(0, Begin(0, 0)), (0, Begin(1, 0)), (0, Begin(2, 0))],
                &[(10, 0), (20, 1), (20, 2)],
            ),
            (
                "and again if one of them is answered",
                &[
                    (0, Begin(0, 0)),
                    (0, Begin(1, 0)),
                    (0, Begin(2, 0)),
                    (15, Answer(1)),
                ],
                &[(10, 0), (25, 1), (35, 2)],
            ),
            (
                "also once an older one is given up while it is answered itself",
                &[(0, Begin(0, 0)), (0, Begin(1, 0)), (7, Answer(1))],
                &[(10, 0), (20, 1)],
            ),
            (
                "records that are tried again may be served first",
                &[
                    (5, Begin(0, 4)),
                    (7, Begin(1, 2)),
                    (13, Answer(1)),
                    (21, End(1)),
                ],
                &[(31, 0)],
            ),
            (
                "or last",
                &[
                    (5, Begin(0, 4)),
                    (7, Begin(1, 2)),
                    (13, Answer(0)),
                    (21, End(0)),
                ],
                &[(31, 1)],
            ),
            (
                "and are given up last where nobody is served",
                &[(5, Begin(0, 4)), (5, Begin(1, 2))],
                &[(15, 0), (25, 1)],
            ),
            (
                "late words of a call that was given up are nothing",
                &[
                    (0, Begin(0, 0)),
                    (0, Begin(1, 0)),
                    (14, Answer(0)),
                    (16, End(0)),
                ],
                &[(10, 0), (20, 1)],
            ),
        ];
        for (name, steps, expected) in cases {
            assert_eq!(given_up(steps), expected, "{name}");
        }
    }

    #[test]
    fn a_record_that_never_ends_is_given_up_however_many_calls_are_answered_behind_it() {
        let mut steps = vec![(0, Begin(0, 0))];
        for call in 1..30 {
            steps.extend([(call, Begin(call, call)), (call + 2, End(call))]);
        }
        steps.sort_by_key(|(second, _)| *second);
        assert_eq!(given_up(&steps), [(10, 0)]);
    }

    #[test]
    fn calls_that_are_forgotten_are_not_given_up() {
        let now = Instant::now();
        let mut turns = Turns::new(PATIENCE);
        turns.begin(0, now, now);
        assert_eq!(turns.deadline(), Some(now + PATIENCE));
        turns.clear();
        assert_eq!(turns.deadline(), None);
        assert_eq!(turns.give_up(now + PATIENCE), None);
    }
}
