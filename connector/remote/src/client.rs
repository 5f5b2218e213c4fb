//! One HTTP request at a time: bytes out, status and bytes in.

use std::time::Duration;

use aligner_http::{Secret, Unread, bounded_body, story};
use reqwest::{
    Client, RequestBuilder,
    header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER},
    redirect,
};
use serde::Serialize;

use crate::{
    RemoteError, RemoteSettings, retry,
    url::{redirect_target, url_fault},
};

/// Most bytes of an answer; a correction of 16,384 tokens is about 64 kB.
const MAX_REPLY_BYTES: usize = 16 << 20;

/// An answer, whatever its status.
pub(crate) struct Reply {
    pub status: u16,
    pub retry_after: Option<Duration>,
    /// Base URL that a redirect leads to.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

impl Reply {
    /// What to say of a redirect after the server's name, if this is one. None is followed.
    pub fn redirection(&self) -> Option<String> {
        let status = self.status;
        (300..400).contains(&status).then(|| match &self.location {
            Some(location) => format!(
                "answered {status} and redirects to {location}: set aligner.remote.url to where it \
                 leads"
            ),
            None => {
                format!("answered {status}, and not where to ask instead: check aligner.remote.url")
            }
        })
    }
}

/// A server and the credentials for it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    http: Client,
    url: String,
    authorization: Option<HeaderValue>,
}

impl Server {
    pub(crate) fn new(settings: &RemoteSettings) -> Result<Self, RemoteError> {
        if let Some(fault) = url_fault(&settings.url) {
            return Err(RemoteError::Settings(fault));
        }
        let url = settings.url.trim_end_matches('/');
        let http = Client::builder()
            .timeout(settings.timeout)
            // A redirected POST loses its body, and a token must not follow to another host.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| RemoteError::Settings(story(&error)))?;
        Ok(Self {
            http,
            url: url.to_owned(),
            authorization: settings.api_key.as_ref().map(bearer).transpose()?,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Lists the models; the error is what kept the server from answering.
    pub(crate) async fn models(&self) -> Result<Reply, String> {
        self.send(self.http.get(format!("{}/models", self.url)))
            .await
    }

    /// Asks for a completion within so much time; the error is what kept the server from answering.
    pub(crate) async fn complete(
        &self,
        request: &impl Serialize,
        within: Duration,
    ) -> Result<Reply, String> {
        let url = format!("{}/completions", self.url);
        let request = self.http.post(url).json(request).timeout(within);
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Reply, String> {
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        let mut response = request.send().await.map_err(|error| story(&error))?;
        let status = response.status().as_u16();
        let retry_after = retry::retry_after(
            response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()),
        );
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|location| redirect_target(response.url(), location));
        let body = bounded_body(&mut response, MAX_REPLY_BYTES).await;
        let body = body.map_err(|unread| match unread {
            Unread::TooLong => format!(
                "{}'s answer is longer than {MAX_REPLY_BYTES} bytes",
                self.url
            ),
            // What breaks off after the headers says nothing of where it came from.
            Unread::Broken(error) if error.is_timeout() => format!(
                "{} did not end its answer within aligner.remote.timeout_ms",
                self.url
            ),
            Unread::Broken(error) => {
                format!(
                    "{}'s answer broke off: {}",
                    self.url,
                    story(&error.without_url())
                )
            }
        })?;
        Ok(Reply {
            status,
            retry_after,
            location,
            body,
        })
    }
}

/// The header that shows a key; it is printed as little as the key.
fn bearer(key: &Secret) -> Result<HeaderValue, RemoteError> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(|_| {
        RemoteError::Settings(
            "aligner.remote.api_key (or the file that holds it) has a line break or another \
             control character, which cannot be sent: write the key alone, on one line"
                .to_owned(),
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
