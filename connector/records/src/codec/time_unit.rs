//! The unit of the numbers that stand for instants in somebody else's log.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::answer_event::INSTANTS;

/// Milliseconds from 1970 to 1970-04-27.
const EARLY: Range<i64> = 0..10_000_000_000;

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

    /// Whether a number that was taken for a count of these most likely counts another unit: which,
    /// and how many milliseconds that makes. Nobody logged answers before 1970-04-27, nor after the
    /// year 9999; a number that no unit carries out of there is left as it is.
    pub fn mistaken(self, number: i64) -> Option<(Self, i64)> {
        let is_likely = |millis: i64| INSTANTS.contains(&millis) && !EARLY.contains(&millis);
        if self.of_integer(number).is_some_and(is_likely) {
            return None;
        }
        let unit = Self::likely(number).filter(|unit| *unit != self)?;
        Some((unit, unit.of_integer(number)?))
    }

    /// What a number most likely counts, by its size alone.
    fn likely(number: i64) -> Option<Self> {
        const LAST: i64 = *INSTANTS.end();
        const BEYOND: i64 = LAST + 1;
        match number {
            // Of the years 1973 to 2286.
            100_000_001..10_000_000_000 => Some(Self::Seconds),
            10_000_000_000..=LAST => Some(Self::Milliseconds),
            BEYOND..=100_000_000_000_000_000 => Some(Self::Microseconds),
            100_000_000_000_000_001.. => Some(Self::Nanoseconds),
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

    /// Epoch milliseconds of a count, unless they are too many for an `i64`.
    pub(super) fn of_integer(self, count: i64) -> Option<i64> {
        let per_second = self.per_second();
        if per_second < 1_000 {
            count.checked_mul(1_000 / per_second)
        } else {
            Some(count.div_euclid(per_second / 1_000))
        }
    }

    /// Epoch milliseconds of a number as JSON writes it, unless they are too many for an `i64`.
    pub(super) fn millis(self, number: &str) -> Option<i64> {
        if let Ok(count) = number.parse::<i64>() {
            return self.of_integer(count);
        }
        /// 2⁵³, up to which every integer is a float.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let millis = number.parse::<f64>().ok()? * 1_000.0 / self.per_second() as f64;
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        (millis.abs() <= EXACT).then(|| millis.round() as i64)
    }

    /// How many of these epoch milliseconds are, as JSON writes it.
    pub(super) fn count(self, millis: i64) -> String {
        let per_second = self.per_second();
        if per_second < 1_000 {
            if millis % 1_000 == 0 {
                (millis / 1_000).to_string()
            } else {
                (millis as f64 / 1_000.0).to_string()
            }
        } else {
            (i128::from(millis) * i128::from(per_second / 1_000)).to_string()
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
                assert_eq!(unit.millis(&unit.count(millis)), Some(millis), "{unit:?}");
            }
        }
    }

    #[test]
    fn todays_number_in_another_unit_is_told_by_its_unit_whatever_it_was_taken_for() {
        let millis = 1_766_000_068_000;
        for taken in ALL {
            for counted in ALL {
                let number = counted.count(millis).parse().expect("an integer");
                let expected = (taken != counted).then_some((counted, millis));
                assert_eq!(taken.mistaken(number), expected, "{number} as {taken:?}");
            }
        }
    }

    #[test]
    fn what_is_no_likely_instant_in_any_unit_is_left_as_it_is() {
        for taken in ALL {
            for number in [i64::MIN, -5, 0, 1, 100_000_000] {
                assert_eq!(taken.mistaken(number), None, "{number} as {taken:?}");
            }
        }
        let last = *INSTANTS.end();
        let millis = |number| TimeUnit::Milliseconds.mistaken(number);
        for taken in [*INSTANTS.start(), 10_000_000_000, last] {
            assert_eq!(millis(taken), None, "{taken}");
        }
        for refused in [100_000_001, 9_999_999_999, last + 1, i64::MAX] {
            assert!(millis(refused).is_some(), "{refused}");
        }
        // Far from today, and nothing else would be nearer.
        assert_eq!(TimeUnit::Seconds.mistaken(20_000_000_000), None);
    }

    #[test]
    fn what_no_integer_holds_is_no_instant() {
        assert_eq!(TimeUnit::Seconds.millis(&i64::MAX.to_string()), None);
        assert_eq!(TimeUnit::Milliseconds.millis(&u64::MAX.to_string()), None);
        assert_eq!(TimeUnit::Nanoseconds.millis("1e300"), None);
        assert_eq!(TimeUnit::Nanoseconds.millis("-1e400"), None);
        let (unit, _) = TimeUnit::Seconds.mistaken(i64::MAX).expect("no seconds");
        assert_eq!(unit, TimeUnit::Nanoseconds);
    }
}
