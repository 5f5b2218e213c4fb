//! The thread that answers for every delivery: it never hangs with a call, and it decides what a
//! failed one means.
//!
//! Results are kept by the caller across an abort, so that trying again costs no inference. Only
//! an unanswered commit is settled here before anything else is tried, because the outputs may
//! be there already.

mod refusals;
mod settling;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aligner_pipeline::{Delivery, DeliveryError, PartitionEpoch, SourceError};
use rdkafka::{consumer::Consumer, metadata::MetadataTopic};
use tokio::sync::{mpsc, oneshot};

use self::{refusals::MissingTopic, settling::Settled};
use crate::{
    batching::{Batches, RefusedBatch},
    handoff::Handoff,
    outlet::OutletParts,
    producer_thread::{NoProducer, ProducerThread},
    recovery::Fencings,
    repeats::RepeatFilter,
    stats::DeliveryEnd,
    transaction::{End, EndedAgain, Failure},
    unended::Unended,
};

/// Between attempts to get a producer or an answer while brokers are away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long one claim of the transactional id may take.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one look at a topic's leaders may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// Where brokers keep what groups commit. Users who may not see it see no partitions.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Attempts within one call, for failures that are repaired on our side.
const ATTEMPTS_PER_CALL: u32 = 4;

/// How soon a wait for news from the group notices them.
const NEWS_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// A producer that only aborts is replaced after so many.
const ABORTS_PER_PRODUCER: u32 = 3;

/// Result of a delivery: the tenures that had ended.
pub(crate) type Delivered = Result<Vec<Arc<PartitionEpoch>>, DeliveryError>;

/// A call to the thread.
pub(crate) struct Call {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) answer: oneshot::Sender<Delivered>,
}

/// The thread's state.
pub(crate) struct DeliveryThread {
    parts: OutletParts,
    timeout: Duration,
    closing: Arc<AtomicBool>,
    producer: Option<ProducerThread>,
    batches: Batches,
    /// Transactions aborted one after the other, with the present producer.
    aborts: u32,
    missing: MissingTopic,
    fencings: Fencings,
    unended: Unended,
    repeats: RepeatFilter,
    /// Why delivery cannot go on, found between two calls.
    stopped: Option<String>,
    /// For that to be heard before the next call.
    handoff: Arc<Handoff>,
    /// How long the group takes to tell that another process has our instance id; `None` without
    /// one.
    news_of_a_duplicate: Option<Duration>,
}

impl DeliveryThread {
    /// Claims the transactional id. Done before the group is joined, so that no offset is read
    /// that an open transaction of a predecessor could still change.
    pub(crate) fn open(
        parts: OutletParts,
        timeout: Duration,
        news_of_a_duplicate: Option<Duration>,
        handoff: Arc<Handoff>,
        closing: Arc<AtomicBool>,
    ) -> Self {
        let identity = parts.connection.identity.clone();
        let fencings = Fencings::new(identity, news_of_a_duplicate.is_some());
        Self {
            parts,
            timeout,
            closing,
            producer: None,
            batches: Batches::default(),
            aborts: 0,
            missing: MissingTopic::default(),
            fencings,
            unended: Unended::default(),
            repeats: RepeatFilter::default(),
            stopped: None,
            handoff,
            news_of_a_duplicate,
        }
    }

    /// Answers calls until there can be no more.
    pub(crate) fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = self.next(&mut calls) {
            let delivered = self.deliver(call.deliveries);
            if let Err(error @ DeliveryError::Stopped(_)) = &delivered {
                tracing::error!(%error, "delivery cannot go on");
            }
            // The caller may have given up waiting; committed offsets tell the next one.
            let _ = call.answer.send(delivered);
        }
    }

    /// The next call. Until there is one, what a failed delivery left open is ended again: no
    /// partition can begin while its offsets are undecided.
    fn next(&mut self, calls: &mut mpsc::Receiver<Call>) -> Option<Call> {
        while !self.unended.is_empty() && !self.closing.load(Ordering::Acquire) {
            match calls.try_recv() {
                Ok(call) => return Some(call),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {}
            }
            let ended = match self.prepare() {
                Ok(()) => self.end_again(),
                // No attempt: brokers that are away are waited for, and nothing is given up.
                Err(NoProducer::Passing { cause, .. }) => Err(DeliveryError::Aborted(cause)),
                Err(NoProducer::Lasting(cause)) => Err(DeliveryError::Stopped(cause)),
            };
            let Err(error) = ended else { continue };
            if let Some(unsaid) = self.repeats.admit("not ended again", Instant::now()) {
                tracing::warn!(%error, unsaid, "what a failed delivery left open is not ended yet");
            }
            if let DeliveryError::Stopped(cause) = error {
                tracing::error!(cause, "delivery cannot go on");
                self.handoff.end(Some(SourceError {
                    message: format!("nothing can be delivered any more: {cause}"),
                }));
                self.stopped = Some(cause);
                break;
            }
            thread::sleep(RETRY_PAUSE);
        }
        calls.blocking_recv()
    }

    /// Gets a producer if there is none, one attempt only.
    pub(crate) fn prepare(&mut self) -> Result<(), NoProducer> {
        if self.producer.is_none() {
            let batching = self.batches.batching();
            let started = ProducerThread::start(self.parts.clone(), batching, CLAIM_TIMEOUT);
            let claimed_once = started.as_ref().is_ok_and(ProducerThread::has_claimed_once);
            if self.parts.transactional && !claimed_once {
                self.fencings.expect_own(Instant::now());
            }
            self.producer = Some(started?);
            self.aborts = 0;
        }
        Ok(())
    }

    /// Gives up a producer of whose requests something may still reach a broker: the next delivery gets
    /// another one.
    fn retire_if_spent(&mut self) {
        if !self.producer.as_ref().is_some_and(ProducerThread::is_spent) {
            return;
        }
        self.producer = None;
        self.parts.stats.spent();
        if let Some(unsaid) = self.repeats.admit("spent", Instant::now()) {
            tracing::warn!(
                unsaid,
                "brokers were slow, and may get requests of this delivery still: the next one has a new \
                 producer"
            );
        }
    }

    fn deliver(&mut self, deliveries: Vec<Delivery>) -> Delivered {
        if let Some(cause) = self.stopped.take() {
            return Err(DeliveryError::Stopped(cause));
        }
        let deliveries = Arc::new(deliveries);
        let mut cause = String::new();
        for _ in 0..ATTEMPTS_PER_CALL {
            let (live, ended) = self.split(&deliveries);
            if live.is_empty() {
                return Ok(ended);
            }
            // Nearly always all of them, and each holds thousands of outputs.
            let chosen = if live.len() == deliveries.len() {
                Arc::clone(&deliveries)
            } else {
                let live = live.iter().map(|index| deliveries[*index].clone());
                Arc::new(live.collect())
            };
            self.have_producer()?;
            self.end_again()?;
            // Not before: what was left open was perhaps taken one by one alone, and is written like
            // that again.
            self.turn_to_next();
            self.have_producer()?;
            let started = Instant::now();
            let end = self.producer().deliver(Arc::clone(&chosen), self.timeout);
            let took = started.elapsed();
            self.retire_if_spent();
            self.count(&end, took);
            match end {
                End::Committed => {
                    tracing::debug!(
                        partitions = chosen.len(),
                        outputs = chosen.iter().map(|one| one.outputs.len()).sum::<usize>(),
                        took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                        "delivered"
                    );
                    self.after_success(&chosen);
                    return Ok(ended);
                }
                End::Failed(failure) => {
                    cause = self.failed(failure, &chosen, &live, &deliveries, took)?;
                }
                End::Ambiguous { cause, fenced } => {
                    tracing::warn!(%cause, fenced, "commit not answered, asking for offsets");
                    let began = SystemTime::now().checked_sub(took).unwrap_or(UNIX_EPOCH);
                    self.producer = None;
                    self.judge_fencing(fenced, took)?;
                    return match self.settle(&chosen, began)? {
                        Settled::Delivered => {
                            self.after_success(&chosen);
                            Ok(ended)
                        }
                        Settled::NotOurs => {
                            self.unended.remember_in_doubt(&chosen, began);
                            Ok(self.split(&deliveries).1)
                        }
                        Settled::NotDelivered => {
                            self.left_open(&chosen);
                            Err(DeliveryError::Aborted(cause))
                        }
                    };
                }
            }
        }
        Err(DeliveryError::Aborted(cause))
    }

    /// What follows from a failure that leaves nothing delivered: an error for the caller, or why the
    /// same results are to be tried again at once. Of `deliveries`, `live` were `chosen`.
    fn failed(
        &mut self,
        failure: Failure,
        chosen: &Arc<Vec<Delivery>>,
        live: &[usize],
        deliveries: &[Delivery],
        took: Duration,
    ) -> Result<String, DeliveryError> {
        match self.missing.judge(failure, Instant::now()) {
            Failure::Aborted(cause) | Failure::Missing { cause, .. } => {
                tracing::info!(%cause, "delivery aborted, results are kept");
                if self.parts.transactional && self.may_lack_markers(chosen) {
                    self.left_open(chosen);
                }
                self.aborted();
                // Partitions that left meanwhile explain it, and the rest can go at once.
                if self.split(deliveries).0.len() == live.len() {
                    return Err(DeliveryError::Aborted(cause));
                }
                Ok(cause)
            }
            Failure::Refused {
                delivery,
                output,
                cause,
            } => {
                self.batches.refused_alone();
                // What was refused is missing from the numbers that librdkafka gives to the
                // messages of a partition, and it finds that out in the next transaction.
                self.producer = None;
                Err(DeliveryError::Refused {
                    delivery: live[delivery],
                    output,
                    cause,
                })
            }
            Failure::RefusedTogether(batch) => {
                self.producer = None;
                self.refused_together(batch, chosen)
            }
            Failure::Broken { cause, fenced } => {
                tracing::warn!(%cause, fenced, "producer given up, nothing delivered");
                self.producer = None;
                self.left_open(chosen);
                self.judge_fencing(fenced, took)?;
                Err(DeliveryError::Aborted(cause))
            }
            Failure::Stopped(cause) => Err(DeliveryError::Stopped(cause)),
        }
    }

    fn producer(&self) -> &ProducerThread {
        self.producer
            .as_ref()
            .expect("prepare() leaves a producer or an error")
    }

    fn left_open(&mut self, deliveries: &Arc<Vec<Delivery>>) {
        if self.parts.transactional {
            self.unended.remember(deliveries);
        }
    }

    /// Whether a broker may leave the end of a transaction out of a partition, although another one says
    /// that it has ended: where a single replica is in sync, the partition may be without a leader for a
    /// while, at any time until the marker is there. So it may where nobody tells.
    fn may_lack_markers(&self, deliveries: &[Delivery]) -> bool {
        let Some(consumer) = self.parts.consumer.get() else {
            return true;
        };
        let outputs = deliveries.iter().flat_map(|delivery| &delivery.outputs);
        let mut topics: BTreeSet<_> = outputs
            .map(|output| self.parts.topic(output.kind))
            .collect();
        topics.insert(OFFSETS_TOPIC);
        topics.into_iter().any(|topic| {
            let Ok(metadata) = consumer.fetch_metadata(Some(topic), LOOK_TIMEOUT) else {
                return true;
            };
            let mut partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
            partitions.any(|partition| partition.leader() < 0 || partition.isr().len() < 2)
        })
    }

    /// Before anything is committed: see [`crate::unended`].
    fn end_again(&mut self) -> Result<(), DeliveryError> {
        self.end_doubt()?;
        let Some(deliveries) = self.unended.next() else {
            return Ok(());
        };
        self.have_producer()?;
        let started = Instant::now();
        let ended = self.producer().end_again(deliveries, self.timeout);
        self.retire_if_spent();
        let failure = match ended {
            EndedAgain::Done => {
                let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(took_ms, "ended again what a failed delivery had left open");
                self.unended.has_ended();
                return self.end_again();
            }
            // The group may be without us for long, and what was left open stays open.
            EndedAgain::NotTried(cause) => return Err(DeliveryError::Aborted(cause)),
            EndedAgain::Waits(failure) => {
                self.unended.was_not_taken();
                failure
            }
            EndedAgain::Failed(failure) => {
                self.unended.failed();
                failure
            }
        };
        Err(match self.missing.judge(failure, Instant::now()) {
            // Aborted, or a producer that is finished: what was left open stays to be ended.
            Failure::Stopped(cause) => DeliveryError::Stopped(cause),
            Failure::Aborted(cause) | Failure::Missing { cause, .. } => {
                self.aborted();
                DeliveryError::Aborted(cause)
            }
            Failure::Refused { cause, .. }
            | Failure::RefusedTogether(RefusedBatch { cause, .. }) => {
                // It was not taken the first time either, and never will be; its gap would stall the
                // next transaction of this producer. What was beside it has been written and aborted.
                tracing::debug!(%cause, "an output of a failed delivery is refused");
                self.unended.has_ended();
                self.producer = None;
                DeliveryError::Aborted(cause)
            }
            Failure::Broken { cause, fenced } => {
                self.producer = None;
                self.judge_fencing(fenced, started.elapsed())?;
                DeliveryError::Aborted(cause)
            }
        })
    }

    /// Indexes of deliveries whose tenure goes on, and the tenures of the others.
    fn split(&self, deliveries: &[Delivery]) -> (Vec<usize>, Vec<Arc<PartitionEpoch>>) {
        let mut live = Vec::with_capacity(deliveries.len());
        let mut ended = Vec::new();
        for (index, delivery) in deliveries.iter().enumerate() {
            if self.parts.tenures.is_current(&delivery.partition) {
                live.push(index);
            } else {
                ended.push(Arc::clone(&delivery.partition));
            }
        }
        (live, ended)
    }

    fn count(&self, end: &End, took: Duration) {
        let end = match end {
            End::Committed => DeliveryEnd::Committed,
            End::Ambiguous { .. } => DeliveryEnd::Ambiguous,
            End::Failed(Failure::Refused { .. }) => DeliveryEnd::Refused,
            // What is sent again in another form is not refused.
            End::Failed(
                Failure::Aborted(_)
                | Failure::Missing { .. }
                | Failure::RefusedTogether(_)
                | Failure::Broken { .. }
                | Failure::Stopped(_),
            ) => DeliveryEnd::Aborted,
        };
        self.parts.stats.ended(end, took);
    }

    fn aborted(&mut self) {
        self.aborts += 1;
        if self.aborts >= ABORTS_PER_PRODUCER {
            tracing::warn!("one abort followed another, a new producer takes over");
            self.producer = None;
        }
    }

    fn after_success(&mut self, delivered: &[Delivery]) {
        self.aborts = 0;
        self.missing = MissingTopic::default();
        let (live, _) = self.split(delivered);
        for delivery in live.into_iter().map(|index| &delivered[index]) {
            self.parts
                .stats
                .delivered(&delivery.partition.partition, delivery.next_offset);
        }
        self.took(delivered);
    }

    /// Gets a producer for a delivery if there is none, one attempt only.
    fn have_producer(&mut self) -> Result<(), DeliveryError> {
        match self.prepare() {
            Ok(()) => Ok(()),
            Err(NoProducer::Lasting(cause)) => Err(DeliveryError::Stopped(cause)),
            Err(NoProducer::Passing { cause, fenced }) => {
                tracing::warn!(%cause, fenced, "no producer yet");
                self.judge_fencing(fenced, Duration::ZERO)?;
                Err(DeliveryError::Aborted(cause))
            }
        }
    }

    /// A transaction as old as its timeout was fenced by the broker, not by another process.
    fn judge_fencing(&mut self, fenced: bool, age: Duration) -> Result<(), DeliveryError> {
        if !fenced || age >= self.timeout.mul_f32(0.9) {
            return Ok(());
        }
        self.parts.stats.fenced("own");
        match self.fencings.note(Instant::now()) {
            Some(cause) => Err(DeliveryError::Stopped(cause)),
            None => {
                self.wait_for_news_of_a_duplicate();
                Ok(())
            }
        }
    }

    /// Of two processes with one instance id, the newer stays: the group tells the older one with
    /// its next heartbeat that its place is taken. Claiming the transactional id back before that
    /// would fence the newer one, and both would end as duplicates.
    fn wait_for_news_of_a_duplicate(&self) {
        let Some(wait) = self.news_of_a_duplicate else {
            return;
        };
        let deadline = Instant::now() + wait;
        while Instant::now() < deadline
            && !self.closing.load(Ordering::Acquire)
            && !self.parts.tenures.current().is_empty()
        {
            thread::sleep(NEWS_CHECK_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Mutex, atomic::AtomicU64},
    };

    use super::*;
    use crate::{
        Connection, DeliveryGuarantee, MockBroker, StartFrom, absence::Absence,
        client_errors_tests, consumer_thread::ConsumerThread, listener::Listener,
        membership::Membership, properties, start_position::Beginning, stats::ClientStats,
        tenure::Tenures,
    };

    /// Parts whose producer works, and whose consumer has no place in its group.
    fn out_of_the_group(connection: &Connection) -> OutletParts {
        let tenures = Arc::new(Tenures::default());
        let meter = opentelemetry::global::meter("test");
        let absence = Absence::new(Duration::ZERO, true);
        let stats = ClientStats::new(Arc::clone(&tenures), absence, &meter);
        let config = properties::consumer(connection);
        let membership = Membership {
            listener: Listener::new("consumer", None, &config),
            tenures: Arc::clone(&tenures),
            courses: Mutex::default(),
            handoff: Arc::new(Handoff::new(1 << 20)),
            stats: Arc::clone(&stats),
            closing: Arc::default(),
            revoke_timeout: Duration::ZERO,
            beginning: Beginning::new(StartFrom::Earliest, BTreeMap::new()),
            offsets_patience: Duration::ZERO,
            arrivals: None,
            suspended: AtomicBool::new(false),
            changes: AtomicU64::new(0),
        };
        let (_, consumer) = ConsumerThread::create(config, membership, connection)
            .expect("these properties are usable");
        OutletParts {
            config: properties::producer(connection),
            transactional: true,
            connection: connection.clone(),
            consumer,
            tenures,
            stats,
        }
    }

    #[test]
    fn what_was_left_open_is_not_given_up_while_there_is_no_place_in_the_group() {
        let broker = MockBroker::start(&client_errors_tests::TOPICS).expect("the mock starts");
        let delivery = DeliveryGuarantee::ExactlyOnce;
        let connection = client_errors_tests::connection(&broker, delivery, None);
        let parts = out_of_the_group(&connection);
        let timeout = connection.transaction_timeout();
        let handoff = Arc::new(Handoff::new(1 << 20));
        let mut thread = DeliveryThread::open(parts, timeout, None, handoff, Arc::default());
        thread.prepare().expect("the mock gives the id");
        thread.unended.remember(&Arc::new(Vec::new()));
        // More often than outputs are written in vain.
        for _ in 0..200 {
            match thread.end_again() {
                Err(DeliveryError::Aborted(cause)) => assert!(cause.contains("group"), "{cause}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(!thread.unended.is_empty());
    }
}
