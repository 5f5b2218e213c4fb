//! The pipeline's metrics, through the OpenTelemetry API.
//!
//! Counters and gauges are observed from [`Progress`] when somebody collects them, so they cost
//! the pipeline nothing; only durations and sizes are recorded as they happen. Attributes are
//! stable words and never text of a record.

use std::time::Duration;

use aligner::Timing;
use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, AsyncInstrumentBuilder, Histogram, Meter},
};

use crate::progress::{Progress, Snapshot};

/// Every metric of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Records,
    RecordsReceived,
    RecordsUnfinished,
    RecordsUndelivered,
    TokensInFlight,
    BytesInFlight,
    OldestRecordAge,
    PartitionsAssigned,
    Batches,
    BatchesInFlight,
    BatchRecords,
    BatchTokens,
    Retries,
    QueueDuration,
    InferenceDuration,
    Deliveries,
    DeliveryDuration,
    SourcePausedTime,
}

/// How a metric behaves, and what it is read from.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// It only rises.
    Counter(Reading),
    /// It rises and falls.
    Gauge(Reading),
    /// A distribution, recorded as things happen: see [`Instruments`].
    Histogram,
}

/// What a snapshot says.
#[derive(Debug, Clone, Copy)]
enum Reading {
    Count(fn(&Snapshot) -> u64),
    /// One count for each combination of attributes.
    Counts(fn(&Snapshot, &dyn AsyncInstrument<u64>)),
    Time(fn(&Snapshot) -> Duration),
}

impl Metric {
    const ALL: [Self; 18] = [
        Self::Records,
        Self::RecordsReceived,
        Self::RecordsUnfinished,
        Self::RecordsUndelivered,
        Self::TokensInFlight,
        Self::BytesInFlight,
        Self::OldestRecordAge,
        Self::PartitionsAssigned,
        Self::Batches,
        Self::BatchesInFlight,
        Self::BatchRecords,
        Self::BatchTokens,
        Self::Retries,
        Self::QueueDuration,
        Self::InferenceDuration,
        Self::Deliveries,
        Self::DeliveryDuration,
        Self::SourcePausedTime,
    ];

    fn name(self) -> &'static str {
        self.row().0
    }

    fn kind(self) -> Kind {
        self.row().1
    }

    /// In the words of UCUM.
    fn unit(self) -> &'static str {
        self.row().2
    }

    fn description(self) -> &'static str {
        self.row().3
    }

    fn row(self) -> (&'static str, Kind, &'static str, &'static str) {
        use Kind::{Counter, Gauge, Histogram};
        use Reading::{Count, Counts, Time};
        match self {
            Self::Records => (
                "aligner.records",
                Counter(Counts(outcomes)),
                "{record}",
                "Records delivered, by disposition and reason.",
            ),
            Self::RecordsReceived => (
                "aligner.records.received",
                Counter(Count(|now| now.received)),
                "{record}",
                "Records read from the source.",
            ),
            Self::RecordsUnfinished => (
                "aligner.records.unfinished",
                Gauge(Count(|now| now.unfinished)),
                "{record}",
                "Records read that have no result yet.",
            ),
            Self::RecordsUndelivered => (
                "aligner.records.undelivered",
                Gauge(Count(|now| now.undelivered)),
                "{record}",
                "Records that have a result and wait for delivery.",
            ),
            Self::TokensInFlight => (
                "aligner.tokens.in_flight",
                Gauge(Count(|now| now.tokens_in_flight)),
                "{token}",
                "Estimated tokens of unfinished records.",
            ),
            Self::BytesInFlight => (
                "aligner.bytes.in_flight",
                Gauge(Count(|now| now.bytes_in_flight)),
                "By",
                "Bytes of undelivered records and their outputs.",
            ),
            Self::OldestRecordAge => (
                "aligner.record.oldest.age",
                Gauge(Time(|now| now.oldest.unwrap_or_default())),
                "s",
                "Age of the oldest record that is not delivered; 0 without one.",
            ),
            Self::PartitionsAssigned => (
                "aligner.partitions.assigned",
                Gauge(Count(|now| now.partitions)),
                "{partition}",
                "Partitions that this process reads.",
            ),
            Self::Batches => (
                "aligner.batches",
                Counter(Count(|now| now.batches)),
                "{batch}",
                "Calls of the Aligner.",
            ),
            Self::BatchesInFlight => (
                "aligner.batches.in_flight",
                Gauge(Count(|now| now.batches_in_flight)),
                "{batch}",
                "Calls of the Aligner that go on.",
            ),
            Self::BatchRecords => (
                "aligner.batch.records",
                Histogram,
                "{record}",
                "Records of one call of the Aligner.",
            ),
            Self::BatchTokens => (
                "aligner.batch.tokens",
                Histogram,
                "{token}",
                "Estimated tokens of one call of the Aligner.",
            ),
            Self::Retries => (
                "aligner.retries",
                Counter(Count(|now| now.retries)),
                "{record}",
                "Records that the Aligner was asked for again.",
            ),
            Self::QueueDuration => (
                "aligner.queue.duration",
                Histogram,
                "s",
                "From reading a record to its first forward pass.",
            ),
            Self::InferenceDuration => (
                "aligner.inference.duration",
                Histogram,
                "s",
                "From a record's first forward pass to its last token.",
            ),
            Self::Deliveries => (
                "aligner.deliveries",
                Counter(Counts(deliveries)),
                "{delivery}",
                "Deliveries, by result: delivered, aborted or refused.",
            ),
            Self::DeliveryDuration => (
                "aligner.delivery.duration",
                Histogram,
                "s",
                "Duration of deliveries that succeeded.",
            ),
            Self::SourcePausedTime => (
                "aligner.source.paused.time",
                Counter(Time(|now| now.paused)),
                "s",
                "Time for which the source was paused because enough was in flight.",
            ),
        }
    }
}

/// Lets `meter` observe a pipeline's counters and gauges for as long as the process lives.
fn observe(meter: &Meter, progress: &Progress) {
    for metric in Metric::ALL {
        let (reading, rises) = match metric.kind() {
            Kind::Counter(reading) => (reading, true),
            Kind::Gauge(reading) => (reading, false),
            Kind::Histogram => continue,
        };
        let progress = progress.clone();
        match reading {
            Reading::Count(read) => observe_counts(meter, metric, rises, move |instrument| {
                instrument.observe(read(&progress.snapshot()), &[]);
            }),
            Reading::Counts(read) => observe_counts(meter, metric, rises, move |instrument| {
                read(&progress.snapshot(), instrument);
            }),
            Reading::Time(read) => observe_times(meter, metric, rises, move |instrument| {
                instrument.observe(read(&progress.snapshot()).as_secs_f64(), &[]);
            }),
        }
    }
}

fn observe_counts(
    meter: &Meter,
    metric: Metric,
    rises: bool,
    callback: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
) {
    if rises {
        let builder = meter.u64_observable_counter(metric.name());
        described(builder, metric).with_callback(callback).build();
    } else {
        let builder = meter.u64_observable_gauge(metric.name());
        described(builder, metric).with_callback(callback).build();
    }
}

fn observe_times(
    meter: &Meter,
    metric: Metric,
    rises: bool,
    callback: impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) {
    if rises {
        let builder = meter.f64_observable_counter(metric.name());
        described(builder, metric).with_callback(callback).build();
    } else {
        let builder = meter.f64_observable_gauge(metric.name());
        described(builder, metric).with_callback(callback).build();
    }
}

fn described<I, M>(
    builder: AsyncInstrumentBuilder<'_, I, M>,
    metric: Metric,
) -> AsyncInstrumentBuilder<'_, I, M> {
    builder
        .with_unit(metric.unit())
        .with_description(metric.description())
}

fn outcomes(snapshot: &Snapshot, instrument: &dyn AsyncInstrument<u64>) {
    for outcome in &snapshot.outcomes {
        instrument.observe(
            outcome.records,
            &[
                KeyValue::new("disposition", outcome.disposition.as_str()),
                KeyValue::new("reason", outcome.reason.unwrap_or_default()),
            ],
        );
    }
}

fn deliveries(snapshot: &Snapshot, instrument: &dyn AsyncInstrument<u64>) {
    for (result, count) in [
        ("delivered", snapshot.deliveries),
        ("aborted", snapshot.aborted),
        ("refused", snapshot.refused),
    ] {
        instrument.observe(count, &[KeyValue::new("result", result)]);
    }
}

/// The histograms.
#[derive(Debug, Clone)]
pub(crate) struct Instruments {
    batch_records: Histogram<u64>,
    batch_tokens: Histogram<u64>,
    queue: Histogram<f64>,
    inference: Histogram<f64>,
    delivery: Histogram<f64>,
}

impl Instruments {
    /// Registers all metrics with the global meter; to be called once for a pipeline, after the
    /// program has installed its meter provider.
    pub(crate) fn register(progress: &Progress) -> Self {
        let meter = global::meter("aligner-pipeline");
        observe(&meter, progress);
        let counts = |metric: Metric| {
            meter
                .u64_histogram(metric.name())
                .with_unit(metric.unit())
                .with_description(metric.description())
                .with_boundaries(powers_of_two())
                .build()
        };
        let seconds = |metric: Metric| {
            meter
                .f64_histogram(metric.name())
                .with_unit(metric.unit())
                .with_description(metric.description())
                .with_boundaries(seconds())
                .build()
        };
        Self {
            batch_records: counts(Metric::BatchRecords),
            batch_tokens: counts(Metric::BatchTokens),
            queue: seconds(Metric::QueueDuration),
            inference: seconds(Metric::InferenceDuration),
            delivery: seconds(Metric::DeliveryDuration),
        }
    }

    pub(crate) fn submitted(&self, records: usize, tokens: u64) {
        self.batch_records.record(records as u64, &[]);
        self.batch_tokens.record(tokens, &[]);
    }

    pub(crate) fn aligned(&self, waited: Duration, timing: Timing) {
        // An Aligner without weights has no times to tell.
        if timing != Timing::default() {
            self.queue
                .record((waited + timing.queued).as_secs_f64(), &[]);
            self.inference.record(timing.inference.as_secs_f64(), &[]);
        }
    }

    pub(crate) fn delivered(&self, took: Duration) {
        self.delivery.record(took.as_secs_f64(), &[]);
    }
}

fn powers_of_two() -> Vec<f64> {
    (0..=17).map(|power| f64::from(1 << power)).collect()
}

fn seconds() -> Vec<f64> {
    [
        0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0,
        100.0, 250.0,
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_every_metric_says_what_it_counts() {
        let names: HashSet<_> = Metric::ALL.into_iter().map(Metric::name).collect();
        assert_eq!(names.len(), Metric::ALL.len());
        for metric in Metric::ALL {
            assert!(metric.name().starts_with("aligner."), "{metric:?}");
            assert!(metric.description().ends_with('.'), "{metric:?}");
        }
    }
}
