//! Which batches the Aligner works on, which come next, and which wait to be tried again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinError, JoinSet},
    time::Instant,
};

use crate::{
    align::{self, CallContext, Report},
    batcher::Batcher,
    encode::Cause,
    offsets::{Offsets, Ticket},
    retry::{self, Failure},
    settings::{Backoff, Settings},
    work::{Standing, Work},
};

/// What the end of a call leaves to do.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Records that are given up.
    pub dead: Vec<(Work, Cause)>,
    /// Records that will be asked for again.
    pub retries: usize,
    /// The Aligner will not answer any more.
    pub stop: Option<String>,
}

/// All decoded records that have no result.
pub(crate) struct Calls {
    batcher: Batcher<Work>,
    /// Full batches, waiting for a place.
    ready: VecDeque<Vec<Work>>,
    /// Batches to be tried again, and when.
    later: Vec<(Instant, Vec<Work>)>,
    in_flight: HashMap<u64, (AbortHandle, Vec<Ticket>)>,
    tasks: JoinSet<()>,
    next_call: u64,
    /// Requests that were answered so far.
    answered: u64,
    max_in_flight: usize,
    limits: retry::Limits,
    backoff: Backoff,
    context: Arc<CallContext>,
    reports: mpsc::Sender<Report>,
}

impl Calls {
    pub(crate) fn new(
        settings: &Settings,
        context: CallContext,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        Self {
            batcher: Batcher::new(settings.batch_limits()),
            ready: VecDeque::new(),
            later: Vec::new(),
            in_flight: HashMap::new(),
            tasks: JoinSet::new(),
            next_call: 0,
            answered: 0,
            max_in_flight: settings.max_batches_in_flight,
            limits: settings.retry_limits(),
            backoff: settings.retry_backoff(),
            context: Arc::new(context),
            reports,
        }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, work: Work, now: Instant) {
        let tokens = u64::from(work.tokens);
        self.batcher
            .push(work, tokens, now, |batch| self.ready.push_back(batch));
    }

    /// Closes batches that waited long enough, or any if `flush`, and calls the Aligner while
    /// there is room. Returns how many calls it made.
    pub(crate) fn submit<T>(&mut self, offsets: &Offsets<T>, flush: bool, now: Instant) -> u64 {
        let closed = if flush {
            self.batcher.flush()
        } else {
            self.batcher.due(now)
        };
        self.ready.extend(closed);
        let mut index = 0;
        while index < self.later.len() {
            if self.later[index].0 <= now {
                let (_, batch) = self.later.swap_remove(index);
                self.ready.push_front(batch);
            } else {
                index += 1;
            }
        }
        let mut calls = 0;
        while self.in_flight.len() < self.max_in_flight
            && let Some(mut batch) = self.ready.pop_front()
        {
            // What was revoked meanwhile is somebody else's to infer.
            batch.retain(|work| offsets.awaits(work.ticket));
            if batch.is_empty() {
                continue;
            }
            for work in &mut batch {
                work.tries.last.get_or_insert(Standing {
                    answered: self.answered,
                    silent_since: now,
                });
            }
            let tokens = batch.iter().map(|work| u64::from(work.tokens)).sum();
            self.context.instruments.submitted(batch.len(), tokens);
            let call = self.next_call;
            self.next_call += 1;
            let tickets = batch.iter().map(|work| work.ticket).collect();
            let task = align::call(Arc::clone(&self.context), call, batch, self.reports.clone());
            let handle = self.tasks.spawn(task);
            self.in_flight.insert(call, (handle, tickets));
            calls += 1;
        }
        calls
    }

    /// The Aligner has answered some requests.
    pub(crate) fn answered(&mut self, requests: usize) {
        self.answered += requests as u64;
    }

    /// A call has ended; sorts what it left.
    pub(crate) fn ended<T>(
        &mut self,
        call: u64,
        asked: usize,
        mut unanswered: Vec<(Work, Failure)>,
        offsets: &Offsets<T>,
        now: Instant,
    ) -> Ended {
        self.in_flight.remove(&call);
        unanswered.retain(|(work, _)| offsets.awaits(work.ticket));
        if unanswered.is_empty() {
            return Ended::default();
        }
        let records = unanswered.len();
        let cause = unanswered[0].1.clone();
        let next = retry::next(unanswered, asked, self.answered, self.limits, now);
        let pause = next
            .later
            .iter()
            .map(|(failures, _)| self.backoff.pause(*failures))
            .max();
        tracing::warn!(
            records,
            asked,
            %cause,
            again_in_ms = pause.map(|pause| pause.as_millis()),
            "the aligner left records unanswered"
        );
        let mut retries = 0;
        for batch in next.isolate.into_iter().rev() {
            retries += batch.len();
            self.ready.push_front(batch);
        }
        for (failures, batch) in next.later {
            retries += batch.len();
            self.later.push((now + self.backoff.pause(failures), batch));
        }
        Ended {
            dead: next.dead,
            retries,
            stop: next.stop,
        }
    }

    /// Waits until a call's task is over; for ever if there is none. Cancel-safe.
    pub(crate) async fn joined(&mut self) -> Result<(), JoinError> {
        match self.tasks.join_next().await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }

    /// Ends calls that nobody waits for any more.
    pub(crate) fn abandon_lost<T>(&mut self, offsets: &Offsets<T>) {
        self.in_flight.retain(|_, (handle, tickets)| {
            let wanted = tickets.iter().any(|ticket| offsets.awaits(*ticket));
            if !wanted {
                handle.abort();
            }
            wanted
        });
    }

    /// Ends all calls and forgets all records: they will be read again.
    pub(crate) fn clear(&mut self) {
        self.tasks.abort_all();
        self.in_flight.clear();
        self.ready.clear();
        self.later.clear();
        self.batcher.flush();
    }

    /// Whether enough full batches wait that decoding more would gain nothing.
    pub(crate) fn has_backlog(&self) -> bool {
        self.ready.len() >= self.max_in_flight
    }

    /// Calls that go on.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether no record is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
            && self.ready.is_empty()
            && self.later.is_empty()
            && self.batcher.len() == 0
    }

    /// When to submit again though nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let later = self.later.iter().map(|(moment, _)| *moment).min();
        [self.batcher.deadline(), later].into_iter().flatten().min()
    }
}
