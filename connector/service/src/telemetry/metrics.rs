//! Metrics: OpenTelemetry instruments, read by Prometheus.
//!
//! Each histogram brings its own boundaries: the SDK's (0, 5, 10, …) are made for milliseconds, and
//! a view that sets some here would take the place of all the others.

use std::fmt;

use anyhow::Context;
use opentelemetry_sdk::{Resource, metrics::SdkMeterProvider};
use prometheus::{Encoder, Registry, TextEncoder};

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    // Instruments die with it.
    provider: SdkMeterProvider,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Installs the global meter provider.
    ///
    /// # Errors
    /// If the exporter refuses the registry.
    pub fn install(resource: Resource) -> anyhow::Result<Self> {
        let metrics = Self::new(resource)?;
        opentelemetry::global::set_meter_provider(metrics.provider.clone());
        Ok(metrics)
    }

    fn new(resource: Resource) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .context("setting up the Prometheus exporter")?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(resource)
            .build();
        Ok(Self { registry, provider })
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// If the encoder refuses a metric.
    pub fn encode(&self) -> anyhow::Result<String> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8(text)?)
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::metrics::MeterProvider;

    use super::*;

    #[test]
    fn a_histogram_of_durations_has_the_boundaries_that_it_brings() {
        let resource = Resource::builder_empty().build();
        let metrics = Metrics::new(resource).expect("a registry of its own");
        let duration = metrics
            .provider
            .meter("test")
            .f64_histogram("delivery.duration")
            .with_unit("s")
            .with_boundaries(vec![0.01, 0.015, 0.025])
            .build();
        duration.record(0.012, &[]);
        let text = metrics.encode().expect("text");
        let counts: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("delivery_duration_seconds_bucket"))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(_, count)| count)
            .collect();
        // Up to 10 ms, 15 ms, 25 ms, and any.
        assert_eq!(counts, ["0", "1", "1", "1"], "{text}");
    }
}
