//! A worker on a backend that says the next number.

use std::{sync::mpsc, thread, time::Duration};

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
fn serve(prompts: &[i32], stop: u32, running: usize) -> Vec<(u32, Result<Finished, AlignError>)> {
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

/// Panics where the worker asks it something outside of a step.
struct Trap;

impl Reply for Trap {
    fn is_gone(&self) -> bool {
        panic!("outside of a step");
    }

    fn answer(self: Box<Self>, _: Result<Finished, AlignError>) {}
}

#[test]
fn a_panic_around_a_step_ends_the_engine_and_leaves_nobody_waiting() {
    let inbox = Arc::new(Inbox::new());
    let (line, answers) = mpsc::sync_channel(2);
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let waiting = |token, since| job(token, 1_000, since, Line(token, line.clone(), false));
    inbox.push(Job {
        reply: Box::new(Trap),
        ..waiting(1, now)
    });
    inbox.push(waiting(2, now + second));
    let budget = Budget {
        step_tokens: 16,
        running: 1,
        pages: 64,
    };
    let worker = Worker::new(Scripted, budget, Thrift::Measured, Arc::clone(&inbox));
    let ended = thread::spawn(move || worker.run()).join();
    assert!(ended.is_err(), "the trap was sprung");
    inbox.push(waiting(3, now));
    drop(line);
    let told: Vec<_> = answers.iter().collect();
    let [(3, Err(AlignError::Stopped(_)))] = &told[..] else {
        panic!("the one that came later is told, the earlier one is dropped: {told:?}");
    };
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
    worker.drafts.by_sequence.insert(0, vec![2, 3]);
    worker.drop_abandoned();
    assert!(worker.active.is_empty() && worker.scheduler.is_idle());
    assert!(worker.drafts.by_sequence.is_empty());
}

#[test]
fn requests_that_nobody_waits_for_are_dropped() {
    let answers = serve(&[1, -40, 3], 1_000, 8);
    assert_eq!(
        answers.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
        [1, 3]
    );
}
