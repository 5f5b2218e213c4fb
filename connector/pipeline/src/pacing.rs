//! When the next delivery may begin.
//!
//! A transaction's cost is fixed, by the partitions that it touches rather than by its bytes, so
//! its rate decides what exactly-once costs. A quiet log can afford one every few milliseconds,
//! and its readers see results at once; a backlog wants few and large ones. So the interval from
//! one beginning to the next grows with the rate of finished records, from a minimum to a maximum.
//! The minimum also stands between an end and the next beginning: a broker that is still writing
//! the last commit's markers answers "concurrent transactions", and the client then sleeps longer
//! than that pause costs.

use std::time::Duration;

use tokio::time::Instant;

/// Rate at which the interval reaches its maximum. The records of one delivery grow with the
/// square of the rate up to there, and in proportion beyond.
const FULL_RATE_PER_SECOND: f64 = 50_000.0;

/// The rule, and what it remembers.
#[derive(Debug)]
pub(crate) struct Pacing {
    min: Duration,
    max: Duration,
    interval: Duration,
    began: Option<Instant>,
    ended: Option<Instant>,
    rate: f64,
}

impl Pacing {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            interval: min,
            began: None,
            ended: None,
            rate: 0.0,
        }
    }

    /// The earliest moment for the next delivery; `None` is at once.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        let from_begin = self.began.map(|began| began + self.interval);
        let from_end = self.earliest_urgent();
        from_begin.max(from_end)
    }

    /// The earliest moment for a delivery that should not wait to grow.
    pub(crate) fn earliest_urgent(&self) -> Option<Instant> {
        self.ended.map(|ended| ended + self.min)
    }

    /// A delivery begins while `ready` records are ready.
    pub(crate) fn begins(&mut self, now: Instant, ready: usize) {
        if let Some(began) = self.began {
            let elapsed = (now - began).as_secs_f64().max(1e-3);
            // The last rate counts for half, so that one burst does not delay what follows it.
            self.rate = (self.rate + ready as f64 / elapsed) / 2.0;
        }
        self.interval = self
            .max
            .mul_f64((self.rate / FULL_RATE_PER_SECOND).min(1.0))
            .clamp(self.min, self.max);
        self.began = Some(now);
    }

    /// The delivery has ended, well or not.
    pub(crate) fn ends(&mut self, now: Instant) {
        self.ended = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The interval after `seconds` of a constant rate, each delivery taking 4 ms.
    fn settled(rate: f64) -> Duration {
        let mut pacing = Pacing::new(5 * MS, 100 * MS);
        let mut now = Instant::now();
        let mut last = now;
        for _ in 0..50 {
            let ready = rate * (now - last).as_secs_f64();
            pacing.begins(now, ready as usize);
            last = now;
            pacing.ends(now + 4 * MS);
            now = pacing.earliest().expect("a delivery has begun");
        }
        now - last
    }

    #[test]
    fn the_interval_grows_with_the_rate_between_its_bounds() {
        assert_eq!(settled(0.0), 9 * MS, "4 ms of delivery, then the minimum");
        assert_eq!(settled(2_000.0), 9 * MS);
        let medium = settled(20_000.0);
        assert!((38 * MS..=42 * MS).contains(&medium), "{medium:?}");
        assert_eq!(settled(50_000.0).as_millis(), 99);
        assert_eq!(settled(400_000.0), 100 * MS);
    }

    #[test]
    fn the_first_record_after_a_quiet_time_goes_at_once() {
        let mut pacing = Pacing::new(5 * MS, 100 * MS);
        assert_eq!(pacing.earliest(), None);
        let start = Instant::now();
        pacing.begins(start, 5_000);
        pacing.ends(start + 60 * MS);
        let later = start + Duration::from_secs(10);
        assert!(pacing.earliest().is_some_and(|earliest| earliest < later));
        pacing.begins(later, 1);
        pacing.ends(later + 4 * MS);
        assert_eq!(pacing.earliest(), Some(later + 9 * MS));
    }

    #[test]
    fn a_delivery_never_begins_within_the_minimum_after_an_end() {
        let mut pacing = Pacing::new(5 * MS, 100 * MS);
        let start = Instant::now();
        pacing.begins(start, 1);
        pacing.ends(start + 300 * MS);
        assert_eq!(pacing.earliest(), Some(start + 305 * MS));
        assert_eq!(pacing.earliest_urgent(), Some(start + 305 * MS));
    }
}
