//! One transaction, as a value that is used up step by step.
//!
//! ```text
//! Opened ──outputs delivered──▶ Written ──offsets taken──▶ Complete ──▶ Committed
//!   └────────── failure ──────────┴──────────┴──▶ aborted, broken or ambiguous
//! ```
//!
//! The order is the guarantee, so the compiler keeps it: only [`Complete`] can commit, and only a
//! successful `send_offsets` makes one. A commit after a failed `send_offsets` writes outputs
//! without offsets on a real broker that was frozen and thawed, whatever the error said.
//!
//! Once a commit was tried, only committed offsets tell whether it took place. A coordinator that commits
//! and dies has not answered; librdkafka sends the request again, and where that one fails (the name is
//! not resolved, TLS or the login fails) it says that the transaction must be aborted. An abort proves
//! nothing then: one that fails may fail because all is committed, and one that succeeds may have got a
//! new epoch and nothing else, or have aborted what a late request had opened behind the commit.
//!
//! Nothing here knows librdkafka's handles; a script stands in for them in the tests.

use rdkafka::error::RDKafkaErrorCode;

use crate::{batching::RefusedBatch, native::TransactionError};

/// What a transaction needs from the producer and the group.
pub(crate) trait TransactionalClient {
    /// Opens the transaction.
    fn begin(&mut self) -> Result<(), TransactionError>;
    /// Writes every output and waits until each has arrived.
    fn write(&mut self) -> Result<(), WriteFailure>;
    /// Takes the group's standing, checks it and our tenures, and adds the offsets.
    fn send_offsets(&mut self) -> Result<(), OffsetsFailure>;
    /// Adds the offsets whoever has the partitions now, in a transaction that is only aborted.
    fn touch_offsets(&mut self) -> Result<(), OffsetsFailure>;
    /// Whether our tenures still last: one may end without a change of the group, which the broker would
    /// not know.
    fn check_tenures(&mut self) -> Result<(), String>;
    /// Whether the one who waits for us still does. Once true, the outcome is ours to tell.
    fn may_commit(&mut self) -> bool;
    /// Commits.
    fn commit(&mut self) -> Result<(), TransactionError>;
    /// Aborts.
    fn abort(&mut self) -> Result<(), TransactionError>;
}

/// Why outputs were not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteFailure {
    /// This one will never be accepted.
    Refused {
        delivery: usize,
        output: usize,
        cause: String,
    },
    /// One of several that were sent together will not be accepted; which, is not known.
    RefusedTogether(RefusedBatch),
    /// It may work another time.
    Passing(String),
    /// Nobody took them: brokers are away, or a partition has no leader.
    Unacknowledged(String),
    /// Brokers do not know this topic: any more, or yet.
    Missing { topic: String, cause: String },
    /// It will not work until a person changes something.
    Lasting(String),
}

/// Why offsets were not added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OffsetsFailure {
    /// We are not in a position to send them; nothing was sent.
    NotOurs(String),
    /// They were sent and failed.
    Failed(TransactionError),
}

/// Why it came to no commit. Nothing of a transaction is there then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The producer can be used again.
    Aborted(String),
    /// This output is never accepted; a new producer is needed, since the output is missing from the
    /// sequence of this one.
    Refused {
        delivery: usize,
        output: usize,
        cause: String,
    },
    /// As above, but which it is, or whether all are only too much together, is not known.
    RefusedTogether(RefusedBatch),
    /// As aborted; a topic was not there.
    Missing { topic: String, cause: String },
    /// A new producer is needed.
    Broken { cause: String, fenced: bool },
    /// Trying again is useless.
    Stopped(String),
}

impl From<WriteFailure> for Failure {
    fn from(failure: WriteFailure) -> Self {
        match failure {
            WriteFailure::Refused {
                delivery,
                output,
                cause,
            } => Self::Refused {
                delivery,
                output,
                cause,
            },
            WriteFailure::RefusedTogether(batch) => Self::RefusedTogether(batch),
            WriteFailure::Passing(cause) | WriteFailure::Unacknowledged(cause) => {
                Self::Aborted(cause)
            }
            WriteFailure::Missing { topic, cause } => Self::Missing { topic, cause },
            WriteFailure::Lasting(cause) => Self::Stopped(cause),
        }
    }
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Outputs and offsets are there.
    Committed,
    /// Nothing was committed.
    Failed(Failure),
    /// A commit was tried and failed: everything may be there or nothing; a new producer is needed, then
    /// offsets tell.
    Ambiguous { cause: String, fenced: bool },
}

/// How an attempt to end a transaction again ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndedAgain {
    /// Nothing is there, neither of this transaction nor of the one that it ended for good.
    Done,
    /// Nothing was sent: we are not in a position to.
    NotTried(String),
    /// Nobody took the outputs or the offsets; what was left open is open still.
    Waits(Failure),
    /// What was left open may be open still.
    Failed(Failure),
}

/// Runs one transaction to its end.
pub(crate) fn run<C: TransactionalClient>(client: C) -> End {
    Opened::begin(client)
        .and_then(Opened::write)
        .and_then(Written::send_offsets)
        .map_or_else(End::Failed, Complete::commit)
}

/// Writes the outputs of a transaction that never ended once more, brings in the group's offsets, and
/// aborts: where its own abort was lost, this one counts for both.
pub(crate) fn end_again<C: TransactionalClient>(client: C) -> EndedAgain {
    let mut client = match Opened::begin(client) {
        Ok(Opened(client)) => client,
        Err(failure) => return EndedAgain::Failed(failure),
    };
    match client.write() {
        Ok(()) => {}
        Err(failure @ WriteFailure::Unacknowledged(_)) => {
            return EndedAgain::Waits(abort(client, failure.into()));
        }
        Err(failure) => return EndedAgain::Failed(abort(client, failure.into())),
    }
    match client.touch_offsets() {
        Ok(()) => {}
        Err(OffsetsFailure::NotOurs(cause)) => {
            return EndedAgain::Failed(abort(client, Failure::Aborted(cause)));
        }
        Err(OffsetsFailure::Failed(error)) if error.fatal => {
            return EndedAgain::Failed(broken("send_offsets", &error));
        }
        // They are part of the transaction by now, and shall not be taken anyway.
        Err(OffsetsFailure::Failed(error)) if error.abortable => {}
        // They may not be part of it: nobody answered.
        Err(OffsetsFailure::Failed(error)) => {
            let cause = format!("offsets were not touched: {error}");
            return EndedAgain::Waits(abort(client, Failure::Aborted(cause)));
        }
    }
    match client.abort() {
        Ok(()) => EndedAgain::Done,
        Err(error) => {
            EndedAgain::Failed(stopped(&error).unwrap_or_else(|| broken("abort", &error)))
        }
    }
}

/// A transaction without outputs yet.
struct Opened<C>(C);

/// Every output has arrived.
struct Written<C>(C);

/// The offsets have arrived too.
struct Complete<C>(C);

impl<C: TransactionalClient> Opened<C> {
    fn begin(mut client: C) -> Result<Self, Failure> {
        match client.begin() {
            Ok(()) => Ok(Self(client)),
            Err(error) => Err(stopped(&error).unwrap_or_else(|| broken("begin", &error))),
        }
    }

    fn write(mut self) -> Result<Written<C>, Failure> {
        match self.0.write() {
            Ok(()) => Ok(Written(self.0)),
            Err(failure) => Err(abort(self.0, failure.into())),
        }
    }
}

impl<C: TransactionalClient> Written<C> {
    fn send_offsets(mut self) -> Result<Complete<C>, Failure> {
        match self.0.send_offsets() {
            Ok(()) => Ok(Complete(self.0)),
            Err(OffsetsFailure::NotOurs(cause)) => Err(abort(self.0, Failure::Aborted(cause))),
            Err(OffsetsFailure::Failed(error)) if error.fatal => {
                Err(stopped_at_offsets(&error).unwrap_or_else(|| broken("send_offsets", &error)))
            }
            // Even where the error says that the call may be made again: the transaction's time
            // is nearly over, and aborting loses nothing but that time.
            Err(OffsetsFailure::Failed(error)) => {
                let failure = stopped_at_offsets(&error).unwrap_or_else(|| {
                    Failure::Aborted(format!("offsets were not taken: {error}"))
                });
                Err(abort(self.0, failure))
            }
        }
    }
}

impl<C: TransactionalClient> Complete<C> {
    fn commit(mut self) -> End {
        if let Err(cause) = self.0.check_tenures() {
            let failure = Failure::Aborted(format!("not committed: {cause}"));
            return End::Failed(abort(self.0, failure));
        }
        if !self.0.may_commit() {
            return End::Failed(Failure::Broken {
                cause: "the transaction took longer than its timeout".to_owned(),
                fenced: false,
            });
        }
        match self.0.commit() {
            Ok(()) => End::Committed,
            // Also where the error wants an abort. The new producer aborts what is left to abort.
            Err(error) => End::Ambiguous {
                cause: format!("commit failed: {error}"),
                fenced: is_fenced(error.code),
            },
        }
    }
}

/// Aborts what no commit was tried for, and fails as told; where aborting fails, the broker aborts when a
/// new producer comes.
fn abort<C: TransactionalClient>(mut client: C, failure: Failure) -> Failure {
    match (client.abort(), failure) {
        (Ok(()), failure) => failure,
        // What stops us stops us with any producer.
        (Err(_), failure @ Failure::Stopped(_)) => failure,
        (Err(error), _) => stopped(&error).unwrap_or_else(|| broken("abort", &error)),
    }
}

fn broken(call: &str, error: &TransactionError) -> Failure {
    Failure::Broken {
        cause: format!("{call} failed: {error}"),
        fenced: is_fenced(error.code),
    }
}

/// Errors that no new attempt mends.
fn stopped(error: &TransactionError) -> Option<Failure> {
    stopping_cause(error.code).map(|cause| Failure::Stopped(format!("{cause} ({})", error.message)))
}

/// The same, where offsets were sent: their topics are read, and every output has arrived.
fn stopped_at_offsets(error: &TransactionError) -> Option<Failure> {
    if error.code == RDKafkaErrorCode::TopicAuthorizationFailed {
        return Some(Failure::Stopped(format!(
            "this user may not commit offsets of an answer topic; allow READ and DESCRIBE on it ({})",
            error.message
        )));
    }
    stopped(error)
}

/// What a person must change before this error goes away.
pub(crate) fn stopping_cause(code: RDKafkaErrorCode) -> Option<&'static str> {
    match code {
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed => Some(
            "this user may not use the transactional id; allow WRITE and DESCRIBE on it, or on \
             the prefix \"<name>-\"",
        ),
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            Some("this user may not commit offsets of the consumer group; allow READ on it")
        }
        RDKafkaErrorCode::ClusterAuthorizationFailed => {
            Some("this user may not write idempotently; allow IDEMPOTENT_WRITE on the cluster")
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => {
            Some("this user may not write an output topic; allow WRITE and DESCRIBE on it")
        }
        RDKafkaErrorCode::InvalidTransactionTimeout => Some(
            "the broker does not allow this kafka.transaction_timeout_ms; keep it within its \
             transaction.max.timeout.ms",
        ),
        RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::UnsupportedVersion => Some(
            "the broker has no transactions as needed (2.5 or newer has); set kafka.delivery to \
             at_least_once",
        ),
        _ => None,
    }
}

/// Whether somebody else holds our transactional id now, or the broker gave up on the transaction.
pub(crate) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
