//! The numbers themselves, and what a report changes in them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;

use super::{DeliveryEnd, PartitionLag, QUIET_AFTER, WITHHELD_AFTER};
use crate::{
    connections::{BrokerState, ClientId, Connections},
    report::{PartitionReport, Report},
    standstill::{Ends, Standstills},
    throttling::Throttling,
    unfetched::Unfetched,
};

/// How far the consumer has read a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    /// Everything before it was read, or holds no records: the ends of transactions and what was aborted.
    pub(super) position: i64,
    /// Behind the last record, or where the tenure began.
    pub(super) stood_at: Option<i64>,
}

/// What was passed over in a partition since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missed {
    pub(super) resets: u64,
    pub(super) skipped: u64,
}

/// Numbers of both clients.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) ends: HashMap<Partition, i64>,
    /// The ends that were reported last, and since when.
    reported_ends: HashMap<Partition, (i64, Instant)>,
    pub(super) unfetched: Unfetched,
    starts: HashMap<Partition, i64>,
    /// Where our tenures began.
    pub(super) begins: HashMap<Partition, i64>,
    pub(super) delivered: HashMap<Partition, i64>,
    pub(super) passed: HashMap<Partition, Passed>,
    /// Offsets that were wanted of partitions whose beginnings are not known yet.
    pub(super) unsettled: BTreeMap<Partition, i64>,
    pub(super) missed: BTreeMap<Partition, Missed>,
    pub(super) throttling: Throttling,
    pub(super) connections: Connections,
    pub(super) rebalances: u64,
    pub(super) asking_since: Option<Instant>,
    pub(super) paused_since: Option<Instant>,
    paused: Duration,
    pub(super) hanging: usize,
    /// Partitions that we read, of which an open transaction withholds records.
    pub(super) withheld: Standstills,
    pub(super) counts: BTreeMap<DeliveryEnd, u64>,
}

impl Figures {
    /// Takes in a report.
    pub(super) fn take(&mut self, client: ClientId, report: Report, now: Instant) {
        let brokers = report
            .brokers
            .into_iter()
            .filter(|(_, broker)| broker.nodeid >= 0)
            .map(|(id, broker)| {
                let said = BrokerState {
                    address: broker.nodename,
                    is_up: broker.state == "UP",
                    timeouts: broker.req_timeouts,
                };
                (id, said)
            });
        self.connections.report(client, brokers);
        // Only the consumer has a group, and knows where partitions begin and end.
        let Some(group) = report.cgrp else {
            return;
        };
        self.rebalances = group.rebalance_cnt;
        let mut seen = BTreeMap::new();
        for topic in report.topics.into_values() {
            let name: Arc<str> = topic.topic.into();
            for found in topic.partitions.into_values().filter(|p| p.partition >= 0) {
                let partition = Partition {
                    topic: Arc::clone(&name),
                    number: found.partition,
                };
                // Figures that stand still say nothing.
                if found.fetch_state == "active" && found.hi_offset >= 0 && !self.is_held_back() {
                    let ends = Ends {
                        stable: found.ls_offset,
                        all: found.hi_offset,
                    };
                    seen.insert(partition.clone(), ends);
                }
                self.take_partition(partition, &found);
            }
        }
        self.withheld.look(&seen, now, WITHHELD_AFTER);
    }

    fn take_partition(&mut self, partition: Partition, found: &PartitionReport) {
        if found.lo_offset >= 0 {
            self.starts.insert(partition.clone(), found.lo_offset);
        }
        if found.ls_offset >= 0 {
            let end = found.ls_offset;
            // One that is said again may be old, and nothing to overrule an answer with.
            let known = self.reported_ends.get(&partition);
            if known.is_none_or(|(reported, _)| *reported != end) {
                self.reported_ends
                    .insert(partition.clone(), (end, Instant::now()));
                self.ends.insert(partition, end);
            }
        }
    }

    /// Whether fetching is held back.
    pub(super) fn is_held_back(&self) -> bool {
        self.paused_since.is_some() || self.asking_since.is_some()
    }

    /// Whether reports have said the same end for long, which they also do of a partition that is not
    /// fetched.
    pub(super) fn is_quiet(&self, partition: &Partition, now: Instant) -> bool {
        let reported = self.reported_ends.get(partition);
        reported.is_some_and(|(_, since)| now.saturating_duration_since(*since) >= QUIET_AFTER)
    }

    /// Takes in where partitions end, as a broker says.
    pub(super) fn end_at(&mut self, ends: Vec<(Partition, i64)>, now: Instant) {
        if self.is_held_back() {
            self.unfetched.excuse();
        } else {
            let next = |partition| {
                let passed = self.passed.get(partition).map(|passed| passed.position);
                passed.max(self.begins.get(partition).copied())
            };
            let looks = ends
                .iter()
                .filter_map(|(partition, end)| Some((partition, next(partition)?, *end)));
            self.unfetched.look(looks, now);
        }
        self.ends.extend(ends);
    }

    /// How far behind a partition is, once its end is known.
    pub(super) fn lag(&self, partition: &Partition) -> Option<PartitionLag> {
        let delivered = self.delivered.get(partition).copied();
        let began = self.begins.get(partition).copied();
        let reached = delivered.max(began);
        let start = self.starts.get(partition).copied();
        let passed = self.passed.get(partition);
        let has_waiting = passed.is_some_and(|passed| reached < passed.stood_at);
        let position = if has_waiting {
            // What was read is delivered, also where the log has deleted it meanwhile.
            reached.or(start)
        } else {
            reached.max(passed.map(|passed| passed.position)).max(start)
        };
        Some(PartitionLag {
            partition: partition.clone(),
            position,
            end: *self.ends.get(partition)?,
        })
    }

    /// What is known of a partition is of another tenure.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.delivered.remove(partition);
        self.passed.remove(partition);
        self.begins.remove(partition);
        self.ends.remove(partition);
        self.reported_ends.remove(partition);
        self.starts.remove(partition);
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        match (self.paused_since, paused) {
            (None, true) => self.paused_since = Some(Instant::now()),
            (Some(since), false) => {
                self.paused += since.elapsed();
                self.paused_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// How long fetching was suspended since the start.
    pub(super) fn paused(&self) -> Duration {
        let going_on = self
            .paused_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.paused + going_on
    }
}
