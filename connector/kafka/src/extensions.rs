//! What brokers are told beside an access token, `key=value,key=value` as librdkafka has it.

use crate::fault::Fault;

/// Reads extensions of a login by access tokens (RFC 7628, section 3.1).
///
/// # Errors
///
/// What brokers would refuse; no value is repeated.
pub fn extensions(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut found: Vec<(String, String)> = Vec::new();
    let parts = text.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Fault::with_fix(
                "a part of it has no =",
                "write key=value, more than one separated by commas",
            ));
        };
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(Fault::with_fix(
                "a key has other characters than a-z and A-Z, or none",
                "name it as the brokers do, such as logicalCluster",
            ));
        }
        if key == "auth" {
            return Err(Fault::with_fix("auth is where the token goes", "remove it"));
        }
        let is_text = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if value.is_empty() || !value.bytes().all(is_text) {
            return Err(Fault::with_fix(
                format!("the value of {key} is empty, or has characters that cannot be sent"),
                "use printable ASCII",
            ));
        }
        if found.iter().any(|(known, _)| known == key) {
            return Err(Fault::with_fix(
                format!("{key} is given twice"),
                "remove one of them",
            ));
        }
        found.push((key.to_owned(), value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_in_their_order_without_the_space_around_them() {
        for (text, expected) in [
            ("", &[][..]),
            (" , ", &[]),
            (
                "logicalCluster=lkc-1, identityPoolId=pool-2",
                &[("logicalCluster", "lkc-1"), ("identityPoolId", "pool-2")],
            ),
            ("a=b=c", &[("a", "b=c")]),
            ("a=b c", &[("a", "b c")]),
        ] {
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(extensions(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_brokers_would_refuse_is_refused_and_no_value_repeated() {
        for (text, words) in [
            ("hunter2", "no ="),
            ("=hunter2", "a key has other"),
            ("lkc-1=hunter2", "a key has other"),
            ("auth=hunter2", "where the token goes"),
            ("a=", "the value of a"),
            ("a=hunter2\u{1}", "the value of a"),
            ("a=hunter2ü", "the value of a"),
            ("a=hunter2,a=hunter2", "a is given twice"),
        ] {
            let fault = extensions(text).expect_err(text).to_string();
            assert!(fault.contains(words), "{text}: {fault}");
            assert!(!fault.contains("hunter2"), "{fault}");
        }
    }
}
