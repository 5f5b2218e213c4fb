//! The Aligner itself: bounded concurrency over all batches, retries within one request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Timing,
    guard::Guard,
};
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, Semaphore},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    RemoteError, RemoteSettings,
    client::Server,
    reply::{self, Asked, Verdict},
    retry,
};

/// An Aligner on a completions server. Clones share its limits and connections.
#[derive(Debug, Clone)]
pub struct RemoteAligner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: Server,
    settings: RemoteSettings,
    identity: Identity,
    slots: Semaphore,
    /// Whether the server has completed a request.
    has_vouched: AtomicBool,
    /// Held by whoever asks whether it would.
    probing: Mutex<()>,
}

/// Body of `POST /completions`.
#[derive(Clone, Copy, Serialize)]
struct Request<'a> {
    model: &'a str,
    prompt: &'a str,
    max_tokens: u32,
    temperature: f64,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// vLLM's and SGLang's own: without it the learnt *unchanged* token would not be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_special_tokens: Option<bool>,
    /// vLLM's own too, see [`RemoteSettings::add_special_tokens`].
    #[serde(skip_serializing_if = "Option::is_none")]
    add_special_tokens: Option<bool>,
    /// How many alternatives to tell the probabilities of; the decoded tokens' come with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u8>,
}

impl Request<'_> {
    /// Settings that a server may refuse every request for, those first that not all servers know.
    fn suspects(&self) -> String {
        let given = [
            (
                self.add_special_tokens.is_some(),
                "aligner.remote.add_special_tokens",
            ),
            (
                self.skip_special_tokens.is_some(),
                "the profile's unchanged_token (it sends skip_special_tokens)",
            ),
            (
                self.logprobs.is_some(),
                "min_mean_logprob and min_token_logprob of the profile's guard (they send logprobs)",
            ),
            (self.top_p.is_some(), "aligner.top_p"),
            (self.seed.is_some(), "aligner.seed"),
            (true, "aligner.temperature, aligner.max_new_tokens"),
        ];
        let names = given.iter().filter(|(is_sent, _)| *is_sent);
        let names: Vec<_> = names.map(|(_, name)| *name).collect();
        names.join(", ")
    }
}

/// Answer of `GET /models`.
#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
    /// vLLM's: the path or name that the weights were loaded from.
    #[serde(default)]
    root: Option<String>,
}

impl RemoteAligner {
    /// Asks the server once whether it serves the model, and what it calls it.
    ///
    /// A server without a list of models is taken at its word when the first answer is asked for.
    ///
    /// # Errors
    /// If the settings cannot be used, the server cannot be reached, or it does not serve the
    /// model.
    pub async fn connect(settings: RemoteSettings) -> Result<Self, RemoteError> {
        let server = Server::new(&settings)?;
        warn_of_unused_limits(&settings);
        warn_of_a_second_beginning(&settings);
        let served = served_revision(&server, &settings.model).await?;
        let identity = Identity {
            name: settings.profile.name.clone(),
            revision: settings.revision.clone().unwrap_or(served),
            template_hash: settings.profile.template.hash(),
            decoding: settings.decoding.clone(),
        };
        let slots = usize::try_from(settings.max_concurrency.get()).unwrap_or(usize::MAX);
        Ok(Self {
            shared: Arc::new(Shared {
                server,
                settings,
                identity,
                slots: Semaphore::new(slots.min(Semaphore::MAX_PERMITS)),
                has_vouched: AtomicBool::new(false),
                probing: Mutex::new(()),
            }),
        })
    }
}

fn wants_logprobs(guard: &Guard) -> bool {
    guard.min_mean_logprob.is_some() || guard.min_token_logprob.is_some()
}

/// What counts tokens before inference cannot be applied: only the server has the tokenizer.
fn warn_of_unused_limits(settings: &RemoteSettings) {
    let guard = &settings.profile.guard;
    for (limit, given) in [
        ("max_question_tokens", guard.max_question_tokens.is_some()),
        ("max_answer_tokens", guard.max_answer_tokens.is_some()),
        ("max_tokens_per_word", guard.max_tokens_per_word.is_some()),
    ] {
        if given {
            tracing::warn!(
                profile = settings.profile.name,
                limit,
                "a completions server cannot apply this limit of the profile's guard; its own \
                 context length bounds prompts instead"
            );
        }
    }
}

/// A model with special tokens of its own has them in its template as a rule, and was trained on
/// that alone.
fn warn_of_a_second_beginning(settings: &RemoteSettings) {
    let profile = &settings.profile;
    if profile.unchanged_token.is_some() && settings.add_special_tokens.is_none() {
        tracing::warn!(
            profile = profile.name,
            "the server may put a token before the prompt that the model in a process does not get: \
             set aligner.remote.add_special_tokens to false where the template has special tokens, \
             or else to true"
        );
    }
}

/// The revision that the server's list of models gives.
async fn served_revision(server: &Server, model: &str) -> Result<String, RemoteError> {
    let url = || server.url().to_owned();
    let refused = |cause: String| RemoteError::Refused { url: url(), cause };
    let reply = server
        .models()
        .await
        .map_err(|cause| RemoteError::Unavailable { url: url(), cause })?;
    if let Some(cause) = reply.redirection() {
        return Err(refused(format!("it {cause}")));
    }
    match reply.status {
        200 => {}
        401 | 403 => {
            return Err(refused(format!(
                "it answered {}: check aligner.remote.api_key",
                reply.status
            )));
        }
        404 | 405 | 501 => return Ok(format!("remote:{model}")),
        status => {
            return Err(RemoteError::Unavailable {
                url: url(),
                cause: format!("it answered {status} to a request for its models"),
            });
        }
    }
    let models: Models = serde_json::from_slice(&reply.body).map_err(|_| {
        refused("its answer is no list of models: check the path in aligner.remote.url".to_owned())
    })?;
    match models.data.iter().find(|served| served.id == model) {
        Some(Model {
            id,
            root: Some(root),
        }) if root != id => Ok(format!("remote:{id}:{root}")),
        Some(Model { id, .. }) => Ok(format!("remote:{id}")),
        None if models.data.is_empty() => Err(refused(format!(
            "it serves no model: have it load {model:?}, or check aligner.remote.url"
        ))),
        None => {
            let served: Vec<_> = models.data.iter().take(10).map(|m| m.id.as_str()).collect();
            Err(refused(format!(
                "it does not serve {model:?}: set aligner.remote.model to one of {served:?}"
            )))
        }
    }
}

impl Shared {
    async fn align(&self, request: &AlignRequest) -> Result<Alignment, AlignError> {
        let arrived = Instant::now();
        let _slot = self
            .slots
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let queued = arrived.elapsed();
        let settings = &self.settings;
        let profile = &settings.profile;
        let prompt = profile.template.render(&request.question, &request.answer);
        let body = self.body(&prompt);
        let asked = Asked {
            url: self.server.url(),
            model: &settings.model,
            unchanged_token: profile.unchanged_token.as_deref(),
            guard: &profile.guard,
            question: &request.question,
            answer: &request.answer,
        };
        let mut failed = 0;
        let deadline = Instant::now() + settings.timeout;
        loop {
            let started = Instant::now();
            let (verdict, retry_after) = self.attempt(&body, asked, deadline).await;
            let inference = started.elapsed();
            let Verdict::Again(cause) = verdict else {
                let (outcome, usage, confidence) = verdict.into_result()?;
                return Ok(Alignment {
                    outcome,
                    usage,
                    timing: Timing { queued, inference },
                    confidence,
                });
            };
            failed += 1;
            let pause = retry::pause(settings, failed, retry_after, retry::chance());
            let is_last =
                failed >= settings.max_attempts.get() || Instant::now() + pause >= deadline;
            if is_last {
                return Err(AlignError::Unavailable(format!(
                    "{cause}, after {failed} attempts"
                )));
            }
            tracing::debug!(
                event_id = %request.event_id,
                failed,
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                cause,
                "asking the completions server again"
            );
            // The slot is kept: a server that asks for a pause gets fewer requests meanwhile.
            sleep(pause).await;
        }
    }

    fn body<'a>(&'a self, prompt: &'a str) -> Request<'a> {
        let settings = &self.settings;
        let profile = &settings.profile;
        let sampled = settings.decoding.temperature > 0.0;
        Request {
            model: &settings.model,
            prompt,
            max_tokens: settings.decoding.max_new_tokens,
            temperature: settings.decoding.temperature,
            stream: false,
            top_p: settings.decoding.top_p.filter(|_| sampled),
            seed: sampled.then_some(settings.decoding.seed),
            skip_special_tokens: profile.unchanged_token.as_ref().map(|_| false),
            add_special_tokens: settings.add_special_tokens,
            logprobs: wants_logprobs(&profile.guard).then_some(1),
        }
    }

    /// One attempt. Until the server has completed a request, a refusal may be meant for what every
    /// request has in common: a harmless one tells, before a record is given up for it.
    async fn attempt(
        &self,
        body: &Request<'_>,
        asked: Asked<'_>,
        deadline: Instant,
    ) -> (Verdict, Option<Duration>) {
        let (verdict, retry_after) = self.ask(body, asked, deadline).await;
        match verdict {
            Verdict::Rejected(cause) if !self.has_vouched() => {
                // Others may ask first, each for as long as it has.
                let told = timeout_at(deadline, self.probe(&cause, body, asked, deadline)).await;
                told.unwrap_or((Verdict::Again(cause), None))
            }
            verdict => (verdict, retry_after),
        }
    }

    /// Asks about two words, with everything else as in the request that was refused for `refused`.
    async fn probe(
        &self,
        refused: &str,
        body: &Request<'_>,
        asked: Asked<'_>,
        deadline: Instant,
    ) -> (Verdict, Option<Duration>) {
        let _alone = self.probing.lock().await;
        let its_own = || (Verdict::Rejected(refused.to_owned()), None);
        if self.has_vouched() {
            return its_own();
        }
        let prompt = self.settings.profile.template.render("Hello?", "Hello.");
        let harmless = Request {
            prompt: &prompt,
            ..*body
        };
        match self.ask(&harmless, asked, deadline).await {
            // Another request may have been completed meanwhile, by one of several servers.
            (Verdict::Rejected(cause), _) if !self.has_vouched() => {
                let told = format!(
                    "{cause} to a question of one word, too, so to every request: see the server's \
                     log, and check {}",
                    body.suspects()
                );
                (Verdict::Stopped(told), None)
            }
            (Verdict::Done(..) | Verdict::Rejected(_), _) => its_own(),
            again_or_stopped => again_or_stopped,
        }
    }

    async fn ask(
        &self,
        body: &Request<'_>,
        asked: Asked<'_>,
        deadline: Instant,
    ) -> (Verdict, Option<Duration>) {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.server.complete(body, left).await {
            Ok(reply) => {
                let verdict = reply::read(&reply, asked);
                // What it finds too long, it may not have looked at.
                if reply.status == 200 && !matches!(verdict, Verdict::Again(_)) {
                    self.has_vouched.store(true, Ordering::Relaxed);
                }
                (verdict, reply.retry_after)
            }
            Err(cause) => (Verdict::Again(cause), None),
        }
    }

    fn has_vouched(&self) -> bool {
        self.has_vouched.load(Ordering::Relaxed)
    }
}

impl Aligner for RemoteAligner {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        // Everything happens within the stream, so that dropping it closes the connections.
        let shared = Arc::clone(&self.shared);
        let width = batch.len().max(1);
        stream::iter(batch.into_iter().enumerate())
            .map(move |(index, request)| {
                let shared = Arc::clone(&shared);
                async move {
                    Completion {
                        index,
                        result: shared.align(&request).await,
                    }
                }
            })
            // The slots bound what is in flight; this only lets the whole batch queue for them.
            .buffer_unordered(width)
            .boxed()
    }
}
