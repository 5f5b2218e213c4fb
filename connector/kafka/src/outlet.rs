//! The producer with its group: makes the calls of one delivery, in either mode.
//!
//! Calls may block; they are made on a thread of their own, which [`crate::producer_thread`]
//! watches. A producer lives until something fatal happens to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::{Delivery, Outbound, OutputKind};
use rdkafka::{
    Offset, TopicPartitionList,
    config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{CommitMode, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ThreadedProducer},
};

use crate::{
    batching::Batching,
    consumer_thread::ConsumerHandle,
    context::Listener,
    native::{self, GroupStanding, TransactionError},
    recovery::Phase,
    reports::{Reports, RoundFailure, Tally, Undelivered},
    settings::Connection,
    stats::ClientStats,
    tenure::Tenures,
    transaction::{
        self, End, EndedAgain, Failure, OffsetsFailure, TransactionalClient, WriteFailure,
        stopping_cause,
    },
};

/// Pause before trying to queue again what librdkafka had no room for.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);
/// Share of the transaction's time that writing may use, in tenths; the rest is for its end.
const WRITING_TENTHS: u32 = 7;
/// How long looks at topics that did not take their outputs may take together.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Looks that must all miss an output topic before it counts as gone.
const ABSENCE_LOOKS: u32 = 3;
/// Between two of them.
const ABSENCE_PAUSE: Duration = Duration::from_millis(500);
/// Time given to an abort even when the transaction's own time is over.
const LEAST_ABORT_TIME: Duration = Duration::from_millis(250);

/// What an outlet is made of.
#[derive(Clone)]
pub(crate) struct OutletParts {
    pub(crate) config: ClientConfig,
    pub(crate) transactional: bool,
    pub(crate) connection: Connection,
    pub(crate) consumer: ConsumerHandle,
    pub(crate) tenures: Arc<Tenures>,
    pub(crate) stats: Arc<ClientStats>,
}

impl OutletParts {
    /// The group's offsets once these are delivered.
    pub(crate) fn offsets(&self, deliveries: &[Delivery]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(deliveries.len());
        for delivery in deliveries {
            let partition = &delivery.partition.partition;
            let mut entry = list.add_partition(&partition.topic, partition.number);
            entry.set_offset(Offset::Offset(delivery.next_offset))?;
            // Whoever gets the partition after us learns whose transaction may still be open.
            entry.set_metadata(&self.connection.identity);
        }
        Ok(list)
    }

    /// Where outputs of this kind go.
    pub(crate) fn topic(&self, kind: OutputKind) -> &str {
        match kind {
            OutputKind::Correction => &self.connection.topics.corrections,
            OutputKind::Pair => &self.connection.topics.pairs,
            OutputKind::DeadLetter => &self.connection.topics.dead_letters,
        }
    }
}

/// What one transaction is made of, and the time that it has.
pub(crate) struct Work {
    deliveries: Arc<Vec<Delivery>>,
    started: Instant,
    timeout: Duration,
}

impl Work {
    /// Its time begins now.
    pub(crate) fn new(deliveries: Arc<Vec<Delivery>>, timeout: Duration) -> Self {
        Self {
            deliveries,
            started: Instant::now(),
            timeout,
        }
    }
}

/// A producer and what it needs to know of the group.
pub(crate) struct Outlet {
    parts: OutletParts,
    producer: ThreadedProducer<Reports>,
    one_by_one: bool,
}

impl Outlet {
    /// Creates the producer; opens no transaction.
    pub(crate) fn new(parts: OutletParts, batching: Batching) -> KafkaResult<Self> {
        let mut config = parts.config.clone();
        config.set_log_level(RDKafkaLogLevel::Info);
        // Nobody else sets it: see `properties`.
        config.set("batch.size", batching.max_bytes.to_string());
        if batching.one_by_one {
            config.set("batch.num.messages", "1");
        }
        let reports = Reports {
            listener: Listener::new("producer", Some(parts.stats.client()), &config),
            tally: Tally::default(),
        };
        let producer = ThreadedProducer::from_config_and_context(&config, reports)?;
        Ok(Self {
            parts,
            producer,
            one_by_one: batching.one_by_one,
        })
    }

    /// Claims the transactional id, which ends whatever an earlier holder left open.
    pub(crate) fn claim(&self, timeout: Duration) -> Result<(), TransactionError> {
        if self.parts.transactional {
            native::init_transactions(self.producer.client(), timeout)
        } else {
            Ok(())
        }
    }

    /// Delivers outputs and offsets.
    pub(crate) fn deliver(&self, work: &Work, phase: &Phase) -> End {
        let attempt = self.attempt(work, phase);
        if self.parts.transactional {
            transaction::run(attempt)
        } else {
            attempt.deliver_at_least_once()
        }
    }

    /// Ends a transaction again that never ended properly; see [`crate::unended`].
    pub(crate) fn end_again(&self, work: &Work, phase: &Phase) -> EndedAgain {
        let attempt = self.attempt(work, phase);
        // Without a place in the group, the offsets could not be brought in.
        if let Err(cause) = attempt.standing() {
            return EndedAgain::NotTried(cause);
        }
        transaction::end_again(attempt)
    }

    fn remind(&self) {
        let client = self.producer.client();
        self.producer.context().listener.remind(client);
    }

    fn attempt<'a>(&'a self, work: &'a Work, phase: &'a Phase) -> Attempt<'a> {
        self.remind();
        Attempt {
            outlet: self,
            deliveries: &work.deliveries,
            phase,
            write_deadline: work.started + work.timeout * WRITING_TENTHS / 10,
            deadline: work.started + work.timeout,
        }
    }

    fn topic(&self, kind: OutputKind) -> &str {
        self.parts.topic(kind)
    }

    fn tally(&self) -> &Tally {
        &self.producer.context().tally
    }

    fn queue(&self, output: &Outbound, label: usize) -> Result<(), RDKafkaErrorCode> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(self.topic(output.kind), label);
        record.key = output.key.as_deref();
        record.payload = output.value.as_deref();
        if !output.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(output.headers.len());
            record.headers = Some(output.headers.iter().fold(headers, |headers, header| {
                headers.insert(Header {
                    key: &header.key,
                    value: header.value.as_deref(),
                })
            }));
        }
        self.producer.send(record).map_err(|(error, _)| {
            error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::InvalidArgument)
        })
    }
}

/// What is wrong with an output topic.
enum Flaw {
    Missing,
    Other(String),
}

/// One attempt to deliver.
struct Attempt<'a> {
    outlet: &'a Outlet,
    deliveries: &'a [Delivery],
    phase: &'a Phase,
    write_deadline: Instant,
    deadline: Instant,
}

impl Attempt<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn outputs(&self) -> impl Iterator<Item = &Outbound> {
        self.deliveries
            .iter()
            .flat_map(|delivery| delivery.outputs.iter().map(Arc::as_ref))
    }

    /// Which output has this index, counted over all deliveries.
    fn locate(&self, mut index: usize) -> (usize, usize) {
        for (number, delivery) in self.deliveries.iter().enumerate() {
            if index < delivery.outputs.len() {
                return (number, index);
            }
            index -= delivery.outputs.len();
        }
        unreachable!("labels are given to outputs of these deliveries only")
    }

    fn refused(&self, index: usize, code: RDKafkaErrorCode) -> WriteFailure {
        let (delivery, output) = self.locate(index);
        let found = &self.deliveries[delivery].outputs[output];
        let bytes = found.value.as_ref().map_or(0, |value| value.len())
            + found.key.as_ref().map_or(0, |key| key.len());
        let topic = self.outlet.topic(found.kind);
        let cause = match code {
            RDKafkaErrorCode::InvalidRecord => format!(
                "topic \"{topic}\" does not take this record ({code}); its broker validates records, \
                 as by a schema, and its log says what is wrong"
            ),
            // Larger than a whole segment may be.
            RDKafkaErrorCode::MessageBatchTooLarge => format!(
                "topic \"{topic}\" does not take a record of {bytes} bytes ({code}); raise its \
                 segment.bytes"
            ),
            _ => format!(
                "topic \"{topic}\" does not take a record of {bytes} bytes ({code}); raise its \
                 max.message.bytes"
            ),
        };
        WriteFailure::Refused {
            delivery,
            output,
            cause,
        }
    }

    /// The topic of the output with this index.
    fn topic_of(&self, index: usize) -> &str {
        let (delivery, output) = self.locate(index);
        self.outlet
            .topic(self.deliveries[delivery].outputs[output].kind)
    }

    /// The topics of all outputs, each once.
    fn topics(&self) -> String {
        let topics: BTreeSet<_> = self
            .outputs()
            .map(|output| self.outlet.topic(output.kind))
            .collect();
        let quoted: Vec<_> = topics.iter().map(|topic| format!("\"{topic}\"")).collect();
        quoted.join(", ")
    }

    /// What failed the open transaction, if anything did.
    fn failure(&self) -> Option<TransactionError> {
        if self.outlet.parts.transactional {
            native::transaction_failure(self.outlet.producer.client())
        } else {
            None
        }
    }

    /// Sorts reports by what is to be done. `exact` tells whether a refusal can only mean the
    /// very output that it was reported for.
    fn judge(&self, undelivered: &[Undelivered], exact: bool) -> WriteFailure {
        for failed in undelivered {
            match failed.code {
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidRecord => {
                    return if exact {
                        self.refused(failed.index, failed.code)
                    } else {
                        WriteFailure::RefusedTogether(failed.code.to_string())
                    };
                }
                // What the others are told that were in a batch with one that is not valid.
                RDKafkaErrorCode::InvalidDifferentRecord => {
                    return WriteFailure::RefusedTogether(failed.code.to_string());
                }
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::InvalidTopic => {
                    return self.absent(self.topic_of(failed.index), failed.code);
                }
                RDKafkaErrorCode::TopicAuthorizationFailed => {
                    return WriteFailure::Lasting(format!(
                        "this user may not write to topic \"{}\"; allow WRITE and DESCRIBE on it",
                        self.topic_of(failed.index)
                    ));
                }
                _ => {}
            }
        }
        let told = undelivered.iter().find(|failed| failed.says_why());
        let code = told
            .map(|failed| failed.code)
            // What is thrown away does not say why; the transaction that failed with it does.
            .or_else(|| self.failure().map(|error| error.code))
            .or(undelivered.first().map(|failed| failed.code))
            .unwrap_or(RDKafkaErrorCode::Fail);
        match stopping_cause(code) {
            // The transaction was refused as a whole; for which topic, only librdkafka's log says.
            Some(_) if code == RDKafkaErrorCode::TopicAuthorizationFailed => {
                WriteFailure::Lasting(format!(
                    "this user may not write to one of the topics {}; allow WRITE and DESCRIBE on \
                     each of them",
                    self.topics()
                ))
            }
            Some(cause) => WriteFailure::Lasting(cause.to_owned()),
            None if code == RDKafkaErrorCode::InvalidTimestamp => WriteFailure::Passing(format!(
                "the broker finds this machine's clock wrong ({code}); set it right, or look at \
                 the output topics' message.timestamp.after.max.ms"
            )),
            None => WriteFailure::Passing(format!("outputs were not delivered: {code}")),
        }
    }

    fn standing(&self) -> Result<GroupStanding, String> {
        let consumer = self
            .outlet
            .parts
            .consumer
            .get()
            .ok_or_else(|| "the consumer group was left".to_owned())?;
        let standing =
            GroupStanding::of(&consumer).ok_or_else(|| "the consumer has no group".to_owned())?;
        // A broker takes offsets from such a member without asking whose they are.
        if standing.generation() < 0 || !standing.has_member_id() {
            return Err("not a member of the consumer group at the moment".to_owned());
        }
        Ok(standing)
    }

    /// After the standing was taken: a change in between makes the standing stale, and the
    /// broker refuses it.
    fn tenures_last(&self) -> Result<(), String> {
        let ended = self
            .deliveries
            .iter()
            .find(|delivery| !self.outlet.parts.tenures.is_current(&delivery.partition));
        match ended {
            Some(delivery) => Err(format!(
                "partition {} is not ours any more",
                delivery.partition.partition
            )),
            None => Ok(()),
        }
    }

    fn send_offsets_as(&self, standing: &GroupStanding) -> Result<(), OffsetsFailure> {
        let offsets = self
            .offsets()
            .map_err(|error| OffsetsFailure::NotOurs(error.to_string()))?;
        let client = self.outlet.producer.client();
        native::send_offsets(client, &offsets, standing, self.left())
            .map_err(OffsetsFailure::Failed)
    }

    fn offsets(&self) -> KafkaResult<TopicPartitionList> {
        self.outlet.parts.offsets(self.deliveries)
    }

    /// Outputs first, offsets after them.
    fn deliver_at_least_once(mut self) -> End {
        if let Err(failure) = self.write() {
            return End::Failed(failure.into());
        }
        let committed = self
            .standing()
            .and_then(|_| self.tenures_last())
            .and_then(|()| self.commit_offsets().map_err(|error| error.to_string()));
        match committed {
            Ok(()) => End::Committed,
            Err(cause) => End::Failed(Failure::Aborted(format!(
                "outputs were written, offsets were not committed: {cause}"
            ))),
        }
    }

    fn commit_offsets(&self) -> KafkaResult<()> {
        let Some(consumer) = self.outlet.parts.consumer.get() else {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::State));
        };
        consumer.commit(&self.offsets()?, CommitMode::Sync)
    }
}

impl TransactionalClient for Attempt<'_> {
    fn begin(&mut self) -> Result<(), TransactionError> {
        native::begin_transaction(self.outlet.producer.client())
    }

    fn write(&mut self) -> Result<(), WriteFailure> {
        let tally = self.outlet.tally();
        let round = tally.start(self.outputs().count());
        for (index, output) in self.outputs().enumerate() {
            loop {
                match self.outlet.queue(output, Tally::label(round, index)) {
                    Ok(()) => break,
                    Err(RDKafkaErrorCode::QueueFull)
                        if Instant::now() < self.write_deadline && !tally.is_doomed() =>
                    {
                        thread::sleep(QUEUE_FULL_PAUSE);
                    }
                    Err(RDKafkaErrorCode::QueueFull) if tally.is_doomed() => {
                        return self.wait_for_reports();
                    }
                    // The client itself refuses only the message it is given, or every one once
                    // the transaction has failed.
                    Err(code) => return Err(self.judge(&[Undelivered { index, code }], true)),
                }
            }
        }
        self.wait_for_reports()
    }

    fn send_offsets(&mut self) -> Result<(), OffsetsFailure> {
        let standing = self.standing().map_err(OffsetsFailure::NotOurs)?;
        self.tenures_last().map_err(OffsetsFailure::NotOurs)?;
        self.send_offsets_as(&standing)
    }

    fn touch_offsets(&mut self) -> Result<(), OffsetsFailure> {
        let standing = self.standing().map_err(OffsetsFailure::NotOurs)?;
        self.send_offsets_as(&standing)
    }

    fn check_tenures(&mut self) -> Result<(), String> {
        self.tenures_last()
    }

    fn may_commit(&mut self) -> bool {
        self.phase.enter_commit()
    }

    fn commit(&mut self) -> Result<(), TransactionError> {
        native::commit_transaction(self.outlet.producer.client(), self.left())
    }

    fn abort(&mut self) -> Result<(), TransactionError> {
        native::abort_transaction(
            self.outlet.producer.client(),
            self.left().max(LEAST_ABORT_TIME),
        )
    }
}

impl Attempt<'_> {
    fn wait_for_reports(&self) -> Result<(), WriteFailure> {
        let outlet = self.outlet;
        match outlet.tally().wait(self.write_deadline, || outlet.remind()) {
            Ok(()) => Ok(()),
            Err(RoundFailure::Undelivered(undelivered)) => {
                Err(self.judge(&undelivered, self.outlet.one_by_one))
            }
            Err(RoundFailure::Outstanding(indexes)) => Err(self.unacknowledged(&indexes)),
        }
    }

    /// Which topics did not take their outputs, and what the brokers say about them: a topic that
    /// was deleted is waited for by the client in silence.
    fn unacknowledged(&self, indexes: &[usize]) -> WriteFailure {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for index in indexes {
            *counts.entry(self.topic_of(*index)).or_default() += 1;
        }
        let looks_end = Instant::now() + LOOK_TIMEOUT;
        let mut is_missing = false;
        let topics: Vec<_> = counts
            .iter()
            .map(|(topic, count)| {
                let left = looks_end.saturating_duration_since(Instant::now());
                let remark = match self.look_at(topic, left) {
                    Some(Flaw::Missing) => {
                        is_missing = true;
                        ", which is not there: create it".to_owned()
                    }
                    Some(Flaw::Other(remark)) => format!(", {remark}"),
                    None => String::new(),
                };
                format!("{count} of topic \"{topic}\"{remark}")
            })
            .collect();
        let cause = format!(
            "outputs were not acknowledged in time: {}",
            topics.join("; ")
        );
        if is_missing {
            WriteFailure::Passing(cause)
        } else {
            WriteFailure::Unacknowledged(cause)
        }
    }

    /// What is to be done about a topic that the client takes to be gone. A single answer without it is
    /// enough for that, and a broker that has just started may give one: brokers are asked again. This
    /// client may go on to miss the topic for half a minute; the one that replaces it after a few aborts
    /// does not.
    fn absent(&self, topic: &str, code: RDKafkaErrorCode) -> WriteFailure {
        // A name that no topic can have is not looked for.
        let looks = match code {
            RDKafkaErrorCode::InvalidTopic => 0,
            _ => ABSENCE_LOOKS,
        };
        for look in 0..looks {
            if look > 0 {
                thread::sleep(ABSENCE_PAUSE);
            }
            let left = self
                .write_deadline
                .saturating_duration_since(Instant::now());
            let seen = self.look_at(topic, left.min(LOOK_TIMEOUT));
            if !matches!(seen, Some(Flaw::Missing)) {
                return WriteFailure::Passing(format!(
                    "output topic \"{topic}\" was not there for a moment ({code})"
                ));
            }
        }
        WriteFailure::Lasting(format!(
            "output topic \"{topic}\" is not there ({code}); create it, then start again"
        ))
    }

    /// What brokers find wrong with a topic; nothing, where none answers in time.
    fn look_at(&self, topic: &str, timeout: Duration) -> Option<Flaw> {
        let client = self.outlet.producer.client();
        let metadata = client.fetch_metadata(Some(topic), timeout).ok()?;
        let found = metadata.topics().iter().find(|t| t.name() == topic)?;
        if let Some(error) = found.error() {
            return Some(match RDKafkaErrorCode::from(error) {
                RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                    Flaw::Missing
                }
                other => Flaw::Other(other.to_string()),
            });
        }
        let leaderless = found.partitions().iter().filter(|p| p.leader() < 0).count();
        (leaderless > 0).then(|| {
            Flaw::Other(format!(
                "which has {leaderless} partitions without a leader"
            ))
        })
    }
}
