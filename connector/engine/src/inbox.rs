//! Requests on their way to the workers: one queue, from which each worker takes what it has room
//! for, longest waiting first.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use aligner::AlignError;

use crate::{job::Job, oldest_first::OldestFirst};

/// Requests on their way to the workers.
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
}

#[derive(Default)]
struct InboxState {
    jobs: OldestFirst<Job>,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
        }
    }

    pub(crate) fn push(&self, job: Job) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            job.reply.answer(Err(AlignError::Stopped(
                "the engine was shut down".to_owned(),
            )));
            return;
        }
        state.jobs.push(job.waiting_since, job);
        self.arrived.notify_one();
    }

    /// No more requests come; those that are here are still answered.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Nobody takes anything any more: what is here, and what still comes, is told so.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let left = mem::take(&mut state.jobs);
        drop(state);
        self.arrived.notify_all();
        // Whoever is answered may ask again, which takes the lock.
        drop(left);
    }

    /// Up to `most` requests; waits for one if `wait`. `None` when there will be no more.
    pub(crate) fn take(&self, most: usize, wait: bool, jobs: &mut Vec<Job>) -> Option<()> {
        let mut state = self.lock();
        while wait && state.jobs.is_empty() && !state.closed {
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.jobs.is_empty() && state.closed {
            return None;
        }
        jobs.extend(std::iter::from_fn(|| state.jobs.pop()).take(most));
        Some(())
    }

    /// The state is valid between any two of its operations, so a poisoned lock is no obstacle.
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::job::{Finished, Reply};

    struct Nobody;

    impl Reply for Nobody {
        fn is_gone(&self) -> bool {
            true
        }

        fn answer(self: Box<Self>, _: Result<Finished, AlignError>) {}
    }

    fn job(token: u32, waiting_since: Instant) -> Job {
        Job {
            prompt: vec![token],
            max_new: 1,
            expected: 1,
            stop: Arc::new([]),
            stop_first: None,
            forced: None,
            penalty: None,
            sampler: None,
            gives_up: false,
            drafter: None,
            waiting_since,
            submitted: waiting_since,
            reply: Box::new(Nobody),
        }
    }

    #[test]
    fn a_request_that_is_tried_again_goes_before_all_that_came_since() {
        let start = Instant::now();
        let inbox = Inbox::new();
        for (token, second) in [(1, 5), (2, 5), (3, 9), (4, 2)] {
            inbox.push(job(token, start + Duration::from_secs(second)));
        }
        let mut taken = Vec::new();
        inbox.take(3, false, &mut taken).expect("it is open");
        let order: Vec<u32> = taken.iter().map(|job| job.prompt[0]).collect();
        assert_eq!(order, [4, 1, 2]);
    }
}
