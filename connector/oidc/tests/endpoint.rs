//! A client of a token endpoint over HTTP and TLS: what is asked, and what comes of each answer.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use aligner_oidc::{OidcSettings, Secret, TokenEndpoint, TokenError};
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
use serde_json::json;
use tempfile::TempDir;

/// A request: its head, one header a line, and its body.
#[derive(Debug, Clone, PartialEq)]
struct Request {
    head: String,
    body: String,
}

type Requests = Arc<Mutex<Vec<Request>>>;

fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut from = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head
        .lines()
        .find_map(|line| {
            line.to_lowercase()
                .strip_prefix("content-length: ")?
                .parse()
                .ok()
        })
        .unwrap_or(0);
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Request { head, body })
}

/// An endpoint that gives these answers, whole as they go over the wire, one a connection.
fn serve(answers: Vec<String>) -> (SocketAddr, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let requests = Requests::default();
    let heard = Arc::clone(&requests);
    thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            if let Some(request) = read_request(&mut stream) {
                heard.lock().expect("nobody panics with it").push(request);
            }
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, requests)
}

fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

fn issued() -> String {
    let body = json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 300});
    answer(200, &body.to_string())
}

fn settings(address: SocketAddr, secret: &str) -> OidcSettings {
    OidcSettings {
        timeout: Duration::from_secs(10),
        ..OidcSettings::new(
            format!("http://{address}/token?policy=canary"),
            "moderation",
            Secret::new(secret),
        )
    }
}

fn endpoint(settings: OidcSettings) -> TokenEndpoint {
    TokenEndpoint::new(settings).expect("usable settings")
}

#[test]
fn a_token_is_asked_for_as_the_standard_has_it() {
    let (address, requests) = serve(vec![issued()]);
    let token = endpoint(OidcSettings {
        scope: Some("kafka write".to_owned()),
        ..settings(address, "hunter2")
    })
    .token()
    .expect("a token");
    assert_eq!(token.value, "opaque");
    let requests = requests.lock().expect("the server is done");
    let Request { head, body } = &requests[0];
    assert!(
        head.starts_with("POST /token?policy=canary HTTP/1.1\r\n"),
        "{head}"
    );
    let head = head.to_lowercase();
    // moderation:hunter2
    let credentials = "authorization: basic bw9kzxjhdglvbjpodw50zxiy\r\n";
    assert!(head.contains(credentials), "{head}");
    assert!(head.contains("content-type: application/x-www-form-urlencoded\r\n"));
    assert!(head.contains("accept: application/json\r\n"));
    assert_eq!(body, "grant_type=client_credentials&scope=kafka%20write");
}

#[test]
fn credentials_that_are_refused_are_shown_as_java_clients_show_them_and_from_then_on() {
    let refused = answer(401, r#"{"error":"invalid_client"}"#);
    let (address, requests) = serve(vec![refused, issued(), issued()]);
    let endpoint = endpoint(settings(address, "50%+"));
    endpoint.token().expect("the second spelling is taken");
    endpoint.token().expect("and the first to be tried");
    let requests = requests.lock().expect("the server is done");
    let credentials: Vec<_> = requests
        .iter()
        .flat_map(|request| request.head.lines())
        .filter_map(|line| line.split_once("Basic "))
        .map(|(_, encoded)| encoded)
        .collect();
    // moderation:50%25%2B, and moderation:50%+
    let (standard, plain) = ("bW9kZXJhdGlvbjo1MCUyNSUyQg==", "bW9kZXJhdGlvbjo1MCUr");
    assert_eq!(credentials, [standard, plain, plain]);
}

#[test]
fn whatever_comes_is_sorted_and_neither_secret_nor_query_is_repeated() {
    let refused = json!({"error": "invalid_client", "error_description": "not hunter2"});
    for (wire, passes, words) in [
        (answer(503, ""), true, "it answers 503"),
        (answer(429, ""), true, "it answers 429"),
        (answer(401, &refused.to_string()), false, "(invalid_client)"),
        (
            "HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n"
                .to_owned(),
            false,
            "it answers 302",
        ),
        (answer(200, "<html>hunter2"), false, "no access_token"),
        (
            format!(
                "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n{}",
                "x".repeat(2 << 20)
            ),
            false,
            "longer than 1048576 bytes",
        ),
        (
            "HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nx".to_owned(),
            true,
            "breaks off",
        ),
        (String::new(), true, "error sending request"),
    ] {
        let (address, _) = serve(vec![wire]);
        let error = endpoint(settings(address, "hunter2"))
            .token()
            .expect_err(words);
        let said = error.to_string();
        assert_eq!(
            matches!(error, TokenError::Unavailable { .. }),
            passes,
            "{said}"
        );
        let named = format!("the token endpoint http://{address}/token ");
        assert!(said.starts_with(&named), "{said}");
        assert!(said.contains(words), "{said}");
        for secret in ["hunter2", "canary"] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

#[test]
fn an_endpoint_that_says_nothing_and_one_that_is_not_there_are_unavailable() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = closed.local_addr().expect("bound");
    drop(closed);
    for address in [silent.local_addr().expect("bound"), nobody] {
        let impatient = OidcSettings {
            timeout: Duration::from_millis(200),
            ..settings(address, "hunter2")
        };
        let error = endpoint(impatient).token().expect_err("no answer");
        assert!(matches!(error, TokenError::Unavailable { .. }), "{error}");
    }
}

fn openssl(folder: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl is installed (apt-get install -y openssl)");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "openssl {arguments}: {said}");
}

/// An authority of one's own, and what it signed for an endpoint on this machine.
struct Authority(TempDir);

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::write(path.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("our own folder");
        for arguments in [
            "req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem",
            "req -newkey rsa:2048 -nodes -subj /CN=idp -keyout idp.key -out idp.csr",
            "x509 -req -in idp.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile names \
             -out idp.pem",
        ] {
            openssl(path, arguments);
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// An endpoint that issues a token to whoever trusts it.
    fn serve(&self) -> SocketAddr {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("TLS");
        acceptor
            .set_private_key_file(self.file("idp.key"), SslFiletype::PEM)
            .expect("openssl wrote it");
        acceptor
            .set_certificate_chain_file(self.file("idp.pem"))
            .expect("openssl wrote it");
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who does not trust us is gone.
                let Ok(mut stream) = acceptor.accept(stream) else {
                    continue;
                };
                if read_request(&mut stream).is_some() {
                    let _ = stream.write_all(issued().as_bytes());
                }
                let _ = stream.shutdown();
            }
        });
        address
    }
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named_and_refused_by_name_where_not() {
    let authority = Authority::new();
    let address = authority.serve();
    let settings = |ca_file| OidcSettings {
        ca_file,
        ..OidcSettings::new(
            format!("https://{address}/token"),
            "moderation",
            Secret::new("hunter2"),
        )
    };
    let trusting = endpoint(settings(Some(authority.file("ca.pem"))));
    assert_eq!(trusting.token().expect("it is trusted").value, "opaque");
    match endpoint(settings(None)).token() {
        Err(TokenError::Refused { cause, .. }) => {
            assert!(cause.contains("check https.ca.location"), "{cause}");
        }
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused_by_their_property() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").expect("our own folder");
    let usable = OidcSettings::new("https://host/token", "ada", Secret::new("hunter2"));
    type Change<'a> = &'a dyn Fn(&mut OidcSettings);
    let table: [(Change<'_>, &str, &str); 5] = [
        (
            &|s| s.endpoint = "host/token".to_owned(),
            "sasl.oauthbearer.token.endpoint.url",
            "https://",
        ),
        (
            &|s| s.client_id = String::new(),
            "sasl.oauthbearer.client.id",
            "empty",
        ),
        (
            &|s| s.client_secret = Secret::new(""),
            "sasl.oauthbearer.client.secret",
            "empty",
        ),
        (
            &|s| s.ca_file = Some("/nowhere/ca.pem".into()),
            "https.ca.location",
            "/nowhere/ca.pem: it cannot be read",
        ),
        (
            &|s| s.ca_file = Some(empty.clone()),
            "https.ca.location",
            "holds no certificate",
        ),
    ];
    for (change, property, words) in table {
        let mut settings = usable.clone();
        change(&mut settings);
        let fault = TokenEndpoint::new(settings).expect_err(words);
        assert_eq!(fault.property, property);
        assert!(fault.fault.contains(words), "{fault}");
    }
    assert!(!format!("{usable:?}").contains("hunter2"));
}
