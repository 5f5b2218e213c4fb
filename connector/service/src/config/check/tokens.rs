//! The login by access tokens: what it needs, and what of librdkafka's other ways is not in this build.

use std::collections::BTreeMap;

use super::{Found, Settings, sasl, tls};
use crate::config::{
    login::{
        AUTHORITIES, CLIENT_ID, CLIENT_SECRET, ENDPOINT, EXTENSIONS, GRANT, METADATA, METHOD,
        PROBE, TOKENS, is_ours,
    },
    secret::is_shown,
};

/// Where a switch of librdkafka is on.
const ON: [&str; 3] = ["true", "t", "1"];

/// Properties of other ways to tokens, by how they begin, with what they are about and what to do.
const OTHER_WAYS: [(&str, &str, &str); 4] = [
    (
        "sasl.oauthbearer.client.credentials.",
        "it is another name of the client's id or secret, which have one here",
        "use sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
    ),
    (
        "sasl.oauthbearer.assertion.",
        "it belongs to the grant jwt-bearer, which is not in this build",
        "remove it, and give sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
    ),
    (
        "sasl.oauthbearer.config",
        "it is about tokens that nobody signs, or about azure_imds, and neither is in this build",
        "remove it, and set sasl.oauthbearer.method to oidc",
    ),
    (
        "https.ca.pem",
        "the token endpoint's authority is read from a file",
        "remove it, and name a file that holds it as https.ca.location",
    ),
];

/// Properties that may be left out, and of whose values this build has one: which, what is to be said of
/// any other, and what to do.
const ONLY_VALUES: [(&str, &str, &str, &str); 3] = [
    (
        METHOD,
        "oidc",
        "tokens that nobody signs are not in this build",
        "set it to oidc",
    ),
    (
        GRANT,
        "client_credentials",
        "this build asks for tokens with the grant client_credentials alone",
        "remove it, and give sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
    ),
    (
        METADATA,
        "none",
        "managed identities are not in this build",
        "remove it, and give sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret of an \
         application",
    ),
];

impl Found {
    /// Judges what is given for tokens, where the mechanism asks for them.
    pub(super) fn tokens(&mut self, settings: &Settings, properties: &BTreeMap<String, String>) {
        self.other_ways(settings, properties);
        for (name, only, message, fix) in ONLY_VALUES {
            if let Some(value) = properties.get(name)
                && !value.eq_ignore_ascii_case(only)
            {
                let value = shown(settings, name, value);
                self.add(&sasl::key(settings, name), value, message, fix);
            }
        }
        for (name, fix) in [
            (METHOD, "set it to oidc"),
            (CLIENT_ID, "set it to the client's id at the provider"),
            (
                CLIENT_SECRET,
                "name a file that holds it under kafka.property_files, or set the variable \
                 ALIGNER__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_SECRET",
            ),
            (
                ENDPOINT,
                "set it to the provider's token_endpoint, which its page \
                 .well-known/openid-configuration tells",
            ),
        ] {
            self.needed(settings, properties, name, fix);
        }
        for name in ["sasl.username", "sasl.password"] {
            if sasl::is_given(settings, name) {
                self.add(
                    &sasl::key(settings, name),
                    None,
                    format!("with {TOKENS} nobody is sent it"),
                    "remove it, or use SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN",
                );
            }
        }
        if let Some(url) = properties.get(ENDPOINT).filter(|url| !url.is_empty())
            && let Some(fault) = aligner_http::endpoint_url_fault(url)
        {
            self.add(
                &sasl::key(settings, ENDPOINT),
                None,
                fault,
                "write for example https://login.example.com/oauth2/token",
            );
        }
        if let Some(text) = properties.get(EXTENSIONS)
            && let Err(fault) = aligner_kafka::extensions(text)
        {
            self.add(
                &sasl::key(settings, EXTENSIONS),
                None,
                fault.message,
                fault.fix.unwrap_or_default(),
            );
        }
        let authorities = properties.get(AUTHORITIES).filter(|path| *path != PROBE);
        if let Some(path) = authorities
            && let Err(error) = tls::readable(path, false)
        {
            self.add(
                &sasl::key(settings, AUTHORITIES),
                shown(settings, AUTHORITIES, path),
                format!("it cannot be read: {error}"),
                "name a file in PEM that this user may read, or probe for the system's own",
            );
        }
    }

    /// Refuses what is given for tokens where another mechanism is in effect.
    pub(super) fn no_tokens(&mut self, settings: &Settings, mechanism: &str) {
        if let Some(name) = any_of_ours(settings) {
            self.add(
                &sasl::key(settings, name),
                None,
                format!("it is about access tokens, and the login is one by {mechanism}"),
                format!("remove it, or set sasl.mechanism to {TOKENS}"),
            );
        }
    }

    fn other_ways(&mut self, settings: &Settings, properties: &BTreeMap<String, String>) {
        const UNSIGNED: &str = "enable.sasl.oauthbearer.unsecure.jwt";
        if let Some(value) = properties.get(UNSIGNED)
            && ON.contains(&&*value.to_lowercase())
        {
            self.add(
                &sasl::key(settings, UNSIGNED),
                shown(settings, UNSIGNED, value),
                "tokens that nobody signs prove nothing to a broker",
                "remove it, and set sasl.oauthbearer.method to oidc",
            );
        }
        for (begin, message, fix) in OTHER_WAYS {
            let names = properties.keys().filter(|name| name.starts_with(begin));
            for name in names.cloned().collect::<Vec<_>>() {
                self.add(&sasl::key(settings, &name), None, message, fix);
            }
        }
    }

    /// A property that must be given.
    fn needed(
        &mut self,
        settings: &Settings,
        properties: &BTreeMap<String, String>,
        name: &str,
        fix: &str,
    ) {
        let key = sasl::key(settings, name);
        let message = if !sasl::is_given(settings, name) {
            format!("{TOKENS} needs it")
        } else if properties.get(name).is_some_and(String::is_empty) {
            "it is empty".to_owned()
        } else {
            // A file that cannot be read, or is empty, was reported already.
            return;
        };
        // A value that is not the only one there is was reported, too.
        if !self.0.iter().any(|problem| problem.key == key) {
            self.add(&key, None, message, fix);
        }
    }
}

/// One that only tokens are about, if any is given.
pub(super) fn any_of_ours(settings: &Settings) -> Option<&str> {
    let kafka = &settings.kafka;
    let mut names = kafka.properties.keys().chain(kafka.property_files.keys());
    names.find(|name| is_ours(name)).map(String::as_str)
}

/// A value that may be repeated: not one from a file, which may be a secret.
fn shown(settings: &Settings, name: &str, value: &str) -> Option<String> {
    let in_file = settings.kafka.property_files.contains_key(name);
    (!in_file && is_shown(name)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Secret,
        check::{
            check,
            tests::{given, keys},
        },
    };

    const WHOLE: [(&str, &str); 6] = [
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", TOKENS),
        (METHOD, "oidc"),
        (CLIENT_ID, "moderation"),
        (CLIENT_SECRET, "hunter2"),
        (ENDPOINT, "https://login.example.com/oauth2/token"),
    ];

    fn whole() -> Settings {
        given(&WHOLE)
    }

    fn with(name: &str, value: &str) -> Settings {
        let mut settings = whole();
        let properties = &mut settings.kafka.properties;
        properties.insert(name.to_owned(), Secret::new(value));
        settings
    }

    #[test]
    fn a_whole_login_by_tokens_is_taken_and_with_it_what_may_be_added() {
        assert_eq!(check(&whole()), []);
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let file = file.path().to_str().expect("text");
        for (name, value) in [
            (METHOD, "OIDC"),
            ("sasl.oauthbearer.scope", "api://kafka/.default"),
            (EXTENSIONS, "logicalCluster=lkc-1,identityPoolId=pool-2"),
            (GRANT, "client_credentials"),
            (METADATA, "none"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "false"),
            (AUTHORITIES, file),
            (AUTHORITIES, PROBE),
            (ENDPOINT, "http://localhost:8080/token?policy=a"),
        ] {
            assert_eq!(check(&with(name, value)), [], "{name}: {value}");
        }
    }

    #[test]
    fn what_is_missing_is_told_by_its_first_name_with_what_to_do() {
        for (name, _) in &WHOLE[2..] {
            let mut settings = whole();
            settings.kafka.properties.remove(*name);
            let problems = check(&settings);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!(problems[0].key, format!("kafka.properties.{name}"));
            assert_eq!(problems[0].message, "OAUTHBEARER needs it");
            let problems = check(&with(name, ""));
            assert_eq!(problems[0].key, format!("kafka.properties.{name}"));
        }
        let alone = given(&[WHOLE[0], WHOLE[1]]);
        assert_eq!(keys(&alone).len(), 4, "{:?}", keys(&alone));
    }

    #[test]
    fn other_ways_to_tokens_are_refused_by_name_with_what_this_build_has() {
        for (name, value, words) in [
            (METHOD, "default", "set it to oidc"),
            (METHOD, "azure", "set it to oidc"),
            (
                GRANT,
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
                "client.secret",
            ),
            (METADATA, "azure_imds", "of an application"),
            ("enable.sasl.oauthbearer.unsecure.jwt", "true", "oidc"),
            ("sasl.oauthbearer.config", "principal=ada", "oidc"),
            (
                "sasl.oauthbearer.assertion.file",
                "/etc/assertion",
                "client.secret",
            ),
            (
                "sasl.oauthbearer.assertion.claim.exp.seconds",
                "300",
                "client.secret",
            ),
            (
                "sasl.oauthbearer.client.credentials.client.secret",
                "hunter2",
                "use sasl.oauthbearer.client.id",
            ),
            ("https.ca.pem", "-----BEGIN", "https.ca.location"),
            ("sasl.username", "ada", "PLAIN"),
        ] {
            let problems = check(&with(name, value));
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!(problems[0].key, format!("kafka.properties.{name}"));
            let fix = problems[0].fix.as_deref().unwrap_or_default();
            assert!(fix.contains(words), "{name}: {fix}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_used_is_refused_and_no_secret_repeated() {
        for (name, value, words) in [
            (ENDPOINT, "login.example.com", "begin with https://"),
            (ENDPOINT, "https://ada:canary@host/token", "a user"),
            (EXTENSIONS, "canary", "no ="),
            (AUTHORITIES, "/no/such/file.pem", "No such file"),
        ] {
            let problems = check(&with(name, value));
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert!(problems[0].message.contains(words), "{problems:?}");
            assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
        }
    }

    #[test]
    fn what_is_about_tokens_is_refused_where_nobody_asks_for_any() {
        for name in [METHOD, CLIENT_ID, CLIENT_SECRET, ENDPOINT, AUTHORITIES] {
            let plain = [
                ("security.protocol", "sasl_ssl"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.username", "ada"),
                ("sasl.password", "hunter2"),
                (name, "canary"),
            ];
            let problems = check(&given(&plain));
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!(problems[0].key, format!("kafka.properties.{name}"));
            assert!(problems[0].message.contains("one by PLAIN"), "{problems:?}");
            assert!(!format!("{problems:?}").contains("canary"), "{problems:?}");
            // Without any login, that is what is told.
            let problems = check(&given(&[(name, "canary")]));
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!(problems[0].key, "kafka.properties.security.protocol");
        }
    }

    #[test]
    fn the_secret_may_lie_in_a_file_and_what_lies_there_is_not_repeated() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let mut settings = whole();
        let kafka = &mut settings.kafka;
        for (name, text) in [(CLIENT_SECRET, "hunter2\n"), (METHOD, "oidc\n")] {
            kafka.properties.remove(name);
            let files = &mut kafka.property_files;
            files.insert(name.to_owned(), file(name, text));
        }
        assert_eq!(check(&settings), []);
        file(METHOD, "canary\n");
        assert_eq!(
            keys(&settings),
            ["kafka.property_files.sasl.oauthbearer.method"]
        );
        let problems = format!("{:?}", check(&settings));
        assert!(!problems.contains("canary"), "{problems}");
    }

    #[test]
    fn a_name_that_librdkafka_does_not_know_is_refused_as_ever() {
        let problems = check(&with("sasl.oauthbearer.client.sekret", "hunter2"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
    }
}
