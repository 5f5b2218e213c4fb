//! The few calls that need librdkafka itself, and the only unsafe code of this crate.
//!
//! Ten reasons bring us here. The wrapper keeps a group's generation and member id to itself,
//! and a broker that is sent generation −1 switches fencing off, so that both must be looked at in
//! the very object that is sent. The wrapper's commit flushes in steps of 100 ms. What failed a
//! transaction it leaves to be asked for. It panics at a header whose key is not UTF-8, which any
//! client may write. It hands tokens to clients only where they are polled, and without extensions
//! ([`roster`]). And naming brokers to a client at work, an administrator's question to a producer's client, a topic's id,
//! the epoch of a record's leader and the mock broker's rebalance delay have no wrapper at all.
//!
//! Every pointer comes from a live client that the caller holds a reference to for the length of
//! the call, and librdkafka's handles may be used from any thread.

#![allow(unsafe_code)]

mod roster;

use std::{
    ffi::{CStr, CString},
    fmt,
    ptr::{self, NonNull},
    slice,
    time::Duration,
};

use aligner_pipeline::Header;
use bytes::Bytes;
use rdkafka::{
    ClientContext, TopicPartitionList, bindings,
    client::Client,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::RDKafkaErrorCode,
    message::BorrowedMessage,
};

pub(crate) use self::roster::{Listed, Native, Roster};

/// An error of a transactional call, with what librdkafka says about going on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransactionError {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) message: String,
    /// The producer can do nothing any more.
    pub(crate) fatal: bool,
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

/// What librdkafka says, without its advice to those who write programs: the event queue is polled.
fn in_our_words(message: &str) -> String {
    let counted = message
        .strip_prefix("Failed to flush all outstanding messages within the API timeout: ")
        .and_then(|rest| rest.split_once(" message(s) remaining"));
    match counted {
        Some((number, _)) => format!("brokers have not acknowledged {number} outputs in time"),
        None => message.to_owned(),
    }
}

fn outcome(error: *mut bindings::rd_kafka_error_t) -> Result<(), TransactionError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: librdkafka hands us the error to look at and to free, which happens exactly here.
    unsafe {
        let found = TransactionError {
            code: bindings::rd_kafka_error_code(error).into(),
            message: in_our_words(
                &CStr::from_ptr(bindings::rd_kafka_error_string(error)).to_string_lossy(),
            ),
            fatal: bindings::rd_kafka_error_is_fatal(error) != 0,
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

/// What failed the open transaction; `None` where it goes on. Only to be asked while one is open: the
/// call that would open another one does nothing then, asks no broker, and says what is the matter.
pub(crate) fn transaction_failure<C: ClientContext>(
    client: &Client<C>,
) -> Option<TransactionError> {
    begin_transaction(client)
        .err()
        .filter(|error| error.abortable || error.fatal)
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

/// Names brokers that the client may ask, `host:port` separated by commas. Those that it knows stay as
/// they are.
pub(crate) fn add_brokers<C: ClientContext>(client: &Client<C>, servers: &str) {
    // A configured list came through the same conversion when the client was made.
    let servers = CString::new(servers).unwrap_or_default();
    // SAFETY: the client lives as long as the reference to it; librdkafka copies the list.
    unsafe { bindings::rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
}

/// Has the client find the coordinator of a group and ask it about a partition, so that it is connected to
/// it: what the coordinator answers is of no interest.
pub(crate) fn meet_coordinator<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    (topic, partition): (&str, i32),
    timeout: Duration,
) -> Result<(), RDKafkaErrorCode> {
    let group = CString::new(group).map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
    let mut asked = TopicPartitionList::with_capacity(1);
    asked.add_partition(topic, partition);
    let op = bindings::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
    // SAFETY: the client and the list live as long as the references; librdkafka copies group, list and
    // options. What is made here is freed here.
    let code = unsafe {
        let mut request =
            bindings::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), asked.ptr());
        let code = administered(
            client,
            op,
            timeout,
            |options, queue| {
                bindings::rd_kafka_ListConsumerGroupOffsets(
                    client.native_ptr(),
                    &raw mut request,
                    1,
                    options,
                    queue,
                );
            },
            |event| match event.is_null() {
                true => bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT,
                false => bindings::rd_kafka_event_error(event),
            },
        );
        bindings::rd_kafka_ListConsumerGroupOffsets_destroy(request);
        code
    };
    match code {
        bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}

/// What one topic has and no other of the same name (KIP-516).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicId(pub(crate) i64, pub(crate) i64);

/// The id of a topic; none where there is no such topic, no answer, or a broker without ids.
pub(crate) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Option<TopicId> {
    let name = CString::new(topic).ok()?;
    let op = bindings::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client and the name live as long as the references; librdkafka copies names and options.
    // What is made here is freed here, and the result is read before its event is.
    let id = unsafe {
        let mut names = [name.as_ptr()];
        let topics = bindings::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let id = administered(
            client,
            op,
            timeout,
            |options, queue| {
                bindings::rd_kafka_DescribeTopics(client.native_ptr(), topics, options, queue);
            },
            |event| {
                let result = bindings::rd_kafka_event_DescribeTopics_result(event);
                if result.is_null() {
                    return None;
                }
                let mut count = 0;
                let described =
                    bindings::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
                if count == 0 {
                    return None;
                }
                let id = bindings::rd_kafka_TopicDescription_topic_id(*described);
                (!id.is_null()).then(|| {
                    TopicId(
                        bindings::rd_kafka_Uuid_most_significant_bits(id),
                        bindings::rd_kafka_Uuid_least_significant_bits(id),
                    )
                })
            },
        );
        bindings::rd_kafka_TopicCollection_destroy(topics);
        id
    };
    id.filter(|id| *id != TopicId(0, 0))
}

/// Puts an administrator's question, and reads the event that answers it, which is null where none came in time.
///
/// # Safety
/// `ask` and `read` must not keep what they are given.
unsafe fn administered<C: ClientContext, T>(
    client: &Client<C>,
    op: bindings::rd_kafka_admin_op_t,
    timeout: Duration,
    ask: impl FnOnce(*const bindings::rd_kafka_AdminOptions_t, *mut bindings::rd_kafka_queue_t),
    read: impl FnOnce(*mut bindings::rd_kafka_event_t) -> T,
) -> T {
    let timeout = milliseconds(timeout);
    // SAFETY: the client lives as long as the reference. What is made here is freed here, the queue last: an
    // answer that comes later finds it gone and is dropped. Options are null for an unknown `op` alone, and an
    // event may be null where it is freed.
    unsafe {
        let options = bindings::rd_kafka_AdminOptions_new(client.native_ptr(), op);
        bindings::rd_kafka_AdminOptions_set_request_timeout(options, timeout, ptr::null_mut(), 0);
        let queue = bindings::rd_kafka_queue_new(client.native_ptr());
        ask(options, queue);
        let event = bindings::rd_kafka_queue_poll(queue, timeout);
        let read = read(event);
        bindings::rd_kafka_event_destroy(event);
        bindings::rd_kafka_AdminOptions_destroy(options);
        bindings::rd_kafka_queue_destroy(queue);
        read
    }
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

/// The epoch of the leader that wrote a record; `None` where the record's format has none.
pub(crate) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    // SAFETY: the message is borrowed for this call.
    let epoch = unsafe { bindings::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// The headers of a record, in order. A key that is not UTF-8 is read as Kafka's own Java client
/// reads it: what is no character becomes U+FFFD.
pub(crate) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut found = ptr::null_mut();
    // SAFETY: the message is borrowed for this call and owns its headers.
    unsafe {
        let code = bindings::rd_kafka_message_headers(message.ptr(), &raw mut found);
        if code != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Vec::new(); // it has none
        }
        copied(found)
    }
}

/// # Safety
/// The headers are alive for the length of the call.
unsafe fn copied(headers: *const bindings::rd_kafka_headers_t) -> Vec<Header> {
    let (mut key, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: librdkafka sets all three for an index within the count; a key is a C string, and a
    // value that is not null has `size` bytes, both owned by the headers.
    unsafe {
        let count = bindings::rd_kafka_header_cnt(headers);
        let mut copies = Vec::with_capacity(count);
        for index in 0..count {
            let code = bindings::rd_kafka_header_get_all(
                headers,
                index,
                &raw mut key,
                &raw mut value,
                &raw mut size,
            );
            if code != bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            let bytes = (!value.is_null())
                .then(|| Bytes::copy_from_slice(slice::from_raw_parts(value.cast(), size)));
            copies.push(Header {
                key: CStr::from_ptr(key).to_string_lossy().into_owned(),
                value: bytes,
            });
        }
        copies
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_to_those_who_write_programs_is_no_cause_of_an_error() {
        let unflushed = "Failed to flush all outstanding messages within the API timeout: 4 message(s) \
                         remaining";
        let advice = ": the event queue must be polled for delivery report events in a separate thread \
                      or prior to calling abort";
        let told = "brokers have not acknowledged 4 outputs in time";
        assert_eq!(in_our_words(unflushed), told);
        assert_eq!(in_our_words(&format!("{unflushed}{advice}")), told);
        let other = "Failed to flush outstanding messages: Local: Fatal error";
        assert_eq!(in_our_words(other), other);
    }

    #[test]
    fn a_header_whose_key_is_not_utf_8_is_read_like_any_other() {
        let written: [(&[u8], Option<&[u8]>); 3] = [
            (b"k\xFF\xFE", Some(b"\x00\xFF")),
            (b"", None),
            (b"plain", Some(b"")),
        ];
        // SAFETY: the headers are made, read and freed here; lengths are those of the slices.
        let read = unsafe {
            let headers = bindings::rd_kafka_headers_new(written.len());
            for (key, value) in written {
                let bytes = value.map_or(ptr::null(), |bytes| bytes.as_ptr().cast());
                let code = bindings::rd_kafka_header_add(
                    headers,
                    key.as_ptr().cast(),
                    key.len() as isize,
                    bytes,
                    value.map_or(0, <[u8]>::len) as isize,
                );
                assert_eq!(
                    code,
                    bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
                );
            }
            let read = copied(headers);
            bindings::rd_kafka_headers_destroy(headers);
            read
        };
        let read: Vec<_> = read
            .iter()
            .map(|header| (header.key.as_str(), header.value.as_deref()))
            .collect();
        assert_eq!(
            read,
            [
                ("k\u{FFFD}\u{FFFD}", Some(&b"\x00\xFF"[..])),
                ("", None),
                ("plain", Some(&b""[..])),
            ]
        );
    }
}
