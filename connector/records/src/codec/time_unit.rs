//! The unit of the numbers that stand for instants in somebody else's log.

use serde::{Deserialize, Serialize};

use super::tree::Tree;
use crate::answer_event::INSTANTS;

/// What a number counts, from 1970 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeUnit {
    /// As OpenAI's `created` does.
    Seconds,
    /// As we do.
    Milliseconds,
    /// A thousandth of that.
    Microseconds,
    /// A millionth of that.
    Nanoseconds,
}

impl TimeUnit {
    /// As configuration spells it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Microseconds => "microseconds",
            Self::Nanoseconds => "nanoseconds",
        }
    }

    /// Whether a number that stands for epoch milliseconds most likely counts another unit: which,
    /// and how many milliseconds that makes. Nobody logged answers before 1970-04-27, nor after the
    /// year 9999.
    pub fn mistaken(number: i64) -> Option<(Self, i64)> {
        const BEYOND: i64 = *INSTANTS.end() + 1;
        match number {
            // Of the years 1973 to 2286.
            100_000_001..10_000_000_000 => Some((Self::Seconds, number * 1_000)),
            BEYOND..=100_000_000_000_000_000 => Some((Self::Microseconds, number / 1_000)),
            100_000_000_000_000_001.. => Some((Self::Nanoseconds, number / 1_000_000)),
            _ => None,
        }
    }

    /// How many of these make a second.
    fn per_second(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Milliseconds => 1_000,
            Self::Microseconds => 1_000_000,
            Self::Nanoseconds => 1_000_000_000,
        }
    }

    /// Epoch milliseconds of a number as JSON writes it, unless they are too many for an `i64`.
    pub(super) fn millis(self, number: &str) -> Option<i64> {
        let per_second = self.per_second();
        if let Ok(count) = number.parse::<i64>() {
            return if per_second < 1_000 {
                count.checked_mul(1_000 / per_second)
            } else {
                Some(count.div_euclid(per_second / 1_000))
            };
        }
        /// 2⁵³, up to which every integer is a float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let millis = number.parse::<f64>().ok()? * 1_000.0 / per_second as f64;
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        (millis.abs() <= EXACT).then(|| millis.round() as i64)
    }

    /// The number for epoch milliseconds.
    pub(super) fn tree(self, millis: i64) -> Tree<'static> {
        let per_second = self.per_second();
        if per_second < 1_000 {
            if millis % 1_000 == 0 {
                Tree::integer(millis / 1_000)
            } else {
                Tree::number(millis as f64 / 1_000.0)
            }
        } else {
            millis
                .checked_mul(per_second / 1_000)
                .map_or(Tree::Null, Tree::integer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [TimeUnit; 4] = [
        TimeUnit::Seconds,
        TimeUnit::Milliseconds,
        TimeUnit::Microseconds,
        TimeUnit::Nanoseconds,
    ];

    #[test]
    fn milliseconds_survive_every_unit() {
        for unit in ALL {
            for millis in [0, 1_766_000_068_280, 1_766_000_068_000, -1, -1_500] {
                let Tree::Number(number) = unit.tree(millis) else {
                    unreachable!("it is a number");
                };
                assert_eq!(unit.millis(&number), Some(millis), "{unit:?}");
            }
        }
    }

    #[test]
    fn a_number_that_is_no_likely_instant_in_milliseconds_is_told_by_its_unit() {
        let (seconds, millis) = (1_766_000_068, 1_766_000_068_000);
        for (number, unit) in [
            (seconds, TimeUnit::Seconds),
            (millis * 1_000, TimeUnit::Microseconds),
            (millis * 1_000_000, TimeUnit::Nanoseconds),
        ] {
            assert_eq!(TimeUnit::mistaken(number), Some((unit, millis)));
        }
        let last = *INSTANTS.end();
        for taken in [
            *INSTANTS.start(),
            -5,
            0,
            100_000_000,
            10_000_000_000,
            millis,
            last,
        ] {
            assert_eq!(TimeUnit::mistaken(taken), None, "{taken}");
        }
        for refused in [100_000_001, 9_999_999_999, last + 1, i64::MAX] {
            assert!(TimeUnit::mistaken(refused).is_some(), "{refused}");
        }
    }

    #[test]
    fn what_no_integer_holds_is_no_instant() {
        assert_eq!(TimeUnit::Seconds.millis(&i64::MAX.to_string()), None);
        assert_eq!(TimeUnit::Milliseconds.millis(&u64::MAX.to_string()), None);
        assert_eq!(TimeUnit::Nanoseconds.millis("1e300"), None);
        assert_eq!(TimeUnit::Nanoseconds.millis("-1e400"), None);
        assert_eq!(TimeUnit::Nanoseconds.tree(i64::MAX), Tree::Null);
    }
}
