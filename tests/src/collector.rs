//! An OTLP/HTTP collector that keeps what it is sent, as bytes.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::http::{self, Response};

/// The collector. It runs until the test process ends.
#[derive(Debug, Clone)]
pub struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    /// Starts one.
    pub fn start() -> Self {
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let own = Arc::clone(&bodies);
        let address = http::serve(move |_, body| {
            own.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(body);
            Response {
                status: 200,
                body: String::new(),
            }
        });
        Self { address, bodies }
    }

    /// For `telemetry.otlp_endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether anything that came contains `text`. Protobuf holds texts as they are.
    pub fn holds(&self, text: &str) -> bool {
        let bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    /// How many bytes came.
    pub fn received(&self) -> usize {
        self.bodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}
