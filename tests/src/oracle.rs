//! Reads the committed outputs all the time, and keeps the [`Ledger`] of exactly-once.
//!
//! A thread of its own follows corrections, pairs and dead letters with `read_committed`, and
//! every other second compares the committed offsets with what is readable: whatever an offset
//! covers must have its output by then (I4). It stays while brokers and connectors come and go.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::ClientConfig;

use crate::{
    client::{self, Landing, Outgoing, Progress, Reader, Writer},
    connector::Topics,
    diagnosis,
    kafka::Kafka,
    ledger::{Input, Ledger, Position},
    wait,
};

/// How often committed offsets are compared with outputs.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);
/// Between two looks at the books by somebody who waits for them.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long input records may take to land.
const LANDING_LIMIT: Duration = Duration::from_secs(60);

/// Watches one connector's topics.
pub struct Oracle {
    ledger: Arc<Mutex<Ledger>>,
    settings: ClientConfig,
    topics: Topics,
    group: String,
    writer: Mutex<Writer>,
    catch_ups: Arc<CatchUps>,
    progress: Progress,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What [`Oracle::catch_up`] asks its thread for, numbered.
#[derive(Debug, Default)]
struct CatchUps {
    /// The last one that was asked for.
    wanted: Mutex<u64>,
    /// The last one that was reached, and with it all before.
    reached: Mutex<u64>,
}

/// What the oracle found once everything was in order.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Number of inputs, each with exactly one output.
    pub inputs: usize,
    /// How many of them ended in each disposition.
    pub dispositions: BTreeMap<String, u64>,
}

impl Oracle {
    /// Watches `topics`, which the group `connect-<name>` works on.
    pub fn watch(kafka: &Kafka, topics: &Topics, name: &str) -> Self {
        Self::watch_as(kafka.settings(), topics, name)
    }

    /// The same, with client settings of the caller's (credentials).
    pub fn watch_as(settings: &ClientConfig, topics: &Topics, name: &str) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let catch_ups = Arc::new(CatchUps::default());
        let group = format!("connect-{name}");
        let reader = Reader::open(
            settings,
            &[&topics.corrections, &topics.pairs, &topics.dead_letters],
        );
        let progress = reader.progress();
        let watch = Watch {
            reader,
            committed: client::Committed::of(settings, &group, &topics.answers),
            ledger: Arc::clone(&ledger),
            topics: topics.clone(),
            catch_ups: Arc::clone(&catch_ups),
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("oracle".into())
            .spawn(move || watch.run())
            .expect("a thread can be started");
        Self {
            ledger,
            settings: settings.clone(),
            topics: topics.clone(),
            group,
            writer: Mutex::new(Writer::open(settings)),
            catch_ups,
            progress,
            stop,
            thread: Some(thread),
        }
    }

    /// Writes input records and notes what must become of them.
    pub fn send(&self, records: impl IntoIterator<Item = (Outgoing, Input)>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inputs = Vec::new();
        for (outgoing, input) in records {
            writer.send(&self.topics.answers, &outgoing);
            inputs.push(input);
        }
        let landings = writer.settle(LANDING_LIMIT);
        self.note(landings, inputs);
    }

    /// Notes inputs that somebody else wrote.
    pub fn note(&self, landings: Vec<Landing>, inputs: Vec<Input>) {
        assert_eq!(landings.len(), inputs.len(), "every input landed");
        let mut noted: Vec<_> = landings
            .into_iter()
            .map(|landing| Position {
                topic: self.topics.answers.clone(),
                partition: landing.partition,
                offset: landing.offset,
            })
            .zip(inputs)
            .collect();
        noted.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.lock().inputs(noted);
    }

    /// How many inputs have no output yet.
    pub fn missing(&self) -> usize {
        self.lock().missing_count()
    }

    /// How many inputs have their output.
    pub fn done(&self) -> usize {
        let ledger = self.lock();
        ledger.input_count() - ledger.missing_count()
    }

    /// Waits until at least `count` inputs have their output.
    #[track_caller]
    pub fn wait_done(&self, count: usize, limit: Duration) {
        wait::until(&format!("{count} records done"), limit, || {
            self.assert_clean();
            self.done() >= count
        });
    }

    /// Waits until every input has its output.
    #[track_caller]
    pub fn wait_all_done(&self, limit: Duration) {
        let started = Instant::now();
        loop {
            self.assert_clean();
            if self.missing() == 0 {
                return;
            }
            if started.elapsed() >= limit {
                let complaints = {
                    let mut ledger = self.lock();
                    ledger.close();
                    ledger.complaints().join("\n  ")
                };
                panic!(
                    "not everything was done within {limit:?}:\n  {complaints}\n  {}",
                    self.why()
                );
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Panics with everything that was wrong so far, if anything was.
    #[track_caller]
    pub fn assert_clean(&self) {
        let ledger = self.lock();
        let complaints = ledger.complaints();
        assert!(
            complaints.is_empty(),
            "exactly-once is broken:\n  {}",
            complaints.join("\n  ")
        );
    }

    /// With no connector running: what is readable is exactly what the committed offsets cover.
    #[track_caller]
    pub fn assert_offsets_match_outputs(&self, limit: Duration) {
        let mut committed =
            client::Committed::of(&self.settings, &self.group, &self.topics.answers);
        let offsets = wait::for_value("stable committed offsets", limit, || committed.fetch());
        self.catch_up(limit);
        self.lock()
            .check_committed(&self.topics.answers, &offsets, true);
        self.assert_clean();
    }

    /// Waits until everything that is committed now was read.
    #[track_caller]
    pub fn catch_up(&self, limit: Duration) {
        let number = {
            let mut wanted = self.catch_ups.wanted.lock().expect("no holder panics");
            *wanted += 1;
            *wanted
        };
        let started = Instant::now();
        while *self.catch_ups.reached.lock().expect("no holder panics") < number {
            assert!(
                started.elapsed() < limit,
                "the oracle did not read everything committed within {limit:?}:\n  {}",
                self.why()
            );
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until every input has its output, reads on to the end of the log, and checks that
    /// nothing was missing, doubled, out of order or different, and that the offsets agree.
    #[track_caller]
    pub fn settled(&self, limit: Duration) -> Summary {
        let started = Instant::now();
        self.wait_all_done(limit);
        let rest = limit
            .saturating_sub(started.elapsed())
            .max(Duration::from_secs(30));
        self.catch_up(rest);
        let mut committed =
            client::Committed::of(&self.settings, &self.group, &self.topics.answers);
        let offsets = wait::for_value("stable committed offsets", rest, || committed.fetch());
        let mut ledger = self.lock();
        ledger.close();
        ledger.check_committed(&self.topics.answers, &offsets, true);
        let summary = Summary {
            inputs: ledger.input_count(),
            dispositions: ledger.dispositions().clone(),
        };
        drop(ledger);
        self.assert_clean();
        summary
    }

    /// What stands between the readers and what is missing, for the message of a failure.
    fn why(&self) -> String {
        let missing = self.lock().still_missing();
        let mut lines = diagnosis::of(&self.settings, &self.topics, missing);
        lines.extend(self.progress.told());
        lines.join("\n  ")
    }

    /// The books, for questions that only one test asks.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // A panicking assertion elsewhere leaves the books as true as before.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The oracle's thread.
struct Watch {
    reader: Reader,
    committed: client::Committed,
    ledger: Arc<Mutex<Ledger>>,
    topics: Topics,
    catch_ups: Arc<CatchUps>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn run(mut self) {
        let mut last_sample = Instant::now();
        let mut sample = None;
        let mut awaited: Option<(u64, u64)> = None;
        while !self.stop.load(Ordering::Relaxed) {
            if let Some(record) = self.reader.next(Duration::from_millis(20)) {
                let output = self.topics.output(&record.topic);
                self.lock().observe(output, &record);
            }
            match awaited {
                Some((number, mark)) if self.reader.passed(mark) => {
                    *self.catch_ups.reached.lock().expect("no holder panics") = number;
                    awaited = None;
                }
                None => {
                    let wanted = *self.catch_ups.wanted.lock().expect("no holder panics");
                    if wanted > *self.catch_ups.reached.lock().expect("no holder panics") {
                        awaited = Some((wanted, self.reader.mark()));
                    }
                }
                Some(_) => {}
            }
            sample = match sample {
                Some((mark, offsets)) if self.reader.passed(mark) => {
                    self.lock()
                        .check_committed(&self.topics.answers, &offsets, false);
                    None
                }
                None if last_sample.elapsed() >= SAMPLE_EVERY => {
                    last_sample = Instant::now();
                    // The offsets first, the mark after: what they cover lies before the mark.
                    self.committed
                        .fetch()
                        .map(|offsets| (self.reader.mark(), offsets))
                }
                waiting => waiting,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
