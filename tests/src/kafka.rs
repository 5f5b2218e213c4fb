//! Real Apache Kafka brokers (KRaft), started from the jars that `tests/kafka/fetch.sh` brings.
//!
//! Brokers listen on random ports, keep their data in the test's folder, and die with the test.
//! [`Kafka::shared`] gives one broker for all tests of a binary, or the user's own cluster where
//! `KAFKA_BOOTSTRAP_SERVERS` names one; tests that hurt brokers start their own.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, Once, OnceLock},
    thread,
    time::Duration,
};

use rand::Rng;
use rdkafka::ClientConfig;

use crate::{
    class_archive, client,
    process::{Process, Signal, read_log},
    scratch::{Scratch, downloads, workspace},
    wait,
};

/// How long a broker may take to start on a machine with other work to do.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a clean stop may take before the harness gives up on it.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// A fixed id, so that formatted folders can be reused.
const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// A port that nothing listens on, below the range that the kernel hands out to clients: a
/// client that reconnects to a dead broker could otherwise take the broker's own port.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Settings of one broker, `key=value`.
pub type Properties = Vec<(String, String)>;

/// Brokers of one cluster.
#[derive(Debug)]
pub struct Kafka {
    nodes: Mutex<Vec<Node>>,
    bootstrap: String,
    settings: ClientConfig,
    java: Vec<String>,
    scratch: Option<Scratch>,
}

#[derive(Debug)]
struct Node {
    name: String,
    properties: PathBuf,
    log: PathBuf,
    port: u16,
    process: Option<Process>,
}

/// How a cluster differs from a stock one.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of combined nodes (broker and controller): 1 or 3.
    pub nodes: usize,
    /// More broker settings; they win over the harness's own. `{port}` and `{controller}` stand
    /// for the ports that the harness picks.
    pub properties: Properties,
    /// What clients must set to be let in as somebody who may do everything.
    pub client: Vec<(String, String)>,
    /// SCRAM credentials that the cluster is formatted with, as `StorageTool --add-scram` takes
    /// them.
    pub scram: Vec<String>,
    /// Java's options, where a small and quickly started one is not what is wanted.
    pub java: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let java = SMALL_JAVA.into_iter().chain(class_archive::option());
        Self {
            java: java.map(str::to_owned).collect(),
            ..Self::plain()
        }
    }
}

impl Options {
    /// One broker on Java as it is.
    pub(crate) fn plain() -> Self {
        Self {
            nodes: 1,
            properties: Vec::new(),
            client: Vec::new(),
            scram: Vec::new(),
            java: Vec::new(),
        }
    }

    /// Adds or replaces a broker setting.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// A broker to measure with: it compiles what is hot, as one that has run for days has, and
    /// gives the disk back as soon as a topic is gone.
    #[must_use]
    pub fn for_measuring(mut self) -> Self {
        self.java = ["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC"]
            .map(str::to_owned)
            .to_vec();
        self.with("log.segment.delete.delay.ms", "1000")
    }

    /// Lets groups and transactions time out within seconds, so that tests of takeover are short.
    #[must_use]
    pub fn quick(self) -> Self {
        self.with("group.min.session.timeout.ms", "1000").with(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "500",
        )
    }
}

impl Kafka {
    /// One broker for all tests of this binary, or the cluster in `KAFKA_BOOTSTRAP_SERVERS`.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("KAFKA_BOOTSTRAP_SERVERS") {
            Ok(servers) if !servers.is_empty() => Self {
                nodes: Mutex::default(),
                settings: client::settings(&servers),
                bootstrap: servers,
                java: Vec::new(),
                scratch: None,
            },
            _ => Self::start(),
        })
    }

    /// One broker of the test's own, with short timeouts.
    pub fn start() -> Self {
        Self::with(Options::default().quick())
    }

    /// One broker with Apache Kafka's own defaults, for measuring what users will see.
    pub fn stock() -> Self {
        Self::with(Options::default())
    }

    /// Three brokers, replication 3, at least two in sync.
    pub fn three() -> Self {
        Self::with(
            Options {
                nodes: 3,
                ..Options::default()
            }
            .quick(),
        )
    }

    /// A cluster to measure.
    pub fn with(options: Options) -> Self {
        let scratch = Scratch::new("kafka");
        let ports: Vec<_> = (0..options.nodes)
            .map(|_| (free_port(), free_port()))
            .collect();
        let voters = ports
            .iter()
            .enumerate()
            .map(|(index, (_, controller))| format!("{}@127.0.0.1:{controller}", index + 1))
            .collect::<Vec<_>>()
            .join(",");
        let nodes = ports
            .iter()
            .enumerate()
            .map(|(index, &(port, controller))| {
                let id = index + 1;
                let data = scratch.path().join(format!("data-{id}"));
                let mut settings = base_properties(options.nodes, id, port, controller);
                settings.push(("controller.quorum.voters".into(), voters.clone()));
                settings.push(("log.dirs".into(), data.display().to_string()));
                for (key, value) in &options.properties {
                    settings.retain(|(known, _)| known != key);
                    let value = value
                        .replace("{port}", &port.to_string())
                        .replace("{controller}", &controller.to_string());
                    settings.push((key.clone(), value));
                }
                let text: String = settings
                    .iter()
                    .map(|(key, value)| format!("{key}={value}\n"))
                    .collect();
                let properties = scratch.file(&format!("broker-{id}.properties"), text);
                format_storage(id, &properties, &data, &options.scram);
                Node {
                    name: format!("broker {id}"),
                    properties,
                    log: scratch.path().join(format!("broker-{id}.log")),
                    port,
                    process: None,
                }
            })
            .collect::<Vec<_>>();
        let bootstrap = ports
            .iter()
            .map(|(port, _)| format!("127.0.0.1:{port}"))
            .collect::<Vec<_>>()
            .join(",");
        let mut settings = client::settings(&bootstrap);
        for (key, value) in &options.client {
            settings.set(key, value);
        }
        let cluster = Self {
            nodes: Mutex::new(nodes),
            bootstrap,
            settings,
            java: options.java,
            scratch: Some(scratch),
        };
        for id in 1..=options.nodes {
            cluster.launch(id);
        }
        cluster.wait_listening();
        cluster
    }

    /// `host:port,…` of its brokers.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Settings of a client that may do everything.
    pub fn settings(&self) -> &ClientConfig {
        &self.settings
    }

    /// Addresses of its brokers.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.bootstrap
            .split(',')
            .map(|address| {
                address
                    .parse()
                    .expect("the harness makes numeric addresses")
            })
            .collect()
    }

    /// Waits until every broker has joined and the cluster answers for itself.
    pub fn wait_ready(&self) {
        let expected = self.lock().len();
        let consumer = client::silent_consumer(&self.settings);
        wait::until("brokers joined the cluster", START_LIMIT, || {
            client::broker_count(&consumer).is_some_and(|count| count >= expected)
        });
    }

    /// Creates a topic and waits until it can be written.
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[]);
    }

    /// Creates a topic with settings of its own.
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        client::create_topic(&self.settings, name, partitions, settings);
    }

    /// The first segment of a partition, as broker `id` keeps it.
    pub fn segment(&self, id: usize, topic: &str, partition: i32) -> PathBuf {
        let scratch = self.scratch.as_ref().expect("a cluster of our own");
        scratch
            .path()
            .join(format!("data-{id}/{topic}-{partition}"))
            .join("00000000000000000000.log")
    }

    /// Kills broker `id` (from 1) with -9.
    pub fn kill(&self, id: usize) {
        let mut nodes = self.lock();
        if let Some(mut process) = nodes[id - 1].process.take() {
            process.kill();
        }
    }

    /// Stops broker `id` the clean way: leadership moves first.
    pub fn stop(&self, id: usize) {
        let taken = self.lock()[id - 1].process.take();
        if let Some(mut process) = taken {
            process.signal(Signal::Term);
            process.wait(STOP_LIMIT);
        }
    }

    /// Starts broker `id` again on its old port and data, and waits until it listens.
    pub fn restart(&self, id: usize) {
        self.launch(id);
        self.wait_listening();
    }

    /// Process ids of the brokers that run.
    pub fn pids(&self) -> Vec<u32> {
        let nodes = self.lock();
        let running = nodes.iter().filter_map(|node| node.process.as_ref());
        running.map(Process::id).collect()
    }

    /// Freezes broker `id`: connections stay open, nothing is answered.
    pub fn sigstop(&self, id: usize) {
        self.signal(id, Signal::Stop);
    }

    /// Thaws broker `id`.
    pub fn sigcont(&self, id: usize) {
        self.signal(id, Signal::Cont);
    }

    /// Lets no file of broker `id` grow any more: its writes fail as on a full disk (with another
    /// errno, which Java does not tell apart). A restart has room again.
    pub fn fill_disk(&self, id: usize) {
        if let Some(process) = &self.lock()[id - 1].process {
            process.limit_files(0);
        }
    }

    /// Waits until broker `id` has ended by itself.
    #[track_caller]
    pub fn wait_dead(&self, id: usize, limit: Duration) {
        let taken = self.lock()[id - 1].process.take();
        if let Some(mut process) = taken {
            process.wait(limit);
        }
    }

    fn signal(&self, id: usize, signal: Signal) {
        if let Some(process) = &mut self.lock()[id - 1].process {
            process.signal(signal);
        }
    }

    fn launch(&self, id: usize) {
        let mut nodes = self.lock();
        let node = &mut nodes[id - 1];
        assert!(node.process.is_none(), "{} runs already", node.name);
        let mut command = java_with(&self.java);
        let logging = workspace().join("tests/kafka/log4j2.properties");
        command
            .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
            .arg("kafka.Kafka")
            .arg(&node.properties);
        if let Some(scratch) = &self.scratch {
            command.current_dir(scratch.path());
        }
        node.process = Some(Process::start(&node.name, command, &node.log));
    }

    fn wait_listening(&self) {
        // A combined node opens its listener only after it has joined the quorum, so this is
        // also the proof that a majority of the cluster is up.
        wait::until("brokers listen", START_LIMIT, || {
            let mut nodes = self.lock();
            nodes.iter_mut().all(|node| {
                let Some(process) = &mut node.process else {
                    return true;
                };
                if let Some(status) = process.exited() {
                    panic!(
                        "{} ended while starting ({status}):\n{}",
                        node.name,
                        read_log(&node.log)
                    );
                }
                let address = SocketAddr::from(([127, 0, 0, 1], node.port));
                std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
            })
        });
        if self.lock().iter().all(|node| node.process.is_some()) {
            self.wait_ready();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        self.nodes
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        let mut nodes = self.lock();
        for node in nodes.iter_mut() {
            node.process = None;
        }
        drop(nodes);
        if thread::panicking()
            && let Some(scratch) = &self.scratch
        {
            eprintln!("broker logs: {}", scratch.path().display());
        }
    }
}

fn base_properties(nodes: usize, id: usize, port: u16, controller: u16) -> Properties {
    let replicas = if nodes >= 3 { "3" } else { "1" };
    let in_sync = if nodes >= 3 { "2" } else { "1" };
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    [
        ("process.roles", "broker,controller"),
        ("node.id", &id.to_string()),
        ("listeners", &listeners),
        (
            "advertised.listeners",
            &format!("PLAINTEXT://127.0.0.1:{port}"),
        ),
        ("controller.listener.names", "CONTROLLER"),
        ("default.replication.factor", replicas),
        ("min.insync.replicas", in_sync),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.replication.factor", replicas),
        ("offsets.topic.num.partitions", "4"),
        ("transaction.state.log.replication.factor", replicas),
        ("transaction.state.log.min.isr", in_sync),
        ("transaction.state.log.num.partitions", "4"),
        ("share.coordinator.state.topic.replication.factor", replicas),
        ("share.coordinator.state.topic.min.isr", in_sync),
        ("group.initial.rebalance.delay.ms", "0"),
        ("num.network.threads", "2"),
        ("num.io.threads", "4"),
        ("log.cleaner.dedupe.buffer.size", "8388608"),
        ("broker.session.timeout.ms", "6000"),
        ("broker.heartbeat.interval.ms", "1000"),
        ("controller.quorum.election.timeout.ms", "1000"),
        ("controller.quorum.fetch.timeout.ms", "2000"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Heap for a test broker, and only the quick compiler, because no broker of a test lives long
/// enough to repay the other.
pub(crate) const SMALL_JAVA: [&str; 6] = [
    "-Xms64m",
    "-Xmx256m",
    "-XX:MaxDirectMemorySize=128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
];

/// A small Java with Kafka's jars.
pub(crate) fn java() -> Command {
    java_with(&SMALL_JAVA)
}

fn java_with(options: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new("java");
    command.args(options).args(["-cp", &class_path()]);
    command
}

/// Kafka's jars, always in one order.
pub(crate) fn class_path() -> String {
    let entries = fs::read_dir(libraries()).expect("the jars were fetched");
    let paths = entries.flatten().map(|entry| entry.path());
    let mut jars: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "jar"))
        .map(|path| path.display().to_string())
        .collect();
    jars.sort_unstable();
    jars.join(":")
}

/// The folder of Kafka's jars, fetched now if nobody has.
pub(crate) fn libraries() -> PathBuf {
    fetch("kafka");
    downloads().join("kafka-libs")
}

/// Runs the fetch script once in this process.
pub fn fetch(what: &str) {
    static KAFKA: Once = Once::new();
    static ALL: Once = Once::new();
    let once = if what == "kafka" { &KAFKA } else { &ALL };
    once.call_once(|| {
        let script = workspace().join("tests/kafka/fetch.sh");
        let status = Command::new("bash").arg(&script).arg(what).status();
        assert!(
            status.as_ref().is_ok_and(std::process::ExitStatus::success),
            "{} {what} failed: {status:?}",
            script.display()
        );
    });
}

/// Writes the storage folder that a KRaft node needs.
///
/// `StorageTool` takes two seconds of Java for a file that is the same every time, so its result
/// is kept beside the jars and copied.
fn format_storage(id: usize, properties: &Path, data: &Path, scram: &[String]) {
    let libraries = libraries();
    let key = crc32fast::hash(format!("{id} {scram:?}").as_bytes());
    let kept = libraries.join(format!("formatted-{key:08x}"));
    if !kept.exists() {
        let mut command = java();
        command
            .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"])
            .arg(properties);
        for credential in scram {
            command.arg("--add-scram").arg(credential);
        }
        let done = command.output().expect("java can be started");
        assert!(
            done.status.success(),
            "format {}: {}",
            data.display(),
            String::from_utf8_lossy(&done.stderr)
        );
        let staging = libraries.join(format!("formatting-{key:08x}-{}", std::process::id()));
        copy_folder(data, &staging);
        // Another process may have been first; its folder is as good.
        if fs::rename(&staging, &kept).is_err() {
            let _ = fs::remove_dir_all(&staging);
        }
        return;
    }
    copy_folder(&kept, data);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the target folder is writable");
    for entry in fs::read_dir(from)
        .expect("a formatted folder can be read")
        .flatten()
    {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a small file can be copied");
    }
}
