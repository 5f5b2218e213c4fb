//! What a step costs by its number of rows, as measured, and from what chance on a draft pays.
//!
//! While weights are read from memory, another row costs next to nothing; once arithmetic is what
//! takes the time, it costs its share. Prompts and batches of all sizes pass by anyway, so the
//! costs are learnt from them.

use std::time::Duration;

/// Steps of between 2ⁿ and 2ⁿ⁺¹ rows are taken together.
const BUCKETS: usize = 16;

/// What one measurement counts against those before it.
const NEW: f32 = 0.1;

/// No draft that is less likely is worth its bookkeeping.
const LEAST: f32 = 0.01;

/// Costs of steps.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    buckets: [Option<Cost>; BUCKETS],
}

#[derive(Debug, Clone, Copy)]
struct Cost {
    rows: f32,
    seconds: f32,
}

impl Pace {
    /// Learns from a step.
    pub(crate) fn learn(&mut self, rows: usize, elapsed: Duration) {
        let (rows, seconds) = (rows.max(1), elapsed.as_secs_f32());
        let new = Cost {
            rows: rows as f32,
            seconds,
        };
        let bucket = &mut self.buckets[(rows.ilog2() as usize).min(BUCKETS - 1)];
        let old = bucket.unwrap_or(new);
        *bucket = Some(Cost {
            rows: old.rows + NEW * (new.rows - old.rows),
            // A step that was interrupted says nothing about the next one.
            seconds: old.seconds + NEW * (new.seconds.min(4.0 * old.seconds) - old.seconds),
        });
    }

    /// The least chance of being right with which another row pays in a step of `rows` rows that
    /// decodes `sequences` tokens: it costs its time, and gains its chance of a token.
    pub(crate) fn worth(&self, rows: usize, sequences: usize) -> f32 {
        let bucket = (rows.max(1).ilog2() as usize).min(BUCKETS - 1);
        let (below, above) = self.buckets.split_at(bucket + 1);
        let here = below.iter().rev().flatten().next();
        let more = above.iter().flatten().next();
        let (Some(here), Some(more)) = (here, more) else {
            // Nothing is known about larger steps.
            return 1.0;
        };
        let row = (more.seconds - here.seconds) / (more.rows - here.rows);
        (row * sequences as f32 / here.seconds).clamp(LEAST, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a step costs 10 ms and a row `row` more.
    fn pace(row: f32) -> Pace {
        let mut pace = Pace::default();
        for _ in 0..50 {
            for rows in [1, 4, 16, 200] {
                let seconds = 0.010 + row * rows as f32;
                pace.learn(rows, Duration::from_secs_f32(seconds));
            }
        }
        pace
    }

    #[test]
    fn drafts_pay_while_weights_are_what_costs_time() {
        assert!(pace(0.0).worth(1, 1) <= 0.01);
        let some = pace(0.0005).worth(1, 1);
        assert!((0.03..0.07).contains(&some), "{some}");
        let batch = pace(0.0005).worth(16, 16);
        assert!((0.3..0.6).contains(&batch), "{batch}");
    }

    #[test]
    fn drafts_do_not_pay_where_every_row_costs_its_share() {
        assert!(pace(1.0).worth(1, 1) > 0.9);
        assert!(pace(1.0).worth(16, 16) > 0.9);
    }

    #[test]
    fn nothing_is_drafted_before_costs_are_known() {
        assert_eq!(Pace::default().worth(1, 1), 1.0);
        let mut pace = Pace::default();
        pace.learn(200, Duration::from_millis(100));
        assert_eq!(pace.worth(1, 1), 1.0);
    }
}
