//! An Aligner that is slow and well, and records that never end, under a paused clock.

use std::{
    cell::OnceCell,
    collections::{BTreeSet, HashMap},
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Outcome,
    builtin::{Builtin, Rule},
};
use aligner_pipeline::{
    JsonDecoder, JsonEncoder, OutputKind, Parts, Pipeline, Settings,
    memory::{Delivered, Faults, MemoryLog},
    progress::State,
};
use aligner_records::Disposition;
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

/// Whom an Aligner serves first.
#[derive(Debug, Clone, Copy)]
enum Order {
    /// Who has waited longest, as the engine does.
    LongestWaiting,
    /// Who came to it first, as servers do.
    Arrival,
}

const ORDERS: [Order; 2] = [Order::LongestWaiting, Order::Arrival];

/// Since when somebody waits, where that counts, and the number of the arrival.
type Turn = (Option<std::time::Instant>, u64);

/// An Aligner that serves a few records at a time, each for as long; the others wait their turn.
/// Clones share it.
#[derive(Clone)]
struct Slow(Arc<Shop>);

struct Shop {
    identity: Identity,
    order: Order,
    room: usize,
    takes: Duration,
    /// Whether it can tell that it works.
    tells: bool,
    queue: Mutex<Queue>,
    moved: Notify,
}

#[derive(Default)]
struct Queue {
    arrivals: u64,
    began: OnceCell<Instant>,
    waiting: BTreeSet<Turn>,
    served: BTreeSet<Turn>,
    asked: HashMap<Arc<str>, u32>,
}

impl Slow {
    fn new(order: Order, room: usize, takes: Duration) -> Self {
        Self(Arc::new(Shop {
            identity: Builtin::new(Rule::Identity).identity().clone(),
            order,
            room,
            takes,
            tells: false,
            queue: Mutex::default(),
            moved: Notify::new(),
        }))
    }

    /// One that can tell that it works.
    fn telling(order: Order, room: usize, takes: Duration) -> Self {
        let Self(shop) = Self::new(order, room, takes);
        let shop = Arc::into_inner(shop).expect("nobody else has it yet");
        Self(Arc::new(Shop {
            tells: true,
            ..shop
        }))
    }

    /// How often it was asked for a record.
    fn asked(&self, id: usize) -> u32 {
        let queue = self.0.queue.lock().expect("no panic");
        let event = format!("e{id}");
        queue.asked.get(event.as_str()).copied().unwrap_or_default()
    }
}

/// A place in the queue, then in the shop; left by dropping it.
struct Place {
    shop: Arc<Shop>,
    turn: Turn,
}

impl Place {
    fn enter(shop: &Arc<Shop>, request: &AlignRequest) -> Self {
        let mut queue = shop.queue.lock().expect("no panic");
        let event = Arc::clone(&request.event_id);
        *queue.asked.entry(event).or_default() += 1;
        let since = match shop.order {
            Order::LongestWaiting => Some(request.waiting_since),
            Order::Arrival => None,
        };
        let turn = (since, queue.arrivals);
        queue.arrivals += 1;
        queue.waiting.insert(turn);
        Self {
            shop: Arc::clone(shop),
            turn,
        }
    }

    /// Whether it is served from now on: it is first in the queue, and there is room.
    fn comes_in(&self) -> bool {
        let mut queue = self.shop.queue.lock().expect("no panic");
        let first = queue.waiting.first() == Some(&self.turn);
        if !first || queue.served.len() == self.shop.room {
            return false;
        }
        queue.waiting.remove(&self.turn);
        queue.served.insert(self.turn);
        // There may be room for one more.
        self.shop.moved.notify_waiters();
        true
    }

    async fn served(&self) {
        loop {
            let moved = self.shop.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.comes_in() {
                return;
            }
            moved.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.shop.queue.lock().expect("no panic");
        queue.waiting.remove(&self.turn);
        queue.served.remove(&self.turn);
        self.shop.moved.notify_waiters();
    }
}

impl Aligner for Slow {
    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn work_done(&self) -> u64 {
        let queue = self.0.queue.lock().expect("no panic");
        let began = *queue.began.get_or_init(Instant::now);
        if self.0.tells && !queue.served.is_empty() {
            // A token a second.
            began.elapsed().as_secs()
        } else {
            0
        }
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let answers: FuturesUnordered<_> = batch
            .into_iter()
            .enumerate()
            .map(|(index, request)| {
                let place = Place::enter(&self.0, &request);
                async move {
                    place.served().await;
                    sleep(place.shop.takes).await;
                    let result: Result<_, AlignError> = match &*request.answer {
                        "never ends" => pending().await,
                        "refused" => Err(AlignError::Rejected("no".to_owned())),
                        _ => Ok(Alignment {
                            outcome: Outcome::Unchanged,
                            usage: Default::default(),
                            timing: Default::default(),
                            confidence: None,
                        }),
                    };
                    Completion { index, result }
                }
            })
            .collect();
        answers.boxed()
    }
}

/// Records that come at one time, and make a call.
const GROUP: usize = 8;
const PATIENCE: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

/// What became of some groups of records, numbered as they came.
struct Story {
    corrections: usize,
    /// Keys and reasons.
    dead_letters: Vec<(String, String)>,
    retries: u64,
    /// How long the first dead letter took.
    first_dead_after: Option<Duration>,
    longest_silence: Duration,
}

/// A group of records every so often, in turn on one of two partitions; `answer` is what is to be
/// corrected in a record.
async fn story(
    slow: &Slow,
    groups: usize,
    every: Duration,
    answer: impl Fn(usize) -> &'static str + Sync,
) -> Story {
    let log = MemoryLog::new("answers", 2);
    let append = |group: usize| {
        for id in group * GROUP..(group + 1) * GROUP {
            let event = serde_json::json!({
                "event_id": format!("e{id}"), "question": "q", "answer": answer(id)
            });
            log.append(group % 2, None, Some(event.to_string().into()), Vec::new());
        }
    };
    append(0);
    let all_delivered = async {
        for group in 1..groups {
            sleep(every).await;
            append(group);
        }
        log.delivered().await;
    };
    let pipeline = Pipeline::new(Parts {
        source: log.source(Faults::default()),
        sink: log.sink(Faults::default()),
        aligner: Arc::new(slow.clone()),
        decoder: Arc::new(JsonDecoder::default()),
        encoder: Arc::new(JsonEncoder),
        settings: Settings {
            max_batch_records: GROUP,
            max_batches_in_flight: 4,
            record_timeout_ms: u64::try_from(PATIENCE.as_millis()).expect("ten minutes"),
            ..Settings::default()
        },
        connector: "slow".to_owned(),
        task: 0,
        wall_clock: Arc::new(|| 0),
    });
    let progress = pipeline.progress();
    let run = async {
        timeout(Duration::from_secs(100_000), pipeline.run(all_delivered))
            .await
            .expect("every record ends within bounded time")
            .expect("nothing stops the pipeline")
    };
    let watch = async {
        let began = Instant::now();
        let (mut longest_silence, mut first_dead_after) = (Duration::ZERO, None);
        while progress.state() != State::Stopped {
            let now = progress.snapshot();
            longest_silence = longest_silence.max(now.aligner_silent);
            if now.with(Disposition::DeadLettered) > 0 {
                first_dead_after.get_or_insert(began.elapsed());
            }
            sleep(SECOND).await;
        }
        (longest_silence, first_dead_after)
    };
    let (summary, (longest_silence, first_dead_after)) = tokio::join!(run, watch);
    assert_eq!(summary.received, (groups * GROUP) as u64);
    assert_eq!(summary.left, 0);

    let outputs = log.outputs();
    let (letters, corrections): (Vec<Delivered>, Vec<Delivered>) = outputs
        .into_iter()
        .partition(|delivered| delivered.output.kind == OutputKind::DeadLetter);
    Story {
        corrections: corrections.len(),
        dead_letters: letters.iter().map(key_and_reason).collect(),
        retries: progress.snapshot().retries,
        first_dead_after,
        longest_silence,
    }
}

fn key_and_reason(letter: &Delivered) -> (String, String) {
    let output = &letter.output;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let reason = output
        .headers
        .iter()
        .find(|header| header.key == "aligner.reason")
        .and_then(|header| header.value.as_deref())
        .expect("a reason");
    (text(output.key.as_deref().expect("a key")), text(reason))
}

/// The one record of these stories that never ends: the fourth of the first group.
const ENDLESS: usize = 3;

fn endless(id: usize) -> &'static str {
    if id == ENDLESS { "never ends" } else { "a" }
}

/// The endless one is dead-lettered for what it did, and nobody else is.
fn assert_only_the_endless_one_is_given_up(story: &Story, records: usize, circumstances: &str) {
    let key = format!("answers-0-{ENDLESS}");
    let expected = [(key, "aligner_timeout".to_owned())];
    assert_eq!(story.dead_letters, expected, "{circumstances}");
    assert_eq!(story.corrections, records - 1, "{circumstances}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_aligner_has_nothing_dead_lettered_and_is_asked_for_each_record_once() {
    for order in ORDERS {
        // With room for one, the last of the calls that begin together waits for forty minutes;
        // with much room, nobody hears anything for nearly as long as may be.
        for (room, seconds) in [(1, 100), (3, 100), (16, 540)] {
            let takes = Duration::from_secs(seconds);
            let slow = Slow::new(order, room, takes);
            let story = story(&slow, 8, SECOND, |_| "a").await;
            assert_eq!(story.dead_letters, [], "{order:?} {room}");
            assert_eq!(story.corrections, 8 * GROUP);
            assert_eq!(story.retries, 0);
            assert!((0..8 * GROUP).all(|id| slow.asked(id) == 1));
            assert!(
                story.longest_silence <= takes + SECOND,
                "a slow answer is a word: {:?}",
                story.longest_silence
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_aligner_that_tells_that_it_works_is_waited_for_however_long_an_answer_takes() {
    for order in ORDERS {
        let takes = 5 * PATIENCE;
        let slow = Slow::telling(order, 16, takes);
        let story = story(&slow, 4, SECOND, |_| "a").await;
        assert_eq!(story.dead_letters, [], "{order:?}");
        assert_eq!(story.corrections, 4 * GROUP);
        assert!((0..4 * GROUP).all(|id| slow.asked(id) == 1));
        assert!(
            story.longest_silence <= PATIENCE + SECOND,
            "work is a word, too: {:?}",
            story.longest_silence
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_never_ends_is_given_up_and_costs_none_of_its_neighbours() {
    for order in ORDERS {
        // With room for one, it holds up everybody until its call is given up.
        for room in [1, 2, 4] {
            let circumstances = format!("{order:?} {room}");
            let slow = Slow::new(order, room, Duration::from_secs(100));
            let story = story(&slow, 8, SECOND, endless).await;
            assert_only_the_endless_one_is_given_up(&story, 8 * GROUP, &circumstances);
            assert_eq!(slow.asked(ENDLESS), 2, "{circumstances}");
            assert!(
                (GROUP..8 * GROUP).all(|id| slow.asked(id) == 1),
                "it costs no call but its own: {circumstances}"
            );
            assert!(
                story.longest_silence < 2 * PATIENCE,
                "no probe takes the Aligner for stuck: {circumstances}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_never_ends_is_given_up_while_younger_calls_go_on_being_answered() {
    for order in ORDERS {
        let circumstances = format!("{order:?}");
        let slow = Slow::new(order, 2, Duration::from_secs(10));
        // Eighty seconds of work every hundred seconds, on both partitions.
        let groups = 30;
        let story = story(&slow, groups, Duration::from_secs(100), endless).await;
        assert_only_the_endless_one_is_given_up(&story, groups * GROUP, &circumstances);
        let after = story.first_dead_after.expect("a dead letter");
        // Twice its time, and once the call beside it.
        let longest = 2 * PATIENCE + Duration::from_secs(200);
        assert!(after < longest, "{circumstances}: {after:?}");
        let mut others = (0..groups * GROUP).filter(|id| *id != ENDLESS);
        assert!(others.all(|id| slow.asked(id) == 1), "{circumstances}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_aligner_that_is_slow_to_refuse_goes_on_all_the_same() {
    let takes = Duration::from_secs(100);
    for order in ORDERS {
        let slow = Slow::new(order, 1, takes);
        let refused = |id: usize| if id < 2 * GROUP { "refused" } else { "a" };
        let story = story(&slow, 4, SECOND, refused).await;
        assert_eq!(story.dead_letters.len(), 2 * GROUP);
        assert!(
            (story.dead_letters.iter()).all(|(_, reason)| reason == "aligner_rejected"),
            "{:?}",
            story.dead_letters
        );
        assert_eq!(story.corrections, 2 * GROUP);
        assert!((0..4 * GROUP).all(|id| slow.asked(id) == 1));
        assert!(story.longest_silence <= takes + SECOND);
    }
}
