//! A broker as companies run it: TLS, passwords by SCRAM, and access control.
//!
//! Certificates are PEM files that `openssl` makes for the test; no Java keystore is involved.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    connector::Config,
    kafka::{self, Kafka, Options},
    scratch::Scratch,
};

/// A user of the secured broker.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// Name.
    pub name: &'static str,
    /// Password.
    pub password: &'static str,
    /// SCRAM variant.
    pub mechanism: &'static str,
}

/// May do everything.
pub const ADMIN: User = User {
    name: "admin",
    password: "admin-secret",
    mechanism: "SCRAM-SHA-256",
};

/// Is known, and may do nothing.
pub const ALICE: User = User {
    name: "alice",
    password: "alice-secret",
    mechanism: "SCRAM-SHA-512",
};

/// A secured broker with its certificates.
#[derive(Debug)]
pub struct SecureKafka {
    /// The broker; the harness's own clients come as [`ADMIN`].
    pub kafka: Kafka,
    certificates: Scratch,
    /// Port of the listener on which everybody may do everything.
    internal: u16,
}

impl SecureKafka {
    /// Starts one.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with these broker settings, too.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let certificates = Scratch::new("certificates");
        let folder = certificates.path();
        make_authority(folder);
        make_certificate(folder, "broker");
        let at = |name: &str| folder.join(name).display().to_string();
        let login = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        let internal = kafka::free_port();
        let mut options = Options {
            scram: [ADMIN, ALICE]
                .iter()
                .map(|user| {
                    let User {
                        name,
                        password,
                        mechanism,
                    } = user;
                    format!("{mechanism}=[name={name},password={password}]")
                })
                .collect(),
            client: client_properties(&folder.join("ca.pem"), ADMIN),
            ..Options::default()
        }
        .quick();
        for (key, value) in [
            (
                "listeners",
                format!(
                    "CLIENTS://127.0.0.1:{{port}},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{{controller}}"
                ),
            ),
            (
                "advertised.listeners",
                format!("CLIENTS://127.0.0.1:{{port}},INTERNAL://127.0.0.1:{internal}"),
            ),
            (
                "listener.security.protocol.map",
                "CLIENTS:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
            ),
            ("inter.broker.listener.name", "INTERNAL".into()),
            (
                "listener.name.clients.sasl.enabled.mechanisms",
                "SCRAM-SHA-256,SCRAM-SHA-512".into(),
            ),
            (
                "listener.name.clients.scram-sha-256.sasl.jaas.config",
                login.into(),
            ),
            (
                "listener.name.clients.scram-sha-512.sasl.jaas.config",
                login.into(),
            ),
            ("ssl.keystore.type", "PEM".into()),
            ("ssl.keystore.location", at("broker.keystore.pem")),
            ("ssl.truststore.type", "PEM".into()),
            ("ssl.truststore.location", at("ca.pem")),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer".into(),
            ),
            // The plaintext listener is the broker's own, on a machine that runs only this test.
            ("super.users", "User:ANONYMOUS;User:admin".into()),
        ] {
            options = options.with(key, &value);
        }
        for (key, value) in settings {
            options = options.with(key, value);
        }
        Self {
            kafka: Kafka::with(options),
            certificates,
            internal,
        }
    }

    /// Permits operations to `user`, with Kafka's own tool; `on` names what, as its options do.
    pub fn allow(&self, user: User, operations: &[&str], on: &[&str]) {
        self.permissions(&["--add"], user, operations, on);
    }

    /// Takes back what [`SecureKafka::allow`] permitted.
    pub fn take_back(&self, user: User, operations: &[&str], on: &[&str]) {
        self.permissions(&["--remove", "--force"], user, operations, on);
    }

    /// Gives `user` another password, as a rotation does.
    pub fn change_password(&self, user: User, password: &str) {
        let User {
            name, mechanism, ..
        } = user;
        let changed = format!("{mechanism}=[password={password}]");
        self.tool(
            "kafka.admin.ConfigCommand",
            &[
                &["--alter", "--add-config", &changed],
                &["--entity-type", "users", "--entity-name", name][..],
            ]
            .concat(),
        );
    }

    fn permissions(&self, what: &[&str], user: User, operations: &[&str], on: &[&str]) {
        let principal = format!("User:{}", user.name);
        let mut arguments = what.to_vec();
        arguments.extend(["--allow-principal", &principal]);
        arguments.extend(operations.iter().flat_map(|name| ["--operation", *name]));
        arguments.extend(on);
        self.tool("org.apache.kafka.tools.AclCommand", &arguments);
    }

    /// Runs one of Kafka's own tools, on the listener where everybody may do everything.
    fn tool(&self, class: &str, arguments: &[&str]) {
        let bootstrap = format!("127.0.0.1:{}", self.internal);
        let done = kafka::java()
            .arg(class)
            .args(["--bootstrap-server", &bootstrap])
            .args(arguments)
            .output()
            .expect("java can be started");
        assert!(
            done.status.success(),
            "{class} {arguments:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// The authority that signed the broker's certificate.
    pub fn authority(&self) -> PathBuf {
        self.certificates.path().join("ca.pem")
    }

    /// A folder for what tests write beside the certificates.
    pub fn folder(&self) -> &Scratch {
        &self.certificates
    }

    /// Adds what `user` needs to be let in.
    pub fn credentials(&self, mut config: Config, user: User) -> Config {
        for (key, value) in client_properties(&self.authority(), user) {
            config = config.property(&key, &value);
        }
        config
    }
}

/// librdkafka's settings for a user.
fn client_properties(authority: &Path, user: User) -> Vec<(String, String)> {
    [
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", &authority.display().to_string()),
        ("sasl.mechanism", user.mechanism),
        ("sasl.username", user.name),
        ("sasl.password", user.password),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

fn make_authority(folder: &Path) {
    openssl(
        folder,
        "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=test-ca -keyout ca.key -out ca.pem",
    );
}

fn make_certificate(folder: &Path, name: &str) {
    std::fs::write(
        folder.join("names"),
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n",
    )
    .expect("the test's own folder is writable");
    openssl(
        folder,
        &format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"),
    );
    openssl(
        folder,
        &format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
             -extfile names -out {name}.pem"
        ),
    );
    // Kafka wants the key (PKCS#8) and the certificate in one file.
    let read = |file: String| std::fs::read(folder.join(file)).expect("openssl wrote it");
    let both = [read(format!("{name}.key")), read(format!("{name}.pem"))].concat();
    std::fs::write(folder.join(format!("{name}.keystore.pem")), both)
        .expect("the test's own folder is writable");
}

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl is installed (apt-get install -y openssl)");
    assert!(
        done.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}
