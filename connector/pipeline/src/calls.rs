//! Which batches the Aligner works on, which come next, and which wait to be tried again.
//!
//! Records that got no answer in time are asked for alone, one after another, before all others, and
//! only once every call that was there before has ended: an Aligner that serves the longest waiting
//! would serve them first, so that one that never ends would hold up those calls.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
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
    turns::Turns,
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

/// A call that goes on.
struct Running {
    task: AbortHandle,
    tickets: Vec<Ticket>,
    /// Whether it is for a record that got no answer in time.
    alone: bool,
    /// Ends it; gone once that was said.
    give_up: Option<oneshot::Sender<()>>,
}

/// All decoded records that have no result.
pub(crate) struct Calls {
    batcher: Batcher<Work>,
    /// Full batches, waiting for a place.
    ready: VecDeque<Vec<Work>>,
    /// Batches to be tried again, and when.
    later: Vec<(Instant, Vec<Work>)>,
    /// Records that got no answer in time, to be asked for one by one.
    alone: VecDeque<Work>,
    in_flight: HashMap<u64, Running>,
    turns: Turns,
    /// What the Aligner had done when it was last looked at.
    work_done: u64,
    tasks: JoinSet<()>,
    next_call: u64,
    /// Requests that were answered so far.
    answered: u64,
    /// When a call ended because the Aligner is unavailable, and nothing has been heard of it since but that.
    unavailable_since: Option<Instant>,
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
            alone: VecDeque::new(),
            in_flight: HashMap::new(),
            turns: Turns::new(Duration::from_millis(settings.record_timeout_ms)),
            work_done: 0,
            tasks: JoinSet::new(),
            next_call: 0,
            answered: 0,
            unavailable_since: None,
            max_in_flight: settings.max_batches_in_flight,
            limits: settings.retry_limits(),
            backoff: settings.retry_backoff(),
            context: Arc::new(context),
            reports,
        }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, work: Work, now: Instant) {
        if self.is_empty() {
            // Nobody has asked it since.
            self.unavailable_since = None;
        }
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
            && let Some((mut batch, alone)) = self.next_batch()
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
            let came = batch.iter().map(|work| work.received);
            self.turns.begin(call, came.fold(now, Instant::min), now);
            if self.in_flight.is_empty() {
                // Beside others, the look at a deadline compares with the one before it.
                self.work_done = self.context.aligner.work_done();
            }
            let tickets = batch.iter().map(|work| work.ticket).collect();
            let (give_up, given_up) = oneshot::channel();
            let task = align::call(
                Arc::clone(&self.context),
                call,
                batch,
                given_up,
                self.reports.clone(),
            );
            let running = Running {
                task: self.tasks.spawn(task),
                tickets,
                alone,
                give_up: Some(give_up),
            };
            self.in_flight.insert(call, running);
            calls += 1;
        }
        calls
    }

    /// What to ask for next, and whether that is a record alone.
    fn next_batch(&mut self) -> Option<(Vec<Work>, bool)> {
        let one_is_asked_for = self.in_flight.values().any(|running| running.alone);
        if self.alone.is_empty() || one_is_asked_for {
            return self.ready.pop_front().map(|batch| (batch, false));
        }
        // Nothing new begins meanwhile, so this wait ends.
        if !self.in_flight.is_empty() {
            return None;
        }
        self.alone.pop_front().map(|work| (vec![work], true))
    }

    /// A call has answers, so many of them results.
    pub(crate) fn answered(&mut self, call: u64, results: usize, now: Instant) {
        self.answered += results as u64;
        if results > 0 {
            self.unavailable_since = None;
        }
        self.turns.progress(call, now);
    }

    /// Gives up the calls that have gone without progress for too long, unless the Aligner has
    /// worked meanwhile, and tells whether it has. They report what they have no answers for.
    pub(crate) fn give_up_silent(&mut self, now: Instant) -> bool {
        if self.turns.deadline().is_none_or(|due| due > now) {
            return false;
        }
        let done = self.context.aligner.work_done();
        if done > std::mem::replace(&mut self.work_done, done) {
            self.turns.wait_on(now);
            return true;
        }
        while let Some(call) = self.turns.give_up(now) {
            let running = self.in_flight.get_mut(&call);
            if let Some(give_up) = running.and_then(|running| running.give_up.take()) {
                // It does not listen if it has just ended by itself.
                let _ = give_up.send(());
            }
        }
        false
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
        self.turns.end(call, now);
        unanswered.retain(|(work, _)| offsets.awaits(work.ticket));
        if unanswered.is_empty() {
            return Ended::default();
        }
        let records = unanswered.len();
        let cause = unanswered[0].1.clone();
        if unanswered.iter().all(|(_, failure)| failure.is_outage()) {
            self.unavailable_since.get_or_insert(now);
        } else {
            self.unavailable_since = None;
        }
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
        retries += next.alone.len();
        self.alone.extend(next.alone);
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
    pub(crate) fn abandon_lost<T>(&mut self, offsets: &Offsets<T>, now: Instant) {
        self.alone.retain(|work| offsets.awaits(work.ticket));
        let is_awaited = |batch: &mut Vec<Work>| {
            batch.retain(|work| offsets.awaits(work.ticket));
            !batch.is_empty()
        };
        self.ready.retain_mut(is_awaited);
        // A pause may last, and no budget counts what is lost; the open batch closes soon.
        self.later.retain_mut(|(_, batch)| is_awaited(batch));
        let turns = &mut self.turns;
        self.in_flight.retain(|call, running| {
            let mut tickets = running.tickets.iter();
            let wanted = tickets.any(|ticket| offsets.awaits(*ticket));
            if !wanted {
                running.task.abort();
                turns.end(*call, now);
            }
            wanted
        });
    }

    /// Ends all calls and forgets all records: they will be read again.
    pub(crate) fn clear(&mut self) {
        self.tasks.abort_all();
        self.in_flight.clear();
        self.turns.clear();
        self.ready.clear();
        self.later.clear();
        self.alone.clear();
        self.batcher.flush();
    }

    /// Since when the Aligner has been unavailable and answered nothing, while records wait for it.
    pub(crate) fn unavailable_since(&self) -> Option<Instant> {
        self.unavailable_since.filter(|_| !self.is_empty())
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
            && self.alone.is_empty()
            && self.batcher.len() == 0
    }

    /// When to submit or give up though nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let later = self.later.iter().map(|(moment, _)| *moment).min();
        [self.batcher.deadline(), later, self.turns.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
