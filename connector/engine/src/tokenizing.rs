//! One thread that turns texts into tokens, off the workers' path; longest waiting first.
//!
//! Its queue needs no bound of its own: the engine takes no more than `max_queued` unfinished
//! requests, wherever they are, and a pipeline asks for no more than `max_batches_in_flight` times
//! `max_batch_records` of them at once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{
    inbox::Inbox,
    job::Reply as _,
    oldest_first::OldestFirst,
    request::{Answer, Request},
    rules::{Prompt, Rules},
};

/// Requests on their way to being tokens.
#[derive(Default)]
pub(crate) struct TokenizerQueue {
    state: Mutex<QueueState>,
    arrived: Condvar,
}

#[derive(Default)]
struct QueueState {
    requests: OldestFirst<Request>,
    closed: bool,
}

impl TokenizerQueue {
    pub(crate) fn push(&self, requests: impl Iterator<Item = Request>) {
        let mut state = self.lock();
        for request in requests {
            state.requests.push(request.waiting_since(), request);
        }
        drop(state);
        self.arrived.notify_one();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Request> {
        let mut state = self.lock();
        loop {
            if let Some(request) = state.requests.pop() {
                return Some(request);
            }
            if state.closed {
                return None;
            }
            state = self
                .arrived
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn run(&self, rules: &Rules, inbox: &Inbox) {
        while let Some(request) = self.next() {
            if request.ticket.is_gone() {
                continue;
            }
            match rules.prompt(&request.text) {
                Ok(Prompt::Tokens { tokens, expected }) => {
                    inbox.push(rules.job(tokens, expected, request));
                }
                Ok(Prompt::Settled(reason)) => request.ticket.send(Ok(Answer::Settled(reason))),
                Err(error) => request.ticket.send(Err(error)),
            }
        }
    }
}
