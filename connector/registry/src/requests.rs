//! One HTTP request at a time, in Confluent's REST API: what is asked, and what came back.
//!
//! Of an answer no more is kept than a registry could have to say: whoever answers at its address
//! without end takes no more memory than that.

use std::sync::Arc;

use aligner_http::{Secret, Unread, bounded_body, story};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use reqwest::{
    Client, RequestBuilder,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde::Deserialize;
use serde_json::json;

use crate::{RegistryError, RegistrySettings, tls};

/// Most bytes of an answer. Registries take schemas of about 1 MB, which JSON escapes.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Media type of what is sent, and wanted.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// There is no answer, or not all of it; this is what happened.
    Broken(String),
    /// The answer says no, in a code of the registry's own (0 if it is none of its) and in words.
    Refusal {
        status: u16,
        code: u32,
        said: String,
    },
    /// The answer is a success, and nothing that a registry writes.
    Foreign,
    /// The answer lacks this field.
    Without(&'static str),
}

/// A schema, as the registry gives it.
pub(crate) struct Registered {
    /// Absent for Avro, as a rule.
    pub schema_type: Option<String>,
    pub text: String,
    pub references: Vec<Reference>,
}

/// Where a schema is that another one refers to.
#[derive(Debug, Deserialize)]
pub(crate) struct Reference {
    pub subject: String,
    pub version: u32,
}

/// What an answer may hold. Which fields are there depends on what was asked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    id: Option<u32>,
    schema: Option<String>,
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

/// How a registry explains that it says no.
#[derive(Deserialize, Default)]
struct Explanation {
    error_code: u32,
    message: String,
}

/// A registry, and how to speak to it. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Requests {
    http: Client,
    settings: Arc<RegistrySettings>,
}

impl Requests {
    /// Prepares a client; reads the files for TLS, and opens no connection.
    pub fn new(settings: Arc<RegistrySettings>) -> Result<Self, RegistryError> {
        let http = tls::client(&settings)?
            .timeout(settings.timeout)
            .build()
            .map_err(|error| RegistryError::Settings {
                field: "url",
                fault: format!("no client can be made: {}", story(&error)),
            })?;
        Ok(Self { http, settings })
    }

    /// Registers an Avro schema under a subject, or finds that it is there; returns its id.
    pub async fn register(&self, subject: &str, avsc: &str) -> Result<u32, NoAnswer> {
        let path = format!("/subjects/{}/versions", escaped(subject));
        self.post(&path, avsc).await
    }

    /// The id of an Avro schema that is there under a subject.
    pub async fn find(&self, subject: &str, avsc: &str) -> Result<u32, NoAnswer> {
        let path = format!("/subjects/{}?deleted=false", escaped(subject));
        self.post(&path, avsc).await
    }

    /// The schema of an id, also where its subject was deleted meanwhile.
    pub async fn schema(&self, id: u32) -> Result<Registered, NoAnswer> {
        self.get(&format!("/schemas/ids/{id}?deleted=true")).await
    }

    /// The schema that another one refers to, also where its subject was deleted meanwhile.
    pub async fn referenced(&self, reference: &Reference) -> Result<Registered, NoAnswer> {
        let Reference { subject, version } = reference;
        let subject = escaped(subject);
        let path = format!("/subjects/{subject}/versions/{version}?deleted=true");
        self.get(&path).await
    }

    async fn post(&self, path: &str, avsc: &str) -> Result<u32, NoAnswer> {
        let body = json!({ "schema": avsc, "schemaType": "AVRO" }).to_string();
        let request = self
            .http
            .post(format!("{}{path}", self.settings.url))
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .header(ACCEPT, MEDIA_TYPE)
            .body(body);
        let answer = self.send(request).await?;
        answer.id.ok_or(NoAnswer::Without("id"))
    }

    async fn get(&self, path: &str) -> Result<Registered, NoAnswer> {
        let request = self.http.get(format!("{}{path}", self.settings.url));
        let answer = self.send(request).await?;
        Ok(Registered {
            schema_type: answer.schema_type,
            text: answer.schema.ok_or(NoAnswer::Without("schema"))?,
            references: answer.references.unwrap_or_default(),
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, NoAnswer> {
        let request = match &self.settings.username {
            Some(username) => {
                let password = self.settings.password.as_ref().map(Secret::expose);
                request.basic_auth(username, password)
            }
            None => request,
        };
        let mut response = request.send().await.map_err(broken)?;
        let status = response.status();
        let body = bounded_body(&mut response, MAX_ANSWER_BYTES).await;
        if !status.is_success() {
            // That it says no counts, also where the explanation cannot be read.
            let body = body.unwrap_or_default();
            let explanation: Explanation = serde_json::from_slice(&body).unwrap_or_default();
            return Err(NoAnswer::Refusal {
                status: status.as_u16(),
                code: explanation.error_code,
                said: explanation.message,
            });
        }
        serde_json::from_slice(&body.map_err(unread)?).map_err(|_| NoAnswer::Foreign)
    }
}

/// What stands for itself in a step of a path (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A subject as one step of a path.
fn escaped(subject: &str) -> PercentEncode<'_> {
    utf8_percent_encode(subject, UNRESERVED)
}

fn unread(unread: Unread) -> NoAnswer {
    match unread {
        Unread::TooLong => NoAnswer::Broken(format!(
            "its answer is longer than {MAX_ANSWER_BYTES} bytes: check the path in \
             formats.schema_registry.url"
        )),
        Unread::Broken(error) => broken(error),
    }
}

fn broken(error: reqwest::Error) -> NoAnswer {
    // The errors of this crate name the registry. What a redirect led to may be long, or secret.
    NoAnswer::Broken(story(&error.without_url()))
}
