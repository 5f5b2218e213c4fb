//! The engine below its texts: token ids in, logits and token ids out.
//!
//! For parity with other implementations and for benchmarks; needs no tokenizer.

use std::{
    sync::{Arc, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use aligner::AlignError;

use crate::{
    Description, EngineOptions, LoadError, Speculation,
    backend::{Backend, Outcome, PAGE_TOKENS, Step},
    draft::{Drafter, Mixture, Past},
    inbox::Inbox,
    job::{End, Finished, Job, Reply, not_finite},
    load::Loaded,
    scheduler::Budget,
    worker::{Work, Worker},
};

/// A checkpoint that answers in token ids.
pub struct Probe {
    loaded: Loaded,
    speculation: Speculation,
    past: Arc<Past>,
}

/// A request of [`Probe::run`].
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// How the output goes on.
    pub output: Output,
}

/// What a [`TokenRequest`] decodes.
#[derive(Debug, Clone)]
pub enum Output {
    /// Greedy tokens up to a stop token of the checkpoint, or so many.
    Greedy(usize),
    /// So many greedy tokens, stop tokens included.
    Exactly(usize),
    /// These tokens, whatever the model says; it says its best token at each.
    Forced(Vec<u32>),
}

/// What became of the requests of [`Probe::run`].
#[derive(Debug, Clone)]
pub struct Run {
    /// For each request its decoded tokens, or with forced ones the best token at each place.
    pub tokens: Vec<Vec<u32>>,
    /// From the first admission to the last token.
    pub elapsed: Duration,
    /// What the worker did meanwhile.
    pub work: Work,
}

impl Probe {
    /// Loads a checkpoint; `profile`, `decoding` and all but the first device are not used.
    ///
    /// # Errors
    /// As [`Engine::load`](crate::Engine::load).
    pub fn load(options: &EngineOptions) -> Result<Self, LoadError> {
        let loaded = Loaded::load(options)?;
        // A device that cannot take the model is found here.
        drop(loaded.backend(0)?);
        Ok(Self {
            loaded,
            speculation: options.speculation,
            past: Past::new(options.limits.history_tokens),
        })
    }

    /// A backend of its own, on the first device.
    fn backend(&self) -> Box<dyn Backend> {
        let backend = self.loaded.backend(0);
        backend.unwrap_or_else(|error| panic!("{error}"))
    }

    /// What was loaded.
    pub fn describe(&self) -> &Description {
        &self.loaded.description
    }

    /// Logits at the last `rows` positions of each prompt, computed in one ragged batch, in
    /// passes of at most `chunk` tokens of each prompt.
    ///
    /// # Panics
    /// If a prompt is empty or all together do not fit the key-value store.
    pub fn logits(&self, prompts: &[Vec<u32>], rows: usize, chunk: usize) -> Vec<Vec<Vec<f32>>> {
        let mut backend = self.backend();
        let mut next_page = 0;
        let tables: Vec<Vec<u32>> = prompts
            .iter()
            .map(|prompt| {
                let count = prompt.len().div_ceil(PAGE_TOKENS) as u32;
                next_page += count;
                (next_page - count..next_page).collect()
            })
            .collect();
        assert!(
            next_page as usize <= self.loaded.budget.pages,
            "the prompts fit the store"
        );
        let mut logits = vec![Vec::new(); prompts.len()];
        let (mut step, mut outcome) = (Step::default(), Outcome::default());
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        for start in (0..longest).step_by(chunk) {
            step.clear();
            let mut owners = Vec::new();
            for (index, prompt) in prompts.iter().enumerate() {
                let end = prompt.len().min(start + chunk);
                if start >= end {
                    continue;
                }
                let wanted = end.saturating_sub(start.max(prompt.len().saturating_sub(rows)));
                step.push(&prompt[start..end], start, wanted, &tables[index]);
                owners.extend(std::iter::repeat_n(index, wanted));
            }
            step.wants_logits = true;
            backend
                .forward(&step, &mut outcome)
                .unwrap_or_else(|error| panic!("{error}"));
            for (row, owner) in owners.into_iter().enumerate() {
                let vocab = backend.vocab();
                logits[owner].push(outcome.logits[row * vocab..][..vocab].to_vec());
            }
        }
        logits
    }

    /// Serves all requests, in the order given, as the engine would had they come so.
    ///
    /// # Errors
    /// If a request does not fit the context or its logits are not finite.
    ///
    /// # Panics
    /// If the operating system gives no thread.
    pub fn run(&self, requests: &[TokenRequest]) -> Result<Run, AlignError> {
        self.run_in(requests, self.loaded.budget.running)
    }

    /// The same with at most `slots` sequences at a time.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_in(&self, requests: &[TokenRequest], slots: usize) -> Result<Run, AlignError> {
        let inbox = Arc::new(Inbox::new());
        let budget = Budget {
            running: slots.max(1),
            ..self.loaded.budget
        };
        let worker = Worker::new(
            self.backend(),
            budget,
            self.speculation.thrift(),
            Arc::clone(&inbox),
        );
        let work = worker.work();
        let (sender, receiver) = mpsc::sync_channel(requests.len().max(1));
        let capacity = self
            .loaded
            .description
            .context
            .min(self.loaded.budget.pages * PAGE_TOKENS);
        let submitted = Instant::now();
        for (index, request) in requests.iter().enumerate() {
            let (count, forced) = match &request.output {
                Output::Greedy(count) | Output::Exactly(count) => (*count, None),
                Output::Forced(tokens) => (tokens.len(), Some(tokens.clone())),
            };
            if request.prompt.is_empty() || count == 0 || request.prompt.len() + count > capacity {
                return Err(AlignError::Rejected(format!(
                    "request {index} has {} + {count} tokens; room is for {capacity}",
                    request.prompt.len()
                )));
            }
            let stops = matches!(request.output, Output::Greedy(_));
            inbox.push(Job {
                prompt: request.prompt.clone(),
                max_new: count,
                expected: count,
                stop: if stops {
                    self.loaded.eos.clone().into()
                } else {
                    Arc::new([])
                },
                stop_first: None,
                forced,
                penalty: (self.loaded.penalty.as_ref())
                    .map(|penalty| penalty.after(&request.prompt)),
                sampler: None,
                gives_up: false,
                drafter: (self.speculation != Speculation::Off)
                    .then(|| Box::new(Mixture::new(&self.past)) as Box<dyn Drafter>),
                waiting_since: submitted,
                submitted,
                reply: Box::new(Channel {
                    index,
                    sender: sender.clone(),
                }),
            });
        }
        inbox.close();
        drop(sender);
        let started = Instant::now();
        let mut tokens = vec![Vec::new(); requests.len()];
        let worker = thread::Builder::new()
            .name("aligner-probe".to_owned())
            .spawn(move || worker.run())
            .expect("the operating system gives a thread");
        for (index, result) in receiver {
            let finished = result?;
            if finished.end == End::NotFinite {
                return Err(not_finite());
            }
            tokens[index] = finished.tokens;
        }
        let elapsed = started.elapsed();
        worker
            .join()
            .expect("a worker survives the panics of its steps");
        let work = *work.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Run {
            tokens,
            elapsed,
            work,
        })
    }
}

/// What a device can do at best.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// Multiply-adds of the engine's own product of 1,024 × 4,096 × 4,096.
    pub multiply_adds_per_s: f64,
    /// Bytes read from memory.
    pub bytes_per_s: f64,
}

/// Measures the device of a model in its precision and with its kernels; takes a second or two.
///
/// # Panics
/// If a device fails.
pub fn measure_machine(probe: &Probe) -> Machine {
    let (multiply_adds_per_s, bytes_per_s) = probe.loaded.measure();
    Machine {
        multiply_adds_per_s,
        bytes_per_s,
    }
}

/// What drafting came to in [`replay_drafts`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Drafting {
    /// Decoded tokens, the first of each output excepted: it comes from the prompt's pass.
    pub tokens: usize,
    /// Passes that decode them.
    pub steps: usize,
    /// Drafts checked in them.
    pub drafts: usize,
    /// Time that the drafter took.
    pub elapsed: Duration,
}

/// Replays recorded outputs against the drafter alone, without a model: each draft is accepted if
/// it is what was recorded. `requests` are prompts and outputs; drafts are checked from a chance
/// of `worth` on. Outputs are remembered only where they are given as `history`.
pub fn replay_drafts(
    history: &[&[u32]],
    requests: &[(&[u32], &[u32])],
    worth: f32,
    most: usize,
) -> Drafting {
    let past = Past::new(usize::MAX);
    history.iter().for_each(|output| past.remember(output));
    let mut total = Drafting::default();
    let mut drafts = Vec::new();
    for (prompt, output) in requests {
        let mut tokens = [prompt, &output[..output.len().min(1)]].concat();
        let first = tokens.len();
        let started = Instant::now();
        let mut drafter = Mixture::new(&past);
        while tokens.len() - prompt.len() < output.len() {
            let done = tokens.len() - prompt.len();
            drafts.clear();
            drafter.propose(
                &tokens,
                most.min(output.len() - done - 1),
                worth,
                &mut drafts,
            );
            let follows = drafts.iter().zip(&output[done..]);
            let right = follows.take_while(|(draft, token)| draft == token).count();
            tokens.extend_from_slice(&output[done..=done + right]);
            total.steps += 1;
            total.drafts += drafts.len();
        }
        total.elapsed += started.elapsed();
        total.tokens += tokens.len() - first;
    }
    total
}

struct Channel {
    index: usize,
    sender: mpsc::SyncSender<(usize, Result<Finished, AlignError>)>,
}

impl Reply for Channel {
    fn is_gone(&self) -> bool {
        false
    }

    fn answer(self: Box<Self>, result: Result<Finished, AlignError>) {
        // Fails only when the run was given up.
        let _ = self.sender.send((self.index, result));
    }
}
