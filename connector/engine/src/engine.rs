//! The engine as an [`Aligner`]: texts in, corrections out, everything heavy on its own threads.
//!
//! ```text
//! align() → tokenizer thread: guard, tokens → inbox → one worker thread per device
//!                                                             │ tokens
//! Completions ← decode, guard, in the caller's poll ←─────────┘
//! ```
//!
//! Queues are bounded by `max_queued` requests in all; beyond it requests are refused as
//! unavailable, to be tried again. Dropping the stream drops its requests at their next step.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Completion, Completions, Decoding, Identity, Profile,
    Timing, prompt::Template,
};
use aligner_checkpoint::CheckpointError;
use aligner_tokens::Texts;
use futures::{StreamExt, channel::mpsc};

use crate::{
    Description, EngineOptions, LoadError, Speculation,
    draft::Past,
    inbox::Inbox,
    liveness::Liveness,
    load::Loaded,
    request::{Answer, Request, Text, Ticket, stopped},
    rules::Rules,
    tokenizing::{TokenizerQueue, rehearse},
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
    /// The decoded text, special tokens and the end-of-sequence token left out.
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
    tokenizing: Arc<TokenizerQueue>,
    unfinished: Arc<AtomicUsize>,
    max_queued: usize,
    inbox: Arc<Inbox>,
    liveness: Liveness,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Loads a checkpoint and starts its threads.
    ///
    /// # Errors
    /// If the checkpoint, the profile or an option cannot be used; nothing is left running.
    pub fn load(mut options: EngineOptions) -> Result<Self, LoadError> {
        Loaded::expect_tokenizer(&options.model)?;
        let mut loaded = Loaded::load(&options)?;
        clamp(&mut options.decoding, loaded.description.context);
        let texts = loaded.texts()?;
        let profile = loaded.profile(options.profile.as_ref());
        let vocab = loaded.description.vocab;
        let unchanged = profile
            .unchanged_token
            .as_ref()
            .map(|token| {
                let refused = |problem| LoadError::Setting {
                    setting: "unchanged_token",
                    value: format!("{token:?}"),
                    problem,
                };
                match texts.special(token) {
                    None => Err(refused(format!(
                        "is not a special token of {}",
                        loaded.tokenizer_file
                    ))),
                    // The model has no logit for it, and would never say it.
                    Some(id) if id as usize >= vocab => Err(refused(beyond(id, vocab))),
                    Some(id) => Ok(id),
                }
            })
            .transpose()?;
        refuse_single_words(&texts, &profile.template, &loaded.tokenizer_file)?;
        refuse_beyond(&texts, &profile.template, vocab, &loaded.tokenizer_file)?;
        rehearse(&texts, &profile.template, &loaded.tokenizer_file)?;
        let identity = Identity {
            name: profile.name.clone(),
            revision: loaded.revision(&profile),
            template_hash: profile.template.hash(),
            decoding: options.decoding.clone(),
        };
        let backends = (0..loaded.workers())
            .map(|worker| loaded.backend(worker))
            .collect::<Result<Vec<_>, _>>()?;
        let capacity = loaded.budget.pages * crate::backend::PAGE_TOKENS;
        let rules = Arc::new(Rules {
            texts,
            tokenizer_file: loaded.tokenizer_file.clone(),
            profile,
            stop: loaded.eos.clone().into(),
            unchanged,
            penalty: loaded.penalty.clone(),
            context: loaded.description.context.min(capacity),
            vocab,
            // What is sampled is not guessed.
            past: (options.speculation != Speculation::Off && options.decoding.temperature <= 0.0)
                .then(|| Past::new(options.limits.history_tokens)),
            decoding: options.decoding,
        });
        let inbox = Arc::new(Inbox::new());
        let tokenizing = Arc::new(TokenizerQueue::default());
        let (mut threads, mut pulses) = (Vec::new(), Vec::new());
        let mut start = |name: String, run: Box<dyn FnOnce() + Send>| {
            let thread = thread::Builder::new().name(name).spawn(run);
            threads.push(thread.expect("the operating system gives a thread at start"));
        };
        for (index, backend) in backends.into_iter().enumerate() {
            let worker = Worker::new(
                backend,
                loaded.budget,
                options.speculation.thrift(),
                Arc::clone(&inbox),
            );
            pulses.push(worker.pulse());
            start(
                format!("aligner-worker-{index}"),
                Box::new(move || worker.run()),
            );
        }
        let (queue_there, rules_there, inbox_there) = (
            Arc::clone(&tokenizing),
            Arc::clone(&rules),
            Arc::clone(&inbox),
        );
        start(
            "aligner-tokens".to_owned(),
            Box::new(move || queue_there.run(&rules_there, &inbox_there)),
        );
        Ok(Self {
            shared: Arc::new(Shared {
                identity,
                description: loaded.description,
                rules,
                tokenizing,
                unfinished: Arc::default(),
                max_queued: options.limits.max_queued,
                inbox,
                liveness: Liveness::of(pulses),
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
                Answer::Settled(bypass) => Err(AlignError::Rejected(
                    bypass.message().unwrap_or(bypass.word).to_owned(),
                )),
                Answer::Decoded(finished) => rules.raw_completion(finished),
            }
        }
    }

    /// Queues requests for the tokenizer, or refuses them all.
    fn submit(&self, texts: Vec<Text>) -> mpsc::Receiver<(usize, Result<Answer, AlignError>)> {
        let shared = &self.shared;
        let count = texts.len();
        let (sender, receiver) = mpsc::channel(count);
        let before = shared.unfinished.fetch_add(count, Ordering::Relaxed);
        let tickets: Vec<Ticket> = (0..count)
            .map(|index| Ticket::new(index, sender.clone(), Arc::clone(&shared.unfinished)))
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
        shared.tokenizing.push(
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

/// No output can be longer than the context. A limit above it is no mistake: the default is the
/// same for every model.
fn clamp(decoding: &mut Decoding, context: usize) {
    let most = u32::try_from(context).unwrap_or(u32::MAX);
    if decoding.max_new_tokens > most {
        tracing::warn!(
            setting = "max_new_tokens",
            value = decoding.max_new_tokens,
            context,
            "prompt and output share the model's context: outputs end there"
        );
        decoding.max_new_tokens = most;
    }
}

/// A token that counts only as a word of its own can be no marker: whether it is one would depend
/// on what stands beside it.
fn refuse_single_words(texts: &Texts, template: &Template, file: &str) -> Result<(), LoadError> {
    let Some(marker) = texts.single_word_marker(template) else {
        return Ok(());
    };
    Err(CheckpointError::Key {
        file: file.to_owned(),
        key: "added_tokens".to_owned(),
        problem: format!(
            "has single_word = true for {}, a marker of the prompt template, which would be \
             text beside a letter or a digit; set it to false",
            marker.escape_debug()
        ),
    }
    .into())
}

/// A marker for which the model has no embedding would make a dead letter of every record.
fn refuse_beyond(
    texts: &Texts,
    template: &Template,
    vocab: usize,
    file: &str,
) -> Result<(), LoadError> {
    let Some((marker, id)) = texts.marker_beyond(template, vocab) else {
        return Ok(());
    };
    Err(CheckpointError::Key {
        file: file.to_owned(),
        key: format!("{marker:?}"),
        problem: beyond(id, vocab),
    }
    .into())
}

/// What is wrong with a token that the model does not have.
fn beyond(id: u32, vocab: usize) -> String {
    format!(
        "is token {id}, but the model's vocab_size is {vocab}; use another token, or resize the \
         embeddings"
    )
}

impl Aligner for Engine {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn work_done(&self) -> u64 {
        self.shared.liveness.done()
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
        self.tokenizing.close();
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
