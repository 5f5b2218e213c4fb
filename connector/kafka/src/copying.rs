//! Copies records of a topic into others, each once, whatever ends the process in between.
//!
//! How far the topic was read is committed in the same transaction as the copies, as offsets of a group that
//! nobody joins. The transactional id is claimed before these offsets are read: of two processes that copy
//! for the same purpose the earlier is fenced, and what it left open is aborted. So whatever went wrong,
//! another run goes on where the last commit is. Without transactions (`at_least_once`) the copies are
//! written first and the offsets after them.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use aligner_pipeline::Header;
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    consumer::{CommitMode, Consumer},
    error::RDKafkaErrorCode,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::{
    listener::Listener,
    native::{self, GroupStanding, Listed, TransactionError},
    outlet::COORDINATOR_TIMEOUT,
    preflight::{Preflight, StartError},
    properties,
    reports::{Reports, RoundFailure, Tally, Undelivered},
    scan::{Positions, Scan},
    sent_once::{Call, SentOnce},
    settings::{Connection, DeliveryGuarantee, TopicSettings},
    tap::TopicRecord,
    transaction::{is_fenced, stopping_cause},
};

/// Pause before trying to queue again what librdkafka had no room for.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(1);

/// A record to be written.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Key.
    pub key: Option<Bytes>,
    /// Value.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

/// Why records were not copied. Another run goes on behind the last batch that was.
#[derive(Debug, Error)]
pub enum CopyError {
    /// Nothing can be read.
    #[error(transparent)]
    Start(#[from] StartError),
    /// This one is not taken; nothing of its batch is there.
    #[error("{cause}")]
    Refused {
        /// Which one of the batch.
        index: usize,
        /// Why.
        cause: String,
    },
    /// Something else, which may not last.
    #[error("{0}")]
    Unfinished(String),
}

/// The connection of a purpose: its group is nobody else's, and its transactional id begins like that of
/// the connector, so that what permits one permits the other.
fn on_behalf(connection: &Connection, topic: &str, purpose: &str) -> Connection {
    Connection {
        identity: format!("{}-{purpose}", connection.name),
        group_id: format!("{}-{purpose}", connection.group_id),
        topics: TopicSettings {
            answers: vec![topic.to_owned()],
            create: false,
            ..connection.topics.clone()
        },
        ..connection.clone()
    }
}

/// Looks whether brokers answer and topics are there, so that what is wrong is said by name.
fn look(
    connection: &Connection,
    runtime: &Handle,
    given_up: &Arc<AtomicBool>,
) -> Result<(), StartError> {
    if let Some(login) = &connection.login {
        login.wait(given_up)?;
    }
    Preflight::new(connection, Arc::clone(given_up))?.run(runtime)?;
    Ok(())
}

/// Reads a topic from its beginning to its present end. Blocks; waits for brokers that are not there yet,
/// until somebody gives up.
///
/// # Errors
///
/// When the topic is not there or must not be read.
pub fn scan(
    connection: &Connection,
    topic: &str,
    runtime: &Handle,
    given_up: &Arc<AtomicBool>,
) -> Result<Scan, StartError> {
    look(connection, runtime, given_up)?;
    let mut scan = Scan::new(connection, topic)?;
    scan.begin(&Positions::new())?;
    Ok(scan)
}

/// By partition of a topic, the offset behind the last record that was copied for a purpose; partitions
/// of which none was are left out.
///
/// # Errors
///
/// When the offsets are not to be had.
pub fn copied(
    connection: &Connection,
    topic: &str,
    purpose: &str,
) -> Result<Positions, StartError> {
    Scan::new(&on_behalf(connection, topic, purpose), topic)?.committed()
}

/// Copies records of one topic, from where it stopped to the topic's present end.
pub struct Copying {
    connection: Connection,
    scan: Scan,
    writer: Writer,
}

impl std::fmt::Debug for Copying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Copying")
            .field("scan", &self.scan)
            .finish_non_exhaustive()
    }
}

impl Copying {
    /// Begins behind what was copied for this purpose before, or `anew` at the beginning of the topic.
    /// Blocks; waits for brokers that are not there yet, until somebody gives up.
    ///
    /// # Errors
    ///
    /// When topics are not there, or something is not permitted.
    pub fn begin(
        connection: &Connection,
        topic: &str,
        purpose: &str,
        anew: bool,
        runtime: &Handle,
        given_up: &Arc<AtomicBool>,
    ) -> Result<Self, StartError> {
        let connection = on_behalf(connection, topic, purpose);
        look(&connection, runtime, given_up)?;
        // Before offsets are read: see above.
        let writer = Writer::claim(&connection, topic, false)?;
        let mut scan = Scan::new(&connection, topic)?;
        let positions = if anew {
            Positions::new()
        } else {
            scan.committed()?
        };
        scan.begin(&positions)?;
        Ok(Self {
            connection,
            scan,
            writer,
        })
    }

    /// The next record that could be copied; blocks until there is one. `None` at the end.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read on.
    pub fn read(&mut self) -> Result<Option<TopicRecord>, StartError> {
        self.scan.read()
    }

    /// Writes copies, and that everything is done which [`Copying::read`] gave out so far.
    ///
    /// # Errors
    ///
    /// When none of it is done, as far as is known: another run learns it from the committed offsets.
    pub fn write(&mut self, copies: &[Copy]) -> Result<(), CopyError> {
        if self.writer.is_spent {
            self.writer = self.new_writer(false)?;
        }
        match self.writer.write(&self.connection, &self.scan, copies) {
            // A broker refuses a batch for one record, or because it is too large as a whole.
            Err(CopyError::Refused { .. }) if copies.len() > 1 => {
                self.writer = self.new_writer(true)?;
                let written = self.writer.write(&self.connection, &self.scan, copies);
                self.writer.is_spent = true;
                written
            }
            written => written,
        }
    }

    fn new_writer(&self, one_by_one: bool) -> Result<Writer, StartError> {
        let topic = &self.connection.topics.answers[0];
        Writer::claim(&self.connection, topic, one_by_one)
    }
}

/// A producer, and whether something of an earlier transaction may still reach a broker.
struct Writer {
    producer: Listed<ThreadedProducer<Reports>>,
    sent_once: SentOnce,
    is_spent: bool,
    is_transactional: bool,
}

impl Writer {
    fn claim(connection: &Connection, topic: &str, one_by_one: bool) -> Result<Self, StartError> {
        let mut config: ClientConfig = properties::producer(connection);
        // What fails is told by name, and by us.
        config.set_log_level(RDKafkaLogLevel::Error);
        if one_by_one {
            config.set("batch.num.messages", "1");
        }
        let reports = Reports {
            listener: Listener::new("producer", None, &config),
            tally: Tally::default(),
        };
        let producer: Listed<ThreadedProducer<Reports>> = connection
            .client(&config, reports)
            .map_err(|error| StartError::Other(error.to_string()))?;
        let mut writer = Self {
            sent_once: SentOnce::of(&config),
            is_spent: false,
            is_transactional: connection.kafka.delivery == DeliveryGuarantee::ExactlyOnce,
            producer,
        };
        if writer.is_transactional {
            let patience = connection.start_timeout();
            writer
                .timed(Call::Other, |client| {
                    native::init_transactions(client, patience)
                })
                .map_err(|error| unclaimed(&error))?;
            // As in `outlet`: what it costs is not to be part of a transaction.
            let client = writer.producer.client();
            let group = &connection.group_id;
            let met = native::meet_coordinator(client, group, (topic, 0), COORDINATOR_TIMEOUT);
            if let Err(error) = met {
                tracing::debug!(%error, "the group's coordinator was not met");
            }
        }
        Ok(writer)
    }

    /// Makes a call whose requests librdkafka may send twice; see [`crate::sent_once`].
    fn timed<T>(
        &mut self,
        call: Call,
        made: impl FnOnce(&rdkafka::client::Client<Reports>) -> T,
    ) -> T {
        let started = Instant::now();
        let returned = made(self.producer.client());
        self.is_spent |= !self.sent_once.is_sure_after(call, started.elapsed());
        returned
    }

    fn write(
        &mut self,
        connection: &Connection,
        scan: &Scan,
        copies: &[Copy],
    ) -> Result<(), CopyError> {
        let deadline = Instant::now() + connection.transaction_timeout();
        if self.is_transactional {
            native::begin_transaction(self.producer.client())
                .map_err(|error| unfinished("beginning a transaction", &error))?;
        }
        let done = self
            .send(copies, deadline)
            .and_then(|()| self.finish(scan, deadline));
        if done.is_err() && self.is_transactional {
            // Where it fails, the next claim of the id aborts.
            let aborted = native::abort_transaction(self.producer.client(), left(deadline));
            if let Err(error) = aborted {
                tracing::debug!(%error, "a transaction was not aborted");
            }
        }
        done
    }

    fn send(&self, copies: &[Copy], deadline: Instant) -> Result<(), CopyError> {
        let context = self.producer.context();
        let round = context.tally.start(copies.len());
        for (index, copy) in copies.iter().enumerate() {
            let label = Tally::label(round, index);
            while let Err(code) = self.queue(copy, label) {
                if code != RDKafkaErrorCode::QueueFull || left(deadline).is_zero() {
                    return Err(refused(copies, index, code));
                }
                std::thread::sleep(QUEUE_FULL_PAUSE);
            }
        }
        let reminded = || context.listener.remind(self.producer.client());
        match context.tally.wait(deadline, reminded) {
            Ok(()) => Ok(()),
            Err(RoundFailure::Undelivered(failed)) => Err(self.judge(copies, &failed)),
            Err(RoundFailure::Outstanding(silent)) => Err(CopyError::Unfinished(format!(
                "brokers have not acknowledged {} records in time",
                silent.len()
            ))),
        }
    }

    /// What is thrown away does not say why; the transaction that failed with it does.
    fn judge(&self, copies: &[Copy], failed: &[Undelivered]) -> CopyError {
        if let Some(telling) = failed.iter().find(|failed| failed.says_why()) {
            return refused(copies, telling.index, telling.code);
        }
        let transaction = self
            .is_transactional
            .then(|| native::transaction_failure(self.producer.client()))
            .flatten();
        match transaction {
            Some(error) if error.code == RDKafkaErrorCode::TopicAuthorizationFailed => {
                let topics: BTreeSet<_> = copies.iter().map(|copy| copy.topic.as_str()).collect();
                let topics: Vec<_> = topics.into_iter().collect();
                CopyError::Unfinished(unpermitted(&topics.join("\", \"")))
            }
            Some(error) => unfinished("writing records", &error),
            None => CopyError::Unfinished("records were not taken".to_owned()),
        }
    }

    fn queue(&self, copy: &Copy, label: usize) -> Result<(), RDKafkaErrorCode> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&copy.topic, label).partition(copy.partition);
        record.key = copy.key.as_deref();
        record.payload = copy.value.as_deref();
        if !copy.headers.is_empty() {
            let room = OwnedHeaders::new_with_capacity(copy.headers.len());
            record.headers = Some(copy.headers.iter().fold(room, |headers, header| {
                headers.insert(KafkaHeader {
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

    /// Commits how far the topic was read, and with transactions what was written.
    fn finish(&mut self, scan: &Scan, deadline: Instant) -> Result<(), CopyError> {
        let offsets = scan.positions();
        if !self.is_transactional {
            return scan
                .consumer()
                .commit(&offsets, CommitMode::Sync)
                .map_err(|error| {
                    CopyError::Unfinished(format!("offsets were not committed: {error}"))
                });
        }
        // Nobody joins this group, so that there is no generation to tell: the transactional id fences.
        let standing = GroupStanding::of(scan.consumer())
            .ok_or_else(|| CopyError::Unfinished("the consumer has no group".to_owned()))?;
        self.timed(Call::Offsets, |client| {
            native::send_offsets(client, &offsets, &standing, left(deadline))
        })
        .map_err(|error| unfinished("adding offsets", &error))?;
        self.timed(Call::Other, |client| {
            native::commit_transaction(client, left(deadline))
        })
        .map_err(|error| unfinished("committing", &error))
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn unclaimed(error: &TransactionError) -> StartError {
    match stopping_cause(error.code) {
        Some(cause) => StartError::Forbidden(format!("{cause} ({})", error.message)),
        None => StartError::Other(format!(
            "the transactional id could not be claimed: {error}"
        )),
    }
}

fn unfinished(doing: &str, error: &TransactionError) -> CopyError {
    CopyError::Unfinished(match stopping_cause(error.code) {
        Some(cause) => format!("{doing} failed: {cause} ({})", error.message),
        None if is_fenced(error.code) => {
            format!("{doing} failed: another process does the same now ({error})")
        }
        None => format!("{doing} failed: {error}"),
    })
}

fn unpermitted(topics: &str) -> String {
    format!("this user may not write to \"{topics}\"; allow WRITE and DESCRIBE there")
}

fn refused(copies: &[Copy], index: usize, code: RDKafkaErrorCode) -> CopyError {
    let copy = &copies[index];
    let topic = &copy.topic;
    let bytes = copy.value.as_ref().map_or(0, Bytes::len) + copy.key.as_ref().map_or(0, Bytes::len);
    let cause = match code {
        RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge => format!(
            "topic \"{topic}\" does not take a record of {bytes} bytes ({code}); raise its \
             max.message.bytes"
        ),
        RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidDifferentRecord => format!(
            "topic \"{topic}\" does not take a record ({code}); its broker validates records, and \
             its log says what is wrong"
        ),
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            return CopyError::Unfinished(unpermitted(topic));
        }
        RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownPartition => {
            let partition = copy.partition;
            return CopyError::Unfinished(format!(
                "partition {partition} of topic \"{topic}\" is not there ({code})"
            ));
        }
        _ => {
            return CopyError::Unfinished(format!(
                "records were not taken by topic \"{topic}\": {code}"
            ));
        }
    };
    CopyError::Refused { index, cause }
}
