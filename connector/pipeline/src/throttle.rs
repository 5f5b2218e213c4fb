//! How often lines are said about what happens again and again: at once, then once per interval, and
//! nothing is left uncounted.

use std::{
    mem,
    time::{Duration, Instant},
};

/// Counts what happens, and says when it is time for a line about it.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    untold: u64,
    told: Option<Instant>,
}

impl Throttle {
    /// One that asks for a line at once, and then at most once per interval.
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            untold: 0,
            told: None,
        }
    }

    /// Adds to what is untold; where it is time for a line, all of it, which is told by that.
    pub fn add(&mut self, number: u64, now: Instant) -> Option<u64> {
        self.untold += number;
        self.due(now)
    }

    /// What is untold, if there is any and it is time for a line; it is told by that.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        if self.untold == 0 || !self.is_past(now) {
            return None;
        }
        self.told = Some(now);
        Some(self.rest())
    }

    /// What is untold, for a last line.
    pub fn rest(&mut self) -> u64 {
        mem::take(&mut self.untold)
    }

    /// Whether there was no line for an interval.
    pub fn is_past(&self, now: Instant) -> bool {
        self.told
            .is_none_or(|told| now.duration_since(told) >= self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_at_once_then_once_per_interval_and_everything_is_counted() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut throttle = Throttle::every(Duration::from_secs(60));
        assert_eq!(throttle.due(begin), None, "there is nothing to tell");
        for (second, number, told) in [
            (0, 3, Some(3)),
            (5, 10, None),
            (59, 20, None),
            (60, 1, Some(31)),
            (61, 7, None),
            (119, 0, None),
            (600, 0, Some(7)),
            (700, 0, None),
        ] {
            assert_eq!(throttle.add(number, at(second)), told, "second {second}");
        }
        assert_eq!(throttle.add(4, at(601)), None);
        assert_eq!(throttle.rest(), 4);
        assert_eq!(throttle.due(at(9_000)), None, "all of it is told");
    }
}
