//! What is measured: the connector in both delivery modes, and peers that do the same work.
//!
//! A subject reads the answers, makes of each a correction and a preference pair as the
//! `marker-all` Aligner does, and writes both. All are given the same topics, compression and
//! commit interval, run as a process of their own, and end at SIGTERM.

use std::{path::PathBuf, process::Command, time::Duration};

use aligner_tests::{
    connector::{Config, Connector, Topics},
    kafka::Kafka,
    process::{Process, Signal},
    scratch::{Scratch, downloads},
};

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `aligner-connector run`, as it is by default.
    ExactlyOnce,
    /// The same with `kafka.delivery: at_least_once`.
    AtLeastOnce,
    /// A loop around librdkafka's transactional producer.
    Rdkafka,
    /// Kafka Streams, `exactly_once_v2`.
    Streams,
    /// franz-go's `GroupTransactSession`.
    FranzGo,
}

impl Subject {
    /// Our own two modes.
    pub const OURS: [Self; 2] = [Self::ExactlyOnce, Self::AtLeastOnce];
    /// Ours and the peers.
    pub const ALL: [Self; 5] = [
        Self::ExactlyOnce,
        Self::AtLeastOnce,
        Self::Rdkafka,
        Self::Streams,
        Self::FranzGo,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "connector, exactly once",
            Self::AtLeastOnce => "connector, at least once",
            Self::Rdkafka => "rdkafka loop, exactly once",
            Self::Streams => "Kafka Streams, exactly_once_v2",
            Self::FranzGo => "franz-go, exactly once",
        }
    }
}

/// What a subject is to do.
#[derive(Debug)]
pub struct Job<'a> {
    pub kafka: &'a Kafka,
    pub topics: &'a Topics,
    pub group: &'a str,
    /// Of peers; the connector adapts its own between its two bounds.
    pub commit_interval: Duration,
    pub compression: &'a str,
}

/// A subject at work; killed when dropped.
pub enum Running {
    Connector(Connector),
    Peer {
        process: Process,
        /// Removed when dropped.
        _folder: Scratch,
    },
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Connector(connector) => connector.pid().expect("it was started and not stopped"),
            Self::Peer { process, .. } => process.id(),
        }
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        match self {
            Self::Connector(connector) => connector.logs(),
            Self::Peer { process, .. } => process.log(),
        }
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        match self {
            Self::Connector(connector) => connector.exited().is_some(),
            Self::Peer { process, .. } => process.exited().is_some(),
        }
    }

    /// Asks it to end and waits until it has.
    pub fn stop(self) {
        const LIMIT: Duration = Duration::from_secs(60);
        match self {
            Self::Connector(mut connector) => {
                connector.sigterm_within(LIMIT);
            }
            Self::Peer { mut process, .. } => {
                process.signal(Signal::Term);
                process.wait(LIMIT);
            }
        }
    }
}

impl Subject {
    /// Starts it.
    pub fn start(self, job: &Job<'_>) -> Running {
        match self {
            Self::ExactlyOnce => connector(job, "exactly_once"),
            Self::AtLeastOnce => connector(job, "at_least_once"),
            Self::Rdkafka => peer("rdkafka", Command::new(built("rdkafka-peer")), job),
            Self::Streams => {
                let mut java = Command::new("java");
                java.args(["-Xmx512m", "-cp"])
                    .arg(peers().join("streams/*"))
                    .arg("StreamsPeer");
                peer("streams", java, job)
            }
            Self::FranzGo => peer("franz-go", Command::new(peers().join("franz-go-peer")), job),
        }
    }
}

fn connector(job: &Job<'_>, delivery: &str) -> Running {
    let config = Config::new("bench", job.kafka.bootstrap(), job.topics)
        .set(&["aligner", "model"], "marker-all")
        .set(&["kafka", "delivery"], delivery)
        .set(&["kafka", "group_id"], job.group)
        .property("compression.type", job.compression)
        // One line for each transaction, which is where its time is read.
        .set(&["telemetry", "log_level"], "info,aligner_kafka=debug");
    Running::Connector(Connector::start("bench", &config))
}

fn peer(name: &str, mut command: Command, job: &Job<'_>) -> Running {
    let scratch = Scratch::new(name);
    command
        .args(["--bootstrap-servers", job.kafka.bootstrap()])
        .args(["--answers", &job.topics.answers])
        .args(["--corrections", &job.topics.corrections])
        .args(["--pairs", &job.topics.pairs])
        .args(["--group", job.group])
        .args(["--compression", job.compression])
        .args([
            "--commit-interval-ms",
            &job.commit_interval.as_millis().to_string(),
        ])
        .current_dir(scratch.path());
    let log = scratch.path().join("log");
    Running::Peer {
        process: Process::start(name, command, &log),
        _folder: scratch,
    }
}

/// Where `tests/peers/build.sh` leaves what it built.
fn peers() -> PathBuf {
    downloads().join("peers")
}

/// A program that cargo built beside this one.
fn built(name: &str) -> PathBuf {
    std::env::current_exe()
        .expect("a running program has a path")
        .with_file_name(name)
}
