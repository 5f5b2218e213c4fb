//! Why a topic does not take a record, and what would change that: for outputs and for what is replayed.

use rdkafka::error::RDKafkaErrorCode;

/// One sentence. `bytes` are those of key, value and headers.
pub(crate) fn cause(topic: &str, bytes: usize, code: RDKafkaErrorCode) -> String {
    let limit = match code {
        RDKafkaErrorCode::InvalidRecord | RDKafkaErrorCode::InvalidDifferentRecord => {
            return format!(
                "topic \"{topic}\" does not take this record ({code}); its broker validates records, \
                 as by a schema, and its log says what is wrong"
            );
        }
        // Larger than a whole segment may be.
        RDKafkaErrorCode::MessageBatchTooLarge => "segment.bytes",
        _ => "max.message.bytes",
    };
    format!("topic \"{topic}\" does not take a record of {bytes} bytes ({code}); raise its {limit}")
}
