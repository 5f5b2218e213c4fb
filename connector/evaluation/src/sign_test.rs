//! Exact sign test: whether the pairs in which two Aligners differ lie to one side more often than
//! chance would have it.
//!
//! A bootstrap cannot tell for a handful of them. Of two hundred pairs of which four differ, all to
//! one side, hardly a resample is without one of the four, so its interval leaves out zero; and yet
//! four tosses of a coin fall alike once in eight times.

/// How likely it is that fair coins fall as unevenly as `one` to `other`, or more so, to either side.
pub(crate) fn p_value(one: u32, other: u32) -> f64 {
    let coins = f64::from(one) + f64::from(other);
    // In logarithms: of many coins a single course of events is too unlikely for a float.
    let mut ways = -coins * std::f64::consts::LN_2;
    let mut tail = ways.exp();
    for k in 1..=one.min(other) {
        let k = f64::from(k);
        ways += ((coins - k + 1.0) / k).ln();
        tail += ways.exp();
    }
    (2.0 * tail).min(1.0)
}

/// How many coins, all of which fell alike, tell that at a confidence below 1.
pub(crate) fn fewest(confidence: f64) -> u32 {
    /// More certainty than a float can state.
    const MOST: u32 = 64;
    (1..MOST)
        .find(|alike| p_value(*alike, 0) <= 1.0 - confidence)
        .unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By counting: Pascal's triangle in whole numbers.
    fn counted(one: u32, other: u32) -> f64 {
        let coins = one + other;
        let mut ways = 1u128;
        let mut tail = 1u128;
        for k in 1..=one.min(other) {
            ways = ways * u128::from(coins - k + 1) / u128::from(k);
            tail += ways;
        }
        (2.0 * tail as f64 / 2f64.powi(coins as i32)).min(1.0)
    }

    #[test]
    fn a_few_that_agree_prove_nothing_and_six_do_at_95_percent() {
        let table = [
            (0, 0, 1.0),
            (4, 0, 0.125),
            (5, 0, 0.0625),
            (6, 0, 0.03125),
            (0, 6, 0.03125),
            (8, 1, 0.039_062_5),
            (9, 1, 0.021_484_375),
            (8, 2, 0.109_375),
            (5, 5, 1.0),
        ];
        for (one, other, p) in table {
            assert!((p_value(one, other) - p).abs() < 1e-12, "{one}:{other}");
        }
        assert_eq!((fewest(0.9), fewest(0.95), fewest(0.99)), (5, 6, 8));
    }

    #[test]
    fn it_agrees_with_counting_and_knows_no_first_and_second() {
        for one in 0..=50 {
            for other in 0..=50 {
                let p = p_value(one, other);
                assert!((p - counted(one, other)).abs() < 1e-12, "{one}:{other}");
                assert_eq!(p, p_value(other, one));
            }
        }
    }

    #[test]
    fn two_equal_aligners_are_told_apart_no_more_often_than_the_confidence_allows() {
        for coins in 0..=60u32 {
            let falsely: f64 = (0..=coins)
                .filter(|heads| p_value(*heads, coins - heads) <= 0.05)
                .map(|heads| {
                    let ways: f64 = (1..=heads)
                        .map(|k| f64::from(coins - k + 1) / f64::from(k))
                        .product();
                    ways / 2f64.powi(coins as i32)
                })
                .sum();
            assert!(falsely <= 0.05 + 1e-12, "{coins}: {falsely}");
        }
    }

    #[test]
    fn many_pairs_neither_overflow_nor_vanish() {
        // Three standard deviations of 500 from the middle of a million.
        let p = p_value(501_500, 498_500);
        assert!((p - 0.0027).abs() < 1e-4, "{p}");
        assert_eq!(p_value(1_000_000, 0), 0.0);
    }
}
