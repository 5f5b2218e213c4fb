//! The few calls that need librdkafka itself, and the only unsafe code of this crate.
//!
//! Three reasons bring us here. The wrapper keeps a group's generation and member id to itself,
//! and a broker that is sent generation −1 switches fencing off, so that both must be looked at in
//! the very object that is sent. The wrapper's commit flushes in steps of 100 ms. And the mock
//! broker's rebalance delay has no wrapper at all.
//!
//! Every pointer comes from a live client that the caller holds a reference to for the length of
//! the call, and librdkafka's handles may be used from any thread.

#![allow(unsafe_code)]

use std::{ffi::CStr, fmt, ptr::NonNull, time::Duration};

use rdkafka::{
    ClientContext, TopicPartitionList, bindings,
    client::Client,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::RDKafkaErrorCode,
};

/// An error of a transactional call, with what librdkafka says about going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) message: String,
    /// The producer can do nothing any more.
    pub(crate) fatal: bool,
    /// The same call may be made again.
    pub(crate) retriable: bool,
    /// The transaction can only be aborted.
    pub(crate) abortable: bool,
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// The consumer's standing in its group at one moment, as the broker will check it.
pub(crate) struct GroupStanding(NonNull<bindings::rd_kafka_consumer_group_metadata_t>);

// SAFETY: the object is a plain record of strings and numbers that librdkafka never changes
// after it made it; only its owner frees it.
unsafe impl Send for GroupStanding {}

impl Drop for GroupStanding {
    fn drop(&mut self) {
        // SAFETY: we own the object, and nobody else frees it.
        unsafe { bindings::rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

impl GroupStanding {
    /// Takes the standing of a consumer now. Answered by librdkafka's own thread, not by the one
    /// that polls, so that it may be asked for while a rebalance callback waits.
    pub(crate) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Self> {
        // SAFETY: the client lives as long as the reference to its consumer.
        let taken =
            unsafe { bindings::rd_kafka_consumer_group_metadata(consumer.client().native_ptr()) };
        NonNull::new(taken).map(Self)
    }

    /// Generation of the group; negative before it was joined.
    pub(crate) fn generation(&self) -> i32 {
        // SAFETY: the object is alive.
        unsafe { bindings::rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr()) }
    }

    /// Whether the broker has given us a member id.
    pub(crate) fn has_member_id(&self) -> bool {
        // SAFETY: the object is alive, and so is the string inside it; it may be null.
        unsafe {
            let id = bindings::rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr());
            !id.is_null() && !CStr::from_ptr(id).is_empty()
        }
    }
}

fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

fn outcome(error: *mut bindings::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: librdkafka hands us the error to look at and to free, which happens exactly here.
    unsafe {
        let found = TransactionError {
            code: bindings::rd_kafka_error_code(error).into(),
            message: CStr::from_ptr(bindings::rd_kafka_error_string(error))
                .to_string_lossy()
                .into_owned(),
            fatal: bindings::rd_kafka_error_is_fatal(error) != 0,
            retriable: bindings::rd_kafka_error_is_retriable(error) != 0,
            abortable: bindings::rd_kafka_error_txn_requires_abort(error) != 0,
        };
        bindings::rd_kafka_error_destroy(error);
        Err(found)
    }
}

/// Asks for this producer's transactional id; ends what an earlier holder left open.
pub(crate) fn init_transactions<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: the client lives as long as the reference to it.
    outcome(unsafe {
        bindings::rd_kafka_init_transactions(client.native_ptr(), milliseconds(timeout))
    })
}

/// Opens a transaction; nothing is sent yet.
pub(crate) fn begin_transaction<C: ClientContext>(
    client: &Client<C>,
) -> Result<(), TransactionError> {
    // SAFETY: as above.
    outcome(unsafe { bindings::rd_kafka_begin_transaction(client.native_ptr()) })
}

/// Adds the group's offsets to the open transaction.
pub(crate) fn send_offsets<C: ClientContext>(
    client: &Client<C>,
    offsets: &TopicPartitionList,
    standing: &GroupStanding,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: client, list and standing live as long as the references; librdkafka copies both.
    outcome(unsafe {
        bindings::rd_kafka_send_offsets_to_transaction(
            client.native_ptr(),
            offsets.ptr(),
            standing.0.as_ptr(),
            milliseconds(timeout),
        )
    })
}

/// Commits. Delivery reports must be served by another thread meanwhile.
pub(crate) fn commit_transaction<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: as above.
    outcome(unsafe {
        bindings::rd_kafka_commit_transaction(client.native_ptr(), milliseconds(timeout))
    })
}

/// Aborts. Delivery reports must be served by another thread meanwhile.
pub(crate) fn abort_transaction<C: ClientContext>(
    client: &Client<C>,
    timeout: Duration,
) -> Result<(), TransactionError> {
    // SAFETY: as above.
    outcome(unsafe {
        bindings::rd_kafka_abort_transaction(client.native_ptr(), milliseconds(timeout))
    })
}

/// How long the mock broker behind this client waits for more members before a group starts.
/// Returns false where there is no mock broker behind it.
pub(crate) fn set_mock_rebalance_delay<C: ClientContext>(
    client: &Client<C>,
    delay: Duration,
) -> bool {
    // SAFETY: the mock cluster belongs to the client and lives as long as it.
    unsafe {
        let mock = bindings::rd_kafka_handle_mock_cluster(client.native_ptr());
        if mock.is_null() {
            return false;
        }
        bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(mock, milliseconds(delay));
    }
    true
}
