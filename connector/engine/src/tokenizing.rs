//! One thread that turns texts into tokens, off the workers' path; longest waiting first.
//!
//! Its queue needs no bound of its own: the engine takes no more than `max_queued` unfinished
//! requests, wherever they are, and a pipeline asks for no more than `max_batches_in_flight` times
//! `max_batch_records` of them at once.
//!
//! The library that encodes panics on some texts with some tokenizers. Such a text is refused alone,
//! and a tokenizer that panics on any is refused at load. If the thread ends nevertheless, its queue
//! ends with it: nobody waits for what nobody serves.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use aligner::{AlignError, prompt::Template};
use aligner_checkpoint::CheckpointError;
use aligner_tokens::{EncodeError, Texts};

use crate::{
    LoadError,
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
    /// Queues requests. If nobody serves the queue any more they are dropped, which answers them.
    pub(crate) fn push(&self, requests: impl Iterator<Item = Request>) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            requests.for_each(drop);
            return;
        }
        for request in requests {
            state.requests.push(request.waiting_since(), request);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// No more requests come; those that are here are still served.
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
        let _ends = EndsWithItsThread(self);
        while let Some(request) = self.next() {
            if request.ticket.is_gone() {
                continue;
            }
            match survived(|| rules.prompt(&request.text)) {
                Some(Ok(Prompt::Tokens { tokens, expected })) => {
                    inbox.push(rules.job(tokens, expected, request));
                }
                Some(Ok(Prompt::Settled(bypass))) => {
                    request.ticket.send(Ok(Answer::Settled(bypass)));
                }
                Some(Err(error)) => request.ticket.send(Err(error)),
                None => request.ticket.send(Err(AlignError::Rejected(format!(
                    "{} cannot encode this text: its tokenizer panicked",
                    rules.tokenizer_file
                )))),
            }
        }
    }
}

/// Closes the queue when its thread ends, however it ends, and drops what is still in it.
struct EndsWithItsThread<'a>(&'a TokenizerQueue);

impl Drop for EndsWithItsThread<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let left = mem::take(&mut state.requests);
        drop(state);
        // Whoever is answered may ask again, which takes the lock.
        drop(left);
    }
}

/// What came of it, unless it panicked. The payload of a panic may quote a text, so it stays out.
fn survived<T>(encode: impl FnOnce() -> T) -> Option<T> {
    // Nothing of a tokenizer changes while it encodes, but caches that are valid at any time.
    catch_unwind(AssertUnwindSafe(encode)).ok()
}

/// Refuses a tokenizer that panics on a prompt as plain as any; `file` is what errors call it. One
/// that merely has no tokens for the text refuses texts one by one.
pub(crate) fn rehearse(texts: &Texts, template: &Template, file: &str) -> Result<(), LoadError> {
    const PLAIN: &str = "What is 1 + 1? It is two.";
    let prompt = || -> Result<String, EncodeError> {
        texts.encode_plain(PLAIN)?;
        let tokens = texts.encode_pieces(&template.pieces(PLAIN, PLAIN))?;
        texts.decode(&tokens)
    };
    if survived(prompt).is_some() {
        return Ok(());
    }
    Err(CheckpointError::Malformed {
        file: file.to_owned(),
        problem: format!("the tokenizer panics on the prompt of a text as plain as {PLAIN:?}"),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicUsize},
        time::Instant,
    };

    use futures::{StreamExt as _, channel::mpsc, executor::block_on};

    use super::*;
    use crate::request::{Text, Ticket};

    #[test]
    fn what_waits_for_a_thread_that_has_ended_is_answered_and_so_is_what_comes_after() {
        let queue = TokenizerQueue::default();
        let (sender, receiver) = mpsc::channel(4);
        let unfinished: Arc<AtomicUsize> = Arc::default();
        let requests = |indices: std::ops::Range<usize>| {
            let (sender, unfinished) = (sender.clone(), Arc::clone(&unfinished));
            indices.map(move |index| {
                let ticket = Ticket::new(index, sender.clone(), Arc::clone(&unfinished));
                Request {
                    text: Text::Raw("a text".to_owned()),
                    ticket,
                    submitted: Instant::now(),
                }
            })
        };
        queue.push(requests(0..2));
        drop(EndsWithItsThread(&queue));
        queue.push(requests(2..4));
        drop(sender);
        let answers: Vec<(usize, bool)> = block_on(
            receiver
                .map(|(index, answer)| (index, matches!(answer, Err(AlignError::Stopped(_)))))
                .collect(),
        );
        assert_eq!(answers, [(0, true), (1, true), (2, true), (3, true)]);
    }
}
