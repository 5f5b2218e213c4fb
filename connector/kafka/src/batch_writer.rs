//! Writes batches of records beside the pipeline, each as a whole or not at all.
//!
//! Of each batch a part tells what the other part was: in one transaction with it, or without transactions
//! (`at_least_once`) after it. So whoever reads that part learns what is done, whatever ended the writer. One
//! transactional id stands for a purpose. It is to be claimed before anybody reads what was done: of two
//! processes with one purpose the earlier is fenced, and what it left open is aborted.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use aligner_pipeline::Header;
use bytes::Bytes;
use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    error::RDKafkaErrorCode,
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use thiserror::Error;

use crate::{
    headers,
    listener::Listener,
    native::{self, Listed, TransactionError},
    preflight::StartError,
    properties,
    reports::{Reports, RoundFailure, Tally, Undelivered},
    sent_once::{Call, SentOnce},
    settings::{Connection, DeliveryGuarantee},
    transaction::{is_fenced, stopping_cause},
    untaken,
};

/// A record, and where it is to be written.
#[derive(Debug, Clone)]
pub struct Addressed {
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

impl Addressed {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let size = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers = headers.map(|header| header.key.len() + size(&header.value));
        size(&self.key) + size(&self.value) + headers.sum::<usize>()
    }
}

/// Why a batch was not written, or is not known to be.
#[derive(Debug, Error)]
pub enum BatchError {
    /// No producer could be had.
    #[error(transparent)]
    Start(#[from] StartError),
    /// This record is never taken as it is.
    #[error("{cause}")]
    Refused {
        /// Which one of the batch.
        index: usize,
        /// Why.
        cause: String,
    },
    /// One of several records is not taken, or all of them are too large together. Fewer tell, or all of them where
    /// each travels alone.
    #[error("{0}")]
    RefusedTogether(String),
    /// A topic does not have the partition of some records.
    #[error("topic \"{topic}\" has no partition {partition} any more")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// Something else, which may not last.
    #[error("{0}")]
    Unfinished(String),
}

/// Writes batches for one purpose.
pub struct BatchWriter {
    connection: Connection,
    writer: Writer,
    /// Whether each record travels alone, so that a refusal is about it.
    one_by_one: bool,
}

impl std::fmt::Debug for BatchWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchWriter")
            .field("identity", &self.connection.identity)
            .finish_non_exhaustive()
    }
}

impl BatchWriter {
    /// Claims the transactional id of a purpose, `<name>-<purpose>`, where there are transactions. Blocks.
    ///
    /// # Errors
    ///
    /// When it may not be had.
    pub fn claim(connection: &Connection, purpose: &str) -> Result<Self, StartError> {
        let connection = Connection {
            identity: format!("{}-{purpose}", connection.name),
            ..connection.clone()
        };
        let one_by_one = false;
        let writer = Writer::claim(&connection, one_by_one)?;
        Ok(Self {
            connection,
            writer,
            one_by_one,
        })
    }

    /// Whether a batch is there as a whole or not at all.
    pub fn is_transactional(&self) -> bool {
        self.writer.is_transactional
    }

    /// Whether the next batch needs another producer.
    pub fn is_spent(&self) -> bool {
        self.writer.is_spent
    }

    /// Claims the id anew, for another producer. That fences whoever has claimed it since, so that it is to be
    /// looked once more what is done: it may be more than we did.
    ///
    /// # Errors
    ///
    /// When it may not be had.
    pub fn claim_again(&mut self) -> Result<(), StartError> {
        self.writer = Writer::claim(&self.connection, self.one_by_one)?;
        Ok(())
    }

    /// Has each record travel alone from now on, so that a refusal is about one, or together again. That takes
    /// another producer.
    pub fn send_one_by_one(&mut self, one_by_one: bool) {
        self.writer.is_spent |= self.one_by_one != one_by_one;
        self.one_by_one = one_by_one;
    }

    /// Writes records, and those that tell of them.
    ///
    /// # Errors
    ///
    /// When not all of it is there. With transactions nothing of it is; without them all may be there that was
    /// not refused.
    pub fn write(&mut self, records: &[&Addressed], told: &[Addressed]) -> Result<(), BatchError> {
        let told: Vec<&Addressed> = told.iter().collect();
        let written = if self.writer.is_transactional {
            self.write_part(&[records, &told].concat())
        } else {
            self.write_part(records).and_then(|()| {
                self.write_part(&told)
                    .map_err(|failure| failure.behind(records.len()))
            })
        };
        let is_about_one = self.one_by_one || records.len() == 1;
        written.map_err(|failure| failure.of(records, is_about_one))
    }

    fn write_part(&mut self, part: &[&Addressed]) -> Result<(), Failure> {
        let timeout = self.connection.transaction_timeout();
        let written = self.writer.write(part, timeout);
        // What was not taken is missing from the sequence of this producer.
        self.writer.is_spent |= written.is_err();
        written
    }
}

/// Why something was not written.
#[derive(Debug)]
enum Failure {
    /// This one, or what travelled with it, was not taken.
    Refused {
        index: usize,
        cause: String,
    },
    /// Its partition is not there.
    NoPartition {
        index: usize,
    },
    Unfinished(String),
}

impl Failure {
    /// The same where so many stand before.
    fn behind(self, count: usize) -> Self {
        match self {
            Self::Refused { index, cause } => Self::Refused {
                index: count + index,
                cause,
            },
            Self::NoPartition { index } => Self::NoPartition {
                index: count + index,
            },
            other => other,
        }
    }

    /// What it is for these records, behind which those lie that tell of them.
    fn of(self, records: &[&Addressed], is_about_one: bool) -> BatchError {
        match self {
            Self::Refused { index, cause } if index >= records.len() => {
                BatchError::Unfinished(cause)
            }
            Self::Refused { index, cause } if is_about_one => BatchError::Refused { index, cause },
            Self::Refused { cause, .. } => BatchError::RefusedTogether(cause),
            Self::NoPartition { index } => match records.get(index) {
                Some(record) => BatchError::NoPartition {
                    topic: record.topic.clone(),
                    partition: record.partition,
                },
                None => BatchError::Unfinished(
                    "the topic of what tells of records has lost partitions".to_owned(),
                ),
            },
            Self::Unfinished(cause) => BatchError::Unfinished(cause),
        }
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
    fn claim(connection: &Connection, one_by_one: bool) -> Result<Self, StartError> {
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

    fn write(&mut self, records: &[&Addressed], timeout: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + timeout;
        if !self.is_transactional {
            return self.send(records, deadline);
        }
        self.begin()?;
        match self.send(records, deadline) {
            Ok(()) => self.commit(deadline),
            Err(failure) => {
                let aborted = native::abort_transaction(self.producer.client(), left(deadline));
                if let Err(error) = aborted {
                    // The next claim of the id does.
                    tracing::debug!(%error, "a transaction was not aborted");
                }
                Err(failure)
            }
        }
    }

    fn send(&self, records: &[&Addressed], deadline: Instant) -> Result<(), Failure> {
        let tally = &self.producer.context().tally;
        let round = tally.start(records.len());
        for (index, record) in records.iter().enumerate() {
            let label = Tally::label(round, index);
            if let Err(code) = tally.queued(deadline, || self.queue(record, label)) {
                if code != RDKafkaErrorCode::QueueFull {
                    // Once the transaction has failed this is every record, and a report about an earlier one
                    // says why.
                    tally.report(label, Some(code));
                }
                return self.wait_for_reports(records, deadline);
            }
        }
        self.wait_for_reports(records, deadline)
    }

    fn wait_for_reports(&self, records: &[&Addressed], deadline: Instant) -> Result<(), Failure> {
        let context = self.producer.context();
        let reminded = || context.listener.remind(self.producer.client());
        context
            .tally
            .wait(deadline, reminded)
            .map_err(|failed| match failed {
                RoundFailure::Undelivered(failed) => self.judge(records, &failed),
                RoundFailure::Outstanding(silent) => Failure::Unfinished(format!(
                    "brokers have not acknowledged {} records in time",
                    silent.len()
                )),
            })
    }

    /// What is thrown away does not say why; the transaction that failed with it does.
    fn judge(&self, records: &[&Addressed], failed: &[Undelivered]) -> Failure {
        if let Some(telling) = failed.iter().find(|failed| failed.says_why()) {
            return refused(records, telling.index, telling.code);
        }
        let transaction = self
            .is_transactional
            .then(|| native::transaction_failure(self.producer.client()))
            .flatten();
        match transaction {
            Some(error) if error.code == RDKafkaErrorCode::TopicAuthorizationFailed => {
                let topics: BTreeSet<_> =
                    records.iter().map(|record| record.topic.as_str()).collect();
                let topics: Vec<_> = topics.into_iter().collect();
                Failure::Unfinished(unpermitted(&topics.join("\", \"")))
            }
            Some(error) => unfinished("writing records", &error),
            None => Failure::Unfinished("records were not taken".to_owned()),
        }
    }

    fn queue(&self, record: &Addressed, label: usize) -> Result<(), RDKafkaErrorCode> {
        let mut out: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(&record.topic, label).partition(record.partition);
        out.key = record.key.as_deref();
        out.payload = record.value.as_deref();
        out.headers = headers::owned(&record.headers);
        self.producer.send(out).map_err(|(error, _)| {
            error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::InvalidArgument)
        })
    }

    fn begin(&self) -> Result<(), Failure> {
        native::begin_transaction(self.producer.client())
            .map_err(|error| unfinished("beginning a transaction", &error))
    }

    fn commit(&mut self, deadline: Instant) -> Result<(), Failure> {
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

fn unfinished(doing: &str, error: &TransactionError) -> Failure {
    Failure::Unfinished(match stopping_cause(error.code) {
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

fn refused(records: &[&Addressed], index: usize, code: RDKafkaErrorCode) -> Failure {
    let record = records[index];
    let topic = &record.topic;
    let cause = match code {
        RDKafkaErrorCode::MessageSizeTooLarge
        | RDKafkaErrorCode::MessageBatchTooLarge
        | RDKafkaErrorCode::InvalidRecord
        | RDKafkaErrorCode::InvalidDifferentRecord => untaken::cause(topic, record.bytes(), code),
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            return Failure::Unfinished(unpermitted(topic));
        }
        RDKafkaErrorCode::UnknownPartition => return Failure::NoPartition { index },
        _ => {
            return Failure::Unfinished(format!(
                "records were not taken by topic \"{topic}\": {code}"
            ));
        }
    };
    Failure::Refused { index, cause }
}
