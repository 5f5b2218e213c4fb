//! Every limit of the pipeline, in one place.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{batcher, offsets, retry};

/// Longest time in which the source is merely not asked.
const MAX_PAUSE_AFTER_MS: u64 = 1_000;

/// The limits of one pipeline. Each queue, retry and wait is bounded by one of them, or by a
/// constant with a name and its reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Most tokens of one batch, prompt and output, as the Aligner estimates them. A single
    /// record may exceed it and is then a batch on its own.
    pub max_batch_tokens: u64,
    /// Most records of one batch.
    pub max_batch_records: usize,
    /// Longest wait of a batch's first record for company.
    pub linger_ms: u64,
    /// Most batches that the Aligner works on at a time.
    pub max_batches_in_flight: usize,

    /// Tokens of unfinished records at which the source is held back (at 80 % of it, until 50 %).
    pub max_tokens_in_flight: u64,
    /// Bytes of undelivered records, with their outputs, at which the source is held back
    /// (at 80 % of it, until 50 %).
    pub max_bytes_in_flight: u64,
    /// How long the source is merely not asked before it is told to pause.
    pub pause_after_ms: u64,

    /// Longer questions bypass the Aligner with reason `too_long`; absent is no limit.
    pub max_question_chars: Option<usize>,
    /// Longer answers bypass the Aligner with reason `too_long`; absent is no limit.
    pub max_answer_chars: Option<usize>,
    /// Records with a larger value are dead-lettered undecoded, with reason `too_large`.
    pub max_input_bytes: usize,
    /// Outputs with a larger sum of key, value and headers are not written: their record is
    /// dead-lettered with reason `output_too_large`. A log may take less: what it refuses is
    /// dead-lettered with reason `output_refused`.
    pub max_output_bytes: usize,

    /// How often the Aligner is asked for a record that it is unavailable for while it answers
    /// others, before the record is dead-lettered with reason `aligner_unavailable`.
    pub max_attempts: u32,
    /// How long the Aligner is asked for a record while it answers nobody, before the record is
    /// dead-lettered with reason `aligner_unavailable`.
    pub max_outage_ms: u64,
    /// First pause before a record is tried again; doubles with each attempt.
    pub retry_backoff_ms: u64,
    /// Longest pause before a record is tried again.
    pub retry_backoff_max_ms: u64,
    /// Longest time in which the Aligner answers neither a call nor any that it may serve before
    /// it, and does not tell that it works. A record that is unanswered after that is asked for
    /// alone, and after a second time dead-lettered with reason `aligner_timeout`.
    pub record_timeout_ms: u64,

    /// Shortest time between deliveries.
    pub commit_interval_min_ms: u64,
    /// Time between the beginnings of deliveries under backlog.
    pub commit_interval_max_ms: u64,
    /// Most records of one delivery.
    pub max_delivery_records: usize,
    /// Most bytes of one delivery, inputs and outputs; a single record may exceed it.
    pub max_delivery_bytes: u64,
    /// First pause after an aborted delivery; doubles with each in a row.
    pub delivery_backoff_ms: u64,
    /// Longest pause after an aborted delivery.
    pub delivery_backoff_max_ms: u64,

    /// After the request to stop: time for records that the Aligner has, or will soon have. What
    /// is unfinished then is read again by whoever comes next. With 0 none of them is waited for.
    pub drain_timeout_ms: u64,
    /// Time for the last delivery, and again for closing sink and source, both together.
    pub close_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_batch_tokens: 32_768,
            max_batch_records: 64,
            linger_ms: 5,
            max_batches_in_flight: 4,
            max_tokens_in_flight: 1 << 20,
            max_bytes_in_flight: 32 << 20,
            pause_after_ms: 100,
            max_question_chars: None,
            max_answer_chars: None,
            max_input_bytes: 1 << 20,
            max_output_bytes: 2 << 20,
            max_attempts: 8,
            max_outage_ms: 3_600_000,
            retry_backoff_ms: 500,
            retry_backoff_max_ms: 30_000,
            record_timeout_ms: 600_000,
            commit_interval_min_ms: 5,
            commit_interval_max_ms: 100,
            max_delivery_records: 5_000,
            max_delivery_bytes: 32 << 20,
            delivery_backoff_ms: 50,
            delivery_backoff_max_ms: 5_000,
            drain_timeout_ms: 30_000,
            close_timeout_ms: 10_000,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its key within the section.
    pub key: &'static str,
    /// What is wrong with its value.
    pub message: String,
    /// What to do about it.
    pub fix: String,
}

impl Settings {
    /// Every problem at once; none in the defaults.
    pub fn problems(&self) -> Vec<Problem> {
        let at_least_one = [
            ("max_batch_tokens", self.max_batch_tokens),
            ("max_batch_records", self.max_batch_records as u64),
            ("max_batches_in_flight", self.max_batches_in_flight as u64),
            ("max_tokens_in_flight", self.max_tokens_in_flight),
            ("max_bytes_in_flight", self.max_bytes_in_flight),
            ("max_input_bytes", self.max_input_bytes as u64),
            ("max_attempts", u64::from(self.max_attempts)),
            ("retry_backoff_ms", self.retry_backoff_ms),
            ("record_timeout_ms", self.record_timeout_ms),
            ("max_delivery_records", self.max_delivery_records as u64),
            ("max_delivery_bytes", self.max_delivery_bytes),
            ("delivery_backoff_ms", self.delivery_backoff_ms),
            ("close_timeout_ms", self.close_timeout_ms),
        ];
        let ordered = [
            (
                ("retry_backoff_ms", self.retry_backoff_ms),
                ("retry_backoff_max_ms", self.retry_backoff_max_ms),
            ),
            (
                ("commit_interval_min_ms", self.commit_interval_min_ms),
                ("commit_interval_max_ms", self.commit_interval_max_ms),
            ),
            (
                ("delivery_backoff_ms", self.delivery_backoff_ms),
                ("delivery_backoff_max_ms", self.delivery_backoff_max_ms),
            ),
        ];
        let mut problems = Vec::new();
        for (key, value) in at_least_one {
            if value == 0 {
                problems.push(Problem {
                    key,
                    message: "is 0".to_owned(),
                    fix: "set it to 1 or more".to_owned(),
                });
            }
        }
        for ((low_key, low), (key, high)) in ordered {
            if high < low {
                problems.push(Problem {
                    key,
                    message: format!("is {high}, below {low_key} {low}"),
                    fix: format!("set it to {low} or more"),
                });
            }
        }
        // Longer waits would pass for an Aligner that is stuck.
        for (key, wait) in [
            ("linger_ms", self.linger_ms),
            ("commit_interval_max_ms", self.commit_interval_max_ms),
        ] {
            let most = self.record_timeout_ms;
            if wait > most {
                problems.push(Problem {
                    key,
                    message: format!("is {wait}, above record_timeout_ms {most}"),
                    fix: format!("set it to {most} or less"),
                });
            }
        }
        if self.pause_after_ms > MAX_PAUSE_AFTER_MS {
            problems.push(Problem {
                key: "pause_after_ms",
                message: format!(
                    "is {}: a source that is not asked does not tell that partitions are taken away",
                    self.pause_after_ms
                ),
                fix: format!("set it to {MAX_PAUSE_AFTER_MS} or less"),
            });
        }
        // Room for a dead letter's headers.
        if self.max_output_bytes < 4_096 {
            problems.push(Problem {
                key: "max_output_bytes",
                message: format!(
                    "is {}, too little for a dead letter's headers",
                    self.max_output_bytes
                ),
                fix: "set it to 4096 or more".to_owned(),
            });
        }
        problems
    }

    pub(crate) fn batch_limits(&self) -> batcher::Limits {
        batcher::Limits {
            tokens: self.max_batch_tokens,
            records: self.max_batch_records,
            linger: Duration::from_millis(self.linger_ms),
        }
    }

    pub(crate) fn delivery_budget(&self) -> offsets::Budget {
        offsets::Budget {
            records: self.max_delivery_records,
            bytes: self.max_delivery_bytes,
        }
    }

    pub(crate) fn retry_limits(&self) -> retry::Limits {
        retry::Limits {
            max_attempts: self.max_attempts,
            max_outage: Duration::from_millis(self.max_outage_ms),
        }
    }

    pub(crate) fn retry_backoff(&self) -> Backoff {
        Backoff::new(self.retry_backoff_ms, self.retry_backoff_max_ms)
    }

    pub(crate) fn delivery_backoff(&self) -> Backoff {
        Backoff::new(self.delivery_backoff_ms, self.delivery_backoff_max_ms)
    }
}

/// Pauses that double up to a bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
}

impl Backoff {
    fn new(first_ms: u64, max_ms: u64) -> Self {
        Self {
            first: Duration::from_millis(first_ms),
            max: Duration::from_millis(max_ms),
        }
    }

    /// The pause after `failures` in a row, one or more.
    pub(crate) fn pause(self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1).min(31));
        self.first
            .saturating_mul(doubled.unwrap_or(u32::MAX))
            .min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problem_and_an_empty_section_is_the_defaults() {
        assert_eq!(Settings::default().problems(), []);
        let empty: Settings = serde_json::from_str("{}").expect("all keys have defaults");
        assert_eq!(empty, Settings::default());
        serde_json::from_str::<Settings>(r#"{"max_batch_token": 1}"#)
            .expect_err("unknown keys are refused");
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let settings = Settings {
            max_batch_records: 0,
            commit_interval_min_ms: 200,
            max_output_bytes: 10,
            ..Settings::default()
        };
        let problems = settings.problems();
        assert_eq!(
            problems
                .iter()
                .map(|problem| problem.key)
                .collect::<Vec<_>>(),
            [
                "max_batch_records",
                "commit_interval_max_ms",
                "max_output_bytes"
            ]
        );
        assert_eq!(
            problems[1].message,
            "is 100, below commit_interval_min_ms 200"
        );
        assert_eq!(problems[1].fix, "set it to 200 or more");
    }

    #[test]
    fn no_record_waits_for_company_or_a_delivery_as_long_as_for_an_aligner_that_is_stuck() {
        let day = 86_400_000;
        let settings = Settings {
            linger_ms: day,
            commit_interval_max_ms: day,
            ..Settings::default()
        };
        let problems = settings.problems();
        let keys: Vec<_> = problems.iter().map(|problem| problem.key).collect();
        assert_eq!(keys, ["linger_ms", "commit_interval_max_ms"]);
        assert_eq!(
            problems[0].message,
            "is 86400000, above record_timeout_ms 600000"
        );
        assert_eq!(problems[0].fix, "set it to 600000 or less");
        let patient = Settings {
            record_timeout_ms: day,
            ..settings
        };
        assert_eq!(patient.problems(), []);
    }

    #[test]
    fn a_source_is_asked_or_paused_before_long_so_that_it_tells_what_is_taken_away() {
        let settings = |pause_after_ms| Settings {
            pause_after_ms,
            ..Settings::default()
        };
        assert_eq!(settings(1_000).problems(), []);
        let problem = settings(3_600_000).problems().remove(0);
        assert_eq!(problem.key, "pause_after_ms");
        assert_eq!(problem.fix, "set it to 1000 or less");
    }

    #[test]
    fn backoff_doubles_to_its_bound() {
        let backoff = Backoff::new(50, 5_000);
        let pauses: Vec<u128> = [1, 2, 3, 7, 8, 40, u32::MAX]
            .map(|failures| backoff.pause(failures).as_millis())
            .into();
        assert_eq!(pauses, [50, 100, 200, 3_200, 5_000, 5_000, 5_000]);
    }
}
