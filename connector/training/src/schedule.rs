//! How many steps there are, and the learning rate over them: a straight rise, then half a cosine.

use crate::{batches::Stream, examples::Example, options::Recipe};

/// Learning rate by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Schedule {
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

/// Steps of the rise in a run of so many: those of the recipe, or a fifth of the run where that is
/// less. A rise that fills a short run never comes to the rate that was asked for, but for its last
/// step, and lets none of it settle.
pub(crate) fn warmup_steps(recipe: &Recipe, steps: u64) -> u64 {
    const LARGEST_PART: u64 = 5;
    recipe.warmup_steps.min(steps.div_ceil(LARGEST_PART))
}

/// Steps in all, and those of the identity warm-up.
pub(crate) fn count_steps(recipe: &Recipe, residual: &[Example]) -> (u64, u64) {
    let steps = recipe.steps.unwrap_or_else(|| {
        let batches = Stream::new(residual, recipe.batch_tokens, recipe.seed ^ 0x5eed_0003, 0)
            .map_or(0, |stream| stream.batches_per_epoch()) as f64;
        let residual = (recipe.epochs * batches / recipe.accumulation as f64)
            .ceil()
            .max(recipe.min_residual_steps as f64);
        let share = if recipe.identity_share < 1.0 {
            1.0 - recipe.identity_share
        } else {
            1.0
        };
        ((residual / share).ceil() as u64).max(1)
    });
    let identity = (steps as f64 * recipe.identity_share).round() as u64;
    (steps, identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps on corrections, of which 69 fill a batch.
    fn residual_steps(recipe: &Recipe, triples: usize) -> u64 {
        let example = Example {
            prompt: vec![1; 40],
            target: vec![2; 20],
        };
        let (steps, identity) = count_steps(recipe, &vec![example; triples]);
        steps - identity
    }

    #[test]
    fn a_small_file_is_passed_over_until_the_least_steps_are_done() {
        let usual = Recipe::default();
        assert!((24..=26).contains(&residual_steps(&usual, 80)));
        let enough = residual_steps(&usual, 10_000);
        assert!((290..=300).contains(&enough), "{enough}");
        let as_asked = Recipe {
            min_residual_steps: 0,
            ..usual.clone()
        };
        assert!((4..=5).contains(&residual_steps(&as_asked, 80)));
        assert_eq!(residual_steps(&as_asked, 10_000), enough);
        let counted = Recipe {
            steps: Some(3),
            ..usual
        };
        assert_eq!(residual_steps(&counted, 80), 3);
    }

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
    fn the_rise_takes_a_fifth_of_a_short_run_at_most() {
        let usual = Recipe::default();
        for (steps, expected) in [
            (1, 1),
            (5, 1),
            (8, 2),
            (26, 6),
            (249, 50),
            (250, 50),
            (9000, 50),
        ] {
            let warmup_steps = warmup_steps(&usual, steps);
            assert_eq!(warmup_steps, expected, "of {steps}");
            let schedule = Schedule {
                peak: 1.0,
                final_share: 0.05,
                warmup_steps,
                steps,
            };
            assert_eq!(schedule.rate(warmup_steps - 1), 1.0, "of {steps}");
            if steps > 5 {
                assert!((schedule.rate(steps - 1) - 0.05).abs() < 1e-12, "{steps}");
            }
        }
        let none = Recipe {
            warmup_steps: 0,
            ..usual
        };
        assert_eq!(warmup_steps(&none, 26), 0);
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
