//! The losses of a run, thinned so that a long run's history stays small.

use serde::{Deserialize, Serialize};

/// Most points of the training loss that are kept.
const MOST: usize = 2000;

/// A loss at a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// Mean loss of a token.
    pub loss: f64,
}

/// The losses of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Training loss; each point is the mean of `stride` steps up to its own.
    pub training: Vec<Point>,
    /// Steps to a point.
    stride: u64,
    /// Steps since the last point, and the sum of their losses.
    open: (u64, f64),
    /// Validation loss.
    pub validation: Vec<Point>,
}

impl History {
    pub(crate) fn trained(&mut self, step: u64, loss: f64) {
        self.stride = self.stride.max(1);
        self.open.0 += 1;
        self.open.1 += loss;
        if self.open.0 < self.stride {
            return;
        }
        let (count, sum) = std::mem::take(&mut self.open);
        self.training.push(Point {
            step,
            loss: sum / count as f64,
        });
        if self.training.len() >= MOST {
            self.training = self
                .training
                .chunks(2)
                .map(|pair| Point {
                    step: pair[pair.len() - 1].step,
                    loss: pair.iter().map(|p| p.loss).sum::<f64>() / pair.len() as f64,
                })
                .collect();
            self.stride *= 2;
        }
    }

    pub(crate) fn validated(&mut self, step: u64, loss: f64) {
        self.validation.push(Point { step, loss });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_is_thinned_and_keeps_its_mean() {
        let mut history = History::default();
        for step in 1..=10_000 {
            history.trained(step, step as f64);
        }
        assert!(history.training.len() < MOST);
        let mean =
            history.training.iter().map(|p| p.loss).sum::<f64>() / history.training.len() as f64;
        assert!((mean - 5000.5).abs() < 10.0, "{mean}");
        assert!(
            history
                .training
                .windows(2)
                .all(|pair| pair[0].step < pair[1].step)
        );
    }
}
