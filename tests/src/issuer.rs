//! An identity provider that does as the test says, and a broker that trusts its tokens.
//!
//! The provider issues real tokens, JWTs signed with RS256, to clients that show a secret; the broker
//! checks them with the validator that Apache Kafka ships. Each test has a client of its own, so that they
//! share both.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    sign::Signer,
};
use serde_json::{Value, json};

use crate::{
    connector::Config,
    http::{self, Request, Response},
    kafka::{self, Kafka, Options},
    scratch::Scratch,
};

/// Seconds that a token lives: every story sees several.
pub const LIFE_SECONDS: u64 = 6;
/// What the broker wants in a token.
const AUDIENCE: &str = "kafka";
const ISSUER: &str = "https://issuer.test";
const KEY_ID: &str = "test-key";

/// The provider. It runs until the test process ends.
#[derive(Debug, Clone)]
pub struct Issuer {
    address: SocketAddr,
    books: Arc<Books>,
}

#[derive(Debug)]
struct Books {
    key: PKey<Private>,
    clients: Mutex<BTreeMap<String, Client>>,
}

#[derive(Debug)]
struct Client {
    secret: String,
    audience: String,
    /// Answered with this instead of a token.
    down: Option<u16>,
    asked: u64,
    issued: u64,
}

impl Issuer {
    fn start() -> Self {
        let key = Rsa::generate(2048).and_then(PKey::from_rsa);
        let books = Arc::new(Books {
            key: key.expect("a key can be made"),
            clients: Mutex::default(),
        });
        let own = Arc::clone(&books);
        let address = http::serve_requests(move |request| own.answer(request));
        Self { address, books }
    }

    /// For `sasl.oauthbearer.token.endpoint.url`.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// From now on it knows a client by this secret alone.
    pub fn knows(&self, client: &str, secret: &str) {
        let mut clients = self.lock();
        let known = clients.entry(client.to_owned()).or_insert_with(|| Client {
            secret: String::new(),
            audience: AUDIENCE.to_owned(),
            down: None,
            asked: 0,
            issued: 0,
        });
        secret.clone_into(&mut known.secret);
    }

    /// Issues tokens to a client that are meant for another cluster.
    pub fn issues_for(&self, client: &str, audience: &str) {
        self.change(client, |known| audience.clone_into(&mut known.audience));
    }

    /// Answers a client with this status from now on.
    pub fn fails(&self, client: &str, status: u16) {
        self.change(client, |known| known.down = Some(status));
    }

    /// Issues tokens to it again.
    pub fn recovers(&self, client: &str) {
        self.change(client, |known| known.down = None);
    }

    /// How often a client asked for a token.
    pub fn asked(&self, client: &str) -> u64 {
        self.lock().get(client).map_or(0, |known| known.asked)
    }

    /// How many it was issued.
    pub fn issued(&self, client: &str) -> u64 {
        self.lock().get(client).map_or(0, |known| known.issued)
    }

    fn change(&self, client: &str, change: impl FnOnce(&mut Client)) {
        change(self.lock().get_mut(client).expect("it is known"));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Client>> {
        self.books.lock()
    }

    /// The keys that tokens are signed with, as brokers read them (RFC 7517).
    fn keys(&self) -> Value {
        let rsa = self.books.key.rsa().expect("it is one");
        json!({"keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID,
            "n": URL_SAFE_NO_PAD.encode(rsa.n().to_vec()),
            "e": URL_SAFE_NO_PAD.encode(rsa.e().to_vec()),
        }]})
    }
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request) -> Response {
        let (status, body) = self.issue(request);
        Response {
            status,
            body: body.to_string(),
        }
    }

    fn issue(&self, request: &Request) -> (u16, Value) {
        let refused = || (401, json!({"error": "invalid_client"}));
        let asked_as_it_should =
            request.path == "/token" && request.body.starts_with(b"grant_type=client_credentials");
        if !asked_as_it_should {
            return (400, json!({"error": "invalid_request"}));
        }
        let Some((id, secret)) = request.authorization.as_deref().and_then(credentials) else {
            return refused();
        };
        let mut clients = self.lock();
        let Some(client) = clients.get_mut(&id) else {
            return refused();
        };
        client.asked += 1;
        if let Some(status) = client.down {
            return (status, json!({"error": "temporarily_unavailable"}));
        }
        if client.secret != secret {
            return refused();
        }
        client.issued += 1;
        let token = self.signed(&id, &client.audience);
        let body = json!({
            "access_token": token, "token_type": "Bearer", "expires_in": LIFE_SECONDS,
        });
        (200, body)
    }

    fn signed(&self, subject: &str, audience: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("after 1970").as_secs();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({
            "iss": ISSUER, "aud": audience, "sub": subject, "iat": now, "exp": now + LIFE_SECONDS,
        });
        let head = part(json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}));
        let signed = format!("{head}.{}", part(claims));
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).expect("an RSA key signs");
        let signature = signer
            .sign_oneshot_to_vec(signed.as_bytes())
            .expect("an RSA key signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Id and secret in a header of the scheme `Basic`; neither has anything to unescape in these tests.
fn credentials(header: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

/// A broker whose clients log in with tokens of an [`Issuer`]; the harness's own come in by another
/// door.
#[derive(Debug)]
pub struct TokenKafka {
    /// The broker, by the door where everybody may do everything.
    pub kafka: Kafka,
    /// Who issues tokens.
    pub issuer: Issuer,
    port: u16,
    _keys: Scratch,
}

impl TokenKafka {
    /// Starts one.
    pub fn start() -> Self {
        let issuer = Issuer::start();
        let keys = Scratch::new("issuer");
        let file = keys.file("keys.json", issuer.keys().to_string());
        let url = format!("file://{}", file.display());
        let port = kafka::free_port();
        let package = "org.apache.kafka.common.security.oauthbearer";
        let mut options = Options::default().quick();
        options.java.push(format!(
            "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={url}"
        ));
        let doors = format!("PLAINTEXT://127.0.0.1:{{port}},TOKENS://127.0.0.1:{port}");
        for (key, value) in [
            (
                "listeners",
                format!("{doors},CONTROLLER://127.0.0.1:{{controller}}"),
            ),
            ("advertised.listeners", doors),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,TOKENS:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            ),
            ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
            (
                "listener.name.tokens.sasl.enabled.mechanisms",
                "OAUTHBEARER".to_owned(),
            ),
            (
                "listener.name.tokens.oauthbearer.sasl.jaas.config",
                format!("{package}.OAuthBearerLoginModule required;"),
            ),
            (
                "listener.name.tokens.oauthbearer.sasl.server.callback.handler.class",
                format!("{package}.OAuthBearerValidatorCallbackHandler"),
            ),
            (
                "listener.name.tokens.sasl.oauthbearer.jwks.endpoint.url",
                url,
            ),
            (
                "listener.name.tokens.sasl.oauthbearer.expected.audience",
                AUDIENCE.to_owned(),
            ),
            (
                "listener.name.tokens.sasl.oauthbearer.expected.issuer",
                ISSUER.to_owned(),
            ),
            // One clock serves all, and a token shall end when it says so.
            (
                "listener.name.tokens.sasl.oauthbearer.clock.skew.seconds",
                "0".to_owned(),
            ),
            // A connection lasts as long as the token that it was opened with, and is opened anew with
            // another one, or closed.
            (
                "listener.name.tokens.oauthbearer.connections.max.reauth.ms",
                "3600000".to_owned(),
            ),
        ] {
            options = options.with(key, &value);
        }
        Self {
            kafka: Kafka::with(options),
            issuer,
            port,
            _keys: keys,
        }
    }

    /// Has a client of the issuer log in, with this secret.
    pub fn login(&self, config: Config, client: &str, secret: &str) -> Config {
        let config = config.set(
            &["kafka", "bootstrap_servers"],
            format!("127.0.0.1:{}", self.port),
        );
        [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "OAUTHBEARER"),
            ("sasl.oauthbearer.method", "oidc"),
            ("sasl.oauthbearer.client.id", client),
            ("sasl.oauthbearer.client.secret", secret),
            ("sasl.oauthbearer.scope", "kafka"),
            (
                "sasl.oauthbearer.extensions",
                "logicalCluster=lkc-1,identityPoolId=pool-1",
            ),
            ("sasl.oauthbearer.token.endpoint.url", &self.issuer.url()),
        ]
        .into_iter()
        .fold(config, |config, (key, value)| config.property(key, value))
    }
}
