//! How the connector logs in to Kafka: librdkafka takes any text here, and refuses it only once a
//! client is made.
//!
//! What is asked for is what `rd_kafka_sasl_select_provider` asks for, in the build that is linked,
//! which has no Kerberos; access tokens are fetched by us (`tokens`). Without a login nothing need be
//! complete, but what was given for one is refused: it would connect as nobody.

use std::collections::BTreeMap;

use super::{Found, Settings, tokens};
use crate::config::login::{MECHANISM as NAMES, TOKENS};

/// Which connections are made, and whether anybody logs in.
pub(super) const PROTOCOL: &str = "security.protocol";

/// Mechanisms that this build has; unlike other values they are told apart by their capitals.
const MECHANISMS: [&str; 4] = ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", TOKENS];

/// Protocols that make no use of something.
pub(super) struct Without {
    pub(super) protocols: [&'static str; 2],
    /// What becomes of it.
    pub(super) happens: &'static str,
    /// What to write where it was meant.
    pub(super) fix: &'static str,
}

impl Found {
    /// Judges the login. `properties` are those of the settings, and those that could be read from
    /// files.
    pub(super) fn sasl(&mut self, settings: &Settings, properties: &BTreeMap<String, String>) {
        let protocol = properties.get(PROTOCOL);
        self.unsent(settings, properties);
        let login = protocol.is_some_and(|protocol| protocol.to_lowercase().starts_with("sasl_"));
        let names: Vec<&str> = NAMES
            .into_iter()
            .filter(|name| is_given(settings, name))
            .collect();
        let name = match names.as_slice() {
            [] if login => {
                self.add(
                    "kafka.properties.sasl.mechanism",
                    None,
                    "security.protocol asks for a login, and what librdkafka takes by itself, \
                     GSSAPI (Kerberos), is not in this build",
                    one_of_them(),
                );
                return;
            }
            [] => return,
            [name] => *name,
            [first, second, ..] => {
                self.add(
                    &key(settings, second),
                    None,
                    format!("{first} is the same property, and given too"),
                    "remove one of them",
                );
                return;
            }
        };
        // A file that cannot be read was reported already.
        let Some(mechanism) = properties.get(name) else {
            return;
        };
        if !MECHANISMS.contains(&mechanism.as_str()) {
            // Whatever lies in a file may be a secret.
            let in_file = settings.kafka.property_files.contains_key(name);
            let message = match mechanism.as_str() {
                "GSSAPI" => "Kerberos is not in this build",
                _ => "librdkafka knows no such mechanism",
            };
            self.add(
                &key(settings, name),
                (!in_file).then(|| mechanism.clone()),
                message,
                one_of_them(),
            );
        } else if !login {
            // That nobody logs in was told.
        } else if mechanism == TOKENS {
            self.tokens(settings, properties);
        } else {
            self.credentials(settings, mechanism);
            self.no_tokens(settings, mechanism);
        }
    }

    /// What is given for a login that the protocol does not ask for.
    fn unsent(&mut self, settings: &Settings, properties: &BTreeMap<String, String>) {
        let [mechanism, mechanisms] = NAMES;
        let given = ["sasl.username", "sasl.password", mechanism, mechanisms]
            .into_iter()
            .find(|name| is_given(settings, name))
            .or_else(|| tokens::any_of_ours(settings));
        if let Some(name) = given {
            let without_login = Without {
                protocols: ["plaintext", "ssl"],
                happens: "credentials are never sent",
                fix: "write security.protocol: sasl_ssl, or sasl_plaintext where the brokers have \
                      no TLS",
            };
            self.idle(settings, properties, name, &without_login);
        }
    }

    /// Refuses what is given for other protocols, if one without it is in effect.
    pub(super) fn idle(
        &mut self,
        settings: &Settings,
        properties: &BTreeMap<String, String>,
        name: &str,
        without: &Without,
    ) {
        let protocol = properties.get(PROTOCOL);
        // A file that cannot be read was reported already, and what is no protocol will be.
        let unreadable = protocol.is_none() && is_given(settings, PROTOCOL);
        let in_effect = protocol.map_or("plaintext", String::as_str);
        let idle = without.protocols.contains(&&*in_effect.to_lowercase());
        if idle && !unreadable {
            self.add(
                &key(settings, PROTOCOL),
                protocol.cloned(),
                format!(
                    "{name} is given, but {} while this is {in_effect}",
                    without.happens
                ),
                without.fix,
            );
        }
    }

    fn credentials(&mut self, settings: &Settings, mechanism: &str) {
        for (name, fix) in [
            ("sasl.username", "set it"),
            (
                "sasl.password",
                "set it, or name a file that holds it under kafka.property_files",
            ),
        ] {
            if !is_given(settings, name) {
                self.add(
                    &format!("kafka.properties.{name}"),
                    None,
                    format!("{mechanism} needs it"),
                    fix,
                );
            }
        }
    }
}

pub(super) fn is_given(settings: &Settings, name: &str) -> bool {
    settings.kafka.properties.contains_key(name) || settings.kafka.property_files.contains_key(name)
}

/// The key as it was written.
pub(super) fn key(settings: &Settings, name: &str) -> String {
    if settings.kafka.property_files.contains_key(name) {
        format!("kafka.property_files.{name}")
    } else {
        format!("kafka.properties.{name}")
    }
}

fn one_of_them() -> String {
    format!("use {}, in capitals", MECHANISMS.join(", "))
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

    #[test]
    fn every_mechanism_of_this_build_is_taken_with_what_it_needs() {
        for mechanism in &MECHANISMS[..3] {
            for name in NAMES {
                let settings = given(&[
                    ("security.protocol", "SASL_SSL"),
                    (name, mechanism),
                    ("sasl.username", "ada"),
                    ("sasl.password", "hunter2"),
                ]);
                assert_eq!(check(&settings), [], "{name}: {mechanism}");
            }
        }
    }

    #[test]
    fn a_mechanism_that_no_client_takes_is_refused_with_those_that_work() {
        for mechanism in [
            "SCRAM",
            "scram-sha-512",
            "SCRAM-SHA-1",
            "GSSAPI",
            "oauthbearer",
            "",
        ] {
            for protocol in ["sasl_ssl", "plaintext"] {
                let settings = given(&[
                    ("security.protocol", protocol),
                    ("sasl.mechanism", mechanism),
                    ("sasl.username", "ada"),
                    ("sasl.password", "hunter2"),
                ]);
                let problems = check(&settings);
                // Without a login there is another: that nobody logs in.
                let (problem, others) = problems.split_last().expect("it is refused");
                let unsent = usize::from(protocol == "plaintext");
                assert_eq!(others.len(), unsent, "{problems:?}");
                assert_eq!(problem.key, "kafka.properties.sasl.mechanism");
                assert_eq!(problem.value.as_deref(), Some(mechanism));
                assert_eq!(
                    problem.fix.as_deref(),
                    Some("use SCRAM-SHA-512, SCRAM-SHA-256, PLAIN, OAUTHBEARER, in capitals")
                );
            }
        }
    }

    #[test]
    fn a_login_needs_a_mechanism_and_its_credentials() {
        let sasl = ("security.protocol", "sasl_plaintext");
        type Case<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);
        let cases: [Case<'_>; 3] = [
            (
                &[sasl, ("sasl.username", "ada"), ("sasl.password", "x")],
                &["kafka.properties.sasl.mechanism"],
            ),
            (
                &[sasl, ("sasl.mechanism", "PLAIN")],
                &[
                    "kafka.properties.sasl.username",
                    "kafka.properties.sasl.password",
                ],
            ),
            // Where nobody logs in, only that is told.
            (
                &[("sasl.mechanism", "PLAIN")],
                &["kafka.properties.security.protocol"],
            ),
        ];
        for (properties, missing) in cases {
            assert_eq!(keys(&given(properties)), missing, "{properties:?}");
        }
    }

    #[test]
    fn credentials_that_would_never_be_sent_are_refused_with_the_protocols_that_send_them() {
        for name in ["sasl.username", "sasl.password", NAMES[0], NAMES[1]] {
            for protocol in [None, Some("plaintext"), Some("SSL")] {
                let mut settings = given(&[(name, "PLAIN")]);
                if let Some(protocol) = protocol {
                    let properties = &mut settings.kafka.properties;
                    properties.insert(PROTOCOL.to_owned(), Secret::new(protocol));
                }
                let problems = check(&settings);
                assert_eq!(problems.len(), 1, "{name}: {problems:?}");
                let problem = &problems[0];
                assert_eq!(problem.key, "kafka.properties.security.protocol");
                assert_eq!(problem.value.as_deref(), protocol);
                assert!(problem.message.starts_with(name), "{}", problem.message);
                let fix = problem.fix.as_deref().unwrap_or_default();
                assert!(fix.contains("sasl_ssl"), "{fix}");
            }
        }
    }

    #[test]
    fn a_protocol_that_cannot_be_known_or_is_none_is_told_once() {
        let mut settings = given(&[("sasl.username", "ada"), (PROTOCOL, "sasl")]);
        assert_eq!(keys(&settings), ["kafka.properties.security.protocol"]);
        settings.kafka.properties.remove(PROTOCOL);
        let files = &mut settings.kafka.property_files;
        files.insert(PROTOCOL.to_owned(), "/no/such/file".to_owned());
        assert_eq!(keys(&settings), ["kafka.property_files.security.protocol"]);
    }

    #[test]
    fn two_names_of_the_mechanism_are_one_too_many() {
        let settings = given(&[
            (PROTOCOL, "sasl_ssl"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.mechanisms", "PLAIN"),
        ]);
        assert_eq!(keys(&settings), ["kafka.properties.sasl.mechanisms"]);
    }

    #[test]
    fn what_lies_in_files_counts_and_is_not_repeated() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let mut settings = given(&[("security.protocol", "sasl_ssl"), ("sasl.username", "ada")]);
        let files = &mut settings.kafka.property_files;
        files.insert("sasl.password".to_owned(), file("password", "hunter2\n"));
        files.insert("sasl.mechanism".to_owned(), file("mechanism", "PLAIN\n"));
        assert_eq!(check(&settings), []);
        file("mechanism", "hunter2\n");
        assert_eq!(keys(&settings), ["kafka.property_files.sasl.mechanism"]);
        let problems = format!("{:?}", check(&settings));
        assert!(!problems.contains("hunter2"), "{problems}");
        file("mechanism", "PLAIN\n");
        settings.kafka.properties.clear();
        assert_eq!(keys(&settings), ["kafka.properties.security.protocol"]);
    }
}
