//! Where records come from: the port that Kafka, or memory, stands behind.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use thiserror::Error;
use tokio::{sync::oneshot, time::Instant};

/// A topic's partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number.
    pub number: i32,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.number)
    }
}

/// One tenure of a partition. A partition that is revoked and comes back has a new epoch, and
/// whatever was finished under the old one is no longer ours to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionEpoch {
    /// The partition.
    pub partition: Partition,
    /// Counts assignments of this partition within the process; never reused.
    pub epoch: u64,
}

/// A record header; values are bytes, as in Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its key.
    pub key: String,
    /// Its value; Kafka tells null from empty.
    pub value: Option<Bytes>,
}

/// Bytes of a record, as it came or as it is written: key, value and headers.
pub(crate) fn bytes_of(key: Option<&Bytes>, value: Option<&Bytes>, headers: &[Header]) -> usize {
    let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len);
    let headers: usize = headers
        .iter()
        .map(|header| header.key.len() + length(header.value.as_ref()))
        .sum();
    length(key) + length(value) + headers
}

/// One input record as the log holds it.
#[derive(Debug, Clone)]
pub struct SourceRecord {
    /// Tenure under which it was read.
    pub partition: Arc<PartitionEpoch>,
    /// Its offset. Offsets of a partition rise but have gaps: never count with them.
    pub offset: i64,
    /// Key bytes.
    pub key: Option<Bytes>,
    /// Value bytes; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// Broker or producer timestamp, epoch milliseconds.
    pub timestamp: Option<i64>,
}

impl SourceRecord {
    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        bytes_of(self.key.as_ref(), self.value.as_ref(), &self.headers)
    }
}

/// What a source reports, in order.
#[derive(Debug)]
pub enum SourceEvent {
    /// These partitions are ours from now on; their records follow.
    Assigned(Vec<Arc<PartitionEpoch>>),
    /// Records, each partition's in offset order.
    Records(Vec<SourceRecord>),
    /// These partitions are about to be taken. Until `release` is dropped or `deadline` passes,
    /// finished results may still be delivered; then they must be forgotten.
    Revoking {
        /// The tenures that end.
        partitions: Vec<Arc<PartitionEpoch>>,
        /// When the source gives them up whatever happens.
        deadline: Instant,
        /// Dropped (or sent) when the pipeline has forgotten them.
        release: oneshot::Sender<()>,
    },
    /// These partitions are gone already; nothing of them may be delivered any more.
    Lost(Vec<Arc<PartitionEpoch>>),
    /// Reading goes no further, and waiting does not help. The records that were read before follow.
    /// They are still ours: what can be done of them within `drain_timeout` is delivered, and the
    /// pipeline ends with this.
    Unreadable(SourceError),
    /// All that was read before something unreadable has come. What becomes of partitions meanwhile
    /// goes on being reported.
    Exhausted,
}

/// Whether the source should hand out more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Stop: enough tokens are in flight. The source keeps its membership alive.
    Pause,
    /// Go on.
    Resume,
}

/// Why a source ended. As an event of its own, it also says that nothing is ours any more.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct SourceError {
    /// What happened, with object, value and fix.
    pub message: String,
}

/// A log to read from.
pub trait Source: Send + 'static {
    /// The next event; `None` when there will be no other.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Option<Result<SourceEvent, SourceError>>> + Send;

    /// Asks for more or fewer records; takes effect soon, not at once.
    ///
    /// A source that is not asked for its next event keeps what it has read; it is told to pause
    /// only if that lasts. Once paused it is asked again, for what else it may have to report.
    fn flow(&mut self, flow: Flow);

    /// Stops handing out records. Membership is kept until the source is closed, so that finished
    /// results can still be delivered, and what happens to it goes on being reported.
    fn stop(&mut self);

    /// Leaves the group. Called once, after the last delivery.
    fn close(self) -> impl Future<Output = ()> + Send;
}
