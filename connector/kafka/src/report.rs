//! What librdkafka reports of a client once a second: only what is used is read.

use std::{collections::HashMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// What is used of a report.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    #[serde(default, deserialize_with = "first_of_each")]
    pub(crate) brokers: HashMap<String, BrokerReport>,
    #[serde(default)]
    pub(crate) topics: HashMap<String, TopicReport>,
    pub(crate) cgrp: Option<GroupReport>,
}

impl Report {
    /// Reads one; what cannot be read is left out.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json)
            .inspect_err(|error| {
                tracing::debug!(%error, "statistics of librdkafka were not understood");
            })
            .ok()
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct BrokerReport {
    pub(crate) nodeid: i64,
    pub(crate) nodename: String,
    /// Where the client has it from: `configured`, `learned`, `logical` or `internal`.
    pub(crate) source: String,
    pub(crate) state: String,
    /// Microseconds in this state; of one that has just begun it may be below 0.
    pub(crate) stateage: i64,
    pub(crate) req_timeouts: u64,
    /// For how long it held us back since the last report.
    #[serde(default)]
    pub(crate) throttle: ThrottleReport,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct ThrottleReport {
    /// Milliseconds.
    pub(crate) sum: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TopicReport {
    pub(crate) topic: String,
    #[serde(default)]
    pub(crate) partitions: HashMap<String, PartitionReport>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PartitionReport {
    pub(crate) partition: i32,
    #[serde(default = "unknown_offset")]
    pub(crate) lo_offset: i64,
    pub(crate) ls_offset: i64,
    #[serde(default = "unknown_offset")]
    pub(crate) hi_offset: i64,
    /// `active` while it is fetched.
    #[serde(default)]
    pub(crate) fetch_state: String,
}

/// librdkafka's own sign for an offset it does not know.
fn unknown_offset() -> i64 {
    -1001
}

#[derive(Debug, Deserialize)]
pub(crate) struct GroupReport {
    pub(crate) state: String,
    pub(crate) join_state: String,
    pub(crate) rebalance_cnt: u64,
}

/// Reads an object, of each key the first value: a broker that was dropped, and is still referred to, is
/// in the list beside the one at the same address that was learned of since, which comes first.
fn first_of_each<'de, D, T>(deserializer: D) -> Result<HashMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_map(FirstOfEach(PhantomData))
}

struct FirstOfEach<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FirstOfEach<T> {
    type Value = HashMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut found = HashMap::new();
        while let Some((key, value)) = object.next_entry()? {
            found.entry(key).or_insert(value);
        }
        Ok(found)
    }
}
