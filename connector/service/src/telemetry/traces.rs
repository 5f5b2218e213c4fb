//! Spans, sent to a collector over OTLP/HTTP in the background.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aligner_pipeline::Throttle;
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
    let there = endpoint.clone();
    let exporter = std::thread::spawn(move || {
        opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(there)
            .build()
    })
    .join()
    .expect("building an exporter does not panic")
    .context("setting up the OTLP exporter: telemetry.otlp_endpoint must be an http(s) URL")?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(Telling {
            exporter,
            endpoint,
            losses: Mutex::new(Throttle::every(BETWEEN_LINES)),
        })
        .with_resource(resource)
        .build())
}

/// An exporter that tells of what it could not send, by the name of the setting.
#[derive(Debug)]
struct Telling<E> {
    exporter: E,
    /// Where spans are sent, its path and all.
    endpoint: String,
    /// Spans that were lost.
    losses: Mutex<Throttle>,
}

impl<E> Telling<E> {
    fn losses(&self) -> MutexGuard<'_, Throttle> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, spans: usize, error: &OTelSdkError) {
        let due = self.losses().add(spans as u64, Instant::now());
        if let Some(spans) = due {
            tracing::warn!(
                %error,
                endpoint = self.endpoint,
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
        let spans = self.losses().rest();
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

#[cfg(test)]
mod tests {
    use super::*;

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
            endpoint: "http://collector:4318/v1/traces".to_owned(),
            losses: Mutex::new(Throttle::every(BETWEEN_LINES)),
        };
        exporter.export(Vec::new()).await.expect_err("it is away");
        exporter.lost(3, &OTelSdkError::AlreadyShutdown);
        let later = Instant::now() + BETWEEN_LINES;
        assert_eq!(exporter.losses().due(later), None, "told at once");
        exporter.lost(4, &OTelSdkError::AlreadyShutdown);
        exporter.shutdown().expect("it has nothing to close");
        assert_eq!(exporter.losses().rest(), 0, "told when sending ended");
    }
}
