//! Where results go: the port that a transactional producer, or memory, stands behind.

use std::sync::Arc;

use aligner_records::OFFSET_HEADER;
use bytes::Bytes;
use thiserror::Error;

use crate::source::{Header, PartitionEpoch, bytes_of};

/// Which output a record belongs to; the sink knows its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputKind {
    /// A correction.
    Correction,
    /// A preference pair.
    Pair,
    /// A dead letter.
    DeadLetter,
}

/// One record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    /// Where it goes.
    pub kind: OutputKind,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
}

impl Outbound {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        bytes_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }

    /// The text of the last header of this key: those before it may be the record's own.
    pub fn header(&self, key: &str) -> Option<&str> {
        let mut latest = self.headers.iter().rev();
        let header = latest.find(|header| header.key == key)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    }

    /// Where the record of a dead letter lies in its partition.
    pub fn source_offset(&self) -> Option<i64> {
        self.header(OFFSET_HEADER)?.parse().ok()
    }
}

/// The finished prefix of one partition: its outputs, and the offset to go on from.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The tenure that these results belong to.
    pub partition: Arc<PartitionEpoch>,
    /// Offset of the next record to read once `outputs` are delivered.
    pub next_offset: i64,
    /// In offset order. Shared, because a retry after an abort must not run the model again.
    pub outputs: Vec<Arc<Outbound>>,
}

/// Why a call to [`Sink::deliver`] did not deliver all. Nothing of it can be taken as delivered, unless the
/// error says what was.
#[derive(Debug, Clone, Error)]
pub enum DeliveryError {
    /// Nothing was delivered; the same results may be delivered again, soon.
    #[error("delivery was aborted: {0}")]
    Aborted(String),
    /// One output will never be accepted (too large, say); nothing was delivered. The pipeline
    /// turns its record into a dead letter and tries again.
    #[error("output {output} of delivery {delivery} was refused: {cause}")]
    Refused {
        /// Index into the deliveries of the call.
        delivery: usize,
        /// Index into that delivery's outputs.
        output: usize,
        /// What the broker or the client says.
        cause: String,
    },
    /// Delivery cannot go on; the service must stop. Nothing is lost: offsets did not advance.
    #[error("delivery stopped: {0}")]
    Stopped(String),
    /// The same, but the beginning of some deliveries was delivered, with the offsets up to there.
    #[error("delivery stopped: {cause}")]
    StoppedWithin {
        /// How many outputs of which partitions; of each record all, or none.
        delivered: Vec<(Arc<PartitionEpoch>, usize)>,
        /// Why the rest cannot be.
        cause: String,
    },
}

/// A log to write to, together with the source's offsets.
pub trait Sink: Send + 'static {
    /// Writes all outputs and advances all offsets, atomically where the log can.
    ///
    /// On `Ok`, everything was delivered, except partitions named in the result: their tenure
    /// had ended, nothing of theirs was written, and their results must be forgotten.
    fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> impl Future<Output = Result<Vec<Arc<PartitionEpoch>>, DeliveryError>> + Send;

    /// Flushes and closes. Called once, after the last delivery.
    fn close(self) -> impl Future<Output = ()> + Send;
}
