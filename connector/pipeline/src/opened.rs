//! What a dead letter holds: the record as it came, and what was written about it.
//!
//! A letter's headers are the record's own and then ours, so that a record whose own headers look like
//! ours, as one that came out of another dead-letter topic, is told apart by the last of each name.

use aligner_records::{
    CONNECTOR_HEADER, MESSAGE_HEADER, OFFSET_HEADER, PARTITION_HEADER, REASON_HEADER,
    SourcePosition, TOPIC_HEADER,
};
use bytes::Bytes;

use crate::{
    letters::{HEADERS_OMITTED_HEADER, KEY_OMITTED_HEADER, VALUE_OMITTED_HEADER},
    source::Header,
};

/// A dead letter that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedLetter {
    /// Name of the connector that wrote it.
    pub connector: String,
    /// Why the record could not be corrected, as one word.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// Where the record was read.
    pub source: SourcePosition,
    /// The record, unless it was too large to be put into the letter as a whole.
    pub record: Option<OriginalRecord>,
}

/// A record as it was before it became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecord {
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<Header>,
}

impl OpenedLetter {
    /// Opens a record of a dead-letter topic; `None` if it is no letter of a connector.
    pub fn open(key: Option<Bytes>, value: Option<Bytes>, headers: Vec<Header>) -> Option<Self> {
        let mut own = headers;
        // The first of ours, and every letter has it.
        let first = own.iter().rposition(|header| header.key == TOPIC_HEADER)?;
        let ours = own.split_off(first);
        let text = |name: &str| {
            let header = ours.iter().find(|header| header.key == name)?;
            String::from_utf8(header.value.as_ref()?.to_vec()).ok()
        };
        let source = SourcePosition {
            topic: text(TOPIC_HEADER)?.into(),
            partition: text(PARTITION_HEADER)?.parse().ok()?,
            offset: text(OFFSET_HEADER)?.parse().ok()?,
        };
        let is_whole = ![
            VALUE_OMITTED_HEADER,
            HEADERS_OMITTED_HEADER,
            KEY_OMITTED_HEADER,
        ]
        .iter()
        .any(|omitted| ours.iter().any(|header| header.key == *omitted));
        // A letter's key where the record has none.
        let position = source.to_string();
        Some(Self {
            connector: text(CONNECTOR_HEADER)?,
            reason: text(REASON_HEADER)?,
            message: text(MESSAGE_HEADER)?,
            source,
            record: is_whole.then(|| OriginalRecord {
                key: key.filter(|key| *key != position.as_bytes()),
                value,
                headers: own,
            }),
        })
    }
}
