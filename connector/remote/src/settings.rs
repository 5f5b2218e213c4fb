//! Which server, which model, and the limits of patience.

use std::{num::NonZeroU32, time::Duration};

use aligner::{Decoding, Profile};
use aligner_http::Secret;
use thiserror::Error;

/// Settings of a [`RemoteAligner`](crate::RemoteAligner).
#[derive(Debug, Clone)]
pub struct RemoteSettings {
    /// Base URL with its version, such as `http://vllm:8000/v1`.
    pub url: String,
    /// Name of the model, as the server lists it.
    pub model: String,
    /// Bearer token, where the server wants one.
    pub api_key: Option<Secret>,
    /// Recorded as the Aligner's revision; where absent, the id and root that the server lists.
    pub revision: Option<String>,
    /// The model's template and guard.
    pub profile: Profile,
    /// Whether the server puts in front of the prompt what its tokenizer begins a sequence with;
    /// `None` leaves that to the server. vLLM does so unless told otherwise, and a template that has
    /// special tokens says itself where a sequence begins. It is no field of OpenAI's, which refuses
    /// a request for one that it does not know.
    pub add_special_tokens: Option<bool>,
    /// How it decodes.
    pub decoding: Decoding,
    /// Most requests in flight, over all batches.
    pub max_concurrency: NonZeroU32,
    /// Longest time for one request, from connecting to its last byte, all attempts and pauses
    /// together. So an attempt that hangs is the last, and whoever waits for the answer needs to be
    /// no more patient than this to tell a server that is away from a request that never ends.
    pub timeout: Duration,
    /// Most attempts for one request, the first included.
    pub max_attempts: NonZeroU32,
    /// Pause before the second attempt; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest pause, also where the server asks for a longer one.
    pub max_pause: Duration,
}

impl RemoteSettings {
    /// The defaults for a model of a server.
    pub fn new(url: impl Into<String>, model: impl Into<String>, profile: Profile) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            api_key: None,
            revision: None,
            profile,
            add_special_tokens: None,
            decoding: Decoding::default(),
            max_concurrency: NonZeroU32::new(64).expect("not zero"),
            timeout: Duration::from_secs(60),
            max_attempts: NonZeroU32::new(5).expect("not zero"),
            first_pause: Duration::from_millis(250),
            max_pause: Duration::from_secs(10),
        }
    }
}

/// Why there is no [`RemoteAligner`](crate::RemoteAligner).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RemoteError {
    /// The server is out of reach for now: try again.
    #[error("the completions server at {url} is unavailable: {cause}")]
    Unavailable {
        /// Its base URL.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The server answered, and said no: settings must be changed.
    #[error("the completions server at {url} refused: {cause}")]
    Refused {
        /// Its base URL.
        url: String,
        /// Why, and what helps.
        cause: String,
    },
    /// The settings cannot be used.
    #[error("the completions server's settings cannot be used: {0}")]
    Settings(String),
}
