//! One thread for each device: takes requests, plans steps, runs them, answers.
//!
//! Whatever happens while a step is computed, every request is answered once and the thread lives on: a
//! panic answers the rows of that step with an error that lets the caller look for the guilty
//! one, logits that are no numbers answer their own row, and requests that nobody waits for any
//! more are dropped before the next step. A panic around a step leaves nobody who knows which pages are
//! whose: it ends the engine, and all who wait are told so.

mod drafts;
mod work;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use aligner::AlignError;

use self::drafts::Drafts;
pub(crate) use self::drafts::Thrift;
pub use self::work::Work;
use crate::{
    active::Active,
    backend::{Backend, DeviceLost, Outcome, Step},
    inbox::Inbox,
    job::{End, Job},
    liveness::Pulse,
    pace::Pace,
    scheduler::{Budget, Id, Planned, Scheduler},
};

/// Leaves nobody waiting for a thread that panicked.
struct EndsWithItsThread(Arc<Inbox>);

impl Drop for EndsWithItsThread {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.abandon();
        }
    }
}

/// The loop of one device.
pub(crate) struct Worker<B> {
    backend: B,
    scheduler: Scheduler,
    inbox: Arc<Inbox>,
    active: HashMap<Id, Active>,
    /// What the scheduler counts time from.
    epoch: Instant,
    next_id: Id,
    plan: Vec<Planned>,
    step: Step,
    outcome: Outcome,
    drafts: Drafts,
    /// Whose tokens the step watches, in its order.
    watching: Vec<Id>,
    /// Tokens of one sequence, for as long as they are looked at.
    row: Vec<u32>,
    arrivals: Vec<Job>,
    pace: Pace,
    work: Arc<Mutex<Work>>,
    pulse: Arc<Pulse>,
}

impl<B: Backend> Worker<B> {
    pub(crate) fn new(backend: B, budget: Budget, thrift: Thrift, inbox: Arc<Inbox>) -> Self {
        Self {
            backend,
            scheduler: Scheduler::new(budget),
            inbox,
            active: HashMap::new(),
            epoch: Instant::now(),
            next_id: 0,
            plan: Vec::new(),
            step: Step::default(),
            outcome: Outcome::default(),
            drafts: Drafts::new(thrift),
            watching: Vec::new(),
            row: Vec::new(),
            arrivals: Vec::new(),
            pace: Pace::default(),
            work: Arc::default(),
            pulse: Arc::default(),
        }
    }

    /// Where it counts its work.
    pub(crate) fn work(&self) -> Arc<Mutex<Work>> {
        Arc::clone(&self.work)
    }

    /// Where it shows that it works.
    pub(crate) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Works until the inbox is closed and everything in it is answered.
    pub(crate) fn run(mut self) {
        let _left_alone = EndsWithItsThread(Arc::clone(&self.inbox));
        while self.take_in() {
            self.drop_abandoned();
            self.pulse.set_busy(!self.scheduler.is_idle());
            self.scheduler.plan(&mut self.plan);
            if self.plan.is_empty() {
                continue;
            }
            self.drafts.plan(
                &mut self.plan,
                &mut self.scheduler,
                &mut self.active,
                &self.pace,
            );
            let result = catch_unwind(AssertUnwindSafe(|| self.compute()));
            self.pulse.beat();
            match result {
                Ok(Ok(())) => self.settle(),
                // After a panic the guilty row is unknown.
                Err(_) => self.fail_step("a step of the engine panicked", AlignError::BatchFailed),
                // No row is guilty, and none will succeed: whoever starts the process anew finds a device.
                Ok(Err(lost)) => self.fail_step(&lost.to_string(), AlignError::Stopped),
            }
        }
    }

    /// Takes what there are places for, and leaves the rest to whoever has some; waits if there is
    /// nothing to do. False if there will never be.
    fn take_in(&mut self) -> bool {
        let idle = self.scheduler.is_idle();
        self.pulse.set_busy(!idle);
        let room = self.scheduler.places();
        let open = self.inbox.take(room, idle, &mut self.arrivals);
        self.accept();
        open.is_some() || !idle
    }

    fn accept(&mut self) {
        for job in self.arrivals.drain(..) {
            let id = self.next_id;
            self.next_id += 1;
            let most = job.prompt.len() + job.max_new;
            // Who waited before the worker began, waits longest.
            let order = (job.waiting_since)
                .saturating_duration_since(self.epoch)
                .as_micros();
            let order = u64::try_from(order).unwrap_or(u64::MAX);
            self.scheduler
                .submit(id, order, job.prompt.clone(), job.expected, most);
            self.active.insert(id, Active::new(job));
        }
    }

    fn drop_abandoned(&mut self) {
        let (scheduler, drafts) = (&mut self.scheduler, &mut self.drafts);
        self.active.retain(|&id, active| {
            let gone = active.job.reply.is_gone();
            if gone {
                scheduler.finish(id);
                drafts.forget(id);
            }
            !gone
        });
    }

    /// Runs the planned step. May panic; touches nothing that outlives the step.
    fn compute(&mut self) -> Result<(), DeviceLost> {
        let started = Instant::now();
        self.lay_out(started);
        self.backend.forward(&self.step, &mut self.outcome)?;
        let took = started.elapsed();
        self.pace.learn(self.step.tokens.len(), took);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.count(&self.plan, took);
        Ok(())
    }

    /// Makes the step of its plan.
    fn lay_out(&mut self, started: Instant) {
        self.step.clear();
        self.watching.clear();
        for planned in &self.plan {
            let tokens = self.scheduler.tokens(planned.id);
            let known = &tokens[planned.start..planned.start + planned.rows];
            let pages = self.scheduler.pages(planned.id);
            let outputs = if planned.decodes {
                1 + planned.drafts
            } else {
                0
            };
            if planned.drafts == 0 {
                self.step.push(known, planned.start, outputs, pages);
            } else {
                self.row.clear();
                self.row.extend_from_slice(known);
                self.row.extend_from_slice(self.drafts.of(planned));
                self.step.push(&self.row, planned.start, outputs, pages);
            }
            let Some(active) = self.active.get_mut(&planned.id) else {
                continue;
            };
            if planned.decodes
                && let Some(token) = active.watches()
            {
                self.step.watch(token);
                self.watching.push(planned.id);
            }
            active.started.get_or_insert(started);
            self.step.wants_logits |= active.reads_logits();
        }
    }

    /// Takes the step's results to the sequences.
    fn settle(&mut self) {
        let vocab = self.backend.vocab();
        for (id, &logprob) in self.watching.iter().zip(&self.outcome.watched) {
            if let Some(active) = self.active.get_mut(id) {
                active.note_watched(logprob);
            }
        }
        let mut output = 0;
        let plan = std::mem::take(&mut self.plan);
        for planned in &plan {
            if !planned.decodes {
                self.scheduler.advance(planned.id, planned.rows, &[]);
                continue;
            }
            let outputs = output..output + 1 + planned.drafts;
            output = outputs.end;
            let Some(active) = self.active.get_mut(&planned.id) else {
                continue;
            };
            self.row.clear();
            let drafts = self.drafts.of(planned);
            let end = active.decode(outputs, &mut self.outcome, vocab, drafts, &mut self.row);
            let end = match end {
                Ok(Some(End::NotFinite)) if self.row.is_empty() => {
                    self.finish(planned.id, Ok(End::NotFinite));
                    continue;
                }
                Ok(end) => end,
                Err(error) => {
                    self.finish(planned.id, Err(error));
                    continue;
                }
            };
            let accepted = self.row.len() - 1;
            if accepted > 0 {
                let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
                work.accepted_drafts += accepted as u64;
            }
            self.scheduler
                .advance(planned.id, planned.rows + accepted, &self.row);
            if let Some(end) = end {
                self.finish(planned.id, Ok(end));
            }
        }
        self.plan = plan;
    }

    fn finish(&mut self, id: Id, result: Result<End, AlignError>) {
        let tokens = self.scheduler.finish(id);
        self.drafts.forget(id);
        if let (Some(active), Some(tokens)) = (self.active.remove(&id), tokens) {
            active.answer(tokens, result);
        }
    }

    /// Answers everything that runs: nobody knows what the pages hold.
    fn fail_step(&mut self, problem: &str, error: fn(String) -> AlignError) {
        tracing::error!(
            rows = self.plan.len(),
            problem,
            "a step of the engine failed"
        );
        for id in self.scheduler.abandon_running() {
            self.drafts.forget(id);
            if let Some(active) = self.active.remove(&id) {
                active.job.reply.answer(Err(error(problem.to_owned())));
            }
        }
    }
}

#[cfg(test)]
mod tests;
