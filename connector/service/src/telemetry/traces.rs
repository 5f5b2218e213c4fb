//! Spans, sent to a collector over OTLP/HTTP in the background.

use anyhow::Context;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};

/// A provider that sends batches from its own thread.
///
/// # Errors
/// If the endpoint is not a URL.
pub fn provider(endpoint: &str, resource: Resource) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    // The blocking HTTP client starts a runtime of its own, which may not be made or dropped
    // on a thread that already serves one.
    let exporter = std::thread::spawn(move || {
        SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .build()
    })
    .join()
    .expect("building an exporter does not panic")
    .context("setting up the OTLP exporter: telemetry.otlp_endpoint must be an http(s) URL")?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}
