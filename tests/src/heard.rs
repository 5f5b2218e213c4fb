//! What a client of the harness heard from its library, for the message of a test that fails.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use rdkafka::{
    ClientConfig, ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext,
    error::KafkaError,
};

/// How many lines are kept, the newest ones.
const LINES: usize = 60;

/// Keeps what a client logs and its errors, and prints nothing.
#[derive(Debug, Clone)]
pub struct Heard {
    since: Instant,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            lines: Arc::default(),
        }
    }
}

impl Heard {
    /// Lets a client with these settings tell it more than errors: `contexts` are librdkafka's
    /// names for what it can be asked about.
    pub fn about<'a>(
        &self,
        settings: &'a mut ClientConfig,
        contexts: &str,
    ) -> &'a mut ClientConfig {
        settings
            .set("debug", contexts)
            .set_log_level(RDKafkaLogLevel::Debug)
    }

    /// The newest lines, oldest first, with seconds since the client was made.
    pub fn lines(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    /// Keeps a line of somebody else's about the same client.
    pub fn note(&self, line: &str) {
        let mut lines = self.lock();
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(format!("{:.3} {line}", self.since.elapsed().as_secs_f64()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Heard {
    fn log(&self, _: RDKafkaLogLevel, fac: &str, message: &str) {
        // Said over and over: by a broker that was dropped a thousand times a second.
        if !matches!(fac, "TERMINATE" | "NOINFO" | "QRYLEADER") {
            self.note(&format!("{fac}: {message}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(&format!("error: {error}: {reason}"));
    }
}

impl ConsumerContext for Heard {}
