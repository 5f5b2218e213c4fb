//! Why there is no token, sorted by what the caller does next.

use aligner_http::{is_about_trust, shortened};
use serde::Deserialize;
use thiserror::Error;

/// A question that brought no token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// The endpoint is down, slow, or broken for now: ask again.
    #[error("the token endpoint {endpoint} is unavailable: {cause}")]
    Unavailable {
        /// Its URL, without a query.
        endpoint: String,
        /// What happened.
        cause: String,
    },
    /// It answers, and says no, or what it says is no use: a person must change something.
    #[error("the token endpoint {endpoint} gives none: {cause}")]
    Refused {
        /// Its URL, without a query.
        endpoint: String,
        /// Why not, and what helps.
        cause: String,
    },
}

/// How an endpoint explains that it says no (RFC 6749, section 5.2).
#[derive(Deserialize, Default)]
struct Explanation {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

/// What came of a question that brought no token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Unavailable(String),
    Refused {
        cause: String,
        /// Whether it is about id and secret.
        of_credentials: bool,
    },
}

impl Failure {
    /// What no waiting mends, other than wrong credentials.
    pub(crate) fn refused(cause: String) -> Self {
        Self::Refused {
            cause,
            of_credentials: false,
        }
    }

    /// Of an answer that is no success. `secrets` are never repeated, also where the endpoint does.
    pub(crate) fn of_status(status: u16, body: &[u8], secrets: &[&str]) -> Self {
        let explanation: Explanation = serde_json::from_slice(body).unwrap_or_default();
        let said = said(&explanation, secrets);
        if matches!(status, 408 | 425 | 429 | 500..) {
            return Self::Unavailable(format!("it answers {status}{said}"));
        }
        let error = explanation.error.as_str();
        let of_credentials = status == 401 || error == "invalid_client";
        let fix = match (status, error) {
            _ if of_credentials => {
                "check sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret"
            }
            (300..400, _) => {
                "a secret is not sent where that leads: give sasl.oauthbearer.token.endpoint.url \
                 the final one"
            }
            (404 | 405, _) => "check sasl.oauthbearer.token.endpoint.url",
            (_, "invalid_scope") => "check sasl.oauthbearer.scope",
            (_, "unauthorized_client" | "unsupported_grant_type") => {
                "allow this client the grant client_credentials"
            }
            _ => {
                "check client.id, client.secret, scope and token.endpoint.url of sasl.oauthbearer, \
                 and what the provider allows this client"
            }
        };
        Self::Refused {
            cause: format!("it answers {status}{said}: {fix}"),
            of_credentials,
        }
    }

    /// Of a question that no answer came to.
    pub(crate) fn of_connection(story: &str) -> Self {
        let story = shortened(story);
        if is_about_trust(&story) {
            return Self::refused(format!(
                "{story}: check https.ca.location, a file in PEM with the authority that signed its \
                 certificate"
            ));
        }
        Self::Unavailable(story)
    }

    /// With the endpoint's name.
    pub(crate) fn at(self, endpoint: &str) -> TokenError {
        let endpoint = endpoint.to_owned();
        match self {
            Self::Unavailable(cause) => TokenError::Unavailable { endpoint, cause },
            Self::Refused { cause, .. } => TokenError::Refused { endpoint, cause },
        }
    }
}

/// The explanation in brackets, as far as it may be shown.
fn said(explanation: &Explanation, secrets: &[&str]) -> String {
    let Explanation {
        error,
        error_description,
    } = explanation;
    let is_word = !error.is_empty()
        && error.len() <= 64
        && error
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let may_be_shown = |text: &str| !secrets.iter().any(|secret| text.contains(secret));
    let parts: Vec<String> = [
        (is_word && may_be_shown(error)).then(|| error.clone()),
        (!error_description.is_empty() && may_be_shown(error_description))
            .then(|| shortened(error_description)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() {
        return String::new();
    }
    format!(" ({})", parts.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_sorted_by_what_helps_and_says_it() {
        /// Status, body, whether waiting helps, whether credentials are at fault, and words.
        type Case = (u16, &'static str, bool, bool, &'static str);
        let cases: [Case; 14] = [
            (
                401,
                r#"{"error":"invalid_client","error_description":"Invalid client or Invalid client credentials"}"#,
                false,
                true,
                "it answers 401 (invalid_client: Invalid client or Invalid client credentials): check \
                 sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
            ),
            (401, "<html>", false, true, "it answers 401: check"),
            (
                400,
                r#"{"error":"invalid_client"}"#,
                false,
                true,
                "client.secret",
            ),
            (
                400,
                r#"{"error":"invalid_scope"}"#,
                false,
                false,
                "check sasl.oauthbearer.scope",
            ),
            (
                400,
                r#"{"error":"unauthorized_client"}"#,
                false,
                false,
                "the grant client_credentials",
            ),
            (400, "", false, false, "what the provider allows"),
            (403, "{}", false, false, "what the provider allows"),
            (404, "", false, false, "token.endpoint.url"),
            (302, "", false, false, "the final one"),
            (408, "", true, false, "it answers 408"),
            (
                429,
                r#"{"error":"slow_down"}"#,
                true,
                false,
                "it answers 429 (slow_down)",
            ),
            (500, "oops", true, false, "it answers 500"),
            (503, "", true, false, "it answers 503"),
            (599, "[]", true, false, "it answers 599"),
        ];
        for (status, body, passes, wrong_credentials, words) in cases {
            match Failure::of_status(status, body.as_bytes(), &[]) {
                Failure::Unavailable(cause) => {
                    assert!(passes, "{status} {body}: {cause}");
                    assert_eq!(cause, words);
                }
                Failure::Refused {
                    cause,
                    of_credentials,
                } => {
                    assert!(!passes, "{status} {body}: {cause}");
                    assert_eq!(of_credentials, wrong_credentials, "{status} {body}");
                    assert!(cause.contains(words), "{cause}");
                }
            }
        }
    }

    #[test]
    fn a_secret_that_an_endpoint_repeats_is_not_shown() {
        for body in [
            r#"{"error":"invalid_client","error_description":"hunter2 is not the secret"}"#,
            r#"{"error":"hunter2"}"#,
            r#"{"error":"not a word: hunter2"}"#,
        ] {
            let failure = Failure::of_status(400, body.as_bytes(), &["hunter2"]);
            let said = failure.at("https://host/token").to_string();
            assert!(!said.contains("hunter2"), "{said}");
            assert!(
                said.starts_with("the token endpoint https://host/token gives none: it answers")
            );
        }
    }

    #[test]
    fn an_explanation_is_one_line_and_not_endless() {
        let long = format!(
            r#"{{"error":"invalid_request","error_description":"a\r\nb{}"}}"#,
            "x".repeat(10_000)
        );
        let Failure::Refused { cause, .. } = Failure::of_status(400, long.as_bytes(), &[]) else {
            panic!("a refusal");
        };
        assert!(cause.len() < 600, "{}", cause.len());
        assert!(cause.contains("a  bx"), "{cause}");
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_no_outage() {
        let refused = Failure::of_connection("error sending request: certificate verify failed");
        assert!(
            matches!(&refused, Failure::Refused { cause, .. } if cause.contains("https.ca.location"))
        );
        let down = Failure::of_connection("tcp connect error: Connection refused");
        assert!(matches!(down, Failure::Unavailable(_)));
    }
}
