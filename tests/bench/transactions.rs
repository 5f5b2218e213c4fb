//! How long a transaction takes, from its first output to the committed offsets.
//!
//! Fifty events arrive at a time, and each time the connector writes a hundred outputs in one
//! transaction. It logs how long that took; nothing outside of it could tell so exactly.

use std::{
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{connector::Topics, wait};
use rdkafka::producer::Producer as _;
use serde_json::Value;

use crate::{
    Bench,
    figures::quantile,
    subject::{Job, Subject},
    workload,
};

/// Events that arrive together, and outputs of their transaction.
pub const EVENTS: usize = 50;
const OUTPUTS: u64 = 2 * EVENTS as u64;
/// Between the beginnings of two arrivals.
const PAUSE: Duration = Duration::from_millis(50);
/// Arrivals, and how many of the first are left out.
const ARRIVALS: usize = 200;
const WARM_UP: usize = 40;

/// Figures of one run.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Arrivals that became one transaction, of those counted.
    pub whole: usize,
    pub arrivals: usize,
}

/// Measures with so many partitions to each of both outputs.
pub fn run(bench: &Bench, partitions: usize) -> Result<Figures, String> {
    let topics = Topics {
        answers: bench.topic("transactions", bench.partitions),
        ..bench.outputs(partitions)
    };
    let group = topics.corrections.clone();
    let running = Subject::ExactlyOnce.start(&Job {
        kafka: &bench.kafka,
        topics: &topics,
        group: &group,
        commit_interval: Duration::ZERO,
        compression: &bench.compression,
    });
    let producer = workload::producer(bench.kafka.settings(), "2");
    let arrive = |number: usize| {
        let event = bench.workload.event(number);
        workload::send(
            &producer,
            &topics.answers,
            number % bench.partitions,
            &event,
        );
    };
    arrive(0);
    let delivered = |log: &str| -> u64 { times(log).iter().map(|(outputs, _)| outputs).sum() };
    wait::until("the connector takes part", Duration::from_secs(60), || {
        delivered(&running.log()) > 0
    });
    let begin = Instant::now();
    for arrival in 0..ARRIVALS {
        (0..EVENTS).for_each(|event| arrive(1 + arrival * EVENTS + event));
        let next = begin + PAUSE * u32::try_from(arrival + 1).expect("few arrivals");
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    producer
        .flush(Duration::from_secs(30))
        .map_err(|error| error.to_string())?;
    let all = 2 + OUTPUTS * ARRIVALS as u64;
    wait::until("every transaction", Duration::from_secs(30), || {
        delivered(&running.log()) >= all
    });
    let log = running.log();
    running.stop();
    bench.remove(&topics);
    bench.remove_topic(&topics.answers);

    let counted = ARRIVALS - WARM_UP;
    let whole: Vec<f64> = times(&log)
        .into_iter()
        .filter(|(outputs, _)| *outputs == OUTPUTS)
        .map(|(_, ms)| ms)
        .collect();
    let mut last = whole[whole.len().saturating_sub(counted)..].to_vec();
    Ok(Figures {
        p50_ms: quantile(&mut last, 0.5),
        p99_ms: quantile(&mut last, 0.99),
        whole: last.len(),
        arrivals: counted,
    })
}

/// Outputs and milliseconds of each delivery in a log.
fn times(log: &str) -> Vec<(u64, f64)> {
    log.lines()
        .filter(|line| line.contains("\"delivered\""))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| {
            let took_us = line["took_us"].as_u64()?;
            Some((line["outputs"].as_u64()?, took_us as f64 / 1e3))
        })
        .collect()
}
