//! Paired bootstrap: an interval for the mean of differences, from resampling the pairs.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mean of `differences` and its percentile interval at `confidence`, from `resamples` draws.
/// The same seed gives the same interval on every machine.
pub(crate) fn interval(
    differences: &[f64],
    resamples: u32,
    confidence: f64,
    seed: u64,
) -> Option<(f64, f64, f64)> {
    if differences.is_empty() {
        return None;
    }
    let n = differences.len();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..resamples.max(1))
        .map(|_| {
            let sum: f64 = (0..n).map(|_| differences[random.random_range(0..n)]).sum();
            sum / n as f64
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    let at = |share| crate::figures::percentile(&means, share);
    let mean = differences.iter().sum::<f64>() / n as f64;
    Some((mean, at(tail)?, at(1.0 - tail)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_agrees_with_the_normal_one_for_many_pairs() {
        // 400 pairs, half of them +1 and half 0: mean 0.5, standard error 0.5 / 20 = 0.025.
        let differences: Vec<f64> = (0..400).map(|i| f64::from(i % 2)).collect();
        let (mean, low, high) = interval(&differences, 4000, 0.95, 1).expect("pairs");
        assert_eq!(mean, 0.5);
        assert!((low - (0.5 - 0.049)).abs() < 0.006, "{low}");
        assert!((high - (0.5 + 0.049)).abs() < 0.006, "{high}");
    }

    #[test]
    fn equal_pairs_have_no_spread_and_a_seed_repeats() {
        assert_eq!(interval(&[0.25; 9], 100, 0.95, 1), Some((0.25, 0.25, 0.25)));
        assert_eq!(interval(&[], 100, 0.95, 1), None);
        let differences = [0.0, 1.0, -1.0, 0.5, 0.25];
        assert_eq!(
            interval(&differences, 200, 0.9, 7),
            interval(&differences, 200, 0.9, 7)
        );
    }
}
