//! Logs: fields, then a lowercase message, to stderr.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use crate::config::LogFormat;

/// The formatting layer.
pub fn layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    if json {
        layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed()
    } else {
        layer.with_ansi(terminal).with_target(false).boxed()
    }
}

/// `info`, or `info,aligner_kafka=debug`.
///
/// # Errors
/// If the text is not such a filter.
pub fn filter(text: &str) -> anyhow::Result<Targets> {
    // The OpenTelemetry SDK and HTTP clients report their own events at info.
    let quiet = [
        "opentelemetry",
        "opentelemetry_sdk",
        "opentelemetry-otlp",
        "hyper_util",
    ];
    let mut filter: Targets = text.parse()?;
    for target in quiet {
        if !text.contains(target) {
            filter = filter.with_target(target, tracing::Level::WARN);
        }
    }
    Ok(filter)
}
