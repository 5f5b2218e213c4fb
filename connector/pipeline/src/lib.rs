//! How records flow:
//!
//! ```text
//! source → decode → gate → batch → align → encode → sink        data goes right
//! source ←───────────────── offsets ←──────────────── sink      only acknowledgements come back
//! ```
//!
//! Deliberately absent: Kafka and models. A log is anything behind [`Source`] and [`Sink`], a
//! model anything behind [`aligner::Aligner`]; both have in-memory forms, so that every fault can
//! be replayed in a test.

mod sink;
mod source;

pub use sink::{Delivery, DeliveryError, Outbound, OutputKind, Sink};
pub use source::{
    Flow, Header, Partition, PartitionEpoch, Source, SourceError, SourceEvent, SourceRecord,
};
