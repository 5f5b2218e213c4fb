//! How an id, a secret and a scope are written into a request.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};

/// A text as part of a form or of credentials (RFC 6749, appendix B). Everything is escaped but what no
/// decoder takes for anything else, and a space as readers of either kind take it.
pub(crate) fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            write!(written, "%{byte:02X}").expect("a string takes everything");
        }
    }
    written
}

/// The body of a request.
pub(crate) fn grant(scope: Option<&str>) -> String {
    let scope = scope.map_or_else(String::new, |scope| format!("&scope={}", escaped(scope)));
    format!("grant_type=client_credentials{scope}")
}

/// How id and secret are written before they are encoded as those of a user. The standard has them
/// escaped; librdkafka and Kafka's Java clients leave them as they are, and so do some providers that
/// read them. It is the same for most secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Standard,
    Plain,
}

/// The header that shows who we are.
pub(crate) fn credentials(id: &str, secret: &str, spelling: Spelling) -> String {
    let both = match spelling {
        Spelling::Standard => format!("{}:{}", escaped(id), escaped(secret)),
        Spelling::Plain => format!("{id}:{secret}"),
    };
    format!("Basic {}", STANDARD.encode(both))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_taken_for_something_else_is_escaped() {
        for (text, written) in [
            ("aZ09-._~", "aZ09-._~"),
            ("a b+c", "a%20b%2Bc"),
            ("50%&=:/", "50%25%26%3D%3A%2F"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(escaped(text), written);
        }
    }

    #[test]
    fn a_scope_is_asked_for_where_there_is_one() {
        assert_eq!(grant(None), "grant_type=client_credentials");
        assert_eq!(
            grant(Some("api://kafka/.default openid")),
            "grant_type=client_credentials&scope=api%3A%2F%2Fkafka%2F.default%20openid"
        );
    }

    #[test]
    fn credentials_are_those_of_the_standard_or_plain() {
        // The example of RFC 6749, section 2.3.1, has nothing to escape.
        let example = "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3";
        for spelling in [Spelling::Standard, Spelling::Plain] {
            let written = credentials("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", spelling);
            assert_eq!(written, example);
        }
        let decoded = |spelling| {
            let written = credentials("a:b", "50%+", spelling);
            let encoded = written.strip_prefix("Basic ").expect("the scheme");
            String::from_utf8(STANDARD.decode(encoded).expect("base64")).expect("text")
        };
        assert_eq!(decoded(Spelling::Standard), "a%3Ab:50%25%2B");
        assert_eq!(decoded(Spelling::Plain), "a:b:50%+");
    }
}
