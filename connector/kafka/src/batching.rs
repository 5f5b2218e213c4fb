//! How outputs are grouped into requests.
//!
//! A broker refuses a whole batch when one message, or all of them together, is too large, and does
//! not say which. Sending one message at a time finds out: either one is refused alone, or the batch
//! itself was the trouble, and batches become smaller for good.
//!
//! The latter is proven by those outputs alone whose batch was refused. Where some of them are put off
//! (an abort halves a delivery) or gone (their partition was taken away), the one to blame may be among
//! them. Then nothing is concluded: the others go in batches as before, and whose batch is refused next
//! is asked anew.

use std::{collections::BTreeSet, sync::Arc};

use aligner_pipeline::{Delivery, PartitionEpoch};

/// What librdkafka takes by default.
const USUAL_BYTES: u32 = 1_000_000;
/// Batches are not made smaller than this.
const LEAST_BYTES: u32 = 16_384;

/// What a producer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) max_bytes: u32,
    pub(crate) one_by_one: bool,
}

/// What producers are told, as it follows from what brokers took and refused.
#[derive(Debug)]
pub(crate) struct Batches {
    max_bytes: u32,
    /// Goes on while outputs are sent one by one.
    inquiry: Option<Inquiry>,
}

/// Finds out why a batch was refused.
#[derive(Debug)]
struct Inquiry {
    suspects: BTreeSet<Portion>,
    /// Whether one of them was refused alone.
    found: bool,
}

/// A tenure, and the offset up to which its outputs are meant. Where they begin is the same for all
/// portions of one inquiry: only a delivery moves it, and ends the inquiry.
type Portion = (Arc<PartitionEpoch>, i64);

fn portions(deliveries: &[Delivery]) -> BTreeSet<Portion> {
    deliveries
        .iter()
        .map(|delivery| (Arc::clone(&delivery.partition), delivery.next_offset))
        .collect()
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            max_bytes: USUAL_BYTES,
            inquiry: None,
        }
    }
}

impl Batches {
    /// What the next producer is told.
    pub(crate) fn batching(&self) -> Batching {
        Batching {
            max_bytes: self.max_bytes,
            one_by_one: self.inquiry.is_some(),
        }
    }

    /// These are sent next. An inquiry about others ends.
    pub(crate) fn turn_to(&mut self, deliveries: &[Delivery]) {
        let is_about_others = |inquiry: &Inquiry| inquiry.suspects != portions(deliveries);
        if self.inquiry.as_ref().is_some_and(is_about_others) {
            self.inquiry = None;
        }
    }

    /// A batch of these was refused.
    pub(crate) fn refused_together(&mut self, deliveries: &[Delivery]) {
        self.inquiry = Some(Inquiry {
            suspects: portions(deliveries),
            found: false,
        });
    }

    /// One output was refused for itself.
    pub(crate) fn refused_alone(&mut self) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.found = true;
        }
    }

    /// What was turned to was delivered.
    pub(crate) fn delivered(&mut self) {
        if self.inquiry.take().is_some_and(|inquiry| !inquiry.found) {
            self.max_bytes = (self.max_bytes / 4).max(LEAST_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::Partition;

    use super::*;

    /// Epochs of tenures, each with the offset up to which outputs of it are sent.
    type Sent = &'static [(u64, i64)];

    const WHOLE: Sent = &[(1, 100), (2, 100)];
    const WHOLE_IN_ANOTHER_ORDER: Sent = &[(2, 100), (1, 100)];
    const ONE_PARTITION: Sent = &[(1, 100)];
    const SHORTER: Sent = &[(1, 50), (2, 50)];
    const LONGER: Sent = &[(1, 100), (2, 150)];
    const TAKEN_BACK: Sent = &[(1, 100), (3, 100)];

    #[derive(Debug, Clone, Copy)]
    enum Outcome {
        RefusedTogether,
        RefusedAlone,
        Aborted,
        Delivered,
    }
    use Outcome::{Aborted, Delivered, RefusedAlone, RefusedTogether};

    fn deliveries(sent: &[(u64, i64)]) -> Vec<Delivery> {
        sent.iter()
            .map(|(epoch, next_offset)| Delivery {
                partition: Arc::new(PartitionEpoch {
                    partition: Partition {
                        topic: "answers".into(),
                        number: 0,
                    },
                    epoch: *epoch,
                }),
                next_offset: *next_offset,
                outputs: Vec::new(),
            })
            .collect()
    }

    /// Sends these one after the other, with these outcomes.
    fn send(batches: &mut Batches, steps: &[(Sent, Outcome)]) {
        for (sent, outcome) in steps {
            let deliveries = deliveries(sent);
            batches.turn_to(&deliveries);
            match outcome {
                RefusedTogether => batches.refused_together(&deliveries),
                RefusedAlone => batches.refused_alone(),
                Aborted => {}
                Delivered => batches.delivered(),
            }
        }
    }

    #[test]
    fn batches_shrink_only_when_all_that_was_refused_together_is_taken_one_by_one() {
        /// What happened, step by step, and the size that batches have then.
        type Case = (&'static str, &'static [(Sent, Outcome)], u32);
        let cases: [Case; 10] = [
            ("nothing was refused", &[(WHOLE, Delivered)], 1_000_000),
            (
                "the batch is to blame",
                &[(WHOLE, RefusedTogether), (WHOLE, Delivered)],
                250_000,
            ),
            (
                "the batch is to blame, found at the second attempt",
                &[
                    (WHOLE, RefusedTogether),
                    (WHOLE, Aborted),
                    (WHOLE_IN_ANOTHER_ORDER, Delivered),
                ],
                250_000,
            ),
            (
                "the batch is to blame, found by a part that is taken in time",
                &[
                    (WHOLE, RefusedTogether),
                    (WHOLE, Aborted),
                    (SHORTER, RefusedTogether),
                    (SHORTER, Delivered),
                ],
                250_000,
            ),
            (
                "one output is to blame",
                &[
                    (WHOLE, RefusedTogether),
                    (WHOLE, RefusedAlone),
                    (WHOLE, Delivered),
                ],
                1_000_000,
            ),
            (
                "one output is to blame, and is put off by an abort",
                &[
                    (WHOLE, RefusedTogether),
                    (WHOLE, Aborted),
                    (SHORTER, Delivered),
                    (WHOLE, RefusedTogether),
                    (WHOLE, Aborted),
                    (ONE_PARTITION, Delivered),
                    (WHOLE, RefusedTogether),
                    (WHOLE, RefusedAlone),
                    (WHOLE, Delivered),
                ],
                1_000_000,
            ),
            (
                "one output is to blame, and more come before it is found",
                &[
                    (WHOLE, RefusedTogether),
                    (WHOLE, Aborted),
                    (LONGER, Delivered),
                ],
                1_000_000,
            ),
            (
                "the partition of the one to blame was taken away",
                &[(WHOLE, RefusedTogether), (ONE_PARTITION, Delivered)],
                1_000_000,
            ),
            (
                "that partition came back",
                &[(WHOLE, RefusedTogether), (TAKEN_BACK, Delivered)],
                1_000_000,
            ),
            (
                "a client refuses what no batch was refused for",
                &[(WHOLE, RefusedAlone), (WHOLE, Delivered)],
                1_000_000,
            ),
        ];
        for (case, steps, expected) in cases {
            let mut batches = Batches::default();
            send(&mut batches, steps);
            let usual = Batching {
                max_bytes: expected,
                one_by_one: false,
            };
            assert_eq!(batches.batching(), usual, "{case}");
        }
    }

    #[test]
    fn outputs_go_one_by_one_until_others_are_turned_to() {
        let mut batches = Batches::default();
        for next in [SHORTER, ONE_PARTITION, LONGER, TAKEN_BACK] {
            send(&mut batches, &[(WHOLE, RefusedTogether), (WHOLE, Aborted)]);
            assert!(batches.batching().one_by_one);
            send(&mut batches, &[(next, Aborted)]);
            assert!(!batches.batching().one_by_one, "{next:?}");
        }
    }

    #[test]
    fn batches_shrink_down_to_a_bound() {
        let mut batches = Batches::default();
        for expected in [250_000, 62_500, 16_384, 16_384] {
            send(
                &mut batches,
                &[(WHOLE, RefusedTogether), (WHOLE, Delivered)],
            );
            assert_eq!(batches.batching().max_bytes, expected);
        }
    }
}
