//! Records that were read and are not decoded yet, in order.

use std::{collections::VecDeque, sync::Arc};

use aligner_records::AnswerEvent;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    decode::{Decoder, Undecoded},
    encode::dead_letter_reason,
    offsets::{Offsets, Ticket, Unadmitted},
    settings::{Backoff, Settings},
    source::SourceRecord,
    work::{footprint, position},
};

/// A record that waits to be decoded.
pub(crate) struct Received {
    pub ticket: Ticket,
    pub record: SourceRecord,
    pub at: Instant,
}

/// What decoding the first record gave.
pub(crate) enum Decoded {
    Event(Box<Received>, AnswerEvent),
    Invalid {
        received: Box<Received>,
        reason: &'static str,
        message: String,
    },
}

/// The queue, and what its first record waits for.
pub(crate) struct Intake {
    decoder: Arc<dyn Decoder>,
    max_input_bytes: usize,
    backoff: Backoff,
    queue: VecDeque<Received>,
    /// What the decoder is fetching for the first record.
    fetching: Option<BoxFuture<'static, Result<(), String>>>,
    /// Failures in a row, and when to try again.
    failures: u32,
    not_before: Option<Instant>,
}

impl Intake {
    pub(crate) fn new(decoder: Arc<dyn Decoder>, settings: &Settings) -> Self {
        Self {
            decoder,
            max_input_bytes: settings.max_input_bytes,
            backoff: settings.retry_backoff(),
            queue: VecDeque::new(),
            fetching: None,
            failures: 0,
            not_before: None,
        }
    }

    /// Takes in what the source read; returns how many records are ours.
    pub(crate) fn accept<T>(
        &mut self,
        records: Vec<SourceRecord>,
        offsets: &mut Offsets<T>,
        now: Instant,
    ) -> u64 {
        let (mut accepted, mut behind) = (0, 0_u64);
        let mut first_behind = None;
        for record in records {
            match offsets.admit(&record.partition, record.offset, footprint(&record), now) {
                Ok(ticket) => {
                    self.queue.push_back(Received {
                        ticket,
                        record,
                        at: now,
                    });
                    accepted += 1;
                }
                Err(Unadmitted::Ended) => {}
                Err(Unadmitted::Behind(last_offset)) => {
                    behind += 1;
                    first_behind.get_or_insert_with(|| (position(&record), last_offset));
                }
            }
        }
        if let Some((position, last_offset)) = first_behind {
            // A source promises rising offsets. If it breaks that, somebody must hear of it.
            tracing::error!(
                first = %position,
                last_offset,
                records = behind,
                "records were left out: they lie behind the last one that was read in their tenure"
            );
        }
        accepted
    }

    /// Decodes the first record, unless the decoder is not ready for it.
    pub(crate) fn decode<T>(&mut self, offsets: &Offsets<T>, now: Instant) -> Option<Decoded> {
        if self.fetching.is_some() || self.not_before.is_some_and(|moment| now < moment) {
            return None;
        }
        self.not_before = None;
        loop {
            let received = self.queue.pop_front()?;
            if !offsets.awaits(received.ticket) {
                continue;
            }
            let bytes = received
                .record
                .value
                .as_ref()
                .map_or(0, |value| value.len());
            if bytes > self.max_input_bytes {
                return Some(Decoded::Invalid {
                    received: Box::new(received),
                    reason: dead_letter_reason::TOO_LARGE,
                    message: format!(
                        "the value has {bytes} bytes, more than max_input_bytes {}: raise it, or \
                         log shorter answers",
                        self.max_input_bytes
                    ),
                });
            }
            return match self.decoder.decode(&received.record) {
                Ok(event) => Some(Decoded::Event(Box::new(received), event)),
                Err(Undecoded::Invalid { reason, message }) => Some(Decoded::Invalid {
                    received: Box::new(received),
                    reason,
                    message,
                }),
                Err(Undecoded::NotReady) => {
                    let decoder = Arc::clone(&self.decoder);
                    let record = received.record.clone();
                    self.fetching =
                        Some(Box::pin(async move { decoder.make_ready(&record).await }));
                    self.queue.push_front(received);
                    None
                }
            };
        }
    }

    /// Waits for what the decoder is fetching, for ever if it fetches nothing. Cancel-safe.
    pub(crate) async fn fetched(&mut self) -> Result<(), String> {
        match &mut self.fetching {
            Some(fetching) => fetching.await,
            None => std::future::pending().await,
        }
    }

    /// Takes note of what [`Intake::fetched`] gave.
    pub(crate) fn note(&mut self, result: Result<(), String>, now: Instant) {
        self.fetching = None;
        match result {
            Ok(()) => self.failures = 0,
            Err(cause) => {
                self.failures += 1;
                let pause = self.backoff.pause(self.failures);
                self.not_before = Some(now + pause);
                // The pauses grow, so these lines become rare on their own.
                tracing::warn!(
                    cause,
                    failures = self.failures,
                    again_in_ms = pause.as_millis(),
                    "the decoder is not ready; reading waits, nothing is lost"
                );
            }
        }
    }

    /// Whether decoding waits for something outside.
    pub(crate) fn waits(&self) -> bool {
        self.fetching.is_some() || self.failures > 0
    }

    /// When to try again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.fetching.is_none())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets everything: it will be read again.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.fetching = None;
        self.not_before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::JsonDecoder,
        source::{Partition, PartitionEpoch},
    };

    fn record(tenure: &Arc<PartitionEpoch>, offset: i64) -> SourceRecord {
        SourceRecord {
            partition: Arc::clone(tenure),
            offset,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    #[test]
    fn only_records_that_go_on_in_a_tenure_of_ours_are_accepted() {
        let tenure = |epoch| {
            Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: "answers".into(),
                    number: 0,
                },
                epoch,
            })
        };
        let (old, new) = (tenure(1), tenure(2));
        let mut offsets = Offsets::<()>::default();
        offsets.open(Arc::clone(&new));
        let mut intake = Intake::new(Arc::new(JsonDecoder::default()), &Settings::default());
        let records = vec![
            record(&new, 5),
            record(&new, 6),
            record(&new, 6),
            record(&new, 0),
            record(&old, 7),
            record(&new, 9),
        ];
        assert_eq!(intake.accept(records, &mut offsets, Instant::now()), 3);
        let accepted: Vec<i64> = intake
            .queue
            .iter()
            .map(|received| received.record.offset)
            .collect();
        assert_eq!(accepted, [5, 6, 9]);
    }
}
