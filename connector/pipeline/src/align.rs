//! One call of the Aligner, from its batch to its results.
//!
//! A call is a task of its own. It passes results on as they come, encoded, so that finished
//! records do not wait for their slowest neighbour, and ends with one report of the records that
//! have none. What an Aligner may do wrong ends here: a stream that is short of answers, gives one
//! twice, names a record that it was not asked for, panics, or says nothing for too long. How long
//! that is depends on the other calls, so a call is told when it is given up.

use std::{panic::AssertUnwindSafe, sync::Arc};

use aligner::{AlignError, Aligner, Completion};
use futures::{FutureExt, StreamExt};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    encode::Encoding, metrics::Instruments, offsets::Ticket, retry::Failure, work::Finished,
    work::Work,
};

/// What calls need besides their batch.
pub(crate) struct CallContext {
    pub aligner: Arc<dyn Aligner>,
    pub encoding: Encoding,
    pub instruments: Instruments,
}

/// What a call tells the coordinator.
#[derive(Debug)]
pub(crate) enum Report {
    /// Some requests were answered; these are the results among the answers, the others are errors.
    Answered {
        call: u64,
        results: Vec<(Ticket, Finished)>,
    },
    /// The call is over; these records have none.
    Ended {
        call: u64,
        asked: usize,
        unanswered: Vec<(Work, Failure)>,
    },
}

/// Completions taken from the stream at a time.
const CHUNK: usize = 64;

/// Makes one call, which ends when it is complete or is told that it is given up.
pub(crate) async fn call(
    context: Arc<CallContext>,
    call: u64,
    batch: Vec<Work>,
    mut given_up: oneshot::Receiver<()>,
    reports: mpsc::Sender<Report>,
) {
    let submitted = Instant::now();
    let asked = batch.len();
    let requests = batch.iter().map(|work| work.request.clone()).collect();
    let mut open: Vec<Option<(Work, Option<Failure>)>> =
        batch.into_iter().map(|work| Some((work, None))).collect();
    let mut left = asked;

    let started = std::panic::catch_unwind(AssertUnwindSafe(|| context.aligner.align(requests)));
    let mut rest = match started {
        Err(_) => panicked(),
        Ok(completions) => {
            let mut chunks = completions.ready_chunks(CHUNK);
            loop {
                if left == 0 {
                    break ended(asked, asked);
                }
                let chunk = tokio::select! {
                    biased;
                    // First, so that a stream that goes on and on about what was not asked is
                    // given up like a silent one.
                    told = &mut given_up => {
                        if told.is_err() {
                            // It is forgotten rather than given up: that speaks against no record.
                            return;
                        }
                        break Failure::TimedOut;
                    }
                    chunk = AssertUnwindSafe(chunks.next()).catch_unwind() => chunk,
                };
                match chunk {
                    Err(_) => break panicked(),
                    Ok(None) => break ended(asked - left, asked),
                    Ok(Some(chunk)) => {
                        let before = left;
                        let results = context.take(chunk, &mut open, &mut left, submitted);
                        if left < before
                            && reports
                                .send(Report::Answered { call, results })
                                .await
                                .is_err()
                        {
                            return;
                        }
                    }
                }
            }
        }
    };
    if left == 0 {
        rest = ended(asked, asked);
    }
    let unanswered = open
        .into_iter()
        .flatten()
        .map(|(work, failure)| (work, failure.unwrap_or_else(|| rest.clone())))
        .collect();
    // Nobody listens only when the pipeline has ended.
    let _ = reports
        .send(Report::Ended {
            call,
            asked,
            unanswered,
        })
        .await;
}

impl CallContext {
    /// Results of the records that a chunk answers; notes the failures of the others.
    fn take(
        &self,
        chunk: Vec<Completion>,
        open: &mut [Option<(Work, Option<Failure>)>],
        left: &mut usize,
        submitted: Instant,
    ) -> Vec<(Ticket, Finished)> {
        let now_ms = (self.encoding.wall_clock)();
        let mut finished = Vec::with_capacity(chunk.len());
        for Completion { index, result } in chunk {
            let Some(slot @ Some((_, None))) = open.get_mut(index) else {
                tracing::warn!(
                    index,
                    asked = open.len(),
                    "the aligner answered a request twice or one that it was not given; ignored"
                );
                continue;
            };
            *left -= 1;
            match result {
                Ok(alignment) => {
                    let (work, _) = slot.take().expect("matched above");
                    self.instruments
                        .aligned(submitted - work.received, alignment.timing);
                    let ticket = work.ticket;
                    let done = self.encoding.aligned(work, alignment, submitted, now_ms);
                    finished.push((ticket, done));
                }
                Err(error) => {
                    if let Some((_, failure)) = slot {
                        *failure = Some(Failure::Error(error));
                    }
                }
            }
        }
        finished
    }
}

/// The payload of a panic may quote a text, so it stays out.
fn panicked() -> Failure {
    Failure::Error(AlignError::BatchFailed("the aligner panicked".to_owned()))
}

fn ended(answered: usize, asked: usize) -> Failure {
    Failure::Error(AlignError::BatchFailed(format!(
        "the aligner answered {answered} of {asked} requests"
    )))
}
