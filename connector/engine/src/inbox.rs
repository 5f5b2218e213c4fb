//! Requests on their way to the workers: one queue, from which each worker takes what it has room
//! for.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use aligner::AlignError;

use crate::job::Job;

/// Requests on their way to the workers.
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    arrived: Condvar,
}

#[derive(Default)]
struct InboxState {
    jobs: VecDeque<Job>,
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
        state.jobs.push_back(job);
        self.arrived.notify_one();
    }

    /// No more requests come; those that are here are still answered.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
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
        let count = most.min(state.jobs.len());
        jobs.extend(state.jobs.drain(..count));
        Some(())
    }

    /// The state is valid between any two of its operations, so a poisoned lock is no obstacle.
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
