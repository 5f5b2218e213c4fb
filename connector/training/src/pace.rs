//! How fast a run goes, and how long it will take.

use std::{collections::VecDeque, time::Duration};

/// Speed over the last steps.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    recent: VecDeque<(Duration, u64)>,
}

impl Pace {
    const STEPS: usize = 30;

    pub(crate) fn add(&mut self, took: Duration, tokens: u64) {
        if self.recent.len() == Self::STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back((took, tokens));
    }

    fn seconds(&self) -> f64 {
        self.recent.iter().map(|(took, _)| took.as_secs_f64()).sum()
    }

    pub(crate) fn tokens_per_second(&self) -> f64 {
        let tokens: u64 = self.recent.iter().map(|(_, tokens)| tokens).sum();
        tokens as f64 / self.seconds().max(f64::MIN_POSITIVE)
    }

    pub(crate) fn left(&self, steps: u64) -> Duration {
        let each = self.seconds() / self.recent.len().max(1) as f64;
        Duration::try_from_secs_f64(each * steps as f64).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_steps_alone_tell_the_speed_and_the_time_left() {
        let mut pace = Pace::default();
        pace.add(Duration::from_secs(1_000), 1);
        for _ in 0..Pace::STEPS {
            pace.add(Duration::from_secs(2), 100);
        }
        assert!((pace.tokens_per_second() - 50.0).abs() < 1e-9);
        assert_eq!(pace.left(3), Duration::from_secs(6));
    }

    #[test]
    fn before_the_first_step_nothing_is_divided_by_zero() {
        let pace = Pace::default();
        assert!(pace.tokens_per_second().abs() < 1e-9);
        assert_eq!(pace.left(3), Duration::ZERO);
    }
}
