//! What the two clients know about themselves, for metrics and for probes.
//!
//! librdkafka reports once a second; only what is used is read from its report. Its own lag and its
//! committed offset are of no use here: the consumer does not know what a transaction committed, and
//! still says of a partition that comes back what it once committed there itself. The position is the
//! last offset that we delivered, or the committed one that our tenure began at. Where a partition ends,
//! a report repeats for as long as nothing is fetched, and [`crate::ends`] asks.

mod figures;
mod instruments;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use opentelemetry::metrics::Meter;

use self::{figures::Figures, instruments::Instruments};
use crate::{absence::Absence, connections::ClientId, report::Report, tenure::Tenures};

/// Brokers that are well say what is committed at once; a transaction that ends as it should is ended
/// by then, too.
const UNDECIDED_AFTER: Duration = Duration::from_secs(10);

/// How far behind one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition; it is ours now.
    pub partition: Partition,
    /// Offset of the next record to deliver; in a new group, of the first record there is.
    pub position: Option<i64>,
    /// End of what committed readers can see.
    pub end: i64,
}

impl PartitionLag {
    /// Offsets between position and end. Gaps that transactions leave count as well.
    pub fn lag(&self) -> Option<u64> {
        self.position
            .map(|position| u64::try_from(self.end - position).unwrap_or(0))
    }
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
    stats: Arc<ClientStats>,
}

impl ReportingClient {
    /// Takes in a report.
    pub(crate) fn take_report(&self, report: Report) {
        self.stats.take(self.id, report);
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
    /// or while committed offsets are asked for, when nobody polls.
    pub(crate) fn unfollowed(&self) -> Vec<Partition> {
        {
            let figures = self.figures();
            if figures.paused_since.is_none() && figures.asking_since.is_none() {
                return Vec::new();
            }
        }
        self.tenures
            .current()
            .iter()
            .map(|tenure| tenure.partition.clone())
            .collect()
    }

    /// Partitions were found to end here, as committed readers see it.
    pub(crate) fn end_at(&self, ends: impl IntoIterator<Item = (Partition, i64)>) {
        self.figures().ends.extend(ends);
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

    /// A log was found cut or made anew.
    pub(crate) fn rewound(&self) {
        self.instruments.rewound();
    }

    /// A client that begins to report.
    pub(crate) fn client(self: &Arc<Self>) -> ReportingClient {
        ReportingClient {
            id: self.figures().connections.begin(),
            stats: Arc::clone(self),
        }
    }

    fn take(&self, client: ClientId, report: Report) {
        if let Some(group) = &report.cgrp {
            let (state, join_state) = (&group.state, &group.join_state);
            let partitions = self.assigned();
            self.absence()
                .note(state, join_state, partitions, Instant::now());
        }
        self.figures().take(client, report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> (Arc<Tenures>, Arc<ClientStats>) {
        let tenures = Arc::new(Tenures::default());
        let meter = opentelemetry::global::meter("test");
        let absence = Absence::new(Duration::ZERO, true);
        let stats = ClientStats::new(Arc::clone(&tenures), absence, &meter);
        (tenures, stats)
    }

    fn partition(number: i32) -> Partition {
        Partition {
            topic: "answers".into(),
            number,
        }
    }

    const CONSUMER: &[u8] = br#"{
        "brokers": {
            "a:1/bootstrap": {"nodeid": -1, "nodename": "a:1", "source": "configured", "state": "UP", "stateage": 7, "req_timeouts": 9},
            "a:1/1": {"nodeid": 1, "nodename": "a:1", "source": "learned", "state": "UP", "stateage": 7, "req_timeouts": 2},
            "b:1/2": {"nodeid": 2, "nodename": "b:1", "source": "learned", "state": "DOWN", "stateage": 7, "req_timeouts": 0}
        },
        "topics": {"answers": {"topic": "answers", "partitions": {
            "0": {"partition": 0, "committed_offset": 20, "ls_offset": 100},
            "1": {"partition": 1, "committed_offset": -1001, "lo_offset": 5, "ls_offset": 50},
            "-1": {"partition": -1, "committed_offset": -1001, "ls_offset": -1001}
        }}},
        "cgrp": {"state": "up", "join_state": "steady", "rebalance_cnt": 3}
    }"#;

    fn read(json: &[u8]) -> Report {
        Report::read(json).expect("a whole report")
    }

    #[test]
    fn lag_counts_from_the_delivered_position_and_only_for_our_partitions() {
        let (tenures, stats) = stats();
        let consumer = stats.client();
        tenures.begin([partition(0), partition(1)]);
        stats.begins(&partition(0), 40);
        // What it says is committed is of an earlier time.
        consumer.take_report(read(CONSUMER));
        let lag = |stats: &ClientStats| -> Vec<_> {
            stats.lags().iter().map(PartitionLag::lag).collect()
        };
        assert_eq!(lag(&stats), [Some(60), Some(45)]);
        stats.delivered(&partition(0), 90);
        stats.delivered(&partition(1), 50);
        assert_eq!(lag(&stats), [Some(10), Some(0)]);
        tenures.end(&tenures.of(&[partition(0)]));
        assert_eq!(lag(&stats), [Some(0)]);
    }

    #[test]
    fn lag_grows_while_fetching_is_suspended_though_reports_repeat_an_old_end() {
        let (tenures, stats) = stats();
        let consumer = stats.client();
        tenures.begin([partition(0), partition(2)]);
        stats.begins(&partition(0), 40);
        stats.begins(&partition(2), 7);
        consumer.take_report(read(CONSUMER));
        assert_eq!(stats.unfollowed(), []);
        stats.set_paused(true);
        assert_eq!(stats.unfollowed().len(), 2);
        stats.end_at([(partition(0), 300), (partition(2), 9)]);
        let lag = |stats: &ClientStats| -> Vec<_> {
            stats.lags().iter().map(PartitionLag::lag).collect()
        };
        consumer.take_report(read(CONSUMER));
        assert_eq!(lag(&stats), [Some(260), Some(2)]);
        // Fetching goes on, and a report says something new, be it less.
        stats.set_paused(false);
        consumer.take_report(read(CONSUMER));
        assert_eq!(lag(&stats), [Some(260), Some(2)]);
        let text = std::str::from_utf8(CONSUMER).expect("JSON is text");
        let cut = text.replace("\"ls_offset\": 100", "\"ls_offset\": 90");
        consumer.take_report(read(cut.as_bytes()));
        assert_eq!(lag(&stats), [Some(50), Some(2)]);
    }

    #[test]
    fn a_consumer_without_a_coordinator_is_out_of_its_group_until_it_is_back() {
        let (_, stats) = stats();
        let consumer = stats.client();
        assert!(!stats.is_out_of_group());
        let text = std::str::from_utf8(CONSUMER).expect("JSON is text");
        let away = text.replace("\"up\", \"join_state\"", "\"wait-coord\", \"join_state\"");
        consumer.take_report(read(away.as_bytes()));
        assert!(stats.is_out_of_group());
        consumer.take_report(read(CONSUMER));
        assert!(!stats.is_out_of_group());
    }

    #[test]
    fn a_client_is_connected_to_brokers_of_a_report_until_it_is_gone() {
        let (_, stats) = stats();
        let consumer = stats.client();
        assert!(!stats.state().has_reported);
        consumer.take_report(read(CONSUMER));
        let state = stats.state();
        assert!(state.has_reported);
        assert_eq!((state.brokers_up, state.request_timeouts), (1, 2));
        assert_eq!(state.rebalances, 3);
        drop(consumer);
        let state = stats.state();
        assert_eq!((state.brokers_up, state.request_timeouts), (0, 2));
    }

    #[test]
    fn of_two_brokers_by_one_name_the_newer_counts() {
        let (_, stats) = stats();
        let consumer = stats.client();
        let broker = |state: &str| {
            format!(
                r#""a:9092/1": {{"nodeid": 1, "nodename": "a:9092", "source": "learned", "state": "{state}", "stateage": 7, "req_timeouts": 0}}"#
            )
        };
        let (newer, dropped) = (broker("UP"), broker("INIT"));
        consumer.take_report(read(
            format!(r#"{{"brokers": {{{newer}, {dropped}}}}}"#).as_bytes(),
        ));
        assert_eq!(stats.state().brokers_up, 1);
    }

    #[test]
    fn nobody_follows_the_ends_while_committed_offsets_are_asked_for() {
        let (tenures, stats) = stats();
        tenures.begin([partition(0)]);
        stats.asking(|| {
            assert_eq!(stats.unfollowed(), [partition(0)]);
            let now = Instant::now();
            assert!(!stats.is_undecided(now), "it has only just begun");
            assert!(stats.is_undecided(now + UNDECIDED_AFTER + Duration::from_secs(1)));
        });
        assert_eq!(stats.unfollowed(), []);
        assert!(!stats.is_undecided(Instant::now() + 2 * UNDECIDED_AFTER));
    }

    #[test]
    fn deliveries_are_counted_by_their_end() {
        let (_, stats) = stats();
        stats.ended(DeliveryEnd::Committed, Duration::from_millis(5));
        stats.ended(DeliveryEnd::Aborted, Duration::from_millis(5));
        stats.ended(DeliveryEnd::Committed, Duration::from_millis(5));
        assert_eq!(stats.deliveries(DeliveryEnd::Committed), 2);
        assert_eq!(stats.deliveries(DeliveryEnd::Ambiguous), 0);
    }
}
