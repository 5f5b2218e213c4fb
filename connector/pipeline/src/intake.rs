//! Records that were read and are not decoded yet, in order.

use std::{collections::VecDeque, sync::Arc};

use aligner_records::AnswerEvent;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    decode::{Decoder, Undecoded},
    encode::dead_letter_reason,
    offsets::{Offsets, Ticket},
    settings::{Backoff, Settings},
    source::SourceRecord,
    work::footprint,
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
        let before = self.queue.len();
        self.queue.extend(records.into_iter().filter_map(|record| {
            let ticket =
                offsets.admit(&record.partition, record.offset, footprint(&record), now)?;
            Some(Received {
                ticket,
                record,
                at: now,
            })
        }));
        (self.queue.len() - before) as u64
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
