//! Where the registry is and how to speak to it.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use aligner_http::Secret;

/// Settings of a [`Registry`](crate::Registry).
#[derive(Debug, Clone)]
pub struct RegistrySettings {
    /// Base URL, such as `http://localhost:8081`, or for Apicurio one that ends in
    /// `/apis/ccompat/v7`. Without user and password, which have fields of their own.
    pub url: String,
    /// User for basic authentication.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// PEM file with authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate that we show, and its chain; with `key_file`.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with its key, in PKCS #8 and without a passphrase.
    pub key_file: Option<PathBuf>,
    /// Longest time for one request.
    pub timeout: Duration,
    /// Register the output schemas at start; otherwise they must be there.
    pub auto_register: bool,
    /// Most schemas of answers that are remembered, unknown ids included.
    pub max_cached_schemas: NonZeroUsize,
    /// How long an id that the registry does not know is taken for unknown without asking again.
    pub unknown_for: Duration,
    /// How often in a row the registry says that it does not know an id before it is believed. Its
    /// replicas follow each other within a second or so, and one that lags behind does not know
    /// the schema that a producer registered at another one just now. For
    /// [`RegistrySettings::unknown_for`] after it was waited for an id in vain, others are taken for
    /// unknown at once, and asked for again after [`RegistrySettings::missed_for`].
    pub max_misses: NonZeroU32,
    /// Least time from the first to the last of these answers. Short, since all records wait.
    pub missed_for: Duration,
    /// How often in a row an id is refused or failed for, each time while the registry answers for
    /// another one, before it is taken for unknown. A registry that answers for none is waited for.
    pub max_refusals: NonZeroU32,
    /// Least time from the first to the last of them if all are refusals.
    pub refused_for: Duration,
    /// Least time from the first to the last of them if it was unavailable in between: that ends by
    /// itself more often than a refusal, such as when one of several replicas is down.
    pub unavailable_for: Duration,
}

impl RegistrySettings {
    /// The defaults for a registry at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: None,
            password: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            timeout: Duration::from_secs(10),
            auto_register: true,
            max_cached_schemas: NonZeroUsize::new(1000).expect("not zero"),
            unknown_for: Duration::from_secs(60),
            max_misses: NonZeroU32::new(3).expect("not zero"),
            missed_for: Duration::from_secs(3),
            max_refusals: NonZeroU32::new(5).expect("not zero"),
            refused_for: Duration::from_secs(60),
            unavailable_for: Duration::from_secs(600),
        }
    }
}
