//! The login by access tokens, in librdkafka's words. This build's librdkafka knows them and refuses them
//! all, since it has no HTTP: they are ours to act on, and it never sees them.

use std::{collections::BTreeMap, path::PathBuf};

use aligner_oidc::{OidcSettings, Secret};

/// The mechanism that needs tokens.
pub const TOKENS: &str = "OAUTHBEARER";
/// Both names of the property that asks for one.
pub const MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];

/// How tokens are come by.
pub const METHOD: &str = "sasl.oauthbearer.method";
pub const CLIENT_ID: &str = "sasl.oauthbearer.client.id";
pub const CLIENT_SECRET: &str = "sasl.oauthbearer.client.secret";
pub const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
pub const SCOPE: &str = "sasl.oauthbearer.scope";
pub const EXTENSIONS: &str = "sasl.oauthbearer.extensions";
pub const GRANT: &str = "sasl.oauthbearer.grant.type";
pub const METADATA: &str = "sasl.oauthbearer.metadata.authentication.type";
/// Whom the endpoint's certificate is signed by.
pub const AUTHORITIES: &str = "https.ca.location";
/// The value that asks for the system's own authorities.
pub const PROBE: &str = "probe";

/// What we act on instead of librdkafka.
const OURS: [&str; 9] = [
    METHOD,
    CLIENT_ID,
    CLIENT_SECRET,
    ENDPOINT,
    SCOPE,
    EXTENSIONS,
    GRANT,
    METADATA,
    AUTHORITIES,
];

/// Whether we act on a property instead of librdkafka.
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name)
}

/// Whether a login asks for tokens.
pub fn asks_for_tokens(properties: &BTreeMap<String, String>) -> bool {
    MECHANISM
        .iter()
        .any(|name| properties.get(*name).is_some_and(|given| given == TOKENS))
}

/// Where tokens come from, and what brokers are told beside them; none where nobody asks for tokens.
/// What is missing or wrong is an empty text here: it was refused before.
pub fn token_login(
    properties: &BTreeMap<String, String>,
) -> Option<(OidcSettings, Vec<(String, String)>)> {
    if !asks_for_tokens(properties) {
        return None;
    }
    let given = |name: &str| {
        let value = properties.get(name);
        value.filter(|value| !value.is_empty()).cloned()
    };
    let written = |name: &str| given(name).unwrap_or_default();
    let settings = OidcSettings {
        scope: given(SCOPE),
        ca_file: given(AUTHORITIES)
            .filter(|path| path != PROBE)
            .map(PathBuf::from),
        ..OidcSettings::new(
            written(ENDPOINT),
            written(CLIENT_ID),
            Secret::new(written(CLIENT_SECRET)),
        )
    };
    let extensions = aligner_kafka::extensions(&written(EXTENSIONS)).unwrap_or_default();
    Some((settings, extensions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(properties: &[(&str, &str)]) -> BTreeMap<String, String> {
        properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_given_for_tokens_is_read() {
        let properties = given(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", TOKENS),
            (METHOD, "oidc"),
            (CLIENT_ID, "moderation"),
            (CLIENT_SECRET, "hunter2"),
            (ENDPOINT, "https://host/token"),
            (SCOPE, "kafka"),
            (EXTENSIONS, "logicalCluster=lkc-1"),
            (AUTHORITIES, "/etc/ca.pem"),
        ]);
        let (settings, extensions) = token_login(&properties).expect("it asks for tokens");
        assert_eq!(settings.endpoint, "https://host/token");
        assert_eq!(settings.client_id, "moderation");
        assert_eq!(settings.client_secret, Secret::new("hunter2"));
        assert_eq!(settings.scope.as_deref(), Some("kafka"));
        assert_eq!(settings.ca_file, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(
            extensions,
            [("logicalCluster".to_owned(), "lkc-1".to_owned())]
        );
    }

    #[test]
    fn what_may_be_left_out_is_left_out() {
        let properties = given(&[
            ("sasl.mechanism", TOKENS),
            (SCOPE, ""),
            (AUTHORITIES, PROBE),
        ]);
        let (settings, extensions) = token_login(&properties).expect("it asks for tokens");
        assert_eq!(settings.scope, None);
        assert_eq!(settings.ca_file, None);
        assert_eq!(extensions, []);
        assert!(token_login(&given(&[("sasl.mechanism", "PLAIN")])).is_none());
    }

    #[test]
    fn whatever_is_ours_is_a_property_of_librdkafka_that_it_does_not_take_itself() {
        for name in OURS {
            assert!(is_ours(name), "{name}");
            assert!(!aligner_kafka::is_unknown(name), "{name}");
        }
        for name in [
            "sasl.mechanism",
            "ssl.ca.location",
            "sasl.oauthbearer.config",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
