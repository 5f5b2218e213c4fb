//! When fetching is suspended, and when it goes on.
//!
//! A suspension costs: librdkafka throws away what it had fetched ahead, and starts again up to a
//! second after it is told to. Under a backlog that flows at its own pace, the buffer is full for
//! some milliseconds again and again. So a full buffer is at first simply not filled further,
//! without a poll; librdkafka's own queue is bounded too and fetches no more. Only when that lasts is
//! fetching suspended, so that polling, and with it the membership, goes on.

use std::time::{Duration, Instant};

/// How long nothing is polled for want of room. News of the group waits as long, heartbeats do not.
pub(crate) const SUSPEND_AFTER: Duration = Duration::from_millis(500);

/// What the buffer has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It is nearly empty.
    Plenty,
    Some,
    /// It is full.
    None,
    /// It will never take anything again.
    Closed,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Poll,
    /// Nothing, for a moment.
    Wait,
    Suspend,
    Resume,
}

/// The rule, and what it remembers.
#[derive(Debug, Default)]
pub(crate) struct Fetching {
    suspended: bool,
    full_since: Option<Instant>,
}

impl Fetching {
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended
    }

    pub(crate) fn next(&mut self, room: Room, now: Instant) -> Step {
        match (self.suspended, room) {
            (true, Room::Plenty) => Step::Resume,
            (false, Room::Closed) => Step::Suspend,
            (false, Room::None) => {
                let since = *self.full_since.get_or_insert(now);
                if now.duration_since(since) < SUSPEND_AFTER {
                    Step::Wait
                } else {
                    Step::Suspend
                }
            }
            (true, _) | (false, Room::Plenty | Room::Some) => {
                self.full_since = None;
                Step::Poll
            }
        }
    }

    /// Fetching was suspended, or resumed.
    pub(crate) fn has(&mut self, suspended: bool) {
        self.suspended = suspended;
        self.full_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_buffer_that_is_full_for_a_moment_suspends_nothing() {
        let mut fetching = Fetching::default();
        let start = Instant::now();
        for round in 0..10 {
            let now = start + round * 400 * MS;
            assert_eq!(fetching.next(Room::None, now), Step::Wait);
            assert_eq!(fetching.next(Room::None, now + 399 * MS), Step::Wait);
            assert_eq!(fetching.next(Room::Some, now + 399 * MS), Step::Poll);
        }
    }

    #[test]
    fn a_buffer_that_stays_full_suspends_and_polling_goes_on_until_it_is_nearly_empty() {
        let mut fetching = Fetching::default();
        let start = Instant::now();
        assert_eq!(fetching.next(Room::None, start), Step::Wait);
        let later = start + SUSPEND_AFTER;
        // Until it was done.
        assert_eq!(fetching.next(Room::None, later), Step::Suspend);
        assert_eq!(fetching.next(Room::None, later), Step::Suspend);
        fetching.has(true);
        for room in [Room::None, Room::Some] {
            assert_eq!(fetching.next(room, later), Step::Poll);
        }
        assert_eq!(fetching.next(Room::Plenty, later), Step::Resume);
        fetching.has(false);
        // The next time is counted anew.
        assert_eq!(fetching.next(Room::None, later), Step::Wait);
    }

    #[test]
    fn a_closed_buffer_suspends_at_once_and_for_good() {
        let mut fetching = Fetching::default();
        let now = Instant::now();
        assert_eq!(fetching.next(Room::Closed, now), Step::Suspend);
        fetching.has(true);
        assert_eq!(fetching.next(Room::Closed, now), Step::Poll);
    }
}
