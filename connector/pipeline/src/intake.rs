//! Records that were read and are not decoded yet, in order.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use aligner_records::AnswerEvent;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    decode::{Decoder, Undecoded},
    encode::dead_letter_reason,
    offsets::{Offsets, Ticket, Unadmitted},
    settings::{Backoff, Settings},
    source::SourceRecord,
    work::{Whose, footprint, position},
};

/// A decoder that fetches for longer than this is waited for.
const SLOW: Duration = Duration::from_secs(1);

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
        whose: Whose,
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
    /// What the decoder is fetching for the first record, and since when.
    fetching: Option<(Instant, BoxFuture<'static, Result<(), String>>)>,
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
                    whose: Whose::default(),
                    reason: dead_letter_reason::TOO_LARGE,
                    message: format!(
                        "the value has {bytes} bytes, more than max_input_bytes {}: raise it, or \
                         log shorter answers",
                        self.max_input_bytes
                    ),
                });
            }
            let decoded = self.decoder.decode(&received.record);
            if !matches!(decoded, Err(Undecoded::NotReady)) {
                // However the decoder came by what it lacked, nothing waits any more.
                self.failures = 0;
            }
            return match decoded {
                Ok(event) => Some(Decoded::Event(Box::new(received), event)),
                Err(Undecoded::Invalid { reason, message }) => Some(Decoded::Invalid {
                    whose: self.decoder.remains(&received.record).into(),
                    received: Box::new(received),
                    reason,
                    message,
                }),
                Err(Undecoded::NotReady) => {
                    let decoder = Arc::clone(&self.decoder);
                    let record = received.record.clone();
                    let fetch = async move { decoder.make_ready(&record).await };
                    self.fetching = Some((now, Box::pin(fetch)));
                    self.queue.push_front(received);
                    None
                }
            };
        }
    }

    /// Waits for what the decoder is fetching, for ever if it fetches nothing. Cancel-safe.
    pub(crate) async fn fetched(&mut self) -> Result<(), String> {
        match &mut self.fetching {
            Some((_, fetching)) => fetching.await,
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

    /// Whether decoding waits for something outside that failed, or is slow. What is asked for once,
    /// and given at once, holds nothing up.
    pub(crate) fn waits(&self, now: Instant) -> bool {
        let since = self.fetching.as_ref().map(|(since, _)| *since);
        self.failures > 0 || since.is_some_and(|since| since + SLOW <= now)
    }

    /// When to try again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.fetching.is_none())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Forgets records of tenures that have ended: no budget counts their bytes any more.
    pub(crate) fn abandon_lost<T>(&mut self, offsets: &Offsets<T>) {
        let first = self.first();
        self.queue
            .retain(|received| offsets.awaits(received.ticket));
        if self.first() != first {
            // It was waited for on behalf of that record; the next one may need nothing.
            self.fetching = None;
            self.failures = 0;
            self.not_before = None;
        }
    }

    fn first(&self) -> Option<Ticket> {
        self.queue.front().map(|received| received.ticket)
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
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;
    use crate::{
        decode::JsonDecoder,
        source::{Partition, PartitionEpoch},
    };

    /// Lacks what records without a value need until it is told otherwise, and never gets it.
    #[derive(Default)]
    struct Away {
        is_ready: AtomicBool,
    }

    impl Decoder for Away {
        fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
            if record.value.is_some() || self.is_ready.load(SeqCst) {
                Ok(AnswerEvent::default())
            } else {
                Err(Undecoded::NotReady)
            }
        }

        fn make_ready<'a>(&'a self, _: &'a SourceRecord) -> BoxFuture<'a, Result<(), String>> {
            Box::pin(std::future::pending::<Result<(), String>>())
        }
    }

    fn tenure(number: i32, epoch: u64) -> Arc<PartitionEpoch> {
        Arc::new(PartitionEpoch {
            partition: Partition {
                topic: "answers".into(),
                number,
            },
            epoch,
        })
    }

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
        let (old, new) = (tenure(0, 1), tenure(0, 2));
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

    #[test]
    fn what_ended_tenures_left_is_forgotten_whatever_the_first_of_it_waits_for() {
        let now = Instant::now();
        let mut offsets = Offsets::<()>::default();
        let mut intake = Intake::new(Arc::new(Away::default()), &Settings::default());
        for epoch in 1..=3 {
            let tenure = tenure(0, epoch);
            offsets.open(Arc::clone(&tenure));
            let records = (0..5).map(|offset| record(&tenure, offset)).collect();
            assert_eq!(intake.accept(records, &mut offsets, now), 5);
            assert!(intake.decode(&offsets, now).is_none());
            let slow = now + SLOW;
            assert!(!intake.waits(now), "what comes at once holds nothing up");
            assert!(intake.waits(slow));
            offsets.forget(&[tenure]);
            intake.abandon_lost(&offsets);
            assert!(intake.is_empty() && !intake.waits(slow), "epoch {epoch}");
        }
    }

    #[test]
    fn a_record_that_leaves_takes_its_pause_along_and_one_that_stays_keeps_it() {
        let now = Instant::now();
        let (first, second, third) = (tenure(0, 1), tenure(1, 2), tenure(2, 3));
        let mut offsets = Offsets::<()>::default();
        for tenure in [&first, &second, &third] {
            offsets.open(Arc::clone(tenure));
        }
        let mut intake = Intake::new(Arc::new(Away::default()), &Settings::default());
        let readable = SourceRecord {
            value: Some("{}".into()),
            ..record(&second, 0)
        };
        let records = vec![record(&first, 0), readable, record(&third, 0)];
        intake.accept(records, &mut offsets, now);
        assert!(intake.decode(&offsets, now).is_none());
        intake.note(Err("connection refused".to_owned()), now);
        let pause = intake.deadline();
        assert!(pause.is_some());

        offsets.forget(&[third]);
        intake.abandon_lost(&offsets);
        assert!(intake.waits(now));
        assert_eq!(intake.deadline(), pause);

        offsets.forget(&[first]);
        intake.abandon_lost(&offsets);
        assert!(!intake.waits(now));
        let next = intake.decode(&offsets, now);
        assert!(matches!(next, Some(Decoded::Event(..))));
        assert!(intake.is_empty());
    }

    #[test]
    fn nothing_waits_once_a_record_was_decoded_though_no_fetch_succeeded() {
        let now = Instant::now();
        let tenure = tenure(0, 1);
        let mut offsets = Offsets::<()>::default();
        offsets.open(Arc::clone(&tenure));
        let decoder = Arc::new(Away::default());
        let mut intake = Intake::new(
            Arc::clone(&decoder) as Arc<dyn Decoder>,
            &Settings::default(),
        );
        intake.accept(vec![record(&tenure, 0)], &mut offsets, now);
        assert!(intake.decode(&offsets, now).is_none());
        intake.note(Err("connection refused".to_owned()), now);
        decoder.is_ready.store(true, SeqCst);
        let later = intake.deadline().expect("it is tried again");
        assert!(intake.waits(now));
        assert!(intake.decode(&offsets, later).is_some());
        assert!(!intake.waits(now));
    }
}
