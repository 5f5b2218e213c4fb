//! Shares that remember what they are shares of.

use serde::{Deserialize, Serialize};

/// `count` of `of`. Written with its value and a 95 % interval, so that 3 of 4 is not mistaken
/// for 75 %.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub struct Share {
    /// How many.
    pub count: u32,
    /// Of how many.
    pub of: u32,
}

/// Parts of several answers counted together, such as their sentences: `count` of `of`.
///
/// Written without an interval: the parts of one answer share its fate, and one that takes each of
/// them for a draw of its own would be too narrow. `low` and `high` are null.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
pub struct Pooled {
    /// How many.
    pub count: u32,
    /// Of how many.
    pub of: u32,
}

#[derive(Serialize, Deserialize)]
struct Written {
    count: u32,
    of: u32,
    share: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
}

impl From<Share> for Written {
    fn from(share: Share) -> Self {
        let interval = share.interval();
        Self {
            count: share.count,
            of: share.of,
            share: share.value(),
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
        }
    }
}

impl From<Written> for Share {
    fn from(written: Written) -> Self {
        Self {
            count: written.count,
            of: written.of,
        }
    }
}

impl From<Pooled> for Written {
    fn from(pooled: Pooled) -> Self {
        Self {
            count: pooled.count,
            of: pooled.of,
            share: pooled.value(),
            low: None,
            high: None,
        }
    }
}

impl From<Written> for Pooled {
    fn from(written: Written) -> Self {
        Self {
            count: written.count,
            of: written.of,
        }
    }
}

impl Share {
    /// The share of `items` for which `holds`.
    pub fn of<T>(items: impl IntoIterator<Item = T>, mut holds: impl FnMut(T) -> bool) -> Self {
        items.into_iter().fold(Self::default(), |sum, item| Self {
            count: sum.count + u32::from(holds(item)),
            of: sum.of + 1,
        })
    }

    /// Between 0 and 1; nothing where there was nothing to count.
    pub fn value(self) -> Option<f64> {
        quotient(self.count, self.of)
    }

    /// Wilson's 95 % interval, which stays honest for few answers and for shares near 0 and 1. It
    /// holds the share itself, whatever is rounded.
    pub fn interval(self) -> Option<(f64, f64)> {
        const Z: f64 = 1.959_963_984_540_054;
        let share = self.value()?;
        let n = f64::from(self.of);
        let scale = 1.0 + Z * Z / n;
        let centre = (share + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        let (low, high) = ((centre - half).max(0.0), (centre + half).min(1.0));
        Some((low.min(share), high.max(share)))
    }
}

impl Pooled {
    /// The sum of counts that were already made, one pair for each answer.
    pub fn sum(counts: impl IntoIterator<Item = (u32, u32)>) -> Self {
        counts
            .into_iter()
            .fold(Self::default(), |sum, (count, of)| Self {
                count: sum.count + count,
                of: sum.of + of,
            })
    }

    /// Between 0 and 1; nothing where there was nothing to count.
    pub fn value(self) -> Option<f64> {
        quotient(self.count, self.of)
    }
}

fn quotient(count: u32, of: u32) -> Option<f64> {
    (of > 0).then(|| f64::from(count) / f64::from(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_intervals_agree_with_published_values() {
        // Newcombe (1998), table I: 81 of 263 and 0 of 20.
        let (low, high) = Share { count: 81, of: 263 }.interval().expect("counted");
        assert!((low - 0.2553).abs() < 5e-5 && (high - 0.3662).abs() < 5e-5);
        let (low, high) = Share { count: 0, of: 20 }.interval().expect("counted");
        assert!(low == 0.0 && (high - 0.1611).abs() < 5e-5);
    }

    #[test]
    fn an_interval_holds_its_share() {
        for of in 1..=300 {
            for count in 0..=of {
                let share = Share { count, of };
                let (low, high) = share.interval().expect("counted");
                let value = share.value().expect("counted");
                assert!((low..=high).contains(&value), "{count} of {of}");
                assert!(low >= 0.0 && high <= 1.0, "{count} of {of}");
            }
        }
    }

    #[test]
    fn nothing_counted_has_no_value() {
        assert_eq!(Share::default().value(), None);
        assert_eq!(Share::default().interval(), None);
        assert_eq!(Pooled::default().value(), None);
    }

    #[test]
    fn parts_of_answers_are_written_without_an_interval() {
        let pooled = Pooled::sum([(3, 4), (0, 4)]);
        let json = serde_json::to_value(pooled).expect("plain");
        let written = serde_json::json!({
            "count": 3, "of": 8, "share": 0.375, "low": null, "high": null,
        });
        assert_eq!(json, written);
        assert_eq!(
            serde_json::from_value::<Pooled>(json).expect("same"),
            pooled
        );
    }

    #[test]
    fn a_share_survives_json() {
        let share = Share { count: 1, of: 4 };
        let json = serde_json::to_value(share).expect("plain");
        assert_eq!(json["share"], 0.25);
        assert_eq!(serde_json::from_value::<Share>(json).expect("same"), share);
    }
}
