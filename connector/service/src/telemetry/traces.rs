//! Spans, sent to a collector over OTLP/HTTP in the background.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};

/// Least time between two lines about lost spans: batches fail every few seconds while a collector
/// is away, and nobody needs to read that more often.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// A provider that sends batches from its own thread.
///
/// # Errors
/// If the endpoint is not a URL.
pub fn provider(endpoint: &str, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    // The blocking HTTP client starts a runtime of its own, which may not be made or dropped
    // on a thread that already serves one.
    let exporter = std::thread::spawn(move || {
        opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .build()
    })
    .join()
    .expect("building an exporter does not panic")
    .context("setting up the OTLP exporter: telemetry.otlp_endpoint must be an http(s) URL")?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(Telling {
            exporter,
            losses: Mutex::default(),
        })
        .with_resource(resource)
        .build())
}

/// An exporter that tells of what it could not send, by the name of the setting.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    losses: Mutex<Losses>,
}

impl<E> Telling<E> {
    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, spans: usize, error: &OTelSdkError) {
        let due = self.losses().add(Instant::now(), spans);
        if let Some(spans) = due {
            tracing::warn!(
                %error,
                spans,
                "spans cannot be sent to telemetry.otlp_endpoint and are lost"
            );
        }
    }
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            self.lost(spans, error);
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        let spans = mem::take(&mut self.losses().untold);
        if spans > 0 {
            tracing::warn!(
                spans,
                "more spans could not be sent to telemetry.otlp_endpoint and are lost"
            );
        }
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Spans that were lost, and when somebody was last told.
#[derive(Debug, Default)]
struct Losses {
    untold: usize,
    told: Option<Instant>,
}

impl Losses {
    /// Adds spans. Where it is time for another line: how many there were since the last one.
    fn add(&mut self, now: Instant, spans: usize) -> Option<usize> {
        self.untold += spans;
        if self
            .told
            .is_some_and(|told| now.duration_since(told) < BETWEEN_LINES)
        {
            return None;
        }
        self.told = Some(now);
        Some(mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_spans_are_told_at_once_then_once_a_minute_and_every_one_is_counted() {
        let begin = Instant::now();
        let mut losses = Losses::default();
        let mut add = |seconds, spans| losses.add(begin + Duration::from_secs(seconds), spans);
        assert_eq!(add(0, 3), Some(3));
        assert_eq!(add(5, 10), None);
        assert_eq!(add(59, 20), None);
        assert_eq!(add(60, 1), Some(31));
        assert_eq!(add(61, 7), None);
        assert_eq!(add(600, 0), Some(7));
        assert_eq!(losses.untold, 0);
    }

    /// A collector that is away.
    #[derive(Debug)]
    struct Away;

    impl SpanExporter for Away {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("network error".to_owned()))
        }
    }

    #[tokio::test]
    async fn what_was_not_told_when_sending_ends_is_told_then() {
        let exporter = Telling {
            exporter: Away,
            losses: Mutex::default(),
        };
        exporter.export(Vec::new()).await.expect_err("it is away");
        let told = exporter.losses().told;
        assert!(told.is_some(), "the first loss is told at once");
        exporter.lost(4, &OTelSdkError::AlreadyShutdown);
        assert_eq!(exporter.losses().untold, 4);
        exporter.shutdown().expect("it has nothing to close");
        assert_eq!(exporter.losses().untold, 0);
    }
}
