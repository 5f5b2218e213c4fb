//! How fast a subject works off a backlog.
//!
//! Progress is read from the committed offsets of its group, which every subject has and which
//! costs the machine next to nothing: no reader competes for the cores. The first quarter of the
//! events is left out of rate and CPU time: there the group is joined, and Java compiles.

use std::{
    thread,
    time::{Duration, Instant},
};

use aligner_tests::client::{Silent, silent_consumer};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    Bench, books,
    subject::{Job, Subject},
    usage,
};

/// Between two looks at the offsets.
const LOOK: Duration = Duration::from_millis(20);
/// How long a subject may take for everything.
const LIMIT: Duration = Duration::from_secs(180);

/// Figures of one run.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    pub events_per_s: f64,
    /// CPU seconds of the subject for a million events.
    pub cpu_s_per_million: f64,
    /// The same of the broker.
    pub broker_cpu_s_per_million: f64,
    pub peak_mb: f64,
}

/// Lets a subject work off the backlog, and checks what it wrote.
pub fn run(bench: &Bench, subject: Subject) -> Result<Figures, String> {
    let topics = bench.outputs(bench.partitions);
    let group = topics.corrections.clone();
    let mut offsets = Offsets::of(
        bench.kafka.settings(),
        &group,
        &topics.answers,
        bench.partitions,
    );
    let started = Instant::now();
    let mut running = subject.start(&Job {
        kafka: &bench.kafka,
        topics: &topics,
        group: &group,
        commit_interval: Duration::from_millis(100),
        compression: &bench.compression,
    });
    let warm = bench.events / 4;
    let mut looked = |least: usize| {
        loop {
            let done = offsets.sum();
            if done >= least {
                let cpu = |pid| usage::of(pid).unwrap_or_default();
                let own = cpu(running.pid());
                let broker: f64 = bench
                    .kafka
                    .pids()
                    .into_iter()
                    .map(|pid| cpu(pid).cpu_seconds)
                    .sum();
                return Ok((Instant::now(), done, own, broker));
            }
            if running.has_ended() || started.elapsed() > LIMIT {
                return Err(format!(
                    "{}: {done} of {} events after {:?}\n{}",
                    subject.name(),
                    bench.events,
                    started.elapsed(),
                    running.log()
                ));
            }
            thread::sleep(LOOK);
        }
    };
    let (from, first, own_before, broker_before) = looked(warm)?;
    let (to, last, own, broker) = looked(bench.events)?;
    running.stop();
    let events = (last - first) as f64;
    books::check(bench, &topics)?;
    bench.remove(&topics);
    Ok(Figures {
        events_per_s: events / (to - from).as_secs_f64(),
        cpu_s_per_million: (own.cpu_seconds - own_before.cpu_seconds) / events * 1e6,
        broker_cpu_s_per_million: (broker - broker_before) / events * 1e6,
        peak_mb: own.peak_bytes as f64 / 1e6,
    })
}

/// The committed offsets of a group.
struct Offsets {
    consumer: BaseConsumer<Silent>,
    list: TopicPartitionList,
}

impl Offsets {
    fn of(settings: &ClientConfig, group: &str, topic: &str, partitions: usize) -> Self {
        let mut settings = settings.clone();
        settings
            .set("group.id", group)
            // Offsets that an open transaction is about to move do not make the question wait.
            .set("isolation.level", "read_uncommitted");
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).expect("few partitions") {
            list.add_partition(topic, partition);
        }
        Self {
            consumer: silent_consumer(&settings),
            list,
        }
    }

    /// Records that are done, since each partition begins at offset 0.
    fn sum(&mut self) -> usize {
        let asked = self
            .consumer
            .committed_offsets(self.list.clone(), Duration::from_secs(2));
        let Ok(found) = asked else {
            return 0;
        };
        let offsets = found.elements().into_iter().map(|element| element.offset());
        offsets
            .filter_map(|offset| match offset {
                Offset::Offset(offset) => usize::try_from(offset).ok(),
                _ => None,
            })
            .sum()
    }
}
