//! The real process, `aligner-connector run --config FILE`, as users start it.
//!
//! Its configuration is written as a file, its address is read from its log, and at the end its
//! log is judged: a panic, or an ERROR that the test did not announce, fails the test.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    completions::{self, Completions},
    http,
    kafka::Kafka,
    ledger::Output,
    process::{Process, Signal, ending, read_log},
    proxy::Proxy,
    scratch::{Scratch, workspace},
    wait,
};

/// How long a connector may take until it says that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a connector may take to drain and exit.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The binary under test: `ALIGNER_CONNECTOR_BIN`, else the newest that cargo built.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("ALIGNER_CONNECTOR_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("a running program has a path");
    let profile = own
        .parent()
        .and_then(Path::parent)
        .expect("test programs lie in target/<profile>/deps");
    let found = [
        profile.join("aligner-connector"),
        profile.with_file_name("release").join("aligner-connector"),
        workspace().join("target/release/aligner-connector"),
    ]
    .into_iter()
    .find(|path| path.exists());
    found.unwrap_or_else(|| {
        panic!(
            "aligner-connector is not built\nhint: make build, or set ALIGNER_CONNECTOR_BIN to it"
        )
    })
}

/// The topics of one connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Answer events.
    pub answers: String,
    /// Corrections.
    pub corrections: String,
    /// Preference pairs.
    pub pairs: String,
    /// Dead letters.
    pub dead_letters: String,
}

impl Topics {
    /// Names that begin with `prefix` and occur once, so that tests share a broker.
    pub fn named(prefix: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!(
            "{prefix}-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self {
            answers: format!("{prefix}.answers"),
            corrections: format!("{prefix}.corrections"),
            pairs: format!("{prefix}.pairs"),
            dead_letters: format!("{prefix}.dead-letters"),
        }
    }

    /// Names as [`Topics::named`] gives them, created with `partitions` each (dead letters: one).
    pub fn create(kafka: &Kafka, prefix: &str, partitions: i32) -> Self {
        let topics = Self::named(prefix);
        kafka.create_topic(&topics.answers, partitions);
        topics.create_outputs(kafka, partitions);
        topics
    }

    /// Which output a topic holds.
    pub fn output(&self, topic: &str) -> Output {
        match topic {
            topic if topic == self.corrections => Output::Correction,
            topic if topic == self.pairs => Output::Pair,
            _ => Output::DeadLetter,
        }
    }

    /// Creates the output topics alone.
    pub fn create_outputs(&self, kafka: &Kafka, partitions: i32) {
        kafka.create_topic(&self.corrections, partitions);
        kafka.create_topic(&self.pairs, partitions);
        kafka.create_topic(&self.dead_letters, 1);
    }
}

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub struct Config {
    value: Value,
}

impl Config {
    /// A connector `name` with the `marker` Aligner, timeouts that make takeover quick, and
    /// everything else as it is by default.
    pub fn new(name: &str, bootstrap: &str, topics: &Topics) -> Self {
        Self {
            value: json!({
                "name": name,
                "kafka": {
                    "bootstrap_servers": bootstrap,
                    "start_from": "earliest",
                },
                "topics": {
                    "answers": [topics.answers],
                    "corrections": topics.corrections,
                    "pairs": topics.pairs,
                    "dead_letters": topics.dead_letters,
                },
                "aligner": { "model": "marker" },
                "service": { "listen": "127.0.0.1:0" },
            }),
        }
    }

    /// Sets the key at `path`, making the sections on the way.
    #[must_use]
    pub fn set(mut self, path: &[&str], value: impl Into<Value>) -> Self {
        let mut place = &mut self.value;
        for key in path {
            place = &mut place[*key];
        }
        *place = value.into();
        self
    }

    /// Removes the key at `path`.
    #[must_use]
    pub fn remove(mut self, path: &[&str]) -> Self {
        let (last, sections) = path.split_last().expect("a path names a key");
        let mut place = &mut self.value;
        for key in sections {
            place = &mut place[*key];
        }
        if let Some(section) = place.as_object_mut() {
            section.remove(*last);
        }
        self
    }

    /// Sets a librdkafka property for both clients.
    #[must_use]
    pub fn property(self, key: &str, value: &str) -> Self {
        self.set(&["kafka", "properties", key], value)
    }

    /// Goes through `proxy` to the brokers that it stands before.
    #[must_use]
    pub fn through(self, proxy: &Proxy) -> Self {
        self.set(&["kafka", "bootstrap_servers"], proxy.bootstrap())
    }

    /// Has answers corrected by `server`.
    #[must_use]
    pub fn corrected_by(self, server: &Completions) -> Self {
        self.set(&["aligner", "model"], "remote")
            .set(&["aligner", "remote", "url"], server.url())
            .set(&["aligner", "remote", "model"], completions::MODEL)
    }

    /// Gives the process an identity that comes back after a restart.
    #[must_use]
    pub fn instance(self, id: &str) -> Self {
        self.set(&["kafka", "instance_id"], id)
    }

    /// The file's text. JSON is YAML.
    pub fn text(&self) -> String {
        serde_json::to_string_pretty(&self.value).expect("JSON values can be written")
    }
}

/// One connector process, and those that were started in its place.
#[derive(Debug)]
pub struct Connector {
    scratch: Scratch,
    name: String,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    starts: u32,
    allowed: Vec<String>,
    judged: bool,
}

impl Connector {
    /// Starts a process with `config`. It may not be ready yet.
    pub fn start(name: &str, config: &Config) -> Self {
        Self::start_with(name, config, &[])
    }

    /// The same, with environment variables.
    pub fn start_with(name: &str, config: &Config, environment: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new(&format!("connector-{name}"));
        scratch.file("config.yaml", config.text());
        let mut connector = Self {
            scratch,
            name: name.to_owned(),
            environment: environment
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            process: None,
            starts: 0,
            allowed: Vec::new(),
            judged: false,
        };
        connector.launch();
        connector
    }

    /// Starts a process and waits until it is ready.
    #[track_caller]
    pub fn ready(name: &str, config: &Config) -> Self {
        let mut connector = Self::start(name, config);
        connector.wait_ready();
        connector
    }

    /// Announces ERROR lines that contain `text`: the test expects them.
    pub fn allow_error(&mut self, text: &str) {
        self.allowed.push(text.to_owned());
    }

    fn launch(&mut self) {
        self.starts += 1;
        let mut command = Command::new(binary());
        command
            .arg("run")
            .arg("--config")
            .arg(self.scratch.path().join("config.yaml"))
            .current_dir(self.scratch.path());
        for (key, value) in &self.environment {
            command.env(key, value);
        }
        let log = self.log_path();
        self.process = Some(Process::start(&self.name, command, &log));
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join(format!("run-{}.log", self.starts))
    }

    /// The log of the present process.
    pub fn log(&self) -> String {
        read_log(&self.log_path())
    }

    /// The logs of all processes that were started, in order.
    pub fn logs(&self) -> String {
        (1..=self.starts)
            .map(|start| read_log(&self.scratch.path().join(format!("run-{start}.log"))))
            .collect()
    }

    /// The service's address, once its log names it.
    pub fn address(&self) -> Option<SocketAddr> {
        listening(&self.log())
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.wait_ready_within(READY_LIMIT);
    }

    /// Waits until `/readyz` says yes.
    #[track_caller]
    pub fn wait_ready_within(&mut self, limit: Duration) {
        let what = format!("readiness of {} ({})", self.name, self.log_path().display());
        wait::until(&what, limit, || {
            if let Some(status) = self.exited() {
                panic!(
                    "{} ended with {} before it was ready:\n{}",
                    self.name,
                    ending(status),
                    self.log()
                );
            }
            self.get("/readyz")
                .is_some_and(|answer| answer.status == 200)
        });
    }

    /// Asks its HTTP service.
    pub fn get(&self, path: &str) -> Option<http::Response> {
        http::get(self.address()?, path).ok()
    }

    /// The value of a metric: the sum over the series whose line contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let body = self.get("/metrics")?.body;
        let mut sum = None;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let own = series.split('{').next().unwrap_or(series);
            if own == name && labels.iter().all(|label| series.contains(label)) {
                *sum.get_or_insert(0.0) += value.parse::<f64>().ok()?;
            }
        }
        sum
    }

    /// Kills the process with -9.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Asks it to drain and waits for its end.
    #[track_caller]
    pub fn sigterm(&mut self) -> ExitStatus {
        self.sigterm_within(STOP_LIMIT)
    }

    /// Asks it to drain and waits for its end.
    #[track_caller]
    pub fn sigterm_within(&mut self, limit: Duration) -> ExitStatus {
        self.begin_sigterm();
        self.wait_exit(limit)
    }

    /// Asks it to drain.
    pub fn begin_sigterm(&mut self) {
        self.signal(Signal::Term);
    }

    /// Interrupts it, as Ctrl-C does.
    pub fn sigint(&mut self) {
        self.signal(Signal::Int);
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let mut process = self.process.take().expect("the connector runs");
        process.wait(limit)
    }

    /// Freezes it.
    pub fn sigstop(&mut self) {
        self.signal(Signal::Stop);
    }

    /// Thaws it.
    pub fn sigcont(&mut self) {
        self.signal(Signal::Cont);
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// Starts it again with the same configuration.
    pub fn restart(&mut self) {
        self.kill9();
        self.launch();
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::exited)
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.process.as_ref().and_then(Process::resident_bytes)
    }

    /// Panics if its logs hold a panic or an ERROR that was not announced.
    #[track_caller]
    pub fn assert_log_is_clean(&mut self) {
        self.judged = true;
        let logs = self.logs();
        let bad: Vec<_> = logs
            .lines()
            .filter(|line| is_error(line))
            .filter(|line| !self.allowed.iter().any(|text| line.contains(text)))
            .take(10)
            .collect();
        assert!(
            bad.is_empty(),
            "{} logged what the test did not expect:\n  {}",
            self.name,
            bad.join("\n  ")
        );
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            let logs = self.logs();
            let lines: Vec<_> = logs.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!(
                "--- end of {}'s log ({})\n{}",
                self.name,
                self.scratch.path().display(),
                tail.join("\n")
            );
        } else if !self.judged {
            self.assert_log_is_clean();
        }
    }
}

/// Whether a log line, pretty or JSON, is one that a person must act on.
pub fn is_error(line: &str) -> bool {
    line.contains("\"level\":\"ERROR\"")
        || line.contains(" ERROR ")
        || line.starts_with("ERROR ")
        || line.contains("panicked at")
}

/// The address in the line that says where the service listens.
fn listening(log: &str) -> Option<SocketAddr> {
    log.lines()
        .filter(|line| line.contains("listening"))
        .find_map(|line| {
            let start = line.find("127.0.0.1:")?;
            let rest = &line[start..];
            let end = rest
                .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
                .unwrap_or(rest.len());
            rest[..end].parse().ok()
        })
}
