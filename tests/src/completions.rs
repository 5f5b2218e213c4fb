//! A completions server that does as the test says: holds its answers, takes its time, fails on one
//! prompt.
//!
//! It stands where a real vLLM would, behind the real `remote` Aligner over real HTTP. Tests use
//! it where an Aligner must be slow or must fail, which no Aligner without weights does.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::http::{self, Response};

/// The model that it serves.
pub const MODEL: &str = "scripted";
/// What it answers to every prompt that it does not fail on.
pub const ANSWER: &str = "Here is a better answer than that.";

/// The server. It runs until the test process ends.
#[derive(Debug, Clone)]
pub struct Completions {
    address: SocketAddr,
    script: Arc<Script>,
}

#[derive(Debug, Default)]
struct Script {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    waiting: usize,
    /// Time from one answer to the next, whatever is asked at once.
    pace: Duration,
    next_answer: Option<Instant>,
    /// Text in a prompt, to the status it is answered with.
    failures: BTreeMap<String, u16>,
    /// How often a prompt that contains the text was asked.
    failed: u64,
    asked: u64,
}

impl Completions {
    /// Starts one.
    pub fn start() -> Self {
        let script = Arc::new(Script::default());
        let own = Arc::clone(&script);
        let address = http::serve(move |path, body| {
            let (status, body) = if path.ends_with("/models") {
                (200, json!({"data": [{"id": MODEL}]}))
            } else {
                own.complete(&serde_json::from_slice(body).unwrap_or_default())
            };
            Response {
                status,
                body: body.to_string(),
            }
        });
        Self { address, script }
    }

    /// For `aligner.remote.url`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Holds every answer from now on.
    pub fn hold(&self) {
        self.lock().held = true;
    }

    /// Gives the answers that were held, and those to come.
    pub fn release(&self) {
        self.lock().held = false;
        self.script.changed.notify_all();
    }

    /// Answers so many requests a second from now on, and no more.
    pub fn answer_per_second(&self, answers: u32) {
        self.lock().pace = Duration::from_secs(1) / answers;
    }

    /// Answers as fast as it can from now on.
    pub fn hurry(&self) {
        self.lock().pace = Duration::ZERO;
    }

    /// How many requests wait for [`Completions::release`].
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    /// Answers prompts that contain `text` with `status` from now on.
    pub fn fail_on(&self, text: &str, status: u16) {
        self.lock().failures.insert(text.to_owned(), status);
    }

    /// Fails no more.
    pub fn recover(&self) {
        self.lock().failures.clear();
    }

    /// How many completions were asked for, failed ones included.
    pub fn asked(&self) -> u64 {
        self.lock().asked
    }

    /// How many of them failed.
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.script.lock()
    }
}

impl State {
    /// Takes the next turn to answer, or says how long to wait for it.
    fn turn(&mut self) -> Option<Duration> {
        if self.pace.is_zero() {
            return None;
        }
        let now = Instant::now();
        match self.next_answer {
            Some(next) if next > now => Some(next - now),
            _ => {
                self.next_answer = Some(now + self.pace);
                None
            }
        }
    }
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self, request: &Value) -> (u16, Value) {
        let prompt = request["prompt"].as_str().unwrap_or_default();
        let mut state = self.lock();
        state.asked += 1;
        state.waiting += 1;
        while state.held {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        while let Some(wait) = state.turn() {
            drop(state);
            thread::sleep(wait);
            state = self.lock();
        }
        state.waiting -= 1;
        let failure = state
            .failures
            .iter()
            .find(|(text, _)| prompt.contains(text.as_str()))
            .map(|(_, status)| *status);
        if let Some(status) = failure {
            state.failed += 1;
            return (
                status,
                json!({"error": {"message": "scripted failure", "code": status}}),
            );
        }
        (
            200,
            json!({
                "choices": [{"text": ANSWER, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 9},
            }),
        )
    }
}
