//! What the two clients know about themselves, for metrics and for probes.
//!
//! librdkafka reports once a second; only what is used is read from its report. Its own lag and its
//! committed offset are of no use here: the consumer does not know what a transaction committed, and
//! still says of a partition that comes back what it once committed there itself. The position is the
//! last offset that we delivered, or the committed one that our tenure began at; where all that was read is
//! delivered, it is what the consumer has read past, and never before the beginning of the log. Where a
//! partition ends, a report repeats for as long as nothing is fetched, and [`crate::ends`] asks.

mod figures;
mod instruments;

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use opentelemetry::metrics::Meter;

use self::{
    figures::{Figures, Passed},
    instruments::Instruments,
};
use crate::{
    absence::Absence,
    connections::ClientId,
    report::Report,
    resets::{self, Reset},
    tenure::Tenures,
};

/// Brokers that are well say what is committed at once; a transaction that ends as it should is ended
/// by then, too.
const UNDECIDED_AFTER: Duration = Duration::from_secs(10);

/// Java's producers may leave a transaction open for a minute by default, and brokers look for those that
/// are older every ten seconds.
const WITHHELD_AFTER: Duration = Duration::from_secs(70);

/// For so long a partition's end may be the same in all reports before a broker is asked as well.
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// How far behind one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition; it is ours now.
    pub partition: Partition,
    /// Offset up to which no record is left to deliver; in a new group, of the first record there is.
    pub position: Option<i64>,
    /// End of what committed readers can see.
    pub end: i64,
}

impl PartitionLag {
    /// Offsets between position and end. Gaps that transactions leave count as well, until they are read
    /// past.
    pub fn lag(&self) -> Option<u64> {
        self.position
            .map(|position| u64::try_from(self.end - position).unwrap_or(0))
    }
}

/// A partition of which an open transaction withholds records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Withheld {
    /// The partition; it is ours now.
    pub(crate) partition: Partition,
    /// Where the transaction begins.
    pub(crate) offset: i64,
    /// For how long at least.
    pub(crate) lasted: Duration,
}

/// How a transaction, or a delivery without one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum DeliveryEnd {
    /// Outputs and offsets are there.
    Committed,
    /// Nothing is there; the same results are delivered again.
    Aborted,
    /// An output will never be accepted.
    Refused,
    /// The commit failed; committed offsets tell whether it took place all the same.
    Ambiguous,
}

impl DeliveryEnd {
    fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Refused => "refused",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// State of the clients at the last report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientState {
    /// Whether any client has reported yet; before that, nothing is known of brokers.
    pub has_reported: bool,
    /// Brokers that a client is connected to.
    pub brokers_up: usize,
    /// Requests that were never answered, since the start.
    pub request_timeouts: u64,
    /// Rebalances since the start.
    pub rebalances: u64,
}

/// Numbers about the connection to Kafka, shared by both clients and whoever reports them.
#[derive(Debug)]
pub struct ClientStats {
    tenures: Arc<Tenures>,
    absence: Mutex<Absence>,
    figures: Mutex<Figures>,
    instruments: Instruments,
}

/// A client whose reports are taken in until this is dropped.
#[derive(Debug)]
pub(crate) struct ReportingClient {
    id: ClientId,
    name: &'static str,
    stats: Arc<ClientStats>,
}

impl ReportingClient {
    /// Takes in a report.
    pub(crate) fn take_report(&self, report: Report) {
        self.stats.take(self, report);
    }

    /// A partition is read from its beginning, since it does not hold what was wanted.
    pub(crate) fn take_reset(&self, reset: Reset) {
        self.stats.reset(reset);
    }
}

impl Drop for ReportingClient {
    fn drop(&mut self) {
        self.stats.figures().connections.end(self.id);
    }
}

impl ClientStats {
    pub(crate) fn new(tenures: Arc<Tenures>, absence: Absence, meter: &Meter) -> Arc<Self> {
        let stats = Arc::new(Self {
            tenures,
            absence: Mutex::new(absence),
            figures: Mutex::default(),
            instruments: Instruments::new(meter),
        });
        instruments::observe(&stats, meter);
        stats
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        // Every change is a single assignment, so a panic elsewhere does not spoil the figures.
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lag of every partition that is ours and whose end is known.
    pub fn lags(&self) -> Vec<PartitionLag> {
        let current = self.tenures.current();
        let figures = self.figures();
        let mut lags: Vec<_> = current
            .iter()
            .filter_map(|tenure| figures.lag(&tenure.partition))
            .collect();
        lags.sort_by(|one, other| one.partition.cmp(&other.partition));
        lags
    }

    /// State of the clients at the last report.
    pub fn state(&self) -> ClientState {
        let figures = self.figures();
        ClientState {
            has_reported: figures.connections.is_known(),
            brokers_up: figures.connections.brokers_up(),
            request_timeouts: figures.connections.request_timeouts(),
            rebalances: figures.rebalances,
        }
    }

    /// Partitions that are ours now.
    pub fn assigned(&self) -> usize {
        self.tenures.current().len()
    }

    /// Whether the consumer has had no place in its group for a session's time: the group's
    /// coordinator is not reached, or a join does not succeed.
    pub fn is_out_of_group(&self) -> bool {
        self.absence().is_long(Instant::now())
    }

    /// Whether committed offsets have been asked for longer than a broker that is well takes to say
    /// them. Nothing is read meanwhile.
    pub fn has_undecided_offsets(&self) -> bool {
        self.is_undecided(Instant::now())
    }

    fn is_undecided(&self, now: Instant) -> bool {
        let since = self.figures().asking_since;
        since.is_some_and(|since| now.saturating_duration_since(since) > UNDECIDED_AFTER)
    }

    /// The thread that polls asks the broker about committed offsets.
    pub(crate) fn asking<T>(&self, question: impl FnOnce() -> T) -> T {
        self.figures().asking_since = Some(Instant::now());
        let answer = question();
        self.figures().asking_since = None;
        answer
    }

    fn absence(&self) -> MutexGuard<'_, Absence> {
        // Every change is a single assignment here, too.
        self.absence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many deliveries ended this way since the start.
    #[cfg(test)]
    pub(crate) fn deliveries(&self, end: DeliveryEnd) -> u64 {
        self.figures().counts.get(&end).copied().unwrap_or(0)
    }

    pub(crate) fn set_paused(&self, paused: bool) {
        self.figures().set_paused(paused);
    }

    /// Our partitions whose ends the reports do not follow: all of them while fetching is suspended,
    /// or while committed offsets are asked for, when nobody polls, and otherwise those of which they have
    /// said nothing new for a while.
    pub(crate) fn unfollowed(&self, now: Instant) -> Vec<Partition> {
        let current = self.tenures.current();
        let figures = self.figures();
        current
            .iter()
            .map(|tenure| &tenure.partition)
            .filter(|partition| figures.is_held_back() || figures.is_quiet(partition, now))
            .cloned()
            .collect()
    }

    /// Partitions were found to end here, as committed readers see it. Returns those that have records
    /// which have not been fetched for long.
    pub(crate) fn end_at(
        &self,
        ends: impl IntoIterator<Item = (Partition, i64)>,
        now: Instant,
    ) -> Vec<Partition> {
        let mut figures = self.figures();
        figures.end_at(ends.into_iter().collect(), now);
        figures.unfetched.long(now)
    }

    /// Our partitions of which an open transaction has withheld records for long, the longest first.
    pub(crate) fn withheld(&self) -> Vec<Withheld> {
        let current = self.tenures.current();
        let is_ours = |partition: &Partition| {
            let mut tenures = current.iter();
            tenures.any(|tenure| tenure.partition == *partition)
        };
        let figures = self.figures();
        let long = figures.withheld.hanging(WITHHELD_AFTER).into_iter();
        long.filter(|(partition, _)| is_ours(partition))
            .map(|(partition, standstill)| Withheld {
                partition: partition.clone(),
                offset: standstill.offset,
                lasted: standstill.lasted(),
            })
            .collect()
    }

    /// How many output partitions committed readers do not get to the end of.
    pub(crate) fn set_hanging(&self, partitions: usize) {
        self.figures().hanging = partitions;
    }

    pub(crate) fn delivered(&self, partition: &Partition, next_offset: i64) {
        self.figures()
            .delivered
            .insert(partition.clone(), next_offset);
    }

    /// A tenure begins at this committed offset.
    pub(crate) fn begins(&self, partition: &Partition, offset: i64) {
        self.figures().begins.insert(partition.clone(), offset);
    }

    /// The consumer has read past everything in a partition before `position`; the last record there lies
    /// before `stood_at`, which is not known where none was read.
    pub(crate) fn read_past(&self, partition: &Partition, position: i64, stood_at: Option<i64>) {
        let passed = Passed { position, stood_at };
        self.figures().passed.insert(partition.clone(), passed);
    }

    /// The consumer goes on elsewhere in a partition.
    pub(crate) fn seeks(&self, partition: &Partition) {
        self.figures().passed.remove(partition);
    }

    /// A partition is read from its beginning, since it does not hold what was wanted.
    fn reset(&self, reset: Reset) {
        let mut figures = self.figures();
        figures
            .missed
            .entry(reset.partition.clone())
            .or_default()
            .resets += 1;
        // Of several, the first one tells what was not read.
        let unsettled = &mut figures.unsettled;
        unsettled
            .entry(reset.partition.clone())
            .or_insert(reset.wanted);
        drop(figures);
        if let Some(begins) = reset.begins {
            self.settle_reset(&reset.partition, begins);
        }
    }

    /// Partitions that are read from their beginning, which is not known yet.
    pub(crate) fn unsettled(&self) -> Vec<Partition> {
        self.figures().unsettled.keys().cloned().collect()
    }

    /// A partition that is read from its beginning begins here.
    pub(crate) fn settle_reset(&self, partition: &Partition, begins: i64) {
        let mut figures = self.figures();
        let Some(wanted) = figures.unsettled.remove(partition) else {
            return;
        };
        if let Some(skipped) = resets::skipped(wanted, begins) {
            figures.missed.entry(partition.clone()).or_default().skipped += skipped;
        }
        drop(figures);
        resets::tell(partition, wanted, Some(begins));
    }

    /// Nobody will learn any more where these begin.
    pub(crate) fn tell_unsettled(&self) {
        let unsettled = mem::take(&mut self.figures().unsettled);
        for (partition, wanted) in &unsettled {
            resets::tell(partition, *wanted, None);
        }
    }

    /// Resets of a partition, and the offsets that were skipped by them.
    #[cfg(test)]
    pub(crate) fn missed(&self, partition: &Partition) -> (u64, u64) {
        let missed = self.figures().missed.get(partition).copied();
        missed.map_or((0, 0), |missed| (missed.resets, missed.skipped))
    }

    /// A new tenure starts from what is committed, whatever we delivered in an earlier one.
    pub(crate) fn forget(&self, partition: &Partition) {
        self.figures().forget(partition);
    }

    pub(crate) fn ended(&self, end: DeliveryEnd, took: Duration) {
        self.instruments.ended(end, took);
        *self.figures().counts.entry(end).or_default() += 1;
    }

    pub(crate) fn fenced(&self, whose: &'static str) {
        self.instruments.fenced(whose);
    }

    /// A producer was given up, since requests of it may still reach a broker.
    pub(crate) fn spent(&self) {
        self.instruments.spent();
    }

    /// A log was found cut or made anew.
    pub(crate) fn rewound(&self) {
        self.instruments.rewound();
    }

    /// A client that begins to report: the `consumer`, or a `producer`.
    pub(crate) fn client(self: &Arc<Self>, name: &'static str) -> ReportingClient {
        let mut figures = self.figures();
        figures.throttling.begin(name);
        ReportingClient {
            id: figures.connections.begin(),
            name,
            stats: Arc::clone(self),
        }
    }

    fn take(&self, client: &ReportingClient, report: Report) {
        if let Some(group) = &report.cgrp {
            let (state, join_state) = (&group.state, &group.join_state);
            let partitions = self.assigned();
            self.absence()
                .note(state, join_state, partitions, Instant::now());
        }
        let slowed = {
            let mut figures = self.figures();
            let named = report.brokers.values();
            let named = named.map(|broker| (broker.nodename.clone(), broker.throttle.sum));
            let slowed = figures.throttling.note(client.name, named, Instant::now());
            figures.take(client.id, report, Instant::now());
            slowed
        };
        if let Some(slowed) = slowed {
            tracing::warn!(
                client = client.name,
                broker = slowed.broker,
                broker_ms = slowed.by_it_ms,
                throttled_ms = slowed.ms,
                "a quota of the brokers slows this client; see \"Quotas\" in docs/operations.md"
            );
        }
    }
}

#[cfg(test)]
mod tests;
