//! What a token endpoint's answer says: the token, whom it is for, and when it ends.
//!
//! A token that is a JWT says both itself, and its own word is what brokers go by; the end of any other
//! one is told beside it. Its signature is not looked at.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use serde_json::Value;

/// Longer lives are no lives of tokens, and no clock's times: a hundred years.
const GREATEST_LIFE: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A token that was issued.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The token itself; nothing prints it.
    pub value: String,
    /// Whom it is for, where it says so.
    pub subject: Option<String>,
    /// When it ends.
    pub expires_at: SystemTime,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("value", &"[redacted]")
            .field("subject", &self.subject)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// An answer (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    /// Seconds; some providers write them as a text.
    #[serde(default)]
    expires_in: Value,
}

/// What of a JWT is of interest.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    exp: Value,
    #[serde(default)]
    sub: Value,
}

/// The token in an answer that was asked for at `now`.
///
/// # Errors
/// Why there is none that can be used, and what to do; nothing of the answer is repeated.
pub(crate) fn read(body: &[u8], now: SystemTime) -> Result<Token, String> {
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return Err(
            "its answer holds no access_token: check sasl.oauthbearer.token.endpoint.url"
                .to_owned(),
        );
    };
    let kind = answer.token_type.as_deref().unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("bearer") {
        return Err(
            "it issues a token that is no bearer token: have the provider issue those to this \
             client"
                .to_owned(),
        );
    }
    let value = answer.access_token;
    if !can_be_sent(&value) {
        return Err(
            "it issues a token with other characters than tokens have (RFC 6750)".to_owned(),
        );
    }
    let claims = claims(&value);
    let exp = claims.as_ref().and_then(|claims| seconds(&claims.exp));
    let expires_at = match (exp, seconds(&answer.expires_in)) {
        (Some(exp), _) => UNIX_EPOCH + exp,
        (None, Some(life)) => now + life,
        (None, None) => {
            return Err(
                "it does not say when its token ends: have the provider issue JWTs, or answer with \
                 expires_in"
                    .to_owned(),
            );
        }
    };
    if let Ok(ago) = now.duration_since(expires_at) {
        return Err(format!(
            "its token has ended {} s ago by the clock of this machine: set the clock, and look at \
             the provider's",
            ago.as_secs()
        ));
    }
    let subject = claims.and_then(|claims| match claims.sub {
        Value::String(subject) if !subject.is_empty() => Some(subject),
        _ => None,
    });
    Ok(Token {
        value,
        subject,
        expires_at,
    })
}

/// Whether this is a token as RFC 6750 has them (`b64token`); brokers take no other.
fn can_be_sent(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    !body.is_empty()
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte))
}

/// The claims of a token that is a JWT: the second of three parts.
fn claims(token: &str) -> Option<Claims> {
    // Issuers leave the padding away, as they must; one that does not is read all the same.
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, lenient);
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None; // an encrypted one
    }
    serde_json::from_slice(&engine.decode(payload).ok()?).ok()
}

/// A number of seconds, which may have a fraction or be a text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let seconds = Duration::try_from_secs_f64(seconds).ok()?;
    (!seconds.is_zero()).then(|| seconds.min(GREATEST_LIFE))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
    use serde_json::json;

    use super::*;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn read_answer(answer: &Value) -> Result<Token, String> {
        read(answer.to_string().as_bytes(), now())
    }

    #[test]
    fn a_jwt_says_itself_whom_it_is_for_and_when_it_ends() {
        for (claims, subject, end) in [
            (
                json!({"sub": "moderation", "iat": 999_000, "exp": 1_003_600}),
                Some("moderation"),
                1_003_600,
            ),
            (json!({"exp": 1_003_600.9, "sub": ""}), None, 1_003_600),
            (json!({"exp": "1003600", "sub": 7}), None, 1_003_600),
            // Without an end, the answer's counts.
            (json!({"sub": "ümlaut"}), Some("ümlaut"), 1_000_060),
        ] {
            let value = jwt(&claims);
            // Its own word counts more.
            let answer = json!({"access_token": value, "token_type": "bearer", "expires_in": 60});
            let token = read_answer(&answer).expect("a token");
            assert_eq!(token.value, value);
            assert_eq!(token.subject.as_deref(), subject, "{claims}");
            let since = token
                .expires_at
                .duration_since(at(end))
                .expect("not before");
            assert!(since < Duration::from_secs(1), "{claims}");
        }
        let claims = json!({"sub": "moderation???", "exp": 1_003_600}).to_string();
        let padded = format!("e30.{}.c2ln", URL_SAFE.encode(claims));
        assert!(padded.contains('='), "{padded}");
        let claims = super::claims(&padded).expect("padding is no matter");
        assert_eq!(claims.sub, "moderation???");
    }

    #[test]
    fn the_end_of_another_token_is_told_beside_it() {
        for (expires_in, end) in [
            (json!(3600), 1_003_600),
            (json!("3600"), 1_003_600),
            (json!(1e15), 1_000_000 + GREATEST_LIFE.as_secs()),
        ] {
            for value in ["opaque", "a.b.c", "a.b.c.d.e", "~+/=="] {
                let answer = json!({"access_token": value, "expires_in": expires_in});
                let expected = Token {
                    value: value.to_owned(),
                    subject: None,
                    expires_at: at(end),
                };
                assert_eq!(read_answer(&answer), Ok(expected), "{value} {expires_in}");
            }
        }
    }

    #[test]
    fn an_answer_without_a_token_that_can_be_used_is_refused_and_not_repeated() {
        let ended = jwt(&json!({"sub": "hunter2", "exp": 999_000}));
        for (body, cause) in [
            ("<html>hunter2</html>".to_owned(), "holds no access_token"),
            (json!({"id_token": "hunter2"}).to_string(), "access_token"),
            (json!({"access_token": 7}).to_string(), "access_token"),
            (String::new(), "access_token"),
            (
                json!({"access_token": "hunter2", "token_type": "DPoP", "expires_in": 9})
                    .to_string(),
                "no bearer token",
            ),
            (
                json!({"access_token": "hunter2 ", "expires_in": 9}).to_string(),
                "characters",
            ),
            (
                json!({"access_token": "", "expires_in": 9}).to_string(),
                "characters",
            ),
            (
                json!({"access_token": "hunter2"}).to_string(),
                "does not say when",
            ),
            (
                json!({"access_token": "hunter2", "expires_in": 0}).to_string(),
                "does not say when",
            ),
            (
                json!({"access_token": "hunter2", "expires_in": -1}).to_string(),
                "does not say when",
            ),
            (
                json!({"access_token": ended}).to_string(),
                "ended 1000 s ago by the clock",
            ),
        ] {
            let said = read(body.as_bytes(), now()).expect_err(&body);
            assert!(said.contains(cause), "{body}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn a_token_is_printed_by_nothing() {
        let answer = json!({"access_token": "hunter2", "expires_in": 9});
        let printed = format!("{:?}", read_answer(&answer));
        assert!(printed.contains("[redacted]"), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
