//! How many events a second this crate can take, without a log and without a model: a source that
//! has every record ready, the `marker-all` Aligner, and a sink that takes everything at once.
//!
//! `cargo run --release --example pipeline_throughput [EVENTS] [THREADS]`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aligner::builtin::{Builtin, Rule};
use aligner_pipeline::{
    Delivery, DeliveryError, Flow, JsonDecoder, JsonEncoder, Partition, PartitionEpoch, Parts,
    Pipeline, Settings, Sink, Source, SourceError, SourceEvent, SourceRecord, system_clock,
};
use bytes::Bytes;

const PARTITIONS: i32 = 6;
const RECORDS_PER_EVENT: u64 = 500;

struct Ready {
    tenures: Vec<Arc<PartitionEpoch>>,
    value: Bytes,
    left: u64,
    read: u64,
    assigned: bool,
    flow: Flow,
}

impl Source for Ready {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        if !self.assigned {
            self.assigned = true;
            return Some(Ok(SourceEvent::Assigned(self.tenures.clone())));
        }
        if self.left == 0 {
            return None;
        }
        if self.flow == Flow::Pause {
            // The pipeline asks anew once it has said to go on.
            return std::future::pending().await;
        }
        let records = self.left.min(RECORDS_PER_EVENT);
        self.left -= records;
        let turn = self.read / RECORDS_PER_EVENT;
        let tenure = &self.tenures[(turn % self.tenures.len() as u64) as usize];
        let records = (0..records)
            .map(|_| {
                self.read += 1;
                SourceRecord {
                    partition: Arc::clone(tenure),
                    offset: self.read as i64,
                    key: None,
                    // A copy each, as from a client.
                    value: Some(Bytes::copy_from_slice(&self.value)),
                    headers: Vec::new(),
                    timestamp: None,
                }
            })
            .collect();
        Some(Ok(SourceEvent::Records(records)))
    }

    fn flow(&mut self, flow: Flow) {
        self.flow = flow;
    }

    fn stop(&mut self) {
        self.left = 0;
    }

    async fn close(self) {}
}

/// Takes everything, in the time that a transaction takes.
struct Nowhere;

impl Sink for Nowhere {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        let _deliveries = deliveries;
        tokio::time::sleep(Duration::from_millis(8)).await;
        Ok(Vec::new())
    }

    async fn close(self) {}
}

/// CPU seconds of this process so far, where the system tells (Linux, in hundredths).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the command's name: state, and ten numbers before user and system time.
    let mut times = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut time = || times.next()?.parse::<f64>().ok();
    Some((time()? + time()?) / 100.0)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| {
        argument
            .parse::<u64>()
            .expect("usage: pipeline_throughput [EVENTS] [THREADS]")
    });
    let events = arguments.next().unwrap_or(500_000);
    let threads = arguments.next().unwrap_or(1);
    let answer = "The answer has several words and a few commas, as answers do. ".repeat(13);
    let value = serde_json::json!({
        "event_id": "0c1b5c5e-7d1f-4f0a-9d55-0c4b8f6c2a11",
        "question": "What does an answer of about one kilobyte look like, please?",
        "answer": answer,
        "upstream_model": "some-model-7b",
    })
    .to_string();
    let bytes = value.len();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads as usize)
        .enable_time()
        .build()
        .expect("a runtime");
    let tenures = (0..PARTITIONS)
        .map(|number| {
            Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: "answers".into(),
                    number,
                },
                epoch: 1,
            })
        })
        .collect();
    let pipeline = Pipeline::new(Parts {
        source: Ready {
            tenures,
            value: value.into(),
            left: events,
            read: 0,
            assigned: false,
            flow: Flow::Resume,
        },
        sink: Nowhere,
        aligner: Arc::new(Builtin::new(Rule::MarkerAll)),
        decoder: Arc::new(JsonDecoder::default()),
        encoder: Arc::new(JsonEncoder),
        settings: Settings::default(),
        connector: "throughput".to_owned(),
        task: 0,
        wall_clock: system_clock(),
    });
    let progress = pipeline.progress();
    let begin = Instant::now();
    let cpu_begin = cpu_seconds();
    runtime.block_on(async {
        let run = tokio::spawn(pipeline.run(std::future::pending()));
        run.await
            .expect("no panic")
            .expect("nothing stops the pipeline");
    });
    let seconds = begin.elapsed().as_secs_f64();
    let done = progress.snapshot();
    println!(
        "{events} events of {bytes} bytes on {threads} thread(s) in {seconds:.2} s: \
         {:.0} events/s, {:.2} µs each; {} batches, {} deliveries, paused {:?}",
        events as f64 / seconds,
        seconds / events as f64 * 1e6,
        done.batches,
        done.deliveries,
        done.paused,
    );
    if let (Some(begin), Some(end)) = (cpu_begin, cpu_seconds()) {
        println!(
            "CPU: {:.2} µs for each event, the source's copy included",
            (end - begin) / events as f64 * 1e6
        );
    }
    assert_eq!(done.delivered(), events);
}
