//! Why a topic does not take a record, and what would change that: for outputs and for what is replayed.

use rdkafka::error::RDKafkaErrorCode;

/// The setting of a topic that something was too large for; none where a broker refused what is in it.
pub(crate) fn limit(code: RDKafkaErrorCode) -> Option<&'static str> {
    match code {
        RDKafkaErrorCode::MessageSizeTooLarge => Some("max.message.bytes"),
        // Larger than a whole segment may be.
        RDKafkaErrorCode::MessageBatchTooLarge => Some("segment.bytes"),
        _ => None,
    }
}

/// One sentence. `bytes` are those of key, value and headers.
pub(crate) fn cause(topic: &str, bytes: usize, code: RDKafkaErrorCode) -> String {
    match limit(code) {
        Some(limit) => format!(
            "topic \"{topic}\" does not take a record of {bytes} bytes ({code}); raise its {limit}"
        ),
        None => format!(
            "topic \"{topic}\" does not take this record ({code}); its broker validates records, as by \
             a schema, and its log says what is wrong"
        ),
    }
}
