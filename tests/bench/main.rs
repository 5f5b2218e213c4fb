//! How fast the connector is on a real Apache Kafka, and how fast others are beside it.
//!
//! A program and no test: it asserts that every event came out exactly once, and nothing about
//! time. Figures are medians of rounds in which the subjects take turns, because a machine is
//! never the same for two minutes; ratios are of those medians.

mod backlog;
mod books;
mod figures;
mod latency;
mod machine;
mod report;
mod subject;
mod transactions;
mod usage;
mod workload;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aligner_tests::{
    client,
    connector::Topics,
    kafka::{Kafka, Options},
};
use clap::{Parser, ValueEnum};

use report::Report;
use subject::Subject;
use workload::Workload;

/// Measures the connector on a real Apache Kafka.
#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Measure the peers too; `tests/peers/build.sh` builds them.
    #[arg(long)]
    peers: bool,
    /// One JSON object on stdout instead of tables.
    #[arg(long)]
    json: bool,
    /// What to measure; everything that applies unless given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Measure>,
    /// Events of the backlog.
    #[arg(long, default_value_t = 300_000)]
    events: usize,
    /// Rounds; figures are medians of them.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each run at a steady rate.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Compression of the outputs, the same for all.
    #[arg(long, default_value = "lz4")]
    compression: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    /// Events a second from a backlog, with CPU time and memory.
    Backlog,
    /// Time from event to outputs at a steady rate.
    Latency,
    /// Time of one transaction.
    Transactions,
}

/// What all measurements share.
pub struct Bench {
    kafka: Kafka,
    workload: Workload,
    /// Topic with the backlog.
    answers: String,
    events: usize,
    partitions: usize,
    compression: String,
}

/// Partitions of the answers and, unless said otherwise, of each output.
const PARTITIONS: usize = 6;

impl Bench {
    fn new(arguments: &Arguments) -> Self {
        let kafka = Kafka::with(Options::default().for_measuring());
        let bench = Self {
            workload: Workload::new(),
            answers: "bench.answers".to_owned(),
            events: arguments.events,
            partitions: PARTITIONS,
            compression: arguments.compression.clone(),
            kafka,
        };
        let partitions = i32::try_from(PARTITIONS).expect("few partitions");
        bench.kafka.create_topic(&bench.answers, partitions);
        bench.workload.load(
            bench.kafka.settings(),
            &bench.answers,
            bench.partitions,
            bench.events,
        );
        bench
    }

    /// A new topic.
    fn topic(&self, name: &str, partitions: usize) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bench.{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let partitions = i32::try_from(partitions).expect("few partitions");
        self.kafka.create_topic(&name, partitions);
        name
    }

    /// New output topics for the backlog.
    fn outputs(&self, partitions: usize) -> Topics {
        Topics {
            answers: self.answers.clone(),
            corrections: self.topic("corrections", partitions),
            pairs: self.topic("pairs", partitions),
            dead_letters: self.topic("dead-letters", 1),
        }
    }

    /// Removes output topics, so that the next subject has the disk and the page cache.
    fn remove(&self, topics: &Topics) {
        for topic in [&topics.corrections, &topics.pairs, &topics.dead_letters] {
            self.remove_topic(topic);
        }
    }

    fn remove_topic(&self, topic: &str) {
        client::delete_topic(self.kafka.settings(), topic);
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(report) => {
            if arguments.json {
                println!("{:#}", report.as_json());
            } else {
                print!("{}", report.as_text());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<Report, String> {
    let wanted = |measure| arguments.only.is_empty() || arguments.only.contains(&measure);
    let subjects: &[Subject] = if arguments.peers {
        &Subject::ALL
    } else {
        &Subject::OURS
    };
    let mut report = Report::new(machine::describe(), arguments.rounds);
    eprintln!("starting a broker and writing {} events", arguments.events);
    let bench = Bench::new(arguments);
    if wanted(Measure::Backlog) {
        eprintln!("warming up the broker");
        backlog::run(&bench, Subject::ExactlyOnce)?;
        for round in 1..=arguments.rounds {
            for subject in subjects {
                eprintln!("backlog, round {round}: {}", subject.name());
                report
                    .backlog
                    .push((*subject, backlog::run(&bench, *subject)?));
            }
        }
    }
    if wanted(Measure::Latency) {
        let length = Duration::from_secs(arguments.seconds);
        for round in 1..=arguments.rounds {
            for subject in subjects {
                eprintln!("steady rate, round {round}: {}", subject.name());
                let figures = latency::run(&bench, *subject, length)?;
                report.latency.push((*subject, figures));
            }
        }
    }
    if wanted(Measure::Transactions) && !arguments.peers {
        for partitions in [4, 12] {
            eprintln!("transactions over {partitions} output partitions");
            let figures = transactions::run(&bench, partitions / 2)?;
            report.transactions.push((partitions, figures));
        }
    }
    Ok(report)
}
