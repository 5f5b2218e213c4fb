//! One thread for each device: takes requests, plans steps, runs them, answers.
//!
//! Whatever happens inside a step, every request is answered once and the thread lives on: a
//! panic answers the rows of that step with an error that lets the caller look for the guilty
//! one, logits that are no numbers answer their own row, and requests that nobody waits for any
//! more are dropped before the next step.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aligner::AlignError;

use crate::{
    active::Active,
    backend::{Backend, DeviceLost, Outcome, Step},
    inbox::Inbox,
    job::{End, Job},
    liveness::Pulse,
    pace::Pace,
    scheduler::{Budget, Id, Planned, Scheduler},
};

/// What a worker did so far, for benchmarks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Forward passes.
    pub steps: u64,
    /// Sequences in them.
    pub sequences: u64,
    /// Rows of prompts.
    pub prompt_rows: u64,
    /// Rows of decoded tokens.
    pub decode_rows: u64,
    /// Rows of drafts.
    pub draft_rows: u64,
    /// Drafts that greedy decoding agreed with.
    pub accepted_drafts: u64,
    /// Time in passes that computed rows of prompts.
    pub prompt_time: Duration,
    /// Time in passes that only decoded.
    pub decode_time: Duration,
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
    drafts: HashMap<Id, Vec<u32>>,
    /// Whose tokens the step watches, in its order.
    watching: Vec<Id>,
    row: Vec<u32>,
    arrivals: Vec<Job>,
    pace: Pace,
    thrift: Thrift,
    work: Arc<Mutex<Work>>,
    pulse: Arc<Pulse>,
}

/// How a worker chooses drafts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thrift {
    /// Those that pay by measured costs.
    Measured,
    /// All that have a chance.
    Lavish,
}

/// Most drafts of one sequence in a step.
const MOST_DRAFTS: usize = 24;

/// The chance from which on drafts are checked whatever they cost.
const LAVISH: f32 = 0.02;

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
            drafts: HashMap::new(),
            watching: Vec::new(),
            row: Vec::new(),
            arrivals: Vec::new(),
            pace: Pace::default(),
            thrift,
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
        while self.take_in() {
            self.drop_abandoned();
            self.pulse.set_busy(!self.scheduler.is_idle());
            self.scheduler.plan(&mut self.plan);
            if self.plan.is_empty() {
                continue;
            }
            self.draft();
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

    /// Adds the drafts that pay to the plan.
    fn draft(&mut self) {
        let worth = match self.thrift {
            Thrift::Lavish => LAVISH,
            Thrift::Measured => {
                let rows = self.plan.iter().map(|planned| planned.rows).sum();
                let decoding = self.plan.iter().filter(|planned| planned.decodes).count();
                self.pace.worth(rows, decoding)
            }
        };
        if worth >= 1.0 {
            return;
        }
        self.scheduler
            .plan_drafts(&mut self.plan, |id, tokens, most| {
                let Some(active) = self.active.get_mut(&id) else {
                    return 0;
                };
                let Some(drafter) = &mut active.job.drafter else {
                    return 0;
                };
                let drafts = self.drafts.entry(id).or_default();
                drafts.clear();
                drafter.propose(tokens, most.min(MOST_DRAFTS), worth, drafts);
                drafts.len()
            });
    }

    fn drop_abandoned(&mut self) {
        let (scheduler, drafts) = (&mut self.scheduler, &mut self.drafts);
        self.active.retain(|&id, active| {
            let gone = active.job.reply.is_gone();
            if gone {
                scheduler.finish(id);
                drafts.remove(&id);
            }
            !gone
        });
    }

    /// Runs the planned step. May panic; touches nothing that outlives the step.
    fn compute(&mut self) -> Result<(), DeviceLost> {
        let started = Instant::now();
        self.step.clear();
        self.watching.clear();
        let mut prompt_rows = 0;
        for planned in &self.plan {
            let tokens = self.scheduler.tokens(planned.id);
            let known = &tokens[planned.start..planned.start + planned.rows];
            let pages = self.scheduler.pages(planned.id);
            let outputs = if planned.decodes {
                1 + planned.drafts
            } else {
                0
            };
            if planned.rows > 1 {
                prompt_rows += planned.rows;
            }
            if planned.drafts == 0 {
                self.step.push(known, planned.start, outputs, pages);
            } else {
                self.row.clear();
                self.row.extend_from_slice(known);
                self.row
                    .extend_from_slice(&self.drafts[&planned.id][..planned.drafts]);
                self.step.push(&self.row, planned.start, outputs, pages);
            }
            if planned.decodes
                && let Some(token) = self.active.get(&planned.id).and_then(Active::watches)
            {
                self.step.watch(token);
                self.watching.push(planned.id);
            }
        }
        for planned in &self.plan {
            if let Some(active) = self.active.get_mut(&planned.id) {
                active.started.get_or_insert(started);
                self.step.wants_logits |= active.reads_logits();
            }
        }
        self.backend.forward(&self.step, &mut self.outcome)?;
        let elapsed = started.elapsed();
        self.pace.learn(self.step.tokens.len(), elapsed);
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.steps += 1;
        work.sequences += self.plan.len() as u64;
        work.prompt_rows += prompt_rows as u64;
        work.decode_rows += (self.plan.iter().filter(|planned| planned.rows == 1)).count() as u64;
        work.draft_rows += self
            .plan
            .iter()
            .map(|planned| planned.drafts as u64)
            .sum::<u64>();
        if prompt_rows > 0 {
            work.prompt_time += elapsed;
        } else {
            work.decode_time += elapsed;
        }
        Ok(())
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
            active.steps += 1;
            self.row.clear();
            let mut end = None;
            let mut problem = None;
            for (index, row) in outputs.enumerate() {
                let reading = self.outcome.readings[row];
                let logits = self.outcome.logits.get_mut(row * vocab..(row + 1) * vocab);
                let logits = logits.unwrap_or_default();
                if !reading.finite {
                    end = Some(End::NotFinite);
                    break;
                }
                let token = match active.next_token(reading, logits) {
                    Ok(token) => token,
                    Err(error) => {
                        problem = Some(error);
                        break;
                    }
                };
                self.row.push(token);
                end = active.end_after(token);
                let agrees = index < planned.drafts
                    && self
                        .drafts
                        .get(&planned.id)
                        .is_some_and(|drafts| drafts[index] == token);
                if end.is_some() || !agrees {
                    break;
                }
            }
            if let Some(error) = problem {
                self.finish(planned.id, Err(error));
                continue;
            }
            if self.row.is_empty() {
                self.finish(planned.id, Ok(End::NotFinite));
                continue;
            }
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
        self.drafts.remove(&id);
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
            self.drafts.remove(&id);
            if let Some(active) = self.active.remove(&id) {
                active.job.reply.answer(Err(error(problem.to_owned())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use super::*;
    use crate::{
        backend::Reading,
        job::{Finished, Reply},
        kernels::Isa,
        penalty::Penalty,
    };

    /// Says the next number; panics on 666, is lost on 777 and has no numbers for 13.
    struct Scripted;

    impl Backend for Scripted {
        fn vocab(&self) -> usize {
            1
        }

        fn forward(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), DeviceLost> {
            assert!(!step.tokens.contains(&666), "the guilty row");
            if step.tokens.contains(&777) {
                return Err(DeviceLost("fell off the bus".to_owned()));
            }
            outcome.readings.clear();
            let mut row = 0;
            for span in &step.spans {
                row += span.rows;
                for output in row - span.outputs..row {
                    let token = step.tokens[output];
                    let finite = token != 13;
                    outcome.readings.push(Reading {
                        token: token + 1,
                        logprob: -0.5,
                        finite,
                    });
                }
            }
            outcome.logits = vec![0.0; outcome.readings.len()];
            // Of each row another, so that none is taken for its neighbour's.
            let watched = step.watched.iter();
            outcome.watched = watched
                .map(|watched| -(outcome.readings[watched.row].token as f32))
                .collect();
            Ok(())
        }
    }

    struct Line(
        u32,
        mpsc::SyncSender<(u32, Result<Finished, AlignError>)>,
        bool,
    );

    impl Reply for Line {
        fn is_gone(&self) -> bool {
            self.2
        }

        fn answer(self: Box<Self>, result: Result<Finished, AlignError>) {
            self.1.send((self.0, result)).expect("the test listens");
        }
    }

    fn job(token: u32, stop: u32, waiting_since: Instant, line: Line) -> Job {
        Job {
            prompt: vec![token],
            max_new: 5,
            expected: 5,
            stop: Arc::new([stop]),
            stop_first: Some(31),
            forced: None,
            penalty: None,
            sampler: None,
            gives_up: true,
            drafter: None,
            waiting_since,
            submitted: Instant::now(),
            reply: Box::new(line),
        }
    }

    /// Serves prompts of one token each; negative ones have nobody waiting.
    fn serve(
        prompts: &[i32],
        stop: u32,
        running: usize,
    ) -> Vec<(u32, Result<Finished, AlignError>)> {
        let inbox = Arc::new(Inbox::new());
        let (sender, receiver) = mpsc::sync_channel(prompts.len());
        for &prompt in prompts {
            let token = prompt.unsigned_abs();
            let line = Line(token, sender.clone(), prompt < 0);
            inbox.push(job(token, stop, Instant::now(), line));
        }
        drop(sender);
        inbox.close();
        let budget = Budget {
            step_tokens: 16,
            running,
            pages: 64,
        };
        let worker = Worker::new(Scripted, budget, Thrift::Measured, inbox);
        thread::spawn(|| worker.run())
            .join()
            .expect("a worker never panics");
        let mut answers: Vec<_> = receiver.iter().collect();
        answers.sort_by_key(|(token, _)| *token);
        answers
    }

    fn ended(result: &Result<Finished, AlignError>) -> (&[u32], End) {
        let finished = result.as_ref().expect("an output");
        (&finished.tokens, finished.end)
    }

    #[test]
    fn outputs_end_at_a_stop_token_a_first_token_or_the_limit() {
        let answers = serve(&[1, 20, 30], 22, 8);
        assert_eq!(ended(&answers[0].1), (&[2, 3, 4, 5, 6][..], End::Length));
        assert_eq!(ended(&answers[1].1), (&[21, 22][..], End::Stop));
        assert_eq!(ended(&answers[2].1), (&[31][..], End::StopFirst));
        let finished = answers[0].1.as_ref().expect("an output");
        assert_eq!(
            (finished.logprob_sum, finished.logprob_min, finished.steps),
            (-2.5, -0.5, 5)
        );
    }

    #[test]
    fn the_unchanged_token_is_read_before_the_first_token_and_never_after() {
        // 13 has no numbers, so nothing was decoded.
        for running in [1, 8] {
            let read: Vec<_> = serve(&[1, 13, 20, 30], 22, running)
                .into_iter()
                .map(|(_, result)| result.expect("an output"))
                .map(|finished| (finished.tokens.len(), finished.unchanged_logprob))
                .collect();
            let found = [&read[..1], &read[2..]].concat();
            assert_eq!(found, [(5, Some(-2.0)), (2, Some(-21.0)), (1, Some(-31.0))]);
            assert_eq!(read[1].0, 0);
        }
    }

    #[test]
    fn with_a_penalty_the_unchanged_token_is_read_after_it() {
        let (sender, receiver) = mpsc::sync_channel(1);
        let floats = Isa::available()[0].floats;
        let mut active = Active::new(Job {
            penalty: Some(Penalty::new(2.0, floats).after(&[0])),
            stop_first: Some(2),
            ..job(0, 9, Instant::now(), Line(0, sender, false))
        });
        assert_eq!(active.watches(), None, "the device knows no penalty");
        let mut tokens = vec![0];
        for mut logits in [[4.0, 3.0, 0.5], [9.0, 1.0, 0.25]] {
            let unread = Reading {
                token: 0,
                logprob: 0.0,
                finite: true,
            };
            let token = active.next_token(unread, &mut logits).expect("a token");
            assert_eq!(active.end_after(token), None);
            tokens.push(token);
        }
        active.answer(tokens, Ok(End::Length));
        let finished = receiver
            .recv()
            .expect("it is answered")
            .1
            .expect("an output");
        assert_eq!(finished.tokens, [1, 0]);
        // 0 was in the prompt: its logit was halved.
        let plain = 0.5 - [2.0_f32, 3.0, 0.5].map(f32::exp).iter().sum::<f32>().ln();
        let found = finished.unchanged_logprob.expect("it was read");
        assert!((found - plain).abs() < 1e-5, "{found}, not {plain}");
    }

    #[test]
    fn who_waits_longest_is_served_first() {
        let inbox = Arc::new(Inbox::new());
        let (sender, receiver) = mpsc::sync_channel(3);
        let budget = Budget {
            step_tokens: 16,
            running: 1,
            pages: 64,
        };
        let mut worker = Worker::new(Scripted, budget, Thrift::Measured, Arc::clone(&inbox));
        let now = Instant::now();
        for (token, second) in [(1, 3), (4, 1), (7, 2)] {
            let since = now + Duration::from_secs(second);
            inbox.push(job(token, 1_000, since, Line(token, sender.clone(), false)));
        }
        // All of them wait for the scheduler at once, in the order of arrival, whatever the inbox
        // makes of it.
        inbox
            .take(3, false, &mut worker.arrivals)
            .expect("it is open");
        worker.arrivals.sort_by_key(|job| job.prompt[0]);
        worker.accept();
        drop(sender);
        inbox.close();
        thread::spawn(|| worker.run())
            .join()
            .expect("a worker never panics");
        let order: Vec<u32> = receiver.iter().map(|(token, _)| token).collect();
        assert_eq!(order, [4, 7, 1]);
    }

    #[test]
    fn a_panic_answers_the_rows_of_its_step_and_the_worker_goes_on() {
        // Two at a time: 1 and 666 share a step.
        let answers = serve(&[1, 666, 3, 4], 1_000, 2);
        let failed: Vec<u32> = answers
            .iter()
            .filter(|(_, result)| matches!(result, Err(AlignError::BatchFailed(_))))
            .map(|(token, _)| *token)
            .collect();
        assert_eq!(failed, [1, 666]);
        assert_eq!(answers.len(), 4);
        assert_eq!(ended(&answers[1].1).0, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_lost_device_stops_who_asked_and_costs_no_record() {
        // Two at a time: 1 and 777 share a step.
        let answers = serve(&[1, 777, 3, 4], 1_000, 2);
        let lost: Vec<(u32, String)> = answers
            .iter()
            .filter_map(|(token, result)| match result {
                Err(AlignError::Stopped(problem)) => Some((*token, problem.clone())),
                _ => None,
            })
            .collect();
        let problem = "the device failed: fell off the bus".to_owned();
        assert_eq!(lost, [(1, problem.clone()), (777, problem)]);
        assert_eq!(ended(&answers[1].1).0, [4, 5, 6, 7, 8]);
    }

    #[test]
    fn logits_that_are_no_numbers_end_their_row_alone() {
        let answers = serve(&[1, 11, 13, 21], 1_000, 8);
        assert_eq!(ended(&answers[0].1).0.len(), 5);
        assert_eq!(ended(&answers[1].1), (&[12, 13][..], End::NotFinite));
        assert_eq!(ended(&answers[2].1), (&[][..], End::NotFinite));
        assert_eq!(ended(&answers[3].1).0.len(), 5);
    }

    #[test]
    fn a_worker_takes_no_more_than_it_has_places_for_and_leaves_the_rest_to_others() {
        let inbox = Arc::new(Inbox::new());
        let (sender, _receiver) = mpsc::sync_channel(5);
        for token in 1..=5 {
            let line = Line(token, sender.clone(), false);
            inbox.push(job(token, 1_000, Instant::now(), line));
        }
        let budget = Budget {
            step_tokens: 16,
            running: 2,
            pages: 64,
        };
        let worker = || Worker::new(Scripted, budget, Thrift::Measured, Arc::clone(&inbox));
        let (mut first, mut second) = (worker(), worker());
        assert!(first.take_in());
        // What runs has a place as much as what waits.
        first.scheduler.plan(&mut first.plan);
        assert!(first.take_in() && second.take_in());
        assert_eq!((first.active.len(), second.active.len()), (2, 2));
        let id = first.plan[0].id;
        first.finish(id, Ok(End::Stop));
        assert!(first.take_in());
        assert_eq!((first.active.len(), first.next_id), (2, 3));
    }

    #[test]
    fn nothing_is_kept_of_a_request_that_nobody_waits_for() {
        let (sender, _receiver) = mpsc::sync_channel(1);
        let budget = Budget {
            step_tokens: 16,
            running: 2,
            pages: 64,
        };
        let mut worker = Worker::new(Scripted, budget, Thrift::Measured, Arc::new(Inbox::new()));
        let gone = job(1, 1_000, Instant::now(), Line(1, sender, true));
        worker.arrivals.push(gone);
        worker.accept();
        worker.drafts.insert(0, vec![2, 3]);
        worker.drop_abandoned();
        assert!(worker.active.is_empty() && worker.scheduler.is_idle());
        assert!(worker.drafts.is_empty());
    }

    #[test]
    fn requests_that_nobody_waits_for_are_dropped() {
        let answers = serve(&[1, -40, 3], 1_000, 8);
        assert_eq!(
            answers.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
            [1, 3]
        );
    }
}
