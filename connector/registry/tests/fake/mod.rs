//! A registry that answers as it is told, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use aligner_registry::{Registry, RegistrySettings};
use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use tokio::net::TcpListener;

/// A request as the fake saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and path with query.
    pub line: String,
    pub authorization: Option<String>,
    pub body: String,
}

/// What the fake answers, by method and path.
pub type Script = fn(&str) -> (u16, String);

pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    pub async fn start(script: Script) -> Self {
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let log = Arc::clone(&seen);
        let app = Router::new().fallback(move |request: Request| {
            let log = Arc::clone(&log);
            async move { answer(request, script, &log).await }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self {
            url: format!("http://{address}"),
            seen,
        }
    }

    pub fn registry(&self) -> Registry {
        Registry::new(RegistrySettings::new(&self.url)).expect("valid settings")
    }

    pub fn lines(&self) -> Vec<String> {
        let seen = self.seen.lock().expect("no panic while locked");
        seen.iter().map(|seen| seen.line.clone()).collect()
    }

    pub fn last(&self) -> Seen {
        let seen = self.seen.lock().expect("no panic while locked");
        seen.last().expect("something was asked").clone()
    }
}

async fn answer(request: Request, script: Script, log: &Mutex<Vec<Seen>>) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let line = format!("{} {}", parts.method, parts.uri);
    let authorization = parts
        .headers
        .get("authorization")
        .map(|value| value.to_str().expect("text").to_owned());
    log.lock().expect("no panic while locked").push(Seen {
        line: line.clone(),
        authorization,
        body: String::from_utf8(body.to_vec()).expect("text"),
    });
    let (status, body) = script(&line);
    if status == 0 {
        // Never answers.
        std::future::pending::<()>().await;
    }
    let status = StatusCode::from_u16(status).expect("a status");
    // Apicurio's content type, not Confluent's.
    (status, [("content-type", "application/json")], body).into_response()
}

pub fn schema_body(avsc: &str) -> String {
    json!({ "schema": avsc }).to_string()
}

pub fn error_body(code: u32) -> String {
    json!({ "error_code": code, "message": "no" }).to_string()
}
