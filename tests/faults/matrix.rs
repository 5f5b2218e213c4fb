//! {AddPartitionsToTxn, Produce, AddOffsetsToTxn, TxnOffsetCommit, EndTxn}
//! × {cut before it is sent, lost, late, applied and its answer lost, answered late, refused for
//!    now, refused for good}
//! × {the process goes on, it is killed and returns, it is killed and another takes over}:
//! 105 cells.
//!
//! A test plays one request and one fault with all three endings, each with topics, a proxy and
//! processes of its own. In each cell, a connector works; the fault meets exactly one request of
//! a transaction that is full of outputs; then the ending comes, more events follow, and the
//! oracle wants every event exactly once.

use std::{
    panic::{self, AssertUnwindSafe},
    thread,
    time::{Duration, Instant},
};

use aligner_tests::{
    connector::{Config, Connector},
    events::Events,
    kafka::Kafka,
    proxy::{ApiKey, Fault, Held, Proxy},
    story::Story,
};

/// How long a fault may take to meet its request.
const HIT: Duration = Duration::from_secs(60);
/// How long the aftermath of a fault may take.
const SETTLED: Duration = Duration::from_secs(90);
/// Events before, under and after the fault.
const EVENTS: usize = 40;

/// What happens to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    CutBefore,
    Lost,
    Late,
    AnswerLost,
    AnswerLate,
    RefusedForNow,
    RefusedForGood,
}

/// What happens to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    GoesOn,
    Returns,
    AnotherTakesOver,
}

const ENDINGS: [Ending; 3] = [Ending::GoesOn, Ending::Returns, Ending::AnotherTakesOver];

/// An error that clients are meant to try again after.
fn passing_error(api: ApiKey) -> i16 {
    match api {
        ApiKey::AddPartitionsToTxn => 51, // CONCURRENT_TRANSACTIONS
        ApiKey::Produce => 6,             // NOT_LEADER_OR_FOLLOWER
        ApiKey::AddOffsetsToTxn => 16,    // NOT_COORDINATOR
        ApiKey::TxnOffsetCommit => 14,    // COORDINATOR_LOAD_IN_PROGRESS
        _ => 15,                          // COORDINATOR_NOT_AVAILABLE
    }
}

/// INVALID_PRODUCER_EPOCH: this producer is finished.
const FOR_GOOD: i16 = 47;

impl What {
    fn fault(self, api: ApiKey, ending: Ending) -> Fault {
        let goes_on = ending == Ending::GoesOn;
        // Longer than a request may take, shorter than a transaction.
        let late = Duration::from_millis(3_500);
        match self {
            Self::CutBefore => Fault::CutBefore,
            Self::Lost => Fault::LoseRequest,
            Self::Late if goes_on => Fault::LateRequest(late),
            Self::Late => Fault::HoldRequest,
            Self::AnswerLost => Fault::LoseResponse,
            Self::AnswerLate if goes_on => Fault::LateResponse(late),
            Self::AnswerLate => Fault::HoldResponse,
            Self::RefusedForNow => Fault::Refuse(passing_error(api)),
            Self::RefusedForGood => Fault::Refuse(FOR_GOOD),
        }
    }

    /// Waits until the process may be killed: the request is where this cell wants it.
    fn wait_met(self, held: &Held) {
        match self {
            Self::AnswerLost | Self::AnswerLate => held.wait_applied(HIT),
            _ => held.wait_hit(HIT),
        }
    }
}

/// Plays one request and one fault, with every ending at once: most of a cell is waiting.
fn play(api: ApiKey, what: What) {
    let failures: Vec<_> = thread::scope(|scope| {
        let cells: Vec<_> = ENDINGS
            .iter()
            .map(|&ending| {
                let name = format!("{api} {what:?}, {ending:?}");
                let cell = scope.spawn(move || {
                    let started = Instant::now();
                    let result = panic::catch_unwind(AssertUnwindSafe(|| cell(api, what, ending)));
                    eprintln!("cell {name}: {:.1} s", started.elapsed().as_secs_f64());
                    result.is_err()
                });
                (format!("{api} {what:?}, {ending:?}"), cell)
            })
            .collect();
        cells
            .into_iter()
            .filter_map(|(name, cell)| cell.join().unwrap_or(true).then_some(name))
            .collect()
    });
    assert!(failures.is_empty(), "failed, see above: {failures:?}");
}

/// Timeouts as short as they go, so that a cell takes seconds.
fn hasty(config: Config) -> Config {
    config
        .set(&["kafka", "session_timeout_ms"], 2_000)
        .set(&["kafka", "heartbeat_interval_ms"], 500)
        .set(&["kafka", "transaction_timeout_ms"], 6_000)
        .property("socket.timeout.ms", "2500")
}

fn cell(api: ApiKey, what: What, ending: Ending) {
    let kafka = Kafka::shared();
    let name = format!("{api}-{what:?}-{ending:?}").to_lowercase();
    let story = Story::new(kafka, &name, 2);
    let mut events = Events::new(7, &name);
    let proxy = Proxy::before(&kafka.addresses());
    let mut config = hasty(story.config.clone()).through(&proxy);
    if ending != Ending::AnotherTakesOver {
        config = config.instance("0");
    }
    let mut connector = Connector::ready(&name, &config);
    story.send(&mut events, EVENTS);
    story.oracle.wait_done(EVENTS, SETTLED);

    let rule = match api {
        ApiKey::EndTxn => proxy.on(api).commits(),
        _ => proxy.on(api),
    };
    let held = rule.does(what.fault(api, ending));
    story.send(&mut events, EVENTS);
    what.wait_met(&held);
    let mut other = None;
    match ending {
        Ending::GoesOn => {}
        Ending::Returns | Ending::AnotherTakesOver => connector.kill9(),
    }
    match ending {
        Ending::GoesOn => {}
        Ending::Returns => connector.restart(),
        Ending::AnotherTakesOver => {
            let config = hasty(story.config.clone());
            other = Some(Connector::ready(&format!("{name}-other"), &config));
        }
    }
    story.send(&mut events, EVENTS);
    if what == What::Late && ending != Ending::GoesOn {
        // Only when its successor has done everything does the dead one's request arrive.
        story.oracle.wait_done(3 * EVENTS, SETTLED);
        held.release();
        story.send(&mut events, EVENTS);
    }
    let summary = story.oracle.settled(SETTLED);
    assert!(summary.inputs >= 3 * EVENTS);
    assert_eq!(held.hits(), 1, "the fault meets one request");
    connector.assert_log_is_clean();
    drop(other);
}

macro_rules! request {
    ($module:ident, $api:ident) => {
        mod $module {
            use super::*;

            #[test]
            fn cut_before_it_is_sent() {
                play(ApiKey::$api, What::CutBefore);
            }

            #[test]
            fn lost() {
                play(ApiKey::$api, What::Lost);
            }

            #[test]
            fn late() {
                play(ApiKey::$api, What::Late);
            }

            #[test]
            fn applied_and_its_answer_lost() {
                play(ApiKey::$api, What::AnswerLost);
            }

            #[test]
            fn answered_late() {
                play(ApiKey::$api, What::AnswerLate);
            }

            #[test]
            fn refused_for_now() {
                play(ApiKey::$api, What::RefusedForNow);
            }

            #[test]
            fn refused_for_good() {
                play(ApiKey::$api, What::RefusedForGood);
            }
        }
    };
}

request!(add_partitions_to_txn, AddPartitionsToTxn);
request!(produce, Produce);
request!(add_offsets_to_txn, AddOffsetsToTxn);
request!(txn_offset_commit, TxnOffsetCommit);
request!(end_txn, EndTxn);
