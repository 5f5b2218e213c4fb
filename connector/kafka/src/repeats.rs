//! What is said again and again, as by librdkafka while brokers are away: once, and then at most every
//! ten seconds, with the number of times in between.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use aligner_pipeline::Throttle;

/// The same thing is not logged again within this time.
const REPEAT_INTERVAL: Duration = Duration::from_secs(10);
/// Of more different things than this within the interval, the others are not said.
const MAX_DIFFERENT_THINGS: usize = 64;

/// Decides what is logged again.
#[derive(Debug, Default)]
pub(crate) struct RepeatFilter(HashMap<String, Throttle>);

impl RepeatFilter {
    /// Whether to say this now, and if so, how often it was left unsaid.
    pub(crate) fn admit(&mut self, thing: &str, now: Instant) -> Option<u64> {
        if self.0.len() >= MAX_DIFFERENT_THINGS && !self.0.contains_key(thing) {
            self.0.retain(|_, said| !said.is_past(now));
            if self.0.len() >= MAX_DIFFERENT_THINGS {
                return None;
            }
        }
        let times = match self.0.get_mut(thing) {
            Some(said) => said.add(1, now),
            None => {
                let mut said = Throttle::every(REPEAT_INTERVAL);
                let times = said.add(1, now);
                self.0.insert(thing.to_owned(), said);
                times
            }
        };
        // This time is said.
        times.map(|times| times - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_thing_is_said_again_only_after_a_while_and_counted() {
        let mut filter = RepeatFilter::default();
        let start = Instant::now();
        assert_eq!(filter.admit("down", start), Some(0));
        for step in 1..=100 {
            assert_eq!(
                filter.admit("down", start + Duration::from_millis(50 * step)),
                None
            );
        }
        assert_eq!(filter.admit("fenced", start), Some(0));
        assert_eq!(filter.admit("down", start + REPEAT_INTERVAL), Some(100));
        assert_eq!(filter.admit("down", start + REPEAT_INTERVAL), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut filter = RepeatFilter::default();
        let start = Instant::now();
        for number in 0..10 * MAX_DIFFERENT_THINGS {
            filter.admit(&number.to_string(), start);
        }
        assert_eq!(filter.0.len(), MAX_DIFFERENT_THINGS);
        assert_eq!(filter.admit("later", start + REPEAT_INTERVAL), Some(0));
    }
}
