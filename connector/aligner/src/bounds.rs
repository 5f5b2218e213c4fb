//! What the limits of a guard may be.
//!
//! A limit that no answer keeps would switch the Aligner off without a word, and one that each
//! keeps the guard: both are slips of a pen, and refused with the key and what it may be.

use std::ops::RangeInclusive;

use crate::guard::Guard;

/// A limit that cannot be.
#[derive(Debug)]
pub(crate) struct Misfit {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) expected: String,
}

/// What a limit measures, and with it what it may be; never infinite, nor no number.
#[derive(Debug, Clone, Copy)]
enum Measure {
    Ratio,
    Share,
    LogProbability,
}

impl Measure {
    fn range(self) -> RangeInclusive<f32> {
        match self {
            Self::Ratio => 0.0..=f32::MAX,
            Self::Share => 0.0..=1.0,
            Self::LogProbability => f32::MIN..=0.0,
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Ratio => "a finite number of at least 0",
            Self::Share => "0 to 1",
            Self::LogProbability => "a finite number of at most 0",
        }
    }
}

/// Whether each limit can be what it is.
///
/// # Errors
/// The first that cannot.
pub(crate) fn check(guard: &Guard) -> Result<(), Misfit> {
    let misfit = |key, value: String, expected: String| {
        Err(Misfit {
            key,
            value,
            expected,
        })
    };
    for (key, limit) in [
        ("max_question_tokens", guard.max_question_tokens),
        ("max_answer_tokens", guard.max_answer_tokens),
    ] {
        if limit == Some(0) {
            return misfit(key, "0".to_owned(), "at least 1".to_owned());
        }
    }
    for (key, limit, measure) in [
        (
            "max_tokens_per_word",
            guard.max_tokens_per_word,
            Measure::Ratio,
        ),
        ("max_novel_words", guard.max_novel_words, Measure::Share),
        (
            "max_displaced_words",
            guard.max_displaced_words,
            Measure::Share,
        ),
        (
            "min_mean_logprob",
            guard.min_mean_logprob,
            Measure::LogProbability,
        ),
        (
            "min_token_logprob",
            guard.min_token_logprob,
            Measure::LogProbability,
        ),
        (
            "max_unchanged_logprob",
            guard.max_unchanged_logprob,
            Measure::LogProbability,
        ),
        ("min_length_ratio", guard.min_length_ratio, Measure::Ratio),
        ("max_length_ratio", guard.max_length_ratio, Measure::Ratio),
    ] {
        if let Some(limit) = limit.filter(|limit| !measure.range().contains(limit)) {
            return misfit(key, limit.to_string(), measure.expected().to_owned());
        }
    }
    match (guard.min_length_ratio, guard.max_length_ratio) {
        (Some(least), Some(most)) if least > most => misfit(
            "min_length_ratio",
            least.to_string(),
            format!("at most max_length_ratio, which is {most}"),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(json: &str) -> Result<(), String> {
        let guard: Guard = serde_json::from_str(json).expect("of a guard's shape");
        check(&guard).map_err(
            |Misfit {
                 key,
                 value,
                 expected,
             }| { format!("{key} is {value}, expected {expected}") },
        )
    }

    #[test]
    fn a_limit_that_no_answer_or_each_one_keeps_is_refused_by_its_key() {
        let (ratio, share) = ("a finite number of at least 0", "0 to 1");
        let logprob = "a finite number of at most 0";
        for (key, value, shown, expected) in [
            ("max_question_tokens", "0", "0", "at least 1"),
            ("max_answer_tokens", "0", "0", "at least 1"),
            ("max_tokens_per_word", "-1", "-1", ratio),
            ("max_tokens_per_word", "1e39", "inf", ratio),
            ("max_novel_words", "-0.5", "-0.5", share),
            ("max_novel_words", "1e39", "inf", share),
            ("max_displaced_words", "1.5", "1.5", share),
            ("min_mean_logprob", "0.5", "0.5", logprob),
            ("min_token_logprob", "-1e39", "-inf", logprob),
            ("min_length_ratio", "-2", "-2", ratio),
            ("max_length_ratio", "1e39", "inf", ratio),
        ] {
            assert_eq!(
                checked(&format!(r#"{{"{key}": {value}}}"#)),
                Err(format!("{key} is {shown}, expected {expected}"))
            );
        }
        assert_eq!(
            checked(r#"{"min_length_ratio": 5, "max_length_ratio": 0.5}"#),
            Err(
                "min_length_ratio is 5, expected at most max_length_ratio, which is 0.5".to_owned()
            )
        );
    }

    #[test]
    fn the_strictest_and_the_mildest_limits_are_taken() {
        for limits in [
            "{}",
            r#"{"max_question_tokens": 1, "max_answer_tokens": 1, "max_tokens_per_word": 0,
                "max_novel_words": 0, "max_displaced_words": 0, "min_mean_logprob": 0,
                "min_token_logprob": 0, "min_length_ratio": 1, "max_length_ratio": 1}"#,
            r#"{"max_question_tokens": 4294967295, "max_tokens_per_word": 1e38, "max_novel_words": 1,
                "max_displaced_words": 1, "min_mean_logprob": -1e38, "min_token_logprob": -1e38,
                "min_length_ratio": 0, "max_length_ratio": 1e38}"#,
        ] {
            assert_eq!(checked(limits), Ok(()), "{limits}");
        }
    }
}
