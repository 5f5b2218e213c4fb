//! `make soak MINUTES=30`: random faults from a printed seed, then quiet, then the books.
//!
//! Two connectors work behind a proxy each, on three brokers with replicas of everything. Every few
//! seconds something happens to one of them, to the network or to a broker; events keep coming all the
//! time. At the end everything heals, and each event must have come out exactly once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    proxy::{ApiKey, Fault, Proxy},
    story::Story,
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
                self.connector.restart();
                "killed and restarted".into()
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
                .set(&["kafka", "bootstrap_servers"], proxy.bootstrap())
                .instance(&number.to_string());
            let mut connector = Connector::ready(&format!("worker-{number}"), &config);
            // A process whose join or claim was applied and never answered cannot tell its own
            // trace from another process with its id. It ends and says so; whoever runs it starts
            // it again, as this test does with every worker now and then.
            connector.allow_error("runs with the same kafka.instance_id");
            connector.allow_error("duplicate instance id");
            Worker { proxy, connector }
        })
        .collect();
    let enough = AtomicBool::new(false);
    let until = Instant::now() + Duration::from_secs_f64(minutes() * 60.0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = Events::new(seed, "soak");
            story.feed(&mut events, usize::MAX, 200, &enough);
        });
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
        enough.store(true, Ordering::Relaxed);
    });
    for worker in &mut workers {
        worker.proxy.heal();
        if worker.connector.exited().is_some() {
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
