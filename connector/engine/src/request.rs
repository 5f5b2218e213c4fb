//! A request on its way in, and the right to its answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use aligner::{AlignError, AlignRequest, reason::Bypass};
use futures::channel::mpsc;

use crate::job::{Finished, Reply};

/// What is to be encoded.
pub(crate) enum Text {
    Templated(AlignRequest),
    Raw(String),
}

/// A text, who asked, and when.
pub(crate) struct Request {
    pub(crate) text: Text,
    pub(crate) ticket: Ticket,
    pub(crate) submitted: Instant,
}

/// What comes back for a request that did not fail.
pub(crate) enum Answer {
    /// Bypassed before inference.
    Settled(Bypass),
    Decoded(Finished),
}

/// The right to one answer. Dropped unanswered, it says that the engine has stopped.
pub(crate) struct Ticket {
    index: usize,
    sender: Option<mpsc::Sender<(usize, Result<Answer, AlignError>)>>,
    unfinished: Arc<AtomicUsize>,
}

impl Ticket {
    /// The right to the answer of number `index`; counted in `unfinished` until it is given.
    pub(crate) fn new(
        index: usize,
        sender: mpsc::Sender<(usize, Result<Answer, AlignError>)>,
        unfinished: Arc<AtomicUsize>,
    ) -> Self {
        Self {
            index,
            sender: Some(sender),
            unfinished,
        }
    }

    pub(crate) fn send(mut self, result: Result<Answer, AlignError>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<Answer, AlignError>) {
        if let Some(mut sender) = self.sender.take() {
            self.unfinished.fetch_sub(1, Ordering::Relaxed);
            // Each sender has a slot of its own; it fails only if nobody waits any more.
            let _ = sender.try_send((self.index, result));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give(Err(stopped()));
    }
}

impl Reply for Ticket {
    fn is_gone(&self) -> bool {
        self.sender.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    fn answer(self: Box<Self>, result: Result<Finished, AlignError>) {
        self.send(result.map(Answer::Decoded));
    }
}

impl Request {
    /// Since when somebody waits for it.
    pub(crate) fn waiting_since(&self) -> Instant {
        match &self.text {
            Text::Templated(asked) => asked.waiting_since,
            Text::Raw(_) => self.submitted,
        }
    }
}

pub(crate) fn stopped() -> AlignError {
    AlignError::Stopped("the engine's threads have ended".to_owned())
}
