//! A registry with an authority of its own, which asks for a certificate.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use aligner_records::{AnswerEvent, Record as _};
use aligner_registry::{AnswerDecoder, Registry, RegistryError, RegistrySettings};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
use serde_json::json;
use tempfile::TempDir;

/// An authority, and what it signed for a registry on this machine and for us.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let authority = Self(tempfile::tempdir().expect("a folder"));
        let names = authority.file("names");
        fs::write(names, "subjectAltName=IP:127.0.0.1\n").expect("our own folder");
        authority.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem",
        );
        for name in ["registry", "client"] {
            authority.openssl(&format!(
                "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
            ));
            authority.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
                 -extfile names -out {name}.pem"
            ));
        }
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let done = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .expect("openssl is installed (apt-get install -y openssl)");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "openssl {arguments}: {said}");
    }

    /// A registry that answers every request with one schema, to whoever shows a certificate.
    fn serve(&self) -> SocketAddr {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("TLS");
        acceptor
            .set_private_key_file(self.file("registry.key"), SslFiletype::PEM)
            .expect("openssl wrote it");
        acceptor
            .set_certificate_chain_file(self.file("registry.pem"))
            .expect("openssl wrote it");
        acceptor
            .set_ca_file(self.file("ca.pem"))
            .expect("openssl wrote it");
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        let acceptor = Arc::new(acceptor.build());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let acceptor = Arc::clone(&acceptor);
                thread::spawn(move || answer(&acceptor, stream));
            }
        });
        address
    }

    fn settings(&self, address: SocketAddr) -> RegistrySettings {
        RegistrySettings {
            ca_file: Some(self.file("ca.pem")),
            certificate_file: Some(self.file("client.pem")),
            key_file: Some(self.file("client.key")),
            ..RegistrySettings::new(format!("https://{address}"))
        }
    }
}

fn answer(acceptor: &SslAcceptor, stream: TcpStream) {
    // Who does not trust us, or whom we do not trust, is gone.
    let Ok(mut stream) = acceptor.accept(stream) else {
        return;
    };
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return,
            Ok(read) => request.extend_from_slice(&part[..read]),
        }
    }
    let body = json!({ "schema": AnswerEvent::AVSC }).to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.shutdown();
}

async fn fetch(settings: RegistrySettings) -> Result<(), RegistryError> {
    let registry = Registry::new(settings).expect("the files are there");
    AnswerDecoder::new(registry, None).fetch(7).await
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_and_a_certificate_shown_to_it() {
    let authority = Authority::new();
    let settings = authority.settings(authority.serve());
    fetch(settings).await.expect("both trust each other");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_a_refusal_that_names_the_setting() {
    let authority = Authority::new();
    let address = authority.serve();
    let strangers = RegistrySettings {
        ca_file: None,
        ..authority.settings(address)
    };
    let unknown = RegistrySettings {
        certificate_file: None,
        key_file: None,
        ..authority.settings(address)
    };
    for settings in [strangers, unknown] {
        match fetch(settings).await {
            Err(RegistryError::Refused { cause, .. }) => assert!(
                cause.contains("check ca_file, certificate_file and key_file"),
                "{cause}"
            ),
            other => panic!("no refusal: {other:?}"),
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let authority = Authority::new();
    let write = |name: &str, text: &str| {
        let path = authority.file(name);
        fs::write(&path, text).expect("our own folder");
        path
    };
    let empty = write("empty.pem", "");
    let old_key = write("old.key", "-----BEGIN RSA PRIVATE KEY-----\n");
    let missing = Path::new("/nowhere/ca.pem").to_path_buf();
    type Change<'a> = &'a dyn Fn(&mut RegistrySettings);
    let table: [(Change<'_>, &str, &str); 6] = [
        (
            &|s| s.ca_file = Some(missing.clone()),
            "ca_file",
            "/nowhere/ca.pem: it cannot be read",
        ),
        (
            &|s| s.ca_file = Some(empty.clone()),
            "ca_file",
            "it holds no certificate in PEM",
        ),
        (
            &|s| s.key_file = None,
            "key_file",
            "there is a certificate_file but no key_file",
        ),
        (
            &|s| s.certificate_file = None,
            "certificate_file",
            "there is a key_file but no",
        ),
        (
            &|s| s.key_file = Some(old_key.clone()),
            "key_file",
            "no key in PKCS #8",
        ),
        (
            &|s| s.certificate_file = Some(empty.clone()),
            "certificate_file",
            "empty.pem: with",
        ),
    ];
    for (change, named, words) in table {
        let mut settings = authority.settings(SocketAddr::from(([127, 0, 0, 1], 1)));
        change(&mut settings);
        match Registry::new(settings) {
            Err(RegistryError::Settings { field, fault }) => {
                assert_eq!(field, named, "{fault}");
                assert!(fault.contains(words), "{fault}");
            }
            other => panic!("{words}: {other:?}"),
        }
    }
}
