//! Logs to stderr, metrics for Prometheus, spans to an OTLP collector.
//!
//! Only this module installs a subscriber or an OpenTelemetry provider; the other crates use the
//! APIs and stay silent without it. None of the three ever holds a question or an answer.

mod logs;
mod metrics;
mod traces;

use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use metrics::Metrics;

use crate::config::{LogFormat, Settings};

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
pub fn install(settings: &Settings) -> anyhow::Result<Installed> {
    let resource = resource(settings);
    let metrics = Metrics::install(resource.clone())?;
    let settings = &settings.telemetry;
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

/// Who measures and traces: the service, its version, and which of its instances it is, if it was
/// given a name among them.
fn resource(settings: &Settings) -> Resource {
    let service = settings.telemetry.service_name.as_ref();
    let instance = settings.kafka.instance_id.as_ref();
    Resource::builder()
        .with_service_name(service.unwrap_or(&settings.name.0).clone())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(instance.map(|id| KeyValue::new("service.instance.id", id.0.clone())))
        .build()
}

/// Logs only, for commands that are not the service: warnings, to stderr.
pub fn install_quiet() {
    // A second installation, as in tests, keeps the first.
    let _ = tracing_subscriber::registry()
        .with(logs::layer(LogFormat::Auto).with_filter(quiet()))
        .try_init();
}

/// Warnings; but of dead letters these commands tell in their output.
fn quiet() -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target(aligner_pipeline::DEAD_LETTER_TARGET, LevelFilter::OFF)
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

#[cfg(test)]
mod tests {
    use opentelemetry::Key;
    use tracing::Level;

    use crate::config::InstanceId;

    use super::*;

    #[test]
    fn spans_and_metrics_say_which_service_and_instance_of_which_version_they_come_from() {
        let says = |settings: &Settings, key: &'static str| {
            let value = resource(settings).get(&Key::from_static_str(key));
            value.map(|value| value.to_string())
        };
        let mut settings = Settings::default();
        settings.kafka.instance_id = Some(InstanceId("2".to_owned()));
        for (key, value) in [
            ("service.name", "aligner"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", "2"),
        ] {
            assert_eq!(says(&settings, key).as_deref(), Some(value), "{key}");
        }
        settings.telemetry.service_name = Some("moderation".to_owned());
        let name = says(&settings, "service.name");
        assert_eq!(name.as_deref(), Some("moderation"));
    }

    #[test]
    fn commands_that_tell_of_dead_letters_in_their_output_do_not_warn_of_them_too() {
        let filter = quiet();
        for (target, level, is_logged) in [
            ("aligner_pipeline::dead_letters", Level::WARN, false),
            ("aligner_pipeline::delivery", Level::WARN, true),
            ("aligner_engine::worker", Level::ERROR, true),
            ("aligner_engine::worker", Level::INFO, false),
        ] {
            assert_eq!(filter.would_enable(target, &level), is_logged, "{target}");
        }
    }
}
