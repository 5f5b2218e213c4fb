//! Source and sink of a pipeline on Apache Kafka.
//!
//! ```text
//!            ┌ consumer thread ┐  handoff   ┌──────────┐   calls   ┌── delivery thread ───┐
//! answers ──▶│ consumer, group │──────────▶ │ pipeline │ ────────▶ │ decides, never hangs │
//!            └──────┬──────────┘            └──────────┘           └──────────┬───────────┘
//!                   └───────────── tenures ────────────▶ checked by ┌── producer thread ──┐
//!                                                                   │ producer, its calls │──▶ outputs
//!                                                                   └─────────────────────┘    + offsets
//! ```
//!
//! Promised with `exactly_once`: outputs and offsets appear together or not at all, and no result
//! of a partition that was taken from us appears. Readers of the outputs must use
//! `isolation.level=read_committed`. With `at_least_once` outputs appear before their offsets.
//!
//! Deliberately absent: what records mean, and any knowledge of models.

// For what it links alone.
use aligner_librdkafka_patch as _;

mod absence;
mod batch_writer;
mod batching;
mod bootstrap;
#[cfg(test)]
mod client_errors_tests;
mod connect;
mod connections;
mod consumer_thread;
mod course;
mod decided;
mod delivery_thread;
mod ends;
mod extensions;
mod fault;
mod fetching;
mod given_properties;
mod handoff;
mod hanging;
mod headers;
mod identities;
mod listener;
mod listing;
mod login;
mod lookout;
mod membership;
mod missing_topics;
mod misspelt;
mod mock;
mod native;
mod outlet;
mod preflight;
mod producer_thread;
mod properties;
mod recovery;
mod rejection;
mod reminder;
mod repeats;
mod report;
mod reports;
mod resets;
mod scan;
mod sent_once;
mod settings;
mod sink;
mod source;
mod standstill;
mod start_position;
mod stats;
mod successor;
mod tap;
mod tenure;
mod throttling;
mod topics;
mod transaction;
mod unended;
mod unfetched;
mod unreadable;
mod untaken;
mod verdict;

pub use batch_writer::{Addressed, BatchError, BatchWriter};
pub use connect::{Connected, connect};
pub use decided::Decisions;
pub use extensions::extensions;
pub use fault::Fault;
pub use given_properties::{is_secret, is_unknown, named_values, property_fault};
pub use login::{AccessToken, TokenError, TokenSource};
pub use missing_topics::MissingTopics;
pub use mock::{MockBroker, MockError};
pub use preflight::{StartError, preflight};
pub use scan::{Positions, Scan};
pub use settings::{
    Connection, DeliveryGuarantee, KafkaSettings, Problem, StartFrom, TopicSettings,
    default_group_id, is_topic_name, problems,
};
pub use sink::KafkaSink;
pub use source::KafkaSource;
pub use stats::{ClientState, ClientStats, PartitionLag};
pub use tap::{TopicReader, TopicRecord, TopicWriter};
pub use topics::create as create_topics;
