//! The files of TLS: librdkafka reads them once a client is made, and only if a connection asks for
//! TLS.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
};

use super::{
    Found, Settings,
    sasl::{self, PROTOCOL, Without},
};

/// Properties that name a file.
const FILES: [&str; 5] = [
    AUTHORITIES,
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// The one that may name a folder as well, or ask to look in the usual places.
const AUTHORITIES: &str = "ssl.ca.location";
const PROBE: &str = "probe";

impl Found {
    /// Judges the files. `properties` are those of the settings, and those that could be read from
    /// files.
    pub(super) fn tls(&mut self, settings: &Settings, properties: &BTreeMap<String, String>) {
        self.unused(settings, properties);
        for name in FILES {
            let key = sasl::key(settings, name);
            let Some(path) = properties.get(name) else {
                continue;
            };
            let authorities = name == AUTHORITIES;
            // A property that is given twice, or has no name, was reported already.
            if (authorities && path == PROBE) || self.0.iter().any(|problem| problem.key == key) {
                continue;
            }
            let Err(error) = readable(path, authorities) else {
                continue;
            };
            if settings.kafka.property_files.contains_key(name) {
                // Whatever lies in a file may be a secret, such as the key itself.
                self.add(
                    &key,
                    None,
                    format!("what this file holds is no path that can be read: {error}"),
                    format!("name the certificate or key itself, as kafka.properties.{name}"),
                );
            } else if path.contains("-----BEGIN") {
                self.add(
                    &key,
                    None,
                    "a path belongs here, not what the file holds",
                    "name a file that this user may read",
                );
            } else {
                let fix = if authorities {
                    "name a file or folder that this user may read, or probe for the system's own"
                } else {
                    "name a file that this user may read"
                };
                self.add(
                    &key,
                    path.clone(),
                    format!("it cannot be read: {error}"),
                    fix,
                );
            }
        }
    }

    /// What is given for TLS that the protocol does not ask for.
    fn unused(&mut self, settings: &Settings, properties: &BTreeMap<String, String>) {
        let key = sasl::key(settings, PROTOCOL);
        // Credentials that are not sent ask for another protocol, too.
        if self.0.iter().any(|problem| problem.key == key) {
            return;
        }
        let kafka = &settings.kafka;
        let mut names = kafka.properties.keys().chain(kafka.property_files.keys());
        if let Some(name) =
            names.find(|name| name.starts_with("ssl.") && name.ends_with(".location"))
        {
            let without_tls = Without {
                protocols: ["plaintext", "sasl_plaintext"],
                happens: "would never be used",
                fix: "set security.protocol to ssl or sasl_ssl",
            };
            self.idle(settings, properties, name, &without_tls);
        }
    }
}

/// Whether a file can be read, or a folder where one may stand. A pipe is left alone: opened, it
/// would have nothing for the client.
pub(super) fn readable(path: &str, or_folder: bool) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        if or_folder {
            fs::read_dir(path).map(drop)
        } else {
            Err(io::ErrorKind::IsADirectory.into())
        }
    } else if metadata.is_file() {
        File::open(path).map(drop)
    } else {
        Ok(())
    }
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
    fn a_file_that_is_not_there_is_refused_by_its_key_and_path() {
        for name in FILES {
            let settings = given(&[(PROTOCOL, "ssl"), (name, "/no/such/file.pem")]);
            let problems = check(&settings);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            let problem = &problems[0];
            assert_eq!(problem.key, format!("kafka.properties.{name}"));
            assert_eq!(problem.value.as_deref(), Some("/no/such/file.pem"));
            assert!(problem.message.contains("No such file"), "{problem:?}");
            let fix = problem.fix.as_deref().unwrap_or_default();
            assert!(fix.contains("may read"), "{fix}");
        }
    }

    #[test]
    fn files_are_taken_and_of_authorities_a_folder_or_a_search_too() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let file = file.path().to_str().expect("text");
        let folder = tempfile::tempdir().expect("temporary folder");
        let folder = folder.path().to_str().expect("text");
        for name in FILES {
            let key = format!("kafka.properties.{name}");
            assert_eq!(check(&given(&[(PROTOCOL, "SSL"), (name, file)])), []);
            for path in [folder, PROBE] {
                let refused = if name == AUTHORITIES {
                    Vec::new()
                } else {
                    vec![key.clone()]
                };
                let settings = given(&[(PROTOCOL, "ssl"), (name, path)]);
                assert_eq!(keys(&settings), refused, "{name}: {path}");
            }
        }
    }

    #[test]
    fn files_that_would_never_be_used_are_refused_with_the_protocols_that_use_them() {
        let file = tempfile::NamedTempFile::new().expect("temporary file");
        let file = file.path().to_str().expect("text");
        for name in FILES {
            for protocol in [None, Some("plaintext"), Some("SASL_PLAINTEXT")] {
                let mut settings = given(&[(name, file)]);
                let properties = &mut settings.kafka.properties;
                if let Some(protocol) = protocol {
                    properties.insert(PROTOCOL.to_owned(), Secret::new(protocol));
                }
                if protocol == Some("SASL_PLAINTEXT") {
                    for login in ["sasl.mechanism", "sasl.username", "sasl.password"] {
                        properties.insert(login.to_owned(), Secret::new("PLAIN"));
                    }
                }
                let problems = check(&settings);
                assert_eq!(problems.len(), 1, "{name}: {problems:?}");
                let problem = &problems[0];
                assert_eq!(problem.key, "kafka.properties.security.protocol");
                assert_eq!(problem.value.as_deref(), protocol);
                assert!(problem.message.starts_with(name), "{}", problem.message);
                assert_eq!(
                    problem.fix.as_deref(),
                    Some("set security.protocol to ssl or sasl_ssl")
                );
            }
        }
    }

    #[test]
    fn a_protocol_that_was_refused_already_is_told_once() {
        let mut settings = given(&[("sasl.username", "ada"), (AUTHORITIES, PROBE)]);
        assert_eq!(keys(&settings), ["kafka.properties.security.protocol"]);
        settings.kafka.properties.remove("sasl.username");
        let files = &mut settings.kafka.property_files;
        files.insert(PROTOCOL.to_owned(), "/no/such/file".to_owned());
        assert_eq!(keys(&settings), ["kafka.property_files.security.protocol"]);
    }

    #[test]
    fn a_path_in_a_file_counts_and_a_key_in_its_place_is_not_repeated() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n";
        let pem = file("key.pem", key);
        let name = "ssl.key.location";
        let mut settings = given(&[(PROTOCOL, "ssl")]);
        let path = file("path", &format!("{pem}\n"));
        let files = &mut settings.kafka.property_files;
        files.insert(name.to_owned(), path);
        assert_eq!(check(&settings), []);

        let files = &mut settings.kafka.property_files;
        files.insert(name.to_owned(), pem);
        assert_eq!(keys(&settings), ["kafka.property_files.ssl.key.location"]);
        let problems = format!("{:?}", check(&settings));
        assert!(!problems.contains("hunter2"), "{problems}");
        assert!(
            problems.contains("kafka.properties.ssl.key.location"),
            "{problems}"
        );

        let settings = given(&[(PROTOCOL, "ssl"), (name, key)]);
        assert_eq!(keys(&settings), ["kafka.properties.ssl.key.location"]);
        let problems = format!("{:?}", check(&settings));
        assert!(!problems.contains("hunter2"), "{problems}");
    }
}
