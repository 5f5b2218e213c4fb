//! One question at a time: an id and a secret out, a token in.

use std::{
    fs,
    io::Read,
    sync::atomic::{AtomicBool, Ordering},
    time::{Instant, SystemTime},
};

use aligner_http::{endpoint_url_fault, story};
use reqwest::{
    Certificate,
    blocking::{Client, Response},
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect,
};

use crate::{
    OidcSettings, SettingsFault, Token, TokenError,
    error::Failure,
    form::{self, Spelling},
    token,
    url::shown,
};

/// Most bytes of an answer. A token must fit into a header, and brokers take no larger one than 512 KiB.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A token endpoint, and who asks it.
#[derive(Debug)]
pub struct TokenEndpoint {
    settings: OidcSettings,
    authorities: Option<Vec<Certificate>>,
    /// Whether it takes credentials as they are, and not as the standard has them.
    takes_plain: AtomicBool,
}

impl TokenEndpoint {
    /// Prepares to ask; reads the file of authorities, and opens no connection.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub fn new(settings: OidcSettings) -> Result<Self, SettingsFault> {
        let faulty = |property, fault| Err(SettingsFault { property, fault });
        if let Some(fault) = endpoint_url_fault(&settings.endpoint) {
            return faulty("sasl.oauthbearer.token.endpoint.url", fault);
        }
        for (property, text) in [
            ("sasl.oauthbearer.client.id", settings.client_id.as_str()),
            (
                "sasl.oauthbearer.client.secret",
                settings.client_secret.expose(),
            ),
        ] {
            if text.is_empty() {
                return faulty(property, "it is empty".to_owned());
            }
        }
        let authorities = match &settings.ca_file {
            None => None,
            Some(path) => {
                let read = fs::read(path).map_err(|error| format!("it cannot be read: {error}"));
                let found = read.and_then(|pem| {
                    Certificate::from_pem_bundle(&pem).map_err(|error| story(&error))
                });
                match found {
                    Ok(found) if !found.is_empty() => Some(found),
                    Ok(_) => {
                        return faulty(
                            "https.ca.location",
                            format!(
                                "{}: it holds no certificate in PEM (-----BEGIN CERTIFICATE-----)",
                                path.display()
                            ),
                        );
                    }
                    Err(error) => {
                        return faulty("https.ca.location", format!("{}: {error}", path.display()));
                    }
                }
            }
        };
        Ok(Self {
            settings,
            authorities,
            takes_plain: AtomicBool::new(false),
        })
    }

    /// Asks for a token. Blocks, for six times the timeout at worst: where the endpoint refuses one spelling
    /// of the credentials, and begins and ends both its answers as late as it may.
    ///
    /// # Errors
    /// If there is none, sorted by what helps.
    pub fn token(&self) -> Result<Token, TokenError> {
        self.ask().map_err(|failure| failure.at(self.shown()))
    }

    /// Its URL, as errors name it.
    fn shown(&self) -> &str {
        shown(&self.settings.endpoint)
    }

    fn ask(&self) -> Result<Token, Failure> {
        let http = self.client()?;
        let (first, second) = if self.takes_plain.load(Ordering::Relaxed) {
            (Spelling::Plain, Spelling::Standard)
        } else {
            (Spelling::Standard, Spelling::Plain)
        };
        match self.ask_as(&http, first) {
            Err(Failure::Refused {
                of_credentials: true,
                ..
            }) if self.credentials(first) != self.credentials(second) => {
                let asked = self.ask_as(&http, second);
                if asked.is_ok() {
                    let is_plain = second == Spelling::Plain;
                    self.takes_plain.store(is_plain, Ordering::Relaxed);
                }
                asked
            }
            asked => asked,
        }
    }

    /// Made for each question: an hour lies between two, and no connection is kept for that.
    fn client(&self) -> Result<Client, Failure> {
        let mut builder = Client::builder()
            .timeout(self.settings.timeout)
            // A secret must not follow to another host.
            .redirect(redirect::Policy::none());
        if let Some(authorities) = &self.authorities {
            builder = builder.tls_certs_only(authorities.clone());
        }
        builder
            .build()
            .map_err(|error| Failure::refused(format!("no client can be made: {}", story(&error))))
    }

    fn credentials(&self, spelling: Spelling) -> String {
        let OidcSettings {
            client_id,
            client_secret,
            ..
        } = &self.settings;
        form::credentials(client_id, client_secret.expose(), spelling)
    }

    fn ask_as(&self, http: &Client, spelling: Spelling) -> Result<Token, Failure> {
        let credentials = self.credentials(spelling);
        let mut authorization =
            HeaderValue::from_str(&credentials).expect("base64 has no character that is refused");
        authorization.set_sensitive(true);
        let (began, now) = (Instant::now(), SystemTime::now());
        let response = http
            .post(&self.settings.endpoint)
            .header(AUTHORIZATION, authorization)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form::grant(self.settings.scope.as_deref()))
            .send()
            // The errors of this crate name the endpoint, without its query.
            .map_err(|error| Failure::of_connection(&story(&error.without_url())))?;
        let status = response.status();
        let body = bounded_body(response, began + 2 * self.settings.timeout);
        if !status.is_success() {
            // That it says no counts, also where the explanation cannot be read.
            let secret = self.settings.client_secret.expose();
            let secrets = [
                secret,
                &form::escaped(secret),
                &credentials["Basic ".len()..],
            ];
            let body = body.unwrap_or_default();
            return Err(Failure::of_status(status.as_u16(), &body, &secrets));
        }
        token::read(&body?, now).map_err(Failure::refused)
    }
}

/// The body, of so many bytes and until then at most: each read has the timeout of the client, and many
/// of them would have many.
fn bounded_body(mut response: Response, deadline: Instant) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut part = [0; 8 << 10];
    loop {
        let read = response.read(&mut part).map_err(|error| {
            Failure::of_connection(&format!("its answer breaks off: {}", story(&error)))
        })?;
        if read == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&part[..read]);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(Failure::refused(format!(
                "its answer is longer than {MAX_ANSWER_BYTES} bytes: check \
                 sasl.oauthbearer.token.endpoint.url"
            )));
        }
        if Instant::now() >= deadline {
            return Err(Failure::Unavailable("its answer does not end".to_owned()));
        }
    }
}
