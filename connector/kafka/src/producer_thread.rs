//! A thread that makes the calls of one producer, and can be left behind.
//!
//! `send_offsets` waits for a silent coordinator long past the timeout it is given. Such a call
//! cannot be interrupted, so the thread is abandoned with its producer: from then on it cannot
//! begin to commit a transaction, a new producer with the same transactional id fences it, and it
//! ends by itself when the call returns. Without transactions it may still commit the offsets of
//! what it wrote, which harms nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use aligner_pipeline::Delivery;

use crate::{
    batching::Batching,
    native::TransactionError,
    outlet::{COORDINATOR_TIMEOUT, Outlet, OutletParts, Work},
    recovery::Phase,
    transaction::{End, EndedAgain, Failure, is_fenced, stopping_cause},
};

/// How long past its transaction's timeout a call may take before it counts as stuck.
const GRACE: Duration = Duration::from_millis(500);

/// Why there is no producer.
#[derive(Debug, Clone)]
pub(crate) enum NoProducer {
    /// Worth another try.
    Passing { cause: String, fenced: bool },
    /// A person must change something.
    Lasting(String),
}

/// What the thread is asked to do, and where it says how that ended.
enum Job {
    Deliver {
        work: Work,
        reply: mpsc::SyncSender<End>,
    },
    /// A transaction that never ended properly.
    EndAgain {
        work: Work,
        reply: mpsc::SyncSender<EndedAgain>,
    },
}

/// The handle of the thread.
pub(crate) struct ProducerThread {
    jobs: mpsc::SyncSender<Job>,
    phase: Arc<Phase>,
    spent: Arc<AtomicBool>,
    claimed_once: bool,
}

impl ProducerThread {
    /// Starts the thread and waits until its producer holds the transactional id.
    pub(crate) fn start(
        parts: OutletParts,
        batching: Batching,
        claim_timeout: Duration,
    ) -> Result<Self, NoProducer> {
        let (jobs, todo) = mpsc::sync_channel::<Job>(1);
        let (ready, claimed) = mpsc::sync_channel(1);
        let phase = Arc::new(Phase::new());
        let its_phase = Arc::clone(&phase);
        let spent = Arc::new(AtomicBool::new(false));
        let may_be_spent = Arc::clone(&spent);
        thread::Builder::new()
            .name("kafka-produce".to_owned())
            .spawn(move || {
                let (outlet, is_sure) = match claim(parts, batching, may_be_spent, claim_timeout) {
                    Ok(claimed) => claimed,
                    Err(error) => {
                        // Nobody listens any more if the claim took too long.
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                if ready.send(Ok(is_sure)).is_err() {
                    return;
                }
                while let Ok(job) = todo.recv() {
                    if !its_phase.begin() {
                        return;
                    }
                    let waited_for = match job {
                        Job::Deliver { work, reply } => {
                            reply.send(outlet.deliver(&work, &its_phase)).is_ok()
                        }
                        Job::EndAgain { work, reply } => {
                            reply.send(outlet.end_again(&work, &its_phase)).is_ok()
                        }
                    };
                    if !waited_for {
                        return;
                    }
                }
            })
            .map_err(|error| NoProducer::Lasting(format!("no thread could be started: {error}")))?;
        match claimed.recv_timeout(claim_timeout + COORDINATOR_TIMEOUT + GRACE) {
            Ok(Ok(claimed_once)) => Ok(Self {
                jobs,
                phase,
                spent,
                claimed_once,
            }),
            Ok(Err(error)) => Err(error),
            Err(RecvTimeoutError::Timeout) => Err(NoProducer::Passing {
                cause: "the transaction coordinator does not answer".to_owned(),
                fenced: false,
            }),
            Err(RecvTimeoutError::Disconnected) => Err(NoProducer::Passing {
                cause: "the producer's thread ended".to_owned(),
                fenced: false,
            }),
        }
    }

    /// Whether the transactional id was claimed by a single request for sure.
    pub(crate) fn has_claimed_once(&self) -> bool {
        self.claimed_once
    }

    /// Whether the next delivery needs another producer, since something of an earlier one may still reach
    /// a broker: requests that were sent twice (see [`crate::sent_once`]), or outputs in its queue.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Acquire)
    }

    /// Delivers in one transaction, or gives up on the thread when the transaction's time is over.
    pub(crate) fn deliver(&self, deliveries: Arc<Vec<Delivery>>, timeout: Duration) -> End {
        let (reply, end) = mpsc::sync_channel(1);
        let work = Work::new(deliveries, timeout);
        self.run(Job::Deliver { work, reply }, &end, timeout)
            .unwrap_or_else(|cause| {
                let (cause, fenced) = (cause.to_owned(), false);
                if self.phase.abandon() {
                    End::Ambiguous { cause, fenced }
                } else {
                    End::Failed(Failure::Broken { cause, fenced })
                }
            })
    }

    /// Ends a transaction again that never ended properly, or gives up in the same way.
    pub(crate) fn end_again(
        &self,
        deliveries: Arc<Vec<Delivery>>,
        timeout: Duration,
    ) -> EndedAgain {
        let (reply, end) = mpsc::sync_channel(1);
        let work = Work::new(deliveries, timeout);
        self.run(Job::EndAgain { work, reply }, &end, timeout)
            .unwrap_or_else(|cause| {
                // No commit is part of it.
                self.phase.abandon();
                EndedAgain::Failed(Failure::Broken {
                    cause: cause.to_owned(),
                    fenced: false,
                })
            })
    }

    /// Hands the thread a job and waits for its reply; an error says why there is none.
    fn run<E>(
        &self,
        job: Job,
        end: &mpsc::Receiver<E>,
        timeout: Duration,
    ) -> Result<E, &'static str> {
        const THREAD_ENDED: &str = "the producer's thread ended";
        self.jobs.send(job).map_err(|_| THREAD_ENDED)?;
        end.recv_timeout(timeout + GRACE)
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => "the broker did not answer in time",
                RecvTimeoutError::Disconnected => THREAD_ENDED,
            })
    }
}

impl Drop for ProducerThread {
    fn drop(&mut self) {
        self.phase.abandon();
    }
}

fn claim(
    parts: OutletParts,
    batching: Batching,
    spent: Arc<AtomicBool>,
    timeout: Duration,
) -> Result<(Outlet, bool), NoProducer> {
    let outlet = Outlet::new(parts, batching, spent)
        .map_err(|error| NoProducer::Lasting(format!("no producer could be made: {error}")))?;
    let is_sure = outlet.claim(timeout).map_err(|error| unclaimed(&error))?;
    Ok((outlet, is_sure))
}

fn unclaimed(error: &TransactionError) -> NoProducer {
    match stopping_cause(error.code) {
        Some(cause) => NoProducer::Lasting(format!("{cause} ({})", error.message)),
        None => NoProducer::Passing {
            cause: format!("the transactional id could not be claimed: {error}"),
            fenced: is_fenced(error.code),
        },
    }
}
