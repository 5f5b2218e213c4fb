//! Killed with -9 at moments that a seed chooses.

use std::{sync::atomic::AtomicBool, thread, time::Duration};

use aligner_tests::{
    connector::Connector,
    events::{self, Events},
    kafka::Kafka,
    story::Story,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Events in all.
const EVENTS: usize = 20_000;
/// Slow enough that every kill comes in the middle of it.
const PER_SECOND: usize = 2_000;

/// Kills and restarts three times while events come in.
fn killed_three_times(name: &str, instance: Option<&str>) {
    let story = Story::new(Kafka::shared(), name, 6).with(|config| match instance {
        Some(id) => config.instance(id),
        None => config,
    });
    let seed = events::seed(name);
    let mut moments = ChaCha8Rng::seed_from_u64(seed);
    let mut connector = Connector::ready(&story.name, &story.config);
    thread::scope(|scope| {
        let feeding = scope.spawn(|| {
            let mut events = Events::new(seed, name);
            story.feed(&mut events, EVENTS, PER_SECOND, &AtomicBool::new(false));
        });
        for kill in 1..=3 {
            let more = moments.random_range(500..4_000);
            // No more than there are, however much was done before this thread had its turn.
            let enough = (story.oracle.done() + more).min(EVENTS);
            story.oracle.wait_done(enough, Duration::from_secs(90));
            // Somewhere within a transaction, or between two.
            thread::sleep(Duration::from_micros(moments.random_range(0..60_000)));
            connector.kill9();
            eprintln!("{name}: kill {kill} after {} records", story.oracle.done());
            connector.restart();
        }
        feeding.join().expect("feeding does not panic");
    });
    let summary = story.oracle.settled(Duration::from_secs(120));
    assert_eq!(summary.inputs, EVENTS);
    connector.assert_log_is_clean();
}

#[test]
fn killed_three_times_and_restarted_in_place_it_is_still_exactly_once() {
    killed_three_times("killed-in-place", Some("0"));
}

#[test]
fn killed_three_times_and_replaced_by_a_stranger_it_is_still_exactly_once() {
    killed_three_times("killed-replaced", None);
}
