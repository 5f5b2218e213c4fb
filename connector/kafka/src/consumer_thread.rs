//! The one thread that owns the consumer and polls it.
//!
//! It never waits long for the pipeline: records go into the [`Handoff`], and when that stays full,
//! fetching is suspended and polling goes on. A slow model therefore never costs the membership.
//! Message bytes are copied once, here, because librdkafka's buffers cannot outlive the poll.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::{PartitionEpoch, SourceError, SourceRecord};
use bytes::Bytes;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::{ClientConfig, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use crate::{
    course::{self, Place},
    fetching::{Fetching, Step},
    handoff::record_bytes,
    login::Login,
    membership::{self, Membership},
    native::{self, Listed},
    rejection::Rejection,
    repeats::RepeatFilter,
    settings::Connection,
    unreadable,
};

/// How long one poll waits; a close is noticed within this time.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The same while fetching is suspended, so that it goes on soon after there is room.
const SUSPENDED_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Between two looks for room without a poll.
const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(2);
/// A batch is handed over at this size even if more is waiting.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// How long to wait for others to let go of the consumer before it is closed all the same.
const LET_GO_TIMEOUT: Duration = Duration::from_secs(1);

/// A consumer that somebody else owns and closes.
#[derive(Clone)]
pub(crate) struct ConsumerHandle(Weak<Listed<BaseConsumer<Membership>>>);

impl ConsumerHandle {
    /// The consumer, unless it is closed. Not to be kept.
    pub(crate) fn get(&self) -> Option<Arc<Listed<BaseConsumer<Membership>>>> {
        self.0.upgrade()
    }
}

/// Why reading ends before it is asked to.
enum End {
    /// Nothing is ours any more, or it cannot be kept.
    Over(SourceError),
    /// There is a batch that cannot be read.
    Unreadable(SourceError),
}

impl From<SourceError> for End {
    fn from(error: SourceError) -> Self {
        Self::Over(error)
    }
}

/// The thread's state.
pub(crate) struct ConsumerThread {
    consumer: Arc<Listed<BaseConsumer<Membership>>>,
    max_batch_records: usize,
    fetching: Fetching,
    /// Tenure of the record seen last; the next one is nearly always of the same partition.
    last: Option<Arc<PartitionEpoch>>,
    changes: u64,
    repeats: RepeatFilter,
    rejection: Rejection,
    login: Option<Login>,
    session_timeout: Duration,
}

impl ConsumerThread {
    /// Creates the consumer; nothing is read yet.
    pub(crate) fn create(
        mut config: ClientConfig,
        membership: Membership,
        connection: &Connection,
    ) -> KafkaResult<(Self, ConsumerHandle)> {
        config.set_log_level(RDKafkaLogLevel::Info);
        let session_timeout = connection.session_timeout();
        let consumer = Arc::new(connection.client(&config, membership)?);
        let handle = ConsumerHandle(Arc::downgrade(&consumer));
        Ok((
            Self {
                consumer,
                max_batch_records: connection.kafka.fetch_batch_records,
                fetching: Fetching::default(),
                last: None,
                changes: 0,
                repeats: RepeatFilter::default(),
                rejection: Rejection::new(session_timeout),
                login: connection.login.clone(),
                session_timeout,
            },
            handle,
        ))
    }

    /// Asks to join the group; joining happens while polling.
    pub(crate) fn subscribe(&self, topics: &[String]) -> KafkaResult<()> {
        let names: Vec<_> = topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&names)
    }

    /// Polls until asked to close, then leaves the group.
    pub(crate) fn run(mut self) {
        let ended = self.poll_until_closing();
        let membership = Arc::clone(self.consumer.context());
        if let Err(End::Over(error) | End::Unreadable(error)) = &ended {
            tracing::error!(%error, "reading from kafka ended");
        }
        // Whatever is heard after that follows from it, and is not worth a line.
        let is_over = matches!(ended, Err(End::Over(_)));
        match ended {
            Ok(()) => membership.handoff.end(None),
            Err(End::Over(error)) => {
                // Whoever took our place has our partitions; nothing of ours may be delivered.
                membership.tenures.end(&membership.tenures.current());
                membership.handoff.end(Some(error));
            }
            Err(End::Unreadable(error)) => {
                // What was read is ours to deliver, and the group may take partitions meanwhile.
                membership.handoff.put_unreadable(error);
                self.suspend(true);
            }
        }
        // The session is kept by a thread of librdkafka, but only as long as somebody polls.
        while !membership.closing.load(Ordering::Acquire) {
            if let Some(Err(error)) = self.consumer.poll(POLL_INTERVAL)
                && let Err(End::Over(error)) = self.judge(&error)
            {
                if !is_over {
                    tracing::error!(%error, "the group went on without us");
                }
                membership.tenures.end(&membership.tenures.current());
            }
            self.remind();
        }
        self.close();
    }

    fn poll_until_closing(&mut self) -> Result<(), End> {
        let mut batch = Vec::new();
        while !self.membership().closing.load(Ordering::Acquire) {
            let now = Instant::now();
            if self.rejection.is_due(now) {
                self.look_for_rejection(now)?;
                self.note_positions();
            }
            let room = self.membership().handoff.room();
            match self.fetching.next(room, now) {
                Step::Poll if self.fetching.is_suspended() => {
                    self.fill(&mut batch, SUSPENDED_POLL_INTERVAL)?;
                }
                Step::Poll => self.fill(&mut batch, POLL_INTERVAL)?,
                Step::Wait => thread::sleep(ROOM_CHECK_INTERVAL),
                Step::Suspend => self.suspend(true),
                Step::Resume => self.suspend(false),
            }
            self.remind();
        }
        Ok(())
    }

    fn remind(&self) {
        self.membership().listener.remind(self.consumer.client());
    }

    fn membership(&self) -> &Membership {
        self.consumer.context()
    }

    /// Waits for a first message, takes what is there already, and hands it over.
    fn fill(&mut self, batch: &mut Vec<SourceRecord>, interval: Duration) -> Result<(), End> {
        let consumer = Arc::clone(&self.consumer);
        let mut bytes = 0;
        let mut wait = interval;
        let mut ended = Ok(());
        while batch.len() < self.max_batch_records && bytes < MAX_BATCH_BYTES {
            match consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    if let Some(tenure) = self.tenure_of(&message)
                        && self.is_next(&message, &tenure)?
                    {
                        let record = copied(&message, tenure);
                        bytes += record_bytes(&record);
                        batch.push(record);
                    }
                }
                Some(Err(error)) => {
                    ended = self.judge(&error);
                    if ended.is_err() {
                        break;
                    }
                }
            }
            wait = Duration::ZERO;
        }
        if batch.is_empty() {
            return ended;
        }
        if self.changes_since() {
            // The last poll took partitions away. Their records were never handed over, and
            // whoever has the partition now reads them.
            let tenures = &self.membership().tenures;
            batch.retain(|record| tenures.is_current(&record.partition));
            bytes = batch.iter().map(record_bytes).sum();
        }
        let records = std::mem::replace(batch, Vec::with_capacity(self.max_batch_records.min(64)));
        self.membership().handoff.put_records(records, bytes);
        ended
    }

    fn changes_since(&mut self) -> bool {
        let now = self.membership().changes.load(Ordering::Relaxed);
        let changed = now != self.changes;
        if changed {
            self.changes = now;
            self.last = None;
        }
        changed
    }

    fn tenure_of(&mut self, message: &BorrowedMessage<'_>) -> Option<Arc<PartitionEpoch>> {
        let now = self.membership().changes.load(Ordering::Relaxed);
        if let Some(last) = &self.last
            && now == self.changes
            && last.partition.number == message.partition()
            && *last.partition.topic == *message.topic()
        {
            return Some(Arc::clone(last));
        }
        let found = self
            .membership()
            .tenures
            .find(message.topic(), message.partition());
        self.last.clone_from(&found);
        found
    }

    /// Whether a record is the next one of its tenure. Where it is not, reading goes on elsewhere if
    /// it must.
    fn is_next(
        &mut self,
        message: &BorrowedMessage<'_>,
        tenure: &Arc<PartitionEpoch>,
    ) -> Result<bool, SourceError> {
        let partition = &tenure.partition;
        let place = Place {
            offset: message.offset(),
            leader_epoch: native::leader_epoch(message),
            timestamp: message.timestamp().to_millis(),
        };
        match self.membership().note(tenure, place) {
            course::Step::On => return Ok(true),
            course::Step::Again => {
                if let Some(unsaid) = self.repeats.admit(&partition.to_string(), Instant::now()) {
                    tracing::warn!(
                        %partition,
                        offset = place.offset,
                        unsaid,
                        "a record that was read before came again and is left out"
                    );
                }
            }
            course::Step::Gap { from } => {
                tracing::info!(
                    %partition,
                    from,
                    offset = place.offset,
                    "offsets jump at a new leader: what lies between is read once more"
                );
                membership::seek(&self.consumer, partition, Offset::Offset(from))?;
            }
            course::Step::Back {
                stood_at,
                leader_epoch,
            } => {
                tracing::error!(
                    %partition,
                    offset = place.offset,
                    expected = stood_at,
                    leader_epoch = place.leader_epoch,
                    last_leader_epoch = leader_epoch,
                    "offsets went back, records of the old log are lost and those of the new one are \
                     read: {}; see \"Offsets that go back\" in docs/operations.md",
                    course::cause(leader_epoch, place.leader_epoch)
                );
                self.membership()
                    .begin_again(&self.consumer, tenure, place.offset)?;
            }
        }
        Ok(false)
    }

    /// Suspends fetching, or resumes it.
    fn suspend(&mut self, suspend: bool) {
        let membership = Arc::clone(self.consumer.context());
        let mut list = TopicPartitionList::new();
        for tenure in membership.tenures.current() {
            list.add_partition(&tenure.partition.topic, tenure.partition.number);
        }
        let done = if suspend {
            self.consumer.pause(&list)
        } else {
            self.consumer.resume(&list)
        };
        match done {
            Ok(()) => {
                self.fetching.has(suspend);
                membership.suspended.store(suspend, Ordering::Relaxed);
                membership.stats.set_paused(suspend);
                tracing::debug!(suspend, "fetching suspended or resumed");
            }
            Err(error) => {
                tracing::warn!(%error, suspend, "fetching could not be changed");
                thread::sleep(ROOM_CHECK_INTERVAL);
            }
        }
    }

    /// Once a second: a partition may end in what holds no records, which comes to nobody's notice.
    fn note_positions(&self) {
        match self.consumer.position() {
            Ok(positions) => self.membership().read_past(&positions),
            Err(error) => tracing::debug!(%error, "how far was read was not to be had"),
        }
    }

    fn look_for_rejection(&mut self, now: Instant) -> Result<(), SourceError> {
        let membership = Arc::clone(self.consumer.context());
        let login = self.login.as_ref();
        let fault = membership
            .listener
            .fault()
            .filter(|fault| login.is_none_or(|login| login.is_about_the_present(fault)));
        let brokers_up = membership.stats.state().brokers_up;
        let shut_out = self.rejection.look(brokers_up, fault.as_ref(), now);
        let refused = || login?.refusal(self.session_timeout);
        match shut_out.or_else(refused) {
            Some(message) => Err(SourceError { message }),
            None => Ok(()),
        }
    }

    /// Whether reading can go on after this error. librdkafka's own repairs are let alone; the
    /// listener has logged the error already.
    fn judge(&self, error: &KafkaError) -> Result<(), End> {
        let (code, fatal) = match error {
            KafkaError::MessageConsumptionFatal(code) => (*code, true),
            KafkaError::MessageConsumption(code) => (*code, false),
            _ => return Ok(()),
        };
        // A fatal error only says that it is fatal; which it was, the client has to be asked.
        let code = if fatal {
            let asked = self.consumer.client().fatal_error();
            asked.map_or(code, |(code, _)| code)
        } else {
            code
        };
        if !fatal && let Some(error) = self.unreadable(code) {
            return Err(End::Unreadable(error));
        }
        match end(code, fatal, self.session_timeout) {
            Some(message) => Err(End::Over(SourceError { message })),
            None => Ok(()),
        }
    }

    fn unreadable(&self, code: RDKafkaErrorCode) -> Option<SourceError> {
        let membership = self.membership();
        let (offset, reason) = unreadable::told(&membership.listener, code)?;
        let whose = unreadable::whose(offset, &membership.standings());
        Some(SourceError {
            message: format!(
                "a batch of {whose} cannot be read: {reason}; what comes before it is delivered; see \
                 \"A batch that cannot be read\" in docs/operations.md"
            ),
        })
    }

    /// Closes on this thread, which answers the last callbacks.
    fn close(self) {
        let until = Instant::now() + LET_GO_TIMEOUT;
        let mut consumer = self.consumer;
        loop {
            match Arc::try_unwrap(consumer) {
                Ok(owned) => {
                    drop(owned);
                    tracing::info!("left the consumer group");
                    return;
                }
                Err(shared) if Instant::now() >= until => {
                    // The other holder closes it when it lets go.
                    drop(shared);
                    return;
                }
                Err(shared) => {
                    consumer = shared;
                    thread::yield_now();
                    let _ = consumer.poll(SUSPENDED_POLL_INTERVAL);
                }
            }
        }
    }
}

/// Why an error ends reading, and what to do about it; none where it does not.
fn end(code: RDKafkaErrorCode, fatal: bool, session_timeout: Duration) -> Option<String> {
    let cause = match code {
        RDKafkaErrorCode::FencedInstanceId => {
            "another process runs with the same kafka.instance_id and has taken this one's place; \
             give each process its own (where there is none, the broker's answer to a join was \
             lost, and starting again is enough)"
        }
        RDKafkaErrorCode::InvalidSessionTimeout => {
            return Some(format!(
                "the broker does not allow this kafka.session_timeout_ms: {}; stock brokers grant \
                 6000 and more; keep between its group.min.session.timeout.ms and \
                 group.max.session.timeout.ms",
                session_timeout.as_millis()
            ));
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "this user may not read with the consumer group; allow READ on it"
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            "this user may not read the answer topics; allow READ and DESCRIBE on them"
        }
        RDKafkaErrorCode::InconsistentGroupProtocol => {
            "the consumer group is used by members that balance differently; give this pipeline a \
             kafka.group_id of its own"
        }
        _ if fatal => return Some(format!("the kafka client cannot go on: {code}")),
        _ => return None,
    };
    Some(cause.to_owned())
}

fn copied(message: &BorrowedMessage<'_>, partition: Arc<PartitionEpoch>) -> SourceRecord {
    SourceRecord {
        partition,
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: native::headers(message),
        timestamp: message.timestamp().to_millis(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_reading_is_told_with_the_value_or_the_setting_that_is_at_fault() {
        for (code, fatal, said) in [
            (
                RDKafkaErrorCode::InvalidSessionTimeout,
                false,
                Some("kafka.session_timeout_ms: 3000; stock brokers grant 6000 and more"),
            ),
            (
                RDKafkaErrorCode::FencedInstanceId,
                true,
                Some("the same kafka.instance_id"),
            ),
            (
                RDKafkaErrorCode::GroupAuthorizationFailed,
                false,
                Some("allow READ on it"),
            ),
            (
                RDKafkaErrorCode::InconsistentGroupProtocol,
                false,
                Some("a kafka.group_id of its own"),
            ),
            (RDKafkaErrorCode::Fatal, true, Some("cannot go on")),
            // The client repairs it.
            (RDKafkaErrorCode::RequestTimedOut, false, None),
        ] {
            let cause = end(code, fatal, Duration::from_secs(3));
            assert_eq!(cause.is_some(), said.is_some(), "{code:?}");
            let cause = cause.unwrap_or_default();
            assert!(cause.contains(said.unwrap_or_default()), "{cause}");
        }
    }
}
