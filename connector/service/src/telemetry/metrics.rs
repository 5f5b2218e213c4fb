//! Metrics: OpenTelemetry instruments, read by Prometheus.

use std::fmt;

use anyhow::Context;
use opentelemetry_sdk::{
    Resource,
    metrics::{Aggregation, Instrument, SdkMeterProvider, Stream},
};
use prometheus::{Encoder, Registry, TextEncoder};

/// Seconds. The SDK's own buckets (0, 5, 10, …) are made for milliseconds.
const SECONDS: [f64; 17] = [
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0,
    300.0,
];

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    // Instruments die with their provider.
    _provider: SdkMeterProvider,
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
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()
            .context("setting up the Prometheus exporter")?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_resource(resource)
            .with_view(|instrument: &Instrument| {
                (instrument.unit() == "s" && instrument.name().ends_with("duration")).then(|| {
                    Stream::builder()
                        .with_aggregation(Aggregation::ExplicitBucketHistogram {
                            boundaries: SECONDS.to_vec(),
                            record_min_max: false,
                        })
                        .build()
                        .expect("the boundaries rise")
                })
            })
            .build();
        opentelemetry::global::set_meter_provider(provider.clone());
        Ok(Self {
            registry,
            _provider: provider,
        })
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
