//! What happens when the group gives or takes partitions.
//!
//! librdkafka calls us here on the thread that polls, in the middle of a poll. Nothing is fetched
//! while we are here, heartbeats go on. A revocation may therefore wait a bounded time for
//! finished results to be delivered; partitions that are lost already end at once. Whoever
//! delivers never needs the polling thread, so waiting for it here cannot stop both.
//!
//! A partition whose log was cut or made anew is taken and given again in the same way, only that
//! nobody in the group has asked for it: see [`crate::course`].

use std::{
    future::Future,
    pin::pin,
    slice,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use aligner_pipeline::{Partition, PartitionEpoch, SourceError, SourceEvent};
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    types::RDKafkaRespErr,
    util::Timeout,
};
use tokio::sync::oneshot;

use crate::{
    course::{Courses, Place, Step},
    handoff::Handoff,
    listener::Listener,
    listing::shown,
    start_position::{self, Beginning, Positions},
    stats::ClientStats,
    tenure::Tenures,
};

/// While waiting for a release, how soon a close is noticed.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How long librdkafka may take to begin elsewhere in a partition; no broker is asked.
const SEEK_TIMEOUT: Duration = Duration::from_secs(10);

/// The consumer's side of the group.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) listener: Listener,
    pub(crate) tenures: Arc<Tenures>,
    /// How far each tenure has come.
    pub(crate) courses: Mutex<Courses>,
    pub(crate) handoff: Arc<Handoff>,
    pub(crate) stats: Arc<ClientStats>,
    pub(crate) closing: Arc<AtomicBool>,
    pub(crate) revoke_timeout: Duration,
    /// Where partitions without a committed offset begin.
    pub(crate) beginning: Beginning,
    /// How long committed offsets are asked for.
    pub(crate) offsets_patience: Duration,
    /// Told about partitions that came to us, so that a vanished owner's transactions are ended.
    pub(crate) arrivals: Option<std::sync::mpsc::SyncSender<Vec<Partition>>>,
    /// Whether fetching is suspended, so that new partitions begin suspended too.
    pub(crate) suspended: AtomicBool,
    /// Counts calls, so that the polling thread knows when what it remembers is stale.
    pub(crate) changes: AtomicU64,
}

impl Membership {
    fn gain(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let tenures = self.tenures.begin(partitions(list));
        for tenure in &tenures {
            self.stats.forget(&tenure.partition);
        }
        if let Some(arrivals) = &self.arrivals {
            // An assignment of nothing still says that the group has changed. Full means that
            // many changes wait to be looked at; what is missed then times out by itself.
            let gained = tenures
                .iter()
                .map(|tenure| tenure.partition.clone())
                .collect();
            let _ = arrivals.try_send(gained);
        }
        let positions = if tenures.is_empty() {
            None
        } else {
            self.positions(consumer, list, &tenures)
        };
        if let Some(positions) = &positions {
            tracing::info!(
                partitions = %names(&tenures),
                begins_at = %positions.shown(),
                "partitions assigned"
            );
            self.set_out(&tenures, |partition| positions.of(partition));
            // The news first: records may follow as soon as librdkafka knows.
            self.handoff
                .put_news(SourceEvent::Assigned(tenures.clone()));
        }
        let assignment = positions.as_ref().map_or(list, |found| &found.assignment);
        let assigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(assignment),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(assignment),
        };
        match (assigned, positions) {
            (Ok(()), Some(positions)) => {
                self.stats.asking(|| {
                    positions.pin(consumer, self.offsets_patience, || self.gives_up(consumer));
                });
                let topics = tenures.iter().map(|tenure| &*tenure.partition.topic);
                self.beginning.begun(topics);
            }
            (Ok(()), None) => {}
            (Err(error), positions) => {
                tracing::error!(%error, "librdkafka did not take the assignment");
                if positions.is_some() {
                    self.refuse(consumer, &tenures, &error);
                }
            }
        }
        if self.suspended.load(Ordering::Relaxed)
            && let Err(error) = consumer.pause(list)
        {
            tracing::warn!(%error, "new partitions could not be suspended");
        }
    }

    /// Where these begin; where that cannot be learned, nothing of them is read.
    fn positions(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &TopicPartitionList,
        tenures: &[Arc<PartitionEpoch>],
    ) -> Option<Positions> {
        let gives_up = || self.gives_up(consumer);
        let patience = self.offsets_patience;
        let found = self
            .stats
            .asking(|| start_position::find(consumer, list, &self.beginning, patience, gives_up));
        match found {
            Ok(positions) => {
                positions.tell(&self.stats);
                Some(positions)
            }
            Err(cause) => {
                self.tenures.end(tenures);
                if !self.is_over(consumer) {
                    self.handoff.end(Some(SourceError {
                        message: format!(
                            "committed offsets of {} were not to be had: {cause}; if the brokers \
                             are well, a transaction that hangs keeps them undecided: see \
                             \"Undecided offsets\" in docs/operations.md",
                            names(tenures)
                        ),
                    }));
                }
                None
            }
        }
    }

    /// Ends tenures that were announced and of which librdkafka reads nothing: nobody else would
    /// get these partitions while we stay in the group.
    fn refuse(
        &self,
        consumer: &BaseConsumer<Self>,
        tenures: &[Arc<PartitionEpoch>],
        error: &KafkaError,
    ) {
        self.tenures.end(tenures);
        // A fatal error is told by the next poll, with its cause.
        if !self.is_over(consumer) && consumer.client().fatal_error().is_none() {
            self.handoff.end(Some(SourceError {
                message: format!(
                    "librdkafka did not take the assignment of {}: {error}; start again",
                    names(tenures)
                ),
            }));
        }
    }

    /// Whether nobody waits for an answer any more: nothing will be read.
    fn is_over(&self, consumer: &BaseConsumer<Self>) -> bool {
        self.closing.load(Ordering::Acquire)
            || self.handoff.is_stopped()
            || consumer.assignment_lost()
    }

    /// Asked after each question that has no answer. Nobody polls meanwhile, and no report comes that
    /// could tell whether the client has lost all brokers.
    fn gives_up(&self, consumer: &BaseConsumer<Self>) -> bool {
        self.listener.remind_anyway(consumer.client());
        self.is_over(consumer)
    }

    fn courses(&self) -> MutexGuard<'_, Courses> {
        // Every change is complete before anything can panic.
        self.courses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These tenures begin, at these offsets where they are known.
    fn set_out(
        &self,
        tenures: &[Arc<PartitionEpoch>],
        begins_at: impl Fn(&Partition) -> Option<i64>,
    ) {
        let current = self.tenures.current();
        let mut courses = self.courses();
        courses.keep(&current);
        for tenure in tenures {
            courses.begin(tenure, begins_at(&tenure.partition));
        }
    }

    /// Our partitions, each with the offset behind its last record, where that is known.
    pub(crate) fn standings(&self) -> Vec<(String, Option<i64>)> {
        let current = self.tenures.current();
        let courses = self.courses();
        current
            .iter()
            .map(|tenure| (tenure.partition.to_string(), courses.stood_at(tenure)))
            .collect()
    }

    /// Takes in how far the consumer has read, with what was noted of each record on the way.
    pub(crate) fn read_past(&self, positions: &TopicPartitionList) {
        let courses = self.courses();
        for element in positions.elements() {
            let Offset::Offset(position) = element.offset() else {
                continue; // Nothing has come since it began, or since reading went on elsewhere.
            };
            if let Some(tenure) = self.tenures.find(element.topic(), element.partition()) {
                let stood_at = courses.stood_at(&tenure);
                self.stats.read_past(&tenure.partition, position, stood_at);
            }
        }
    }

    /// What a record is to its tenure.
    pub(crate) fn note(&self, tenure: &PartitionEpoch, place: Place) -> Step {
        self.courses().note(tenure, place)
    }

    /// Ends a tenure whose log was cut or made anew, as if the group took the partition, and begins
    /// another: at `first`, the first record that came of what is there now, or before it where the
    /// group has come less far. The group is moved back there first, so that what was committed in the
    /// old log neither hides records from the next owner, nor settles a delivery that is in doubt.
    ///
    /// # Errors
    ///
    /// Where the new tenure cannot begin. Nothing is lost: what was not delivered is read by whoever is
    /// next.
    pub(crate) fn begin_again(
        &self,
        consumer: &BaseConsumer<Self>,
        tenure: &Arc<PartitionEpoch>,
        first: i64,
    ) -> Result<(), SourceError> {
        let partition = &tenure.partition;
        self.stats.rewound();
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.handoff.forget(slice::from_ref(tenure));
        self.hand_over(vec![Arc::clone(tenure)]);
        let tenures = self.tenures.begin([partition.clone()]);
        self.stats.forget(partition);
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.number);
        let Some(positions) = self.positions(consumer, &list, &tenures) else {
            return Ok(()); // The pipeline has been told.
        };
        let begins = positions.no_later_than(first, partition);
        let offset = match begins {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        if let Some(offset) = offset {
            self.stats.begins(partition, offset);
            let gives_up = || self.gives_up(consumer);
            let patience = self.offsets_patience;
            let moved = self.stats.asking(|| {
                start_position::move_group(consumer, partition, offset, patience, gives_up)
            });
            if let Err(cause) = moved {
                self.tenures.end(&tenures);
                if self.is_over(consumer) {
                    return Ok(());
                }
                return Err(SourceError {
                    message: format!(
                        "the log of {partition} was cut or made anew, and its committed offset \
                         could not be moved back to {offset}: {cause}; start again"
                    ),
                });
            }
        }
        self.set_out(&tenures, |_| offset);
        self.handoff.put_news(SourceEvent::Assigned(tenures));
        seek(consumer, partition, begins)
    }

    fn give_up(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        let gone: Vec<_> = partitions(list).collect();
        let tenures = self.tenures.of(&gone);
        self.handoff.forget(&tenures);
        if self.closing.load(Ordering::Acquire) {
            self.tenures.end(&tenures);
        } else if consumer.assignment_lost() {
            self.tenures.end(&tenures);
            tracing::warn!(
                partitions = %names(&tenures),
                "partitions lost: the group went on without us"
            );
            self.handoff.put_news(SourceEvent::Lost(tenures));
        } else if !tenures.is_empty() {
            self.hand_over(tenures);
        }
        // librdkafka keeps a suspension with the partition, whoever has it meanwhile: once it is back,
        // nobody would resume it.
        if self.suspended.load(Ordering::Relaxed)
            && let Err(error) = consumer.resume(list)
        {
            tracing::warn!(%error, "partitions that leave could not be resumed");
        }
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            tracing::error!(%error, "librdkafka did not give up the assignment");
        }
    }

    fn hand_over(&self, tenures: Vec<Arc<PartitionEpoch>>) {
        let (release, released) = oneshot::channel();
        let asked = Instant::now();
        let deadline = asked + self.revoke_timeout;
        self.handoff.put_news(SourceEvent::Revoking {
            partitions: tenures.clone(),
            deadline: tokio::time::Instant::from_std(deadline),
            release,
        });
        let in_time = wait_until(released, deadline, || self.closing.load(Ordering::Acquire));
        self.tenures.end(&tenures);
        tracing::info!(
            partitions = %names(&tenures),
            in_time,
            waited_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX),
            "partitions revoked"
        );
    }
}

/// Goes on reading a partition at an offset. What was fetched of it already does not come any more.
///
/// # Errors
///
/// Where librdkafka does not.
pub(crate) fn seek(
    consumer: &BaseConsumer<Membership>,
    partition: &Partition,
    offset: Offset,
) -> Result<(), SourceError> {
    consumer.context().stats.seeks(partition);
    consumer
        .seek(&partition.topic, partition.number, offset, SEEK_TIMEOUT)
        .map_err(|error| SourceError {
            message: format!(
                "librdkafka did not read {partition} again from {offset:?}: {error}; start again"
            ),
        })
}

/// Waits for the other side to send or drop, to the deadline at most.
fn wait_until<T>(
    released: oneshot::Receiver<T>,
    deadline: Instant,
    give_up: impl Fn() -> bool,
) -> bool {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut released = pin!(released);
    loop {
        if released.as_mut().poll(&mut context).is_ready() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || give_up() {
            return false;
        }
        thread::park_timeout(left.min(CLOSE_CHECK_INTERVAL));
    }
}

fn partitions(list: &TopicPartitionList) -> impl Iterator<Item = Partition> {
    list.elements().into_iter().map(|element| Partition {
        topic: element.topic().into(),
        number: element.partition(),
    })
}

fn names(tenures: &[Arc<PartitionEpoch>]) -> String {
    shown(tenures.iter().map(|tenure| &tenure.partition))
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.listener.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.listener.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.listener.error(error, reason);
    }
}

impl ConsumerContext for Membership {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.changes.fetch_add(1, Ordering::Relaxed);
        match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.gain(consumer, list),
            _ => self.give_up(consumer, list),
        }
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(200))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_ends_the_wait_at_once() {
        let (release, released) = oneshot::channel::<()>();
        let other = thread::spawn(move || drop(release));
        assert!(wait_until(
            released,
            Instant::now() + Duration::from_secs(60),
            || false
        ));
        other.join().expect("the other thread only drops");
    }

    #[test]
    fn the_wait_ends_at_its_deadline_or_when_closing() {
        let (_kept, released) = oneshot::channel::<()>();
        assert!(!wait_until(released, Instant::now(), || false));
        let (_kept, released) = oneshot::channel::<()>();
        assert!(!wait_until(
            released,
            Instant::now() + Duration::from_secs(60),
            || true
        ));
    }
}
