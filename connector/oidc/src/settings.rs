//! Which endpoint is asked, as whom, and for what.

use std::{path::PathBuf, time::Duration};

use aligner_http::Secret;
use thiserror::Error;

/// Settings of a [`TokenEndpoint`](crate::TokenEndpoint).
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// URL of the token endpoint.
    pub endpoint: String,
    /// The client's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What the token shall be good for; words separated by spaces.
    pub scope: Option<String>,
    /// PEM file with the authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Longest time for an answer to begin, and once more for it to end.
    pub timeout: Duration,
}

impl OidcSettings {
    /// The defaults for a client of an endpoint.
    pub fn new(
        endpoint: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: Secret,
    ) -> Self {
        Self {
            endpoint: endpoint.into(),
            client_id: client_id.into(),
            client_secret,
            scope: None,
            ca_file: None,
            // A fifth of a token's life is left to ask in, and providers answer within a second.
            timeout: Duration::from_secs(10),
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{property}: {fault}")]
pub struct SettingsFault {
    /// The property that says it, as librdkafka calls it.
    pub property: &'static str,
    /// What is wrong with it.
    pub fault: String,
}
