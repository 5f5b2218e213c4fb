//! Logs: fields, then a lowercase message, to stderr.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    layer::Filter,
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// The SDK's line about each batch of spans that was not sent. It has no message and names no
/// setting: [`traces`](super::traces) says it instead.
const EXPORT_ERROR: &str = "BatchSpanProcessor.ExportError";

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
pub fn filter(text: &str) -> anyhow::Result<impl Filter<Registry> + use<>> {
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
    // Without the hint all levels would count as wanted, and cost more where they are not.
    let told_elsewhere = filter_fn(|metadata| metadata.name() != EXPORT_ERROR)
        .with_max_level_hint(LevelFilter::TRACE);
    Ok(FilterExt::<Registry>::and(filter, told_elsewhere))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        trace::{
            BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData, SpanExporter,
        },
    };
    use tracing::Event;
    use tracing_subscriber::layer::{Context, SubscriberExt};

    use super::*;

    /// Keeps the names of what is logged.
    struct Names(Arc<Mutex<Vec<&'static str>>>);

    impl Layer<Registry> for Names {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, Registry>) {
            let mut names = self.0.lock().expect("no panic while locked");
            names.push(event.metadata().name());
        }
    }

    #[test]
    fn of_the_sdks_lines_only_the_one_that_we_say_ourselves_is_left_out() {
        let names = Arc::default();
        let filter = filter("info").expect("a filter");
        let subscriber =
            tracing_subscriber::registry().with(Names(Arc::clone(&names)).with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(
                name: "BatchSpanProcessor.ExportError",
                target: "opentelemetry_sdk",
                error = "network error"
            );
            tracing::warn!(
                name: "BatchSpanProcessor.SpansDropped",
                target: "opentelemetry_sdk",
                "dropped"
            );
            tracing::info!(name: "started", target: "opentelemetry_sdk", "started");
        });
        let names = names.lock().expect("no panic while locked");
        assert_eq!(*names, ["BatchSpanProcessor.SpansDropped"]);
    }

    /// A collector that is slow: it takes the next batch when the other end goes.
    #[derive(Debug)]
    struct Slow(Mutex<mpsc::Receiver<()>>);

    impl SpanExporter for Slow {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.0.lock().expect("one thread exports").recv();
            Ok(())
        }
    }

    #[test]
    fn spans_that_find_no_room_in_the_queue_are_told_of_at_first_and_counted_at_the_end() {
        let (hold, held) = mpsc::sync_channel(0);
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(1)
            .with_max_export_batch_size(1)
            .build();
        let processor = BatchSpanProcessor::builder(Slow(Mutex::new(held)))
            .with_batch_config(config)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .build();
        let names = Arc::default();
        let filter = filter("info").expect("a filter");
        let subscriber =
            tracing_subscriber::registry().with(Names(Arc::clone(&names)).with_filter(filter));
        tracing::subscriber::with_default(subscriber, || {
            let tracer = provider.tracer("test");
            // One is with the collector, one in the queue.
            for _ in 0..5 {
                drop(tracer.start("a record"));
            }
            drop(hold);
            provider.shutdown().expect("nothing holds it any more");
        });
        let names = names.lock().expect("no panic while locked");
        assert_eq!(
            *names,
            [
                "BatchSpanProcessor.SpanDroppingStarted",
                "BatchSpanProcessor.SpansDropped"
            ]
        );
    }
}
