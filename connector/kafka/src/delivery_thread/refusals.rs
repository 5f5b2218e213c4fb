//! What brokers do not take: batches that are too large, and outputs of a topic that is not there.

use std::time::{Duration, Instant};

use aligner_pipeline::{Delivery, DeliveryError};

use super::DeliveryThread;
use crate::{
    batching::{Again, Batching, RefusedBatch},
    transaction::Failure,
};

/// For how long an output topic may be missing at every look before there is no more waiting for it: one
/// that is deleted and made again is back by then, and so are brokers that have just started.
const ABSENCE_PATIENCE: Duration = Duration::from_secs(30);

impl DeliveryThread {
    /// A batch was refused: why the same results are to be tried again at once, or an error for the
    /// caller where fewer of them have to come.
    pub(super) fn refused_together(
        &mut self,
        batch: RefusedBatch,
        chosen: &[Delivery],
    ) -> Result<String, DeliveryError> {
        let cause = batch.cause.clone();
        let from_bytes = self.batches.batching().max_bytes;
        match self.batches.refused_together(chosen, batch) {
            Again::Smaller { max_bytes } => {
                if let Some(unsaid) = self.repeats.admit("batch refused", Instant::now()) {
                    tracing::warn!(
                        cause,
                        from_bytes,
                        to_bytes = max_bytes,
                        unsaid,
                        "a batch was refused, its outputs are sent again in smaller ones"
                    );
                }
                Ok(cause)
            }
            Again::OneByOne => {
                tracing::info!(cause, "a batch was refused, sending one by one");
                Ok(cause)
            }
            Again::Fewer => Err(DeliveryError::Aborted(cause)),
        }
    }

    /// Where batches are others than they were, a new producer has to come.
    fn regroup(&mut self, before: Batching) {
        if self.batches.batching() != before {
            self.producer = None;
        }
    }

    /// Something is delivered next, whose batches may be others than the last ones were.
    pub(super) fn turn_to_next(&mut self) {
        let before = self.batches.batching();
        let tenures = &self.parts.tenures;
        self.batches
            .turn_to_next(|tenure| tenures.is_current(tenure));
        self.regroup(before);
    }

    /// These were taken as they were sent.
    pub(super) fn took(&mut self, delivered: &[Delivery]) {
        let before = self.batches.batching();
        if let Some(shrunk) = self.batches.delivered(delivered) {
            tracing::warn!(
                cause = shrunk.cause,
                from_bytes = shrunk.from_bytes,
                to_bytes = shrunk.to_bytes,
                "a batch was refused whose outputs are taken in smaller ones, batches are smaller \
                 from now on"
            );
        }
        self.regroup(before);
    }
}

/// Since when each look misses an output topic.
#[derive(Debug, Default)]
pub(super) struct MissingTopic(Option<Instant>);

impl MissingTopic {
    /// A failure as it is; but a topic that is missing for long stops us, as one does that is missing at
    /// the start.
    pub(super) fn judge(&mut self, failure: Failure, now: Instant) -> Failure {
        let Failure::Missing { topic, .. } = &failure else {
            self.0 = None;
            return failure;
        };
        let lasted = now.duration_since(*self.0.get_or_insert(now));
        if lasted < ABSENCE_PATIENCE {
            return failure;
        }
        Failure::Stopped(format!(
            "output topic \"{topic}\" is not there, for {} s now; create it, then start again",
            lasted.as_secs()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_each_look_misses_for_half_a_minute_stops_us_and_is_named() {
        /// Second, whether the look missed the topic, and whether that is the end.
        type Look = (u64, bool, bool);
        let stories: [(&str, &[Look]); 3] = [
            (
                "deleted",
                &[
                    (0, true, false),
                    (12, true, false),
                    (29, true, false),
                    (31, true, true),
                ],
            ),
            ("missed once", &[(0, true, false), (90, false, false)]),
            (
                "there in between",
                &[
                    (0, true, false),
                    (29, false, false),
                    (31, true, false),
                    (60, true, false),
                    (61, true, true),
                ],
            ),
        ];
        let start = Instant::now();
        for (story, looks) in stories {
            let mut missing = MissingTopic::default();
            for &(second, is_missing, ends) in looks {
                let cause = "not acknowledged in time".to_owned();
                let failure = if is_missing {
                    let topic = "llm.pairs".to_owned();
                    Failure::Missing { topic, cause }
                } else {
                    Failure::Aborted(cause)
                };
                let judged = missing.judge(failure.clone(), start + Duration::from_secs(second));
                match judged {
                    Failure::Stopped(cause) => {
                        assert!(ends, "{story}, second {second}");
                        assert!(cause.contains("\"llm.pairs\" is not there"), "{cause}");
                    }
                    judged => assert_eq!((judged, ends), (failure, false), "{story}, {second}"),
                }
            }
        }
    }
}
