//! The losses of a run, thinned so that a long run's history stays small.
//!
//! They are read back as they were written, to the last bit, so that a run which was resumed records
//! what an uninterrupted one does.

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::value::RawValue;

/// Most points of the training loss that are kept.
const MOST: usize = 2000;

/// A loss at a step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Steps done.
    pub step: u64,
    /// Mean loss of a token.
    #[serde(deserialize_with = "exact")]
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
    #[serde(deserialize_with = "exact_sum")]
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

/// A number that is read by its text, and so from a text of JSON alone. The JSON reader's own way
/// may miss the last bit, and its feature that does not would change how every other number of the
/// program is read.
struct Exact(f64);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        text.get()
            .parse::<f64>()
            .map(Self)
            .map_err(D::Error::custom)
    }
}

fn exact<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Exact::deserialize(deserializer).map(|Exact(number)| number)
}

fn exact_sum<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(u64, f64), D::Error> {
    <(u64, Exact)>::deserialize(deserializer).map(|(count, Exact(sum))| (count, sum))
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
