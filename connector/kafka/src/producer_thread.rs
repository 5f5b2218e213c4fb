//! A thread that makes the calls of one producer, and can be left behind.
//!
//! `send_offsets` waits for a silent coordinator long past the timeout it is given. Such a call
//! cannot be interrupted, so the thread is abandoned with its producer: from then on it cannot
//! begin a commit, a new producer with the same transactional id fences it, and it ends by
//! itself when the call returns.

use std::{
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Delivery;

use crate::{
    native::TransactionError,
    outlet::{Outlet, OutletParts},
    recovery::{Batching, Phase},
    transaction::{End, is_fenced, stopping_cause},
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

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Delivering.
    Deliver,
    /// Ending one again that never ended properly.
    EndAgain,
}

struct Job {
    purpose: Purpose,
    deliveries: Arc<Vec<Delivery>>,
    started: Instant,
    timeout: Duration,
}

/// The handle of the thread.
pub(crate) struct ProducerThread {
    jobs: mpsc::SyncSender<Job>,
    ends: mpsc::Receiver<End>,
    phase: Arc<Phase>,
}

impl ProducerThread {
    /// Starts the thread and waits until its producer holds the transactional id.
    pub(crate) fn start(
        parts: OutletParts,
        batching: Batching,
        claim_timeout: Duration,
    ) -> Result<Self, NoProducer> {
        let (jobs, todo) = mpsc::sync_channel::<Job>(1);
        let (done, ends) = mpsc::sync_channel::<End>(1);
        let (ready, claimed) = mpsc::sync_channel(1);
        let phase = Arc::new(Phase::new());
        let its_phase = Arc::clone(&phase);
        thread::Builder::new()
            .name("kafka-produce".to_owned())
            .spawn(move || {
                let outlet = match claim(parts, batching, claim_timeout) {
                    Ok(outlet) => outlet,
                    Err(error) => {
                        // Nobody listens any more if the claim took too long.
                        let _ = ready.send(Err(error));
                        return;
                    }
                };
                if ready.send(Ok(())).is_err() {
                    return;
                }
                while let Ok(job) = todo.recv() {
                    if !its_phase.begin() {
                        return;
                    }
                    let run = match job.purpose {
                        Purpose::Deliver => Outlet::deliver,
                        Purpose::EndAgain => Outlet::end_again,
                    };
                    let end = run(
                        &outlet,
                        &job.deliveries,
                        &its_phase,
                        job.started,
                        job.timeout,
                    );
                    if done.send(end).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| NoProducer::Lasting(format!("no thread could be started: {error}")))?;
        match claimed.recv_timeout(claim_timeout + GRACE) {
            Ok(Ok(())) => Ok(Self { jobs, ends, phase }),
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

    /// Makes one transaction, or gives up on the thread when the transaction's time is over.
    pub(crate) fn run(
        &self,
        purpose: Purpose,
        deliveries: Arc<Vec<Delivery>>,
        timeout: Duration,
    ) -> End {
        let job = Job {
            purpose,
            deliveries,
            started: Instant::now(),
            timeout,
        };
        let stuck = |cause: &str| {
            let cause = cause.to_owned();
            if self.phase.abandon() {
                End::Ambiguous {
                    cause,
                    fenced: false,
                }
            } else {
                End::Broken {
                    cause,
                    fenced: false,
                }
            }
        };
        if self.jobs.send(job).is_err() {
            return stuck("the producer's thread ended");
        }
        match self.ends.recv_timeout(timeout + GRACE) {
            Ok(end) => end,
            Err(RecvTimeoutError::Timeout) => stuck("the broker did not answer in time"),
            Err(RecvTimeoutError::Disconnected) => stuck("the producer's thread ended"),
        }
    }
}

impl Drop for ProducerThread {
    fn drop(&mut self) {
        self.phase.abandon();
    }
}

fn claim(parts: OutletParts, batching: Batching, timeout: Duration) -> Result<Outlet, NoProducer> {
    let outlet = Outlet::new(parts, batching)
        .map_err(|error| NoProducer::Lasting(format!("no producer could be made: {error}")))?;
    outlet.claim(timeout).map_err(|error| unclaimed(&error))?;
    Ok(outlet)
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
