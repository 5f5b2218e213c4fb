//! `make soak MINUTES=30`: random faults from a printed seed, then quiet, then the books.
//!
//! Two connectors work behind a proxy each, on three brokers with replicas of everything. Every few
//! seconds something happens to one of them, to the network or to a broker; events keep coming all the
//! time. At the end everything heals, and each event must have come out exactly once.

use std::{
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{
    connector::{Connector, is_error},
    events::{self, Events},
    kafka::Kafka,
    process::ending,
    proxy::{ApiKey, Fault, Proxy},
    story::{Story, meanwhile},
};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// Requests that faults meet.
const REQUESTS: [ApiKey; 8] = [
    ApiKey::AddPartitionsToTxn,
    ApiKey::Produce,
    ApiKey::AddOffsetsToTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::EndTxn,
    ApiKey::Heartbeat,
    ApiKey::Fetch,
    ApiKey::OffsetFetch,
];

/// Why a process may end by itself. One whose join or claim was applied and never answered cannot tell its
/// own trace from another process with its id. It ends and says so; whoever runs it starts it again, as
/// this test does.
const MISTAKEN: [&str; 2] = [
    "runs with the same kafka.instance_id",
    "duplicate instance id",
];

fn minutes() -> f64 {
    std::env::var("ALIGNER_SOAK_MINUTES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(2.0)
}

struct Worker {
    proxy: Proxy,
    connector: Connector,
}

impl Worker {
    /// Whether its process has ended by itself. For any other reason than [`MISTAKEN`], it may not.
    fn has_ended(&mut self) -> bool {
        let Some(status) = self.connector.exited() else {
            return false;
        };
        let log = self.connector.log();
        let is_mistaken = log
            .lines()
            .any(|line| is_error(line) && MISTAKEN.iter().any(|cause| line.contains(cause)));
        assert!(
            status.code() == Some(1) && is_mistaken,
            "a worker ended with {}:\n{log}",
            ending(status)
        );
        true
    }

    /// Does something to it, and says what.
    fn hurt(&mut self, random: &mut ChaCha8Rng) -> String {
        let request = *REQUESTS.choose(random).expect("the list has members");
        let fault = match random.random_range(0..4) {
            0 => Fault::CutBefore,
            1 => Fault::LoseRequest,
            2 => Fault::LoseResponse,
            _ => Fault::LateResponse(Duration::from_millis(random.random_range(100..8_000))),
        };
        match random.random_range(0..8) {
            0 => {
                let what = if self.has_ended() {
                    "had ended, and was restarted"
                } else {
                    "killed and restarted"
                };
                self.connector.restart();
                what.into()
            }
            1 => {
                self.connector.sigstop();
                let pause = Duration::from_millis(random.random_range(500..15_000));
                thread::sleep(pause);
                self.connector.sigcont();
                format!("frozen for {pause:?}")
            }
            2 => {
                self.proxy.freeze();
                let pause = Duration::from_millis(random.random_range(500..15_000));
                thread::sleep(pause);
                self.proxy.heal();
                format!("cut off for {pause:?}")
            }
            3 => {
                self.proxy.cut_all();
                "all connections cut".into()
            }
            _ => {
                let times = random.random_range(1..4);
                self.proxy.on(request).times(times).does(fault);
                format!("{times} × {request}: {fault:?}")
            }
        }
    }
}

#[test]
fn random_faults_lose_and_double_nothing() {
    let seed = events::seed("soak");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let kafka = Kafka::three();
    let story = Story::new(&kafka, "soak", 6);
    let mut workers: Vec<_> = (0..2)
        .map(|number| {
            let proxy = Proxy::before(&kafka.addresses());
            let config = story
                .config
                .clone()
                .through(&proxy)
                .instance(&number.to_string());
            let mut connector = Connector::ready(&format!("worker-{number}"), &config);
            for cause in MISTAKEN {
                connector.allow_error(cause);
            }
            Worker { proxy, connector }
        })
        .collect();
    let mut events = Events::new(seed, "soak");
    let until = Instant::now() + Duration::from_secs_f64(minutes() * 60.0);
    meanwhile(
        |enough| story.feed(&mut events, usize::MAX, 200, enough),
        || {
            while Instant::now() < until && story.oracle.ledger().complaints().is_empty() {
                let what = if random.random_bool(0.1) {
                    let id = random.random_range(1..=3);
                    kafka.kill(id);
                    thread::sleep(Duration::from_millis(random.random_range(0..8_000)));
                    kafka.restart(id);
                    format!("broker {id} was killed and restarted")
                } else {
                    let number = random.random_range(0..workers.len());
                    format!("worker {number}: {}", workers[number].hurt(&mut random))
                };
                eprintln!(
                    "soak: {} done, {} open; {what}",
                    story.oracle.done(),
                    story.oracle.missing()
                );
                thread::sleep(Duration::from_millis(random.random_range(0..6_000)));
            }
        },
    );
    for worker in &mut workers {
        worker.proxy.heal();
        if worker.has_ended() {
            eprintln!("soak: a worker had ended:\n{}", worker.connector.log());
            worker.connector.restart();
        }
    }
    let summary = story.oracle.settled(Duration::from_secs(300));
    eprintln!("soak: {summary:?}");
    for worker in &mut workers {
        assert!(worker.connector.sigterm().success());
        worker.connector.assert_log_is_clean();
    }
}
