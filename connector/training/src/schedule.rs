//! The learning rate over the steps: a straight rise, then half a cosine.

/// Learning rate by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// Highest learning rate.
    pub peak: f64,
    /// Learning rate of the last step, as a share of the highest.
    pub final_share: f64,
    /// Steps of the rise.
    pub warmup_steps: u64,
    /// Steps in all.
    pub steps: u64,
}

impl Schedule {
    /// The rate of a step, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.steps.saturating_sub(self.warmup_steps + 1).max(1);
        let done = ((step - self.warmup_steps) as f64 / span as f64).min(1.0);
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        self.peak * (self.final_share + (1.0 - self.final_share) * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_straight_and_falls_as_a_cosine() {
        let schedule = Schedule {
            peak: 1.0,
            final_share: 0.1,
            warmup_steps: 4,
            steps: 9,
        };
        let table = [
            (0, 0.25),
            (1, 0.5),
            (2, 0.75),
            (3, 1.0),
            (4, 1.0),
            (5, 0.1 + 0.9 * 0.5 * (1.0 + 0.5f64.sqrt())),
            (6, 0.55),
            (8, 0.1),
            (99, 0.1),
        ];
        for (step, rate) in table {
            assert!((schedule.rate(step) - rate).abs() < 1e-12, "step {step}");
        }
    }

    #[test]
    fn a_run_shorter_than_its_warm_up_still_has_a_rate() {
        let schedule = Schedule {
            peak: 1.0,
            final_share: 0.0,
            warmup_steps: 0,
            steps: 1,
        };
        assert_eq!(schedule.rate(0), 1.0);
    }
}
