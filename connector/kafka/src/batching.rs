//! How outputs are grouped into requests.
//!
//! A broker refuses a whole batch when one message, or all of them together, is too large, and does
//! not say which. So what was refused for its size is sent again in batches of a quarter, as often as it
//! takes: a message that is as large as a batch may be travels alone, and is to blame once it is refused.
//! Where that comes to a batch of about one message, or where size is not the trouble, outputs are sent
//! one by one. That takes a request for each, so that it is done with few outputs only; with more,
//! the delivery is given back, and comes again in halves.
//!
//! Batches stay smaller for good where all that had been refused is taken in smaller ones. That is proven by
//! those outputs alone: where some of them are gone (their partition was taken away), the one to blame may
//! be among them, and batches are what they were. So they are once one output is found to blame.

use std::{collections::BTreeSet, sync::Arc};

use aligner_pipeline::{Delivery, PartitionEpoch};

/// What librdkafka takes by default.
const USUAL_BYTES: u32 = 1_000_000;
/// Batches are not made smaller than this: hardly an output is.
const LEAST_BYTES: u32 = 1_024;
/// A refused batch is sent again in so many.
const SHRINKING: u32 = 4;
/// So many outputs are sent one by one well within a transaction's time, also where a request takes 50 ms.
const MOST_ONE_BY_ONE: usize = 64;

/// What a producer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) max_bytes: u32,
    pub(crate) one_by_one: bool,
}

impl Batching {
    /// Whether an output of so many bytes has no company: librdkafka adds nothing to a batch that would
    /// exceed its size, and begins each with a message of any.
    pub(crate) fn leaves_alone(self, bytes: usize) -> bool {
        self.one_by_one || u32::try_from(bytes).is_ok_and(|bytes| bytes >= self.max_bytes)
    }
}

/// A batch that a broker did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RefusedBatch {
    pub(crate) blame: Blame,
    /// Names topic, error and setting.
    pub(crate) cause: String,
}

/// What is wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It, or a message in it, is too large; all that could have been in it has so many bytes.
    Size { bytes: usize },
    /// What is in a message.
    Contents,
}

/// How what was refused together is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// In batches of so many bytes.
    Smaller {
        max_bytes: u32,
    },
    OneByOne,
    /// Not at once: there are too many for that.
    Fewer,
}

/// Batches are smaller from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shrunk {
    pub(crate) from_bytes: u32,
    pub(crate) to_bytes: u32,
    /// Why the last one was refused.
    pub(crate) cause: String,
}

/// What producers are told, as it follows from what brokers took and refused.
#[derive(Debug)]
pub(crate) struct Batches {
    max_bytes: u32,
    /// Goes on until it is known why a batch was refused.
    inquiry: Option<Inquiry>,
}

/// Finds out why a batch was refused.
#[derive(Debug)]
struct Inquiry {
    batching: Batching,
    refused: RefusedBatch,
    suspects: BTreeSet<Portion>,
    /// Whether some of those that were refused are gone.
    has_lost: bool,
}

/// A tenure, and the offset up to which its outputs are meant. Where they begin is where its deliveries
/// have come to: only one that succeeds moves that.
type Portion = (Arc<PartitionEpoch>, i64);

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
        let usual = Batching {
            max_bytes: self.max_bytes,
            one_by_one: false,
        };
        self.inquiry
            .as_ref()
            .map_or(usual, |inquiry| inquiry.batching)
    }

    /// Something is sent next. An inquiry about what is gone ends.
    pub(crate) fn turn_to_next(&mut self, is_current: impl Fn(&PartitionEpoch) -> bool) {
        if let Some(inquiry) = &mut self.inquiry {
            let before = inquiry.suspects.len();
            inquiry.suspects.retain(|(tenure, _)| is_current(tenure));
            inquiry.has_lost |= inquiry.suspects.len() < before;
            if inquiry.suspects.is_empty() {
                self.inquiry = None;
            }
        }
    }

    /// A batch of these was refused.
    pub(crate) fn refused_together(
        &mut self,
        deliveries: &[Delivery],
        refused: RefusedBatch,
    ) -> Again {
        let now = self.batching();
        let smaller = match refused.blame {
            Blame::Size { bytes } => {
                let most = u32::try_from(bytes).unwrap_or(u32::MAX).min(now.max_bytes);
                Some(most / SHRINKING)
            }
            Blame::Contents => None,
        };
        let outputs: usize = deliveries.iter().map(|one| one.outputs.len()).sum();
        let again = match smaller {
            Some(max_bytes) if max_bytes >= LEAST_BYTES && !now.one_by_one => {
                Again::Smaller { max_bytes }
            }
            _ if outputs > MOST_ONE_BY_ONE => Again::Fewer,
            _ => Again::OneByOne,
        };
        let max_bytes = match again {
            Again::Smaller { max_bytes } => max_bytes,
            Again::OneByOne | Again::Fewer => {
                let least = smaller.map_or(now.max_bytes, |_| LEAST_BYTES);
                least.min(now.max_bytes)
            }
        };
        let suspects = deliveries
            .iter()
            .map(|delivery| (Arc::clone(&delivery.partition), delivery.next_offset))
            .collect();
        self.inquiry = Some(Inquiry {
            batching: Batching {
                max_bytes,
                one_by_one: again == Again::OneByOne,
            },
            refused,
            suspects,
            has_lost: false,
        });
        again
    }

    /// One output was refused for itself.
    pub(crate) fn refused_alone(&mut self) {
        self.inquiry = None;
    }

    /// These were delivered.
    pub(crate) fn delivered(&mut self, deliveries: &[Delivery]) -> Option<Shrunk> {
        let inquiry = self.inquiry.as_mut()?;
        inquiry.suspects.retain(|(tenure, up_to)| {
            !deliveries
                .iter()
                .any(|one| one.partition == *tenure && one.next_offset >= *up_to)
        });
        if !inquiry.suspects.is_empty() {
            return None;
        }
        let ended = self.inquiry.take()?;
        let to_bytes = ended.batching.max_bytes;
        if ended.has_lost || to_bytes == self.max_bytes {
            return None;
        }
        let from_bytes = std::mem::replace(&mut self.max_bytes, to_bytes);
        Some(Shrunk {
            from_bytes,
            to_bytes,
            cause: ended.refused.cause,
        })
    }
}

#[cfg(test)]
mod tests {
    use aligner_pipeline::{Outbound, OutputKind, Partition};

    use super::*;

    /// Epochs of tenures, each with the offset up to which outputs of it are sent.
    type Sent = &'static [(u64, i64)];

    const WHOLE: Sent = &[(1, 100), (2, 100)];
    const WHOLE_IN_ANOTHER_ORDER: Sent = &[(2, 100), (1, 100)];
    const ONE_PARTITION: Sent = &[(1, 100)];
    const THE_OTHER_PARTITION: Sent = &[(2, 100)];
    const SHORTER: Sent = &[(1, 50), (2, 50)];
    const LONGER: Sent = &[(1, 100), (2, 150)];
    const TAKEN_BACK: Sent = &[(1, 100), (3, 100)];

    /// More than a batch of the usual size.
    const MANY: usize = 5_000_000;

    #[derive(Debug, Clone, Copy)]
    enum Outcome {
        /// For its size; all that is sent to the topic has so many bytes.
        TooLarge(usize),
        Invalid,
        RefusedAlone,
        Aborted,
        Delivered,
        /// Nothing is sent: the second partition is taken away.
        Lost,
    }
    use Outcome::{Aborted, Delivered, Invalid, Lost, RefusedAlone, TooLarge};

    fn deliveries(sent: &[(u64, i64)], outputs: usize) -> Vec<Delivery> {
        let output = Arc::new(Outbound {
            kind: OutputKind::Correction,
            key: None,
            value: None,
            headers: Vec::new(),
        });
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
                outputs: vec![Arc::clone(&output); outputs],
            })
            .collect()
    }

    fn refused(blame: Blame) -> RefusedBatch {
        RefusedBatch {
            blame,
            cause: "too large".to_owned(),
        }
    }

    /// Sends these one after the other, with these outcomes.
    fn send(batches: &mut Batches, steps: &[(Sent, Outcome)]) {
        for (sent, outcome) in steps {
            let deliveries = deliveries(sent, 2);
            batches.turn_to_next(|tenure| {
                !matches!(outcome, Lost) || sent.iter().any(|(epoch, _)| *epoch == tenure.epoch)
            });
            match outcome {
                TooLarge(bytes) => {
                    let blame = Blame::Size { bytes: *bytes };
                    batches.refused_together(&deliveries, refused(blame));
                }
                Invalid => {
                    batches.refused_together(&deliveries, refused(Blame::Contents));
                }
                RefusedAlone => batches.refused_alone(),
                Aborted | Lost => {}
                Delivered => {
                    batches.delivered(&deliveries);
                }
            }
        }
    }

    #[test]
    fn batches_shrink_for_good_only_when_all_that_was_refused_together_is_taken_in_smaller_ones() {
        /// What happened, step by step, and the size that batches have then.
        type Case = (&'static str, &'static [(Sent, Outcome)], u32);
        let cases: [Case; 15] = [
            ("nothing was refused", &[(WHOLE, Delivered)], 1_000_000),
            (
                "the batch is to blame",
                &[(WHOLE, TooLarge(MANY)), (WHOLE, Delivered)],
                250_000,
            ),
            (
                "the batch is to blame, and so is one of a quarter",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, Delivered),
                ],
                62_500,
            ),
            (
                "the batch is to blame, found at the second attempt",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, Aborted),
                    (WHOLE_IN_ANOTHER_ORDER, Delivered),
                ],
                250_000,
            ),
            (
                "the batch is to blame, found by parts that are taken in time",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, Aborted),
                    (SHORTER, Delivered),
                    (ONE_PARTITION, Delivered),
                    (THE_OTHER_PARTITION, Delivered),
                ],
                250_000,
            ),
            (
                "the batch is to blame, and more come before that is found",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, Aborted),
                    (LONGER, Delivered),
                ],
                250_000,
            ),
            (
                "a batch of all that there is to send, smaller than it might be",
                &[(WHOLE, TooLarge(80_000)), (WHOLE, Delivered)],
                20_000,
            ),
            (
                "one output is to blame",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, RefusedAlone),
                    (WHOLE, Delivered),
                ],
                1_000_000,
            ),
            (
                "one output is to blame, and is put off by an abort",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, Aborted),
                    (SHORTER, Delivered),
                    (WHOLE, TooLarge(MANY)),
                    (WHOLE, Aborted),
                    (ONE_PARTITION, Delivered),
                    (THE_OTHER_PARTITION, RefusedAlone),
                    (THE_OTHER_PARTITION, Delivered),
                ],
                1_000_000,
            ),
            (
                "the partition of the one to blame was taken away",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (ONE_PARTITION, Lost),
                    (ONE_PARTITION, Delivered),
                ],
                1_000_000,
            ),
            (
                "that partition came back",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (TAKEN_BACK, Lost),
                    (TAKEN_BACK, Delivered),
                ],
                1_000_000,
            ),
            (
                "both were taken away",
                &[
                    (WHOLE, TooLarge(MANY)),
                    (&[], Lost),
                    (TAKEN_BACK, Delivered),
                ],
                1_000_000,
            ),
            (
                "a client refuses what no batch was refused for",
                &[(WHOLE, RefusedAlone), (WHOLE, Delivered)],
                1_000_000,
            ),
            (
                "a broker does not take what is in one of them, and then does",
                &[(WHOLE, Invalid), (WHOLE, Delivered)],
                1_000_000,
            ),
            (
                "hardly anything is refused, and taken one by one",
                &[(WHOLE, TooLarge(600)), (WHOLE, Delivered)],
                1_024,
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
    fn what_is_refused_goes_again_in_ever_smaller_batches_and_few_of_it_one_by_one_at_last() {
        let smaller = |max_bytes| Again::Smaller { max_bytes };
        for (outputs, last) in [
            (MOST_ONE_BY_ONE, Again::OneByOne),
            (MOST_ONE_BY_ONE + 1, Again::Fewer),
        ] {
            let sent = deliveries(ONE_PARTITION, outputs);
            let mut batches = Batches::default();
            for expected in [
                smaller(250_000),
                smaller(62_500),
                smaller(15_625),
                smaller(3_906),
                last,
                last,
            ] {
                let again = batches.refused_together(&sent, refused(Blame::Size { bytes: MANY }));
                assert_eq!(again, expected);
                assert_eq!(batches.batching().one_by_one, again == Again::OneByOne);
            }
            assert_eq!(batches.batching().max_bytes, LEAST_BYTES);

            let mut batches = Batches::default();
            let again = batches.refused_together(&sent, refused(Blame::Contents));
            assert_eq!(again, last, "size is not what is wrong");
            assert_eq!(batches.batching().max_bytes, USUAL_BYTES);
        }
    }

    #[test]
    fn it_is_told_once_that_batches_are_smaller_and_why() {
        let mut batches = Batches::default();
        let sent = deliveries(WHOLE, 2);
        assert_eq!(batches.delivered(&sent), None);
        batches.refused_together(&sent, refused(Blame::Size { bytes: MANY }));
        assert_eq!(batches.delivered(&sent[..1]), None, "one of two");
        let told = Shrunk {
            from_bytes: 1_000_000,
            to_bytes: 250_000,
            cause: "too large".to_owned(),
        };
        assert_eq!(batches.delivered(&sent[1..]), Some(told));
        assert_eq!(batches.delivered(&sent), None);
    }

    #[test]
    fn an_output_as_large_as_a_batch_has_no_company() {
        let batching = |one_by_one| Batching {
            max_bytes: 250_000,
            one_by_one,
        };
        for (bytes, alone) in [(0, false), (249_999, false), (250_000, true), (MANY, true)] {
            assert_eq!(batching(false).leaves_alone(bytes), alone, "{bytes}");
            assert!(batching(true).leaves_alone(bytes));
        }
    }
}
