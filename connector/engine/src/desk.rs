//! The desk: one thread that turns texts into tokens, off the workers' path; longest waiting first.

use std::{
    collections::BTreeMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    inbox::Inbox,
    job::Reply as _,
    request::{Answer, Request},
    rules::{Prompt, Rules},
};

/// Requests on their way to being tokens.
#[derive(Default)]
pub(crate) struct Desk {
    state: Mutex<DeskState>,
    arrived: Condvar,
}

#[derive(Default)]
struct DeskState {
    /// By the time since which they wait, then by arrival.
    requests: BTreeMap<(Instant, u64), Request>,
    arrivals: u64,
    closed: bool,
}

impl Desk {
    pub(crate) fn push(&self, requests: impl Iterator<Item = Request>) {
        let mut state = self.lock();
        for request in requests {
            let arrival = state.arrivals;
            state.arrivals += 1;
            let place = (request.waiting_since(), arrival);
            state.requests.insert(place, request);
        }
        drop(state);
        self.arrived.notify_one();
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Request> {
        let mut state = self.lock();
        loop {
            if let Some((_, request)) = state.requests.pop_first() {
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
