//! The metrics of the connection to Kafka.

use std::{sync::Arc, time::Duration};

use aligner_pipeline::Partition;
use opentelemetry::{
    KeyValue,
    metrics::{AsyncInstrument, Counter, Histogram, Meter},
};

use super::{ClientStats, DeliveryEnd, figures::Missed};

/// A value that is observed, with its labels.
type Reading<T> = (T, Vec<KeyValue>);

/// What is counted and measured as it happens.
#[derive(Debug)]
pub(super) struct Instruments {
    delivery_duration: Histogram<f64>,
    deliveries: Counter<u64>,
    fenced: Counter<u64>,
    rewinds: Counter<u64>,
    spent: Counter<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter) -> Self {
        Self {
            delivery_duration: meter
                .f64_histogram("aligner.kafka.delivery.duration")
                .with_unit("s")
                .with_description("time from the first output to the committed offsets")
                .with_boundaries(vec![
                    0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
                ])
                .build(),
            deliveries: meter
                .u64_counter("aligner.kafka.deliveries")
                .with_description("deliveries by how they ended")
                .build(),
            fenced: meter
                .u64_counter("aligner.kafka.fenced")
                .with_description("transactional ids taken over, by whose: own or vanished")
                .build(),
            rewinds: meter
                .u64_counter("aligner.kafka.rewinds")
                .with_description("times that a log was found cut or made anew, and read again")
                .build(),
            spent: meter
                .u64_counter("aligner.kafka.spent_producers")
                .with_description(
                    "producers that were replaced, since requests of a slow delivery may still reach a broker",
                )
                .build(),
        }
    }

    pub(super) fn ended(&self, end: DeliveryEnd, took: Duration) {
        let labels = [KeyValue::new("end", end.as_str())];
        self.deliveries.add(1, &labels);
        self.delivery_duration.record(took.as_secs_f64(), &labels);
    }

    pub(super) fn fenced(&self, whose: &'static str) {
        self.fenced.add(1, &[KeyValue::new("whose", whose)]);
    }

    pub(super) fn spent(&self) {
        self.spent.add(1, &[]);
    }

    pub(super) fn rewound(&self) {
        self.rewinds.add(1, &[]);
    }
}

/// Observes what is read, for as long as there are `stats`.
fn observing<T: 'static>(
    stats: &Arc<ClientStats>,
    read: fn(&ClientStats) -> Vec<Reading<T>>,
) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static {
    let stats = Arc::downgrade(stats);
    move |instrument| {
        for (value, labels) in stats.upgrade().iter().flat_map(|stats| read(stats)) {
            instrument.observe(value, &labels);
        }
    }
}

/// Lets `meter` observe what is counted and measured anyway, for as long as there are `stats`.
pub(super) fn observe(stats: &Arc<ClientStats>, meter: &Meter) {
    let gauge = |name: &'static str,
                 description: &'static str,
                 read: fn(&ClientStats) -> Vec<Reading<u64>>| {
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(observing(stats, read))
            .build();
    };
    gauge(
        "aligner.kafka.lag",
        "offsets between the delivered position and the end, by partition",
        |stats| {
            stats
                .lags()
                .into_iter()
                .filter_map(|found| Some((found.lag()?, labels(&found.partition))))
                .collect()
        },
    );
    gauge(
        "aligner.kafka.brokers_up",
        "brokers that a client is connected to",
        |stats| vec![(stats.state().brokers_up as u64, vec![])],
    );
    gauge(
        "aligner.kafka.in_group",
        "0 once the consumer has had no place in its group for a session's time, otherwise 1",
        |stats| vec![(u64::from(!stats.is_out_of_group()), vec![])],
    );
    gauge(
        "aligner.kafka.hanging_partitions",
        "output partitions whose committed readers are held back by a transaction that hangs",
        |stats| vec![(stats.figures().hanging as u64, vec![])],
    );
    gauge(
        "aligner.kafka.withheld_partitions",
        "partitions that are read, of which a transaction that is not ended withholds records",
        |stats| vec![(stats.withheld().len() as u64, vec![])],
    );
    observe_totals(stats, meter);
}

/// What only rises.
fn observe_totals(stats: &Arc<ClientStats>, meter: &Meter) {
    let counter = |name: &'static str,
                   description: &'static str,
                   read: fn(&ClientStats) -> Vec<Reading<u64>>| {
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(observing(stats, read))
            .build();
    };
    counter(
        "aligner.kafka.request_timeouts",
        "requests that brokers never answered",
        |stats| vec![(stats.state().request_timeouts, vec![])],
    );
    counter(
        "aligner.kafka.rebalances",
        "rebalances of the group",
        |stats| vec![(stats.state().rebalances, vec![])],
    );
    counter(
        "aligner.kafka.offset_resets",
        "times that a partition did not hold the offset that was wanted, and is read from its beginning",
        |stats| missed(stats, |missed| missed.resets),
    );
    counter(
        "aligner.kafka.skipped_offsets",
        "offsets whose records were deleted before they were read, by partition",
        |stats| missed(stats, |missed| missed.skipped),
    );
    observe_times(stats, meter);
}

fn missed(stats: &ClientStats, count: fn(&Missed) -> u64) -> Vec<Reading<u64>> {
    let figures = stats.figures();
    let each = figures.missed.iter();
    each.map(|(partition, missed)| (count(missed), labels(partition)))
        .collect()
}

fn labels(partition: &Partition) -> Vec<KeyValue> {
    vec![
        KeyValue::new("topic", partition.topic.to_string()),
        KeyValue::new("partition", i64::from(partition.number)),
    ]
}

fn observe_times(stats: &Arc<ClientStats>, meter: &Meter) {
    meter
        .f64_observable_counter("aligner.kafka.throttle.time")
        .with_unit("s")
        .with_description("time for which brokers held a client back by a quota, as they say")
        .with_callback(observing(stats, |stats| {
            let figures = stats.figures();
            let each = figures.throttling.totals();
            each.map(|(client, total)| (total.as_secs_f64(), vec![KeyValue::new("client", client)]))
                .collect()
        }))
        .build();
    meter
        .f64_observable_counter("aligner.kafka.paused.time")
        .with_unit("s")
        .with_description("time for which fetching was suspended")
        .with_callback(observing(stats, |stats| {
            vec![(stats.figures().paused().as_secs_f64(), vec![])]
        }))
        .build();
}
