//! What the pipeline is doing, for whoever asks: probes, metrics, a live view, tests.
//!
//! The pipeline writes atomics, a few times per batch; reading never waits for it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU8, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use aligner_records::Disposition;
use tokio::time::Instant;

/// Where a pipeline is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not running yet.
    Starting,
    /// Running.
    Running,
    /// Finishing what it has, taking nothing new.
    Draining,
    /// Over.
    Stopped,
}

/// How many records ended with one disposition and reason, and are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The disposition.
    pub disposition: Disposition,
    /// The reason beside it.
    pub reason: Option<&'static str>,
    /// Records.
    pub records: u64,
}

/// A look at a pipeline. Counts are from its start.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where it is in its life.
    pub state: State,
    /// Partitions that are ours.
    pub partitions: u64,
    /// Records read.
    pub received: u64,
    /// Records delivered, by disposition and reason.
    pub outcomes: Vec<Outcome>,
    /// Records that have no result yet.
    pub unfinished: u64,
    /// Records that have a result and wait for delivery.
    pub undelivered: u64,
    /// Tokens of unfinished records, as the Aligner estimates them.
    pub tokens_in_flight: u64,
    /// Bytes of undelivered records and their outputs.
    pub bytes_in_flight: u64,
    /// Calls of the Aligner.
    pub batches: u64,
    /// Calls of the Aligner that go on.
    pub batches_in_flight: u64,
    /// Records that were asked for again.
    pub retries: u64,
    /// Deliveries that succeeded.
    pub deliveries: u64,
    /// Deliveries that were aborted, to be tried again.
    pub aborted: u64,
    /// Deliveries of which an output was refused.
    pub refused: u64,
    /// Time for which the source was paused.
    pub paused: Duration,
    /// Whether the source is paused now.
    pub is_paused: bool,
    /// Whether decoding waits for something outside, such as the schema registry.
    pub decoder_waits: bool,
    /// Age of the oldest record that is not delivered.
    pub oldest: Option<Duration>,
    /// Time since the last result or delivery while there is work; zero when there is none.
    pub idle_with_work: Duration,
    /// For how long deliveries have failed, and none has succeeded; zero where nothing waits for one.
    pub failing: Duration,
    /// For how long the Aligner has been unavailable and answered nothing, while records wait for it; zero where
    /// it does, or nothing does.
    pub aligner_unavailable: Duration,
    /// Time since the Aligner last answered a request or said that it cannot, while it has some;
    /// zero when it has none.
    pub aligner_silent: Duration,
    /// Time since the coordinator last turned. It turns once a second at least.
    pub since_heartbeat: Duration,
}

impl Snapshot {
    /// Records delivered.
    pub fn delivered(&self) -> u64 {
        self.outcomes.iter().map(|outcome| outcome.records).sum()
    }

    /// Records delivered with a disposition, whatever the reason.
    pub fn with(&self, disposition: Disposition) -> u64 {
        self.outcomes
            .iter()
            .filter(|outcome| outcome.disposition == disposition)
            .map(|outcome| outcome.records)
            .sum()
    }
}

/// A handle to what a pipeline is doing. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Board>);

#[derive(Debug)]
struct Board {
    base: Instant,
    state: AtomicU8,
    outcomes: Mutex<HashMap<(Disposition, Option<&'static str>), u64>>,
    gauges: [AtomicU64; Gauge::COUNT],
    /// Most milliseconds of pauses that were told of: it is a sum, which never falls, and a pause that ends
    /// just now is in neither part of it for a moment.
    paused_ms_told: AtomicU64,
}

/// The numbers of a board.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gauge {
    Partitions,
    Received,
    Unfinished,
    Undelivered,
    Tokens,
    Bytes,
    Batches,
    BatchesInFlight,
    Retries,
    Deliveries,
    Aborted,
    Refused,
    PausedMs,
    /// Since when the source is paused: milliseconds from the base, plus one; 0 is not.
    PausedSince,
    DecoderWaits,
    /// Since when the oldest record waits, in the same way.
    OldestSince,
    /// Since when deliveries fail, in the same way.
    FailingSince,
    /// Since when the Aligner is unavailable, in the same way.
    UnavailableSince,
    /// Last result or delivery, or beginning of work.
    ProgressAt,
    /// Last word of the Aligner, or when it was given work after it had none.
    AlignerSpokeAt,
    HeartbeatAt,
}

impl Gauge {
    const COUNT: usize = Self::HeartbeatAt as usize + 1;
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Board {
            base: Instant::now(),
            state: AtomicU8::new(State::Starting as u8),
            outcomes: Mutex::default(),
            gauges: std::array::from_fn(|_| AtomicU64::new(0)),
            paused_ms_told: AtomicU64::new(0),
        }))
    }
}

impl Progress {
    /// What the pipeline is doing now.
    pub fn snapshot(&self) -> Snapshot {
        let get = |gauge| self.get(gauge);
        let now = self.moment(Instant::now());
        let since = |moment: u64| Duration::from_millis(now.saturating_sub(moment));
        let outcomes = self
            .0
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|((disposition, reason), records)| Outcome {
                disposition: *disposition,
                reason: *reason,
                records: *records,
            })
            .collect();
        let has_work = get(Gauge::Unfinished) + get(Gauge::Undelivered) > 0;
        // Before the moment at which one began: a pause that ends between the two is missed rather than
        // counted twice.
        let paused_ms = self.0.gauges[Gauge::PausedMs as usize].load(Acquire);
        let paused_since = get(Gauge::PausedSince);
        let lasting = |moment| match moment {
            0 => Duration::ZERO,
            moment => since(moment),
        };
        Snapshot {
            state: self.state(),
            partitions: get(Gauge::Partitions),
            received: get(Gauge::Received),
            outcomes,
            unfinished: get(Gauge::Unfinished),
            undelivered: get(Gauge::Undelivered),
            tokens_in_flight: get(Gauge::Tokens),
            bytes_in_flight: get(Gauge::Bytes),
            batches: get(Gauge::Batches),
            batches_in_flight: get(Gauge::BatchesInFlight),
            retries: get(Gauge::Retries),
            deliveries: get(Gauge::Deliveries),
            aborted: get(Gauge::Aborted),
            refused: get(Gauge::Refused),
            paused: self.paused(paused_ms, lasting(paused_since)),
            is_paused: paused_since != 0,
            decoder_waits: get(Gauge::DecoderWaits) != 0,
            oldest: match get(Gauge::OldestSince) {
                0 => None,
                moment => Some(since(moment)),
            },
            idle_with_work: if has_work {
                since(get(Gauge::ProgressAt))
            } else {
                Duration::ZERO
            },
            failing: lasting(get(Gauge::FailingSince)),
            aligner_unavailable: lasting(get(Gauge::UnavailableSince)),
            aligner_silent: if get(Gauge::BatchesInFlight) > 0 {
                since(get(Gauge::AlignerSpokeAt))
            } else {
                Duration::ZERO
            },
            since_heartbeat: since(get(Gauge::HeartbeatAt)),
        }
    }

    /// Time of all pauses, with the one that lasts.
    fn paused(&self, over_ms: u64, lasting: Duration) -> Duration {
        let lasting = u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX);
        let found = over_ms.saturating_add(lasting);
        let told = self.0.paused_ms_told.fetch_max(found, Relaxed);
        Duration::from_millis(found.max(told))
    }

    /// Where the pipeline is in its life.
    pub fn state(&self) -> State {
        match self.0.state.load(Relaxed) {
            0 => State::Starting,
            1 => State::Running,
            2 => State::Draining,
            _ => State::Stopped,
        }
    }

    pub(crate) fn enter(&self, state: State) {
        self.0.state.store(state as u8, Relaxed);
    }

    pub(crate) fn get(&self, gauge: Gauge) -> u64 {
        self.0.gauges[gauge as usize].load(Relaxed)
    }

    pub(crate) fn set(&self, gauge: Gauge, value: u64) {
        self.0.gauges[gauge as usize].store(value, Relaxed);
    }

    pub(crate) fn add(&self, gauge: Gauge, value: u64) {
        self.0.gauges[gauge as usize].fetch_add(value, Release);
    }

    /// Notes an instant; never 0.
    pub(crate) fn set_moment(&self, gauge: Gauge, at: Instant) {
        self.set(gauge, self.moment(at));
    }

    pub(crate) fn count(
        &self,
        outcomes: impl IntoIterator<Item = ((Disposition, Option<&'static str>), u64)>,
    ) {
        let mut counts = self
            .0
            .outcomes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (outcome, records) in outcomes {
            *counts.entry(outcome).or_default() += records;
        }
    }

    fn moment(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0.base).as_millis()).unwrap_or(u64::MAX - 1)
            + 1
    }
}
