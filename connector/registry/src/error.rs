//! Why the registry did not do what was asked, sorted by what the caller does next.

use aligner_http::{is_about_trust, shortened};
use thiserror::Error;

use crate::requests::NoAnswer;

/// A request that the registry did not fulfil.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegistryError {
    /// It is down, slow, or broken for now: try again, as long as it takes, unless it is so for one
    /// id and not for others.
    #[error("the schema registry at {url} is unavailable: {cause}")]
    Unavailable {
        /// Its base URL.
        url: String,
        /// What happened.
        cause: String,
    },
    /// It answered, and said no: settings or schemas must be changed. At start this stops the
    /// service; later it is waited out like an outage, since nothing can be said about a record,
    /// unless it is one id that is refused and others are not.
    #[error("the schema registry at {url} refused {what}: {cause}")]
    Refused {
        /// Its base URL.
        url: String,
        /// What was asked of it.
        what: String,
        /// Why not, and what helps.
        cause: String,
    },
    /// It knows no schema of this id, and has not said so often enough to be believed: a replica
    /// may lag behind. Ask again.
    #[error(
        "the schema registry at {url} knows no schema with id {id} yet: it is asked again, since a \
         replica may lag behind"
    )]
    Unknown {
        /// Its base URL.
        url: String,
        /// The id.
        id: u32,
    },
    /// The settings cannot be used.
    #[error("the schema registry's settings cannot be used: {fault}")]
    Settings {
        /// The field of [`RegistrySettings`](crate::RegistrySettings) to change.
        field: &'static str,
        /// What is wrong with it.
        fault: String,
    },
}

/// What came of a request, as far as this crate tells results apart.
pub(crate) enum Failure {
    /// The registry knows no schema of this id (error code 40403).
    UnknownSchema,
    /// The registry knows no such subject, or no such version of it (error codes 40401 and 40402).
    UnknownSubject,
    /// Anything else.
    Other(RegistryError),
}

/// Codes are Confluent's (confluentinc/schema-registry, `Errors.java`). A bare 404 is none of
/// them: it comes from a wrong path or a proxy, and says nothing about the schema. Confluent's own
/// framework answers so too where a part of the path is not of the type that it expects.
const UNKNOWN_SUBJECT: u32 = 40_401;
const UNKNOWN_VERSION: u32 = 40_402;
const UNKNOWN_SCHEMA: u32 = 40_403;

impl Failure {
    /// Sorts what kept a request from its answer.
    pub(crate) fn of(error: NoAnswer, url: &str, what: &str) -> Self {
        let unavailable = |cause: String| {
            Self::Other(RegistryError::Unavailable {
                url: url.to_owned(),
                cause,
            })
        };
        let refused = |cause: String| {
            Self::Other(RegistryError::Refused {
                url: url.to_owned(),
                what: what.to_owned(),
                cause,
            })
        };
        let (status, code, said) = match error {
            NoAnswer::Broken(story) if is_about_trust(&story) => {
                return refused(format!(
                    "{}: check ca_file, certificate_file and key_file of formats.schema_registry",
                    shortened(&story)
                ));
            }
            NoAnswer::Broken(story) => return unavailable(shortened(&story)),
            // These may end by themselves, like a page that says that there is maintenance.
            NoAnswer::Foreign => {
                return unavailable(
                    "its answer is not a registry's: check the path in \
                     formats.schema_registry.url"
                        .to_owned(),
                );
            }
            NoAnswer::Without(field) => {
                return unavailable(format!(
                    "it gave no {field} for {what}: check the path in formats.schema_registry.url"
                ));
            }
            NoAnswer::Refusal { status, code, said } => (status, code, said),
        };
        let said = if said.is_empty() {
            said
        } else {
            format!(": {}", shortened(&said))
        };
        match (status, code) {
            (404, UNKNOWN_SUBJECT | UNKNOWN_VERSION) => Self::UnknownSubject,
            (404, UNKNOWN_SCHEMA) => Self::UnknownSchema,
            (401, _) => refused(
                "it answered 401: check formats.schema_registry.username and password".to_owned(),
            ),
            (403, _) => refused(format!(
                "it answered 403{said}: allow this user to read the schema, and to write it unless \
                 formats.schema_registry.auto_register is false"
            )),
            (404, _) => refused(
                "it answered 404 without naming a schema: if it always does, check the path in \
                 formats.schema_registry.url"
                    .to_owned(),
            ),
            (409, _) => refused(format!(
                "the schema is not compatible with those before it{said}"
            )),
            (408 | 425 | 429 | 500.., _) => unavailable(format!("it answered {status}{said}")),
            _ => refused(format!("it answered {status}{said}")),
        }
    }
}
