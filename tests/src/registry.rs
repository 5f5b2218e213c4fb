//! A real schema registry: Apicurio, which speaks the Confluent API, with nothing on disk.

use std::{
    fs,
    net::SocketAddr,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    http,
    kafka::{fetch, free_port},
    process::{Process, Signal, read_log},
    scratch::{Scratch, downloads},
    wait,
};

/// Where Apicurio serves the Confluent API.
const API: &str = "/apis/ccompat/v7";
/// How long it may take to start on a machine with other work to do.
const START_LIMIT: Duration = Duration::from_secs(120);

/// A running registry. Its schemas live in memory: a *frozen* registry comes back with them.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    process: Mutex<Process>,
    scratch: Scratch,
}

impl Registry {
    /// Starts one on a port of its own.
    pub fn start() -> Self {
        fetch("all");
        let folder = downloads().join("apicurio");
        let jar = fs::read_dir(&folder)
            .expect("the fetch script made the folder")
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().ends_with("-runner.jar"))
            .expect("Apicurio comes with a runner jar");
        let scratch = Scratch::new("registry");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dquarkus.http.host=127.0.0.1")
            .arg(format!("-Dquarkus.http.port={}", address.port()))
            .arg("-jar")
            .arg(jar)
            .current_dir(&folder);
        let log = scratch.path().join("registry.log");
        let process = Process::start("registry", command, &log);
        let registry = Self {
            address,
            process: Mutex::new(process),
            scratch,
        };
        registry.wait_ready();
        registry
    }

    /// The URL that clients are configured with.
    pub fn url(&self) -> String {
        format!("http://{}{API}", self.address)
    }

    /// Asks for a path below the API.
    pub fn get(&self, path: &str) -> Option<http::Response> {
        http::get(self.address, &format!("{API}{path}")).ok()
    }

    /// Waits until it answers.
    pub fn wait_ready(&self) {
        wait::until("the registry answers", START_LIMIT, || {
            let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = process.exited() {
                panic!(
                    "the registry ended while starting ({status}):\n{}",
                    read_log(&self.scratch.path().join("registry.log"))
                );
            }
            self.get("/subjects")
                .is_some_and(|answer| answer.status == 200)
        });
    }

    /// Begins an outage: connections are taken, nothing is answered.
    pub fn sigstop(&self) {
        self.signal(Signal::Stop);
    }

    /// Ends the outage.
    pub fn sigcont(&self) {
        self.signal(Signal::Cont);
    }

    fn signal(&self, signal: Signal) {
        self.process
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .signal(signal);
    }
}
