//! The engine as an [`Aligner`]: texts in, corrections out, everything heavy on its own threads.
//!
//! ```text
//! align() → desk thread: guard, tokens → inbox → one worker thread per device
//!                                                        │ tokens
//! Completions ← decode, guard, in the caller's poll ←────┘
//! ```
//!
//! Queues are bounded by `max_queued` requests in all; beyond it requests are refused as
//! unavailable, to be tried again. Dropping the stream drops its requests at their next step.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Decoding, Identity,
    Outcome, Profile, Timing, Usage, guard::Confidence, reason,
};
use aligner_tokens::{EncodeError, Texts};
use futures::{StreamExt, channel::mpsc};

use crate::{
    Description, EngineOptions, LoadError, Speculation,
    draft::{Drafter, Mixture, Past},
    inbox::Inbox,
    job::{End, Finished, Job, Reply},
    load::Loaded,
    probe::not_finite,
    sampler::Sampler,
    worker::Worker,
};

/// A loaded Aligner; clones share it. Its threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What the model made of a raw prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct RawCompletion {
    /// The decoded text, special tokens left out.
    pub text: String,
    /// The decoded tokens, the end-of-sequence token included.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Whether the length limit ended it.
    pub truncated: bool,
    /// Where its time went.
    pub timing: Timing,
}

struct Shared {
    identity: Identity,
    description: Description,
    rules: Arc<Rules>,
    desk: Arc<Desk>,
    unfinished: Arc<AtomicUsize>,
    max_queued: usize,
    inbox: Arc<Inbox>,
    threads: Vec<JoinHandle<()>>,
}

/// All that turns a request into a job and its tokens into an outcome.
struct Rules {
    texts: Texts,
    profile: Profile,
    decoding: Decoding,
    stop: Arc<[u32]>,
    unchanged: Option<u32>,
    context: usize,
    vocab: usize,
    /// What drafts are made from; none without speculation.
    past: Option<Arc<Past>>,
}

impl Engine {
    /// Loads a checkpoint and starts its threads.
    ///
    /// # Errors
    /// If the checkpoint, the profile or an option cannot be used; nothing is left running.
    pub fn load(options: EngineOptions) -> Result<Self, LoadError> {
        let mut loaded = Loaded::load(&options)?;
        let texts = loaded.texts()?;
        let profile = loaded.profile(options.profile.as_ref());
        let unchanged = profile
            .unchanged_token
            .as_ref()
            .map(|token| {
                texts.special(token).ok_or_else(|| LoadError::Setting {
                    setting: "unchanged_token",
                    value: token.clone(),
                    problem: "is not a special token of this tokenizer.json".to_owned(),
                })
            })
            .transpose()?;
        let identity = Identity {
            name: profile.name.clone(),
            revision: loaded.revision(&profile),
            template_hash: profile.template.hash(),
            decoding: options.decoding.clone(),
        };
        let capacity = loaded.budget.pages * crate::backend::PAGE_TOKENS;
        let rules = Arc::new(Rules {
            texts,
            profile,
            stop: loaded.eos.clone().into(),
            unchanged,
            context: loaded.description.context.min(capacity),
            vocab: loaded.description.vocab,
            // What is sampled is not guessed.
            past: (options.speculation != Speculation::Off && options.decoding.temperature <= 0.0)
                .then(|| Past::new(options.limits.history_tokens)),
            decoding: options.decoding,
        });
        let inbox = Arc::new(Inbox::new());
        let desk = Arc::new(Desk::default());
        let mut threads = Vec::new();
        let mut start = |name: String, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name).spawn(run);
            threads.push(thread.expect("the operating system gives a thread at start"));
        };
        for (index, &workers) in loaded.threads.iter().enumerate() {
            let worker = Worker::new(
                loaded.cpu(workers),
                loaded.budget,
                options.speculation.thrift(),
                Arc::clone(&inbox),
            );
            start(
                format!("aligner-worker-{index}"),
                Box::new(move || worker.run()),
            );
        }
        let (at_desk, rules_there, inbox_there) =
            (Arc::clone(&desk), Arc::clone(&rules), Arc::clone(&inbox));
        start(
            "aligner-desk".to_owned(),
            Box::new(move || at_desk.run(&rules_there, &inbox_there)),
        );
        Ok(Self {
            shared: Arc::new(Shared {
                identity,
                description: loaded.description,
                rules,
                desk,
                unfinished: Arc::default(),
                max_queued: options.limits.max_queued,
                inbox,
                threads,
            }),
        })
    }

    /// What was loaded.
    pub fn describe(&self) -> &Description {
        &self.shared.description
    }

    /// Template and guard in use.
    pub fn profile(&self) -> &Profile {
        &self.shared.rules.profile
    }

    /// Completes a prompt as it is: tokenised as `tokenizer.json` says, no template, no guard.
    pub fn raw(
        &self,
        prompt: String,
    ) -> impl Future<Output = Result<RawCompletion, AlignError>> + Send + 'static {
        let mut answers = self.submit(vec![Text::Raw(prompt)]);
        let rules = Arc::clone(&self.shared.rules);
        async move {
            let (_, result) = answers.next().await.ok_or_else(stopped)?;
            match result? {
                Answer::Settled(reason) => Err(AlignError::Rejected(format!(
                    "the prompt leaves no room in a context of {} tokens ({reason})",
                    rules.context
                ))),
                Answer::Decoded(finished) => rules.raw_completion(finished),
            }
        }
    }

    /// Sends requests to the desk, or refuses them all.
    fn submit(&self, texts: Vec<Text>) -> mpsc::Receiver<(usize, Result<Answer, AlignError>)> {
        let shared = &self.shared;
        let count = texts.len();
        let (sender, receiver) = mpsc::channel(count);
        let before = shared.unfinished.fetch_add(count, Ordering::Relaxed);
        let tickets: Vec<Ticket> = (0..count)
            .map(|index| Ticket {
                index,
                sender: Some(sender.clone()),
                unfinished: Arc::clone(&shared.unfinished),
            })
            .collect();
        // A batch that alone exceeds the bound is taken when nothing else is here.
        if before > 0 && before + count > shared.max_queued {
            for ticket in tickets {
                ticket.send(Err(AlignError::Unavailable(format!(
                    "{before} requests are waiting and {count} more exceed the limit of {}",
                    shared.max_queued
                ))));
            }
            return receiver;
        }
        let submitted = Instant::now();
        shared.desk.push(
            texts
                .into_iter()
                .zip(tickets)
                .map(|(text, ticket)| Request {
                    text,
                    ticket,
                    submitted,
                }),
        );
        receiver
    }
}

impl Aligner for Engine {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let count = batch.len();
        let requests: Arc<[AlignRequest]> = batch.into();
        let texts = requests.iter().cloned().map(Text::Templated).collect();
        let rules = Arc::clone(&self.shared.rules);
        // The engine's threads live as long as somebody waits for their answers.
        let engine = self.clone();
        self.submit(texts)
            .map(move |(index, result)| {
                let _alive = &engine;
                let result = result.and_then(|answer| rules.alignment(&requests[index], answer));
                Completion { index, result }
            })
            .take(count)
            .boxed()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.desk.close();
        self.inbox.close();
        let own = thread::current().id();
        for thread in self.threads.drain(..) {
            // The last handle may be dropped by a thread of the engine itself.
            if thread.thread().id() != own {
                // A thread that panicked has nothing left to end.
                let _ = thread.join();
            }
        }
    }
}

fn stopped() -> AlignError {
    AlignError::Stopped("the engine's threads have ended".to_owned())
}

/// What is to be encoded.
enum Text {
    Templated(AlignRequest),
    Raw(String),
}

struct Request {
    text: Text,
    ticket: Ticket,
    submitted: Instant,
}

/// What comes back for a request that did not fail.
enum Answer {
    /// Bypassed before inference.
    Settled(&'static str),
    Decoded(Finished),
}

/// The right to one answer. Dropped unanswered, it says that the engine has stopped.
struct Ticket {
    index: usize,
    sender: Option<mpsc::Sender<(usize, Result<Answer, AlignError>)>>,
    unfinished: Arc<AtomicUsize>,
}

impl Ticket {
    fn send(mut self, result: Result<Answer, AlignError>) {
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

/// Requests on their way to being tokens.
#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    arrived: Condvar,
}

#[derive(Default)]
struct DeskState {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Desk {
    fn push(&self, requests: impl Iterator<Item = Request>) {
        self.lock().requests.extend(requests);
        self.arrived.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, DeskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Request> {
        let mut state = self.lock();
        loop {
            if let Some(request) = state.requests.pop_front() {
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

    fn run(&self, rules: &Rules, inbox: &Inbox) {
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

enum Prompt {
    Tokens { tokens: Vec<u32>, expected: usize },
    Settled(&'static str),
}

fn rejected(error: EncodeError) -> AlignError {
    AlignError::Rejected(error.to_string())
}

impl Rules {
    /// Encodes a request, unless the guard or the context settles it first.
    fn prompt(&self, text: &Text) -> Result<Prompt, AlignError> {
        let (tokens, expected) = match text {
            Text::Raw(prompt) => (self.texts.encode_raw(prompt).map_err(rejected)?, 64),
            Text::Templated(AlignRequest {
                question, answer, ..
            }) => {
                let guard = &self.profile.guard;
                let count = |text| -> Result<u32, AlignError> {
                    let ids = self.texts.encode_plain(text).map_err(rejected)?;
                    Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
                };
                if question.len() + answer.len() > MOST_BYTES_PER_TOKEN * self.context {
                    return Ok(Prompt::Settled(reason::TOO_LONG));
                }
                if guard.counts_tokens()
                    && let Err(reason) = guard.admit(answer, count(question)?, count(answer)?)
                {
                    return Ok(Prompt::Settled(reason));
                }
                let pieces = self.profile.template.pieces(question, answer);
                let tokens = self.texts.encode_pieces(&pieces).map_err(rejected)?;
                // The output repeats about the answer.
                let expected = tokens.len() * answer.len() / (question.len() + answer.len()).max(1);
                (tokens, expected + 16)
            }
        };
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= self.vocab) {
            return Err(AlignError::Rejected(format!(
                "tokenizer.json gives token id {token}, but config.json says vocab_size = {}",
                self.vocab
            )));
        }
        if tokens.is_empty() {
            return Err(AlignError::Rejected("the prompt has no tokens".to_owned()));
        }
        if tokens.len() >= self.context {
            return Ok(Prompt::Settled(reason::TOO_LONG));
        }
        Ok(Prompt::Tokens { tokens, expected })
    }

    fn job(&self, prompt: Vec<u32>, expected: usize, request: Request) -> Job {
        let most = (self.decoding.max_new_tokens.max(1) as usize).min(self.context - prompt.len());
        let drafter =
            (self.past.as_ref()).map(|past| Box::new(Mixture::new(past)) as Box<dyn Drafter>);
        let templated = matches!(request.text, Text::Templated(_));
        Job {
            max_new: most,
            expected: expected.min(most),
            stop: Arc::clone(&self.stop),
            stop_first: self.unchanged.filter(|_| templated),
            forced: None,
            sampler: Sampler::new(&self.decoding, &prompt),
            gives_up: templated,
            drafter,
            submitted: request.submitted,
            reply: Box::new(request.ticket),
            prompt,
        }
    }

    /// The verdict on decoded tokens.
    fn alignment(&self, request: &AlignRequest, answer: Answer) -> Result<Alignment, AlignError> {
        let finished = match answer {
            Answer::Decoded(finished) => finished,
            Answer::Settled(reason) => {
                return Ok(Alignment {
                    outcome: Outcome::Bypassed(reason),
                    usage: Usage::default(),
                    timing: Timing::default(),
                });
            }
        };
        let outcome = match finished.end {
            End::StopFirst => Outcome::Unchanged,
            End::Length => Outcome::Bypassed(reason::LENGTH_LIMIT),
            End::Repetition => Outcome::Bypassed(reason::REPETITION),
            End::NotFinite => Outcome::Bypassed(reason::NOT_FINITE),
            End::Stop => {
                let text = self.texts.decode(&finished.tokens).map_err(rejected)?;
                let AlignRequest {
                    question, answer, ..
                } = request;
                let confidence = Confidence {
                    mean_logprob: (finished.logprob_sum / finished.tokens.len() as f64) as f32,
                    min_logprob: finished.logprob_min,
                };
                match self
                    .profile
                    .guard
                    .accept(question, answer, &text, Some(confidence))
                {
                    Ok(()) => Outcome::Rewritten(text),
                    Err(reason) => Outcome::Bypassed(reason),
                }
            }
        };
        Ok(Alignment {
            outcome,
            usage: usage(&finished),
            timing: timing(&finished),
        })
    }

    fn raw_completion(&self, finished: Finished) -> Result<RawCompletion, AlignError> {
        if finished.end == End::NotFinite {
            return Err(not_finite());
        }
        Ok(RawCompletion {
            text: self.texts.decode(&finished.tokens).map_err(rejected)?,
            prompt_tokens: usage(&finished).prompt_tokens,
            truncated: finished.end == End::Length,
            timing: timing(&finished),
            token_ids: finished.tokens,
        })
    }
}

/// Texts beyond so many bytes for each position of the context are not worth encoding: the
/// longest tokens of real vocabularies are some dozens of spaces.
const MOST_BYTES_PER_TOKEN: usize = 64;

fn usage(finished: &Finished) -> Usage {
    let count = |tokens| u32::try_from(tokens).unwrap_or(u32::MAX);
    Usage {
        prompt_tokens: count(finished.prompt_tokens),
        correction_tokens: count(finished.tokens.len()),
    }
}

fn timing(finished: &Finished) -> Timing {
    Timing {
        queued: finished.queued,
        inference: finished.inference,
    }
}
