//! Random faults, many seeds, a paused clock: each input exactly once, whatever happens.
//!
//! Set `SIMULATION_SEED` to run one seed again, and `SIMULATION_SEEDS` to run more of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Outcome,
    builtin::{Builtin, Rule},
};
use aligner_pipeline::{
    JsonDecoder, JsonEncoder, OutputKind, Parts, Pipeline, Settings,
    memory::{Faults, MemoryLog},
};
use aligner_records::{Correction, Disposition, PreferencePair};
use bytes::Bytes;
use futures::{StreamExt, stream};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::sleep;

/// What the simulated Aligner does wrong, as probabilities of each call or answer.
#[derive(Debug, Clone, Copy, Default)]
struct Moods {
    unavailable: f64,
    fails: f64,
    panics: f64,
    forgets: f64,
    latency_ms: u64,
}

/// Answers late, out of order, and not always.
#[derive(Clone)]
struct Moody {
    identity: Identity,
    moods: Moods,
    draw: Arc<Mutex<ChaCha8Rng>>,
    asked: Arc<Mutex<HashMap<Arc<str>, u32>>>,
}

impl Moody {
    fn new(seed: u64, moods: Moods) -> Self {
        Self {
            identity: Builtin::new(Rule::Identity).identity().clone(),
            moods,
            draw: Arc::new(Mutex::new(ChaCha8Rng::seed_from_u64(seed))),
            asked: Arc::default(),
        }
    }
}

/// Whether an answer is changed: told by the event's id, so that the checks know.
fn changes(event: &str) -> bool {
    event.bytes().last().is_some_and(|byte| byte % 2 == 0)
}

impl Aligner for Moody {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let mut draw = self.draw.lock().expect("panics happen outside the lock");
        for request in &batch {
            let mut asked = self.asked.lock().expect("no panic");
            *asked.entry(Arc::clone(&request.event_id)).or_default() += 1;
        }
        let moods = self.moods;
        let fails = draw.random_bool(moods.fails);
        let panics = draw.random_bool(moods.panics);
        let mut answers = Vec::new();
        for (index, request) in batch.iter().enumerate() {
            if draw.random_bool(moods.forgets) {
                continue;
            }
            let result = if fails {
                Err(AlignError::BatchFailed("drawn".to_owned()))
            } else if draw.random_bool(moods.unavailable) {
                Err(AlignError::Unavailable("drawn".to_owned()))
            } else {
                Ok(Alignment {
                    outcome: if changes(&request.event_id) {
                        Outcome::Rewritten(format!("{} better", request.answer))
                    } else {
                        Outcome::Unchanged
                    },
                    usage: Default::default(),
                    timing: Default::default(),
                    confidence: None,
                })
            };
            let late = Duration::from_millis(draw.random_range(0..=moods.latency_ms));
            answers.push((late, Completion { index, result }));
        }
        answers.shuffle(&mut *draw);
        drop(draw);
        stream::iter(answers)
            .then(move |(late, completion)| async move {
                sleep(late).await;
                assert!(!panics, "drawn");
                completion
            })
            .boxed()
    }
}

/// Fills a log; returns how many records of each partition there are.
fn fill(log: &MemoryLog, partitions: usize, records: usize, draw: &mut ChaCha8Rng) {
    for id in 0..records {
        let partition = draw.random_range(0..partitions);
        if draw.random_bool(0.1) {
            log.skip(partition, draw.random_range(1..5));
        }
        let value: Option<Bytes> = match draw.random_range(0..20) {
            0 => None,
            1 => Some("{".into()),
            _ => Some(
                serde_json::json!({"event_id": format!("e{id}"), "question": "q", "answer": "a b"})
                    .to_string()
                    .into(),
            ),
        };
        log.append(partition, None, value, Vec::new());
    }
}

/// Checks a log in which everything was delivered.
fn check(log: &MemoryLog, records: usize) {
    let mut positions: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let mut corrected = Vec::new();
    let mut pairs = Vec::new();
    for delivered in log.outputs() {
        let output = &delivered.output;
        let offsets = positions.entry(delivered.partition.number).or_default();
        match output.kind {
            OutputKind::Correction => {
                let value = output.value.as_ref().expect("a value");
                let correction: Correction = serde_json::from_slice(value).expect("a correction");
                offsets.push(correction.source_offset.expect("from a log"));
                let changed = correction.disposition == Disposition::Corrected;
                assert_eq!(changed, changes(&correction.event_id));
                assert_eq!(changed, correction.answer != correction.correction);
                if changed {
                    corrected.push(correction.correction_id);
                }
            }
            OutputKind::Pair => {
                let value = output.value.as_ref().expect("a value");
                let pair: PreferencePair = serde_json::from_slice(value).expect("a pair");
                pairs.push(pair.correction_id);
            }
            OutputKind::DeadLetter => {
                let offset = output
                    .headers
                    .iter()
                    .find(|header| header.key == "__connect.errors.offset")
                    .and_then(|header| std::str::from_utf8(header.value.as_ref()?).ok())
                    .and_then(|offset| offset.parse().ok());
                offsets.push(offset.expect("an offset"));
            }
        }
    }
    assert_eq!(pairs, corrected, "a pair if and only if corrected");
    assert_eq!(
        positions.values().map(Vec::len).sum::<usize>(),
        records,
        "each input exactly once"
    );
    for (partition, offsets) in positions {
        assert!(
            offsets.is_sorted_by(|a, b| a < b),
            "partition {partition} in order, nothing twice"
        );
    }
}

fn settings(draw: &mut ChaCha8Rng) -> Settings {
    Settings {
        max_batch_records: draw.random_range(1..20),
        max_batches_in_flight: draw.random_range(1..5),
        max_batch_tokens: draw.random_range(1..200),
        max_tokens_in_flight: draw.random_range(10..1_000),
        max_bytes_in_flight: draw.random_range(2_000..200_000),
        max_delivery_records: draw.random_range(1..100),
        pause_after_ms: draw.random_range(0..100),
        record_timeout_ms: 5_000,
        ..Settings::default()
    }
}

/// One life after another on one log, until everything is delivered.
async fn live(seed: u64, faults: Faults, moods: Moods, mut crashes: u32) -> Moody {
    const RECORDS: usize = 300;
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    let log = MemoryLog::new("answers", 5);
    fill(&log, 5, RECORDS, &mut draw);
    let aligner = Moody::new(seed, moods);
    while !log.is_delivered() {
        let pipeline = Pipeline::new(Parts {
            source: log.source(faults),
            sink: log.sink(faults),
            aligner: Arc::new(aligner.clone()),
            decoder: Arc::new(JsonDecoder::default()),
            encoder: Arc::new(JsonEncoder),
            settings: settings(&mut draw),
            connector: "simulation".to_owned(),
            task: 0,
            wall_clock: Arc::new(|| 0),
        });
        let run = pipeline.run(log.delivered());
        if crashes > 0 {
            crashes -= 1;
            let life = Duration::from_millis(draw.random_range(1..3_000));
            tokio::select! {
                ended = run => { ended.expect("nothing stops the pipeline"); }
                () = sleep(life) => {}
            }
        } else {
            tokio::time::timeout(Duration::from_secs(100_000), run)
                .await
                .expect("it ends once faults are survived")
                .expect("nothing stops the pipeline");
        }
    }
    check(&log, RECORDS);
    aligner
}

#[expect(
    clippy::disallowed_methods,
    reason = "which seed to run again is a matter of one run"
)]
fn seeds(usual: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|seed| seed.parse().ok());
    if let Some(seed) = number("SIMULATION_SEED") {
        return vec![seed];
    }
    (0..number("SIMULATION_SEEDS").unwrap_or(usual)).collect()
}

/// Runs one simulation for each of the usual number of seeds, each in a runtime of its own with a
/// paused clock.
fn simulate<F: Future<Output = ()>>(usual: u64, life: impl Fn(u64) -> F) {
    for seed in seeds(usual) {
        // Shown if the test fails.
        println!("seed {seed}");
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(life(seed));
    }
}

#[test]
fn each_input_is_delivered_once_through_crashes_rebalances_aborts_and_a_moody_aligner() {
    simulate(50, async |seed| {
        let faults = Faults {
            seed,
            revoke: 0.05,
            lose: 0.03,
            abort: 0.2,
            latency: Duration::from_millis(30),
            revoke_timeout: Duration::from_millis(20),
            max_records: 40,
            ..Faults::default()
        };
        let moods = Moods {
            unavailable: 0.05,
            fails: 0.1,
            panics: 0.05,
            forgets: 0.02,
            latency_ms: 40,
        };
        live(seed, faults, moods, 3).await;
    });
}

#[test]
fn aborts_cost_no_inference() {
    simulate(20, async |seed| {
        let faults = Faults {
            seed,
            abort: 0.6,
            latency: Duration::from_millis(30),
            max_records: 40,
            ..Faults::default()
        };
        let moods = Moods {
            latency_ms: 40,
            ..Moods::default()
        };
        let aligner = live(seed, faults, moods, 0).await;
        let asked = aligner.asked.lock().expect("no panic");
        assert!(asked.values().all(|asked| *asked == 1));
    });
}

#[test]
fn a_slow_aligner_holds_the_source_back_within_its_budgets() {
    simulate(5, async |seed| {
        let log = MemoryLog::new("answers", 5);
        let mut draw = ChaCha8Rng::seed_from_u64(seed);
        fill(&log, 5, 800, &mut draw);
        let moods = Moods {
            latency_ms: 200,
            ..Moods::default()
        };
        let faults = Faults {
            seed,
            max_records: 20,
            ..Faults::default()
        };
        let limits = Settings {
            max_tokens_in_flight: 200,
            max_bytes_in_flight: 100_000,
            max_batch_records: 8,
            pause_after_ms: draw.random_range(0..50),
            ..Settings::default()
        };
        let pipeline = Pipeline::new(Parts {
            source: log.source(faults),
            sink: log.sink(faults),
            aligner: Arc::new(Moody::new(seed, moods)),
            decoder: Arc::new(JsonDecoder::default()),
            encoder: Arc::new(JsonEncoder),
            settings: limits.clone(),
            connector: "simulation".to_owned(),
            task: 0,
            wall_clock: Arc::new(|| 0),
        });
        let progress = pipeline.progress();
        let watch = async {
            let mut paused = 0;
            while !log.is_delivered() {
                let now = progress.snapshot();
                // One event of records beyond the high mark, and their outputs.
                assert!(now.bytes_in_flight <= limits.max_bytes_in_flight + 20 * 2_000);
                assert!(now.tokens_in_flight <= limits.max_tokens_in_flight + 10);
                assert!(now.batches_in_flight <= limits.max_batches_in_flight as u64);
                paused += u32::from(now.is_paused);
                sleep(Duration::from_millis(5)).await;
            }
            assert!(paused > 0, "the source was held back");
        };
        let (ended, ()) = tokio::join!(pipeline.run(log.delivered()), watch);
        ended.expect("nothing stops the pipeline");
        check(&log, 800);
    });
}
