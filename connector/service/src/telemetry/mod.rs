//! Logs to stderr, metrics for Prometheus, spans to an OTLP collector.
//!
//! Only this module installs a subscriber or an OpenTelemetry provider; the other crates use the
//! APIs and stay silent without it. None of the three ever holds a question or an answer.

mod logs;
mod metrics;
mod traces;

use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use metrics::Metrics;

use crate::config::{LogFormat, Telemetry};

/// What was installed; shut it down to send what is still buffered.
#[derive(Debug)]
pub struct Installed {
    /// Where `/metrics` reads.
    pub metrics: Metrics,
    traces: Option<SdkTracerProvider>,
}

/// Installs logs, metrics and, where an endpoint is set, traces.
///
/// # Errors
/// If a provider refuses its settings.
pub fn install(settings: &Telemetry, connector: &str) -> anyhow::Result<Installed> {
    let service = settings
        .service_name
        .clone()
        .unwrap_or_else(|| connector.to_owned());
    let resource = Resource::builder().with_service_name(service).build();
    let metrics = Metrics::install(resource.clone())?;
    let traces = settings
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| traces::provider(endpoint, resource))
        .transpose()?;
    if let Some(provider) = &traces {
        opentelemetry::global::set_tracer_provider(provider.clone());
    }
    opentelemetry::global::set_text_map_propagator(
        opentelemetry_sdk::propagation::TraceContextPropagator::new(),
    );
    tracing_subscriber::registry()
        .with(logs::layer(settings.log_format).with_filter(logs::filter(&settings.log_level)?))
        .try_init()?;
    Ok(Installed { metrics, traces })
}

/// Logs only, for commands that are not the service: warnings, to stderr.
pub fn install_quiet() {
    // A second installation, as in tests, keeps the first.
    let _ = tracing_subscriber::registry()
        .with(logs::layer(LogFormat::Auto).with_filter(tracing::level_filters::LevelFilter::WARN))
        .try_init();
}

impl Installed {
    /// Sends what is buffered. Blocks; call it outside the async runtime.
    pub fn shut_down(&self) {
        if let Some(provider) = &self.traces
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}
