//! A record's headers, as librdkafka takes them.

use aligner_pipeline::Header;
use rdkafka::message::{Header as KafkaHeader, OwnedHeaders};

/// The same headers, in order; `None` where there are none.
pub(crate) fn owned(headers: &[Header]) -> Option<OwnedHeaders> {
    (!headers.is_empty()).then(|| {
        let room = OwnedHeaders::new_with_capacity(headers.len());
        headers.iter().fold(room, |written, header| {
            written.insert(KafkaHeader {
                key: &header.key,
                value: header.value.as_deref(),
            })
        })
    })
}
