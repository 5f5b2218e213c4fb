//! The harness behind the connector's end-to-end tests: real brokers, a real registry, real
//! connector processes, and an oracle that says whether each record arrived exactly once.
//!
//! Verbs block and have deadlines, so that a test reads as a story: `kafka.kill(2)`,
//! `connector.kill9()`, `proxy.on(ApiKey::EndTxn).does(Fault::LoseResponse)`, `oracle.settled()`. Nothing here
//! sleeps and hopes; every wait names a condition and a limit.
//!
//! Deliberately absent: mocks. What is proven here is proven against the component that users run.

// The clients of tests meet the same brokers. For what it links alone.
use aligner_librdkafka_patch as _;

mod class_archive;
pub mod client;
pub mod collector;
pub mod command;
pub mod completions;
pub mod connector;
pub mod diagnosis;
pub mod events;
pub mod group;
pub mod hanging;
pub mod heard;
pub mod http;
pub mod issuer;
pub mod java;
pub mod kafka;
pub mod ledger;
pub mod oracle;
pub mod process;
pub mod proxy;
pub mod python;
pub mod registry;
pub mod reminder;
pub mod scratch;
pub mod secure;
pub mod story;
pub mod wait;
