//! Waiting for conditions, each with a deadline and a name for the failure message.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition is left alone between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until `condition` gives a value; panics with `what` after `limit`.
#[track_caller]
pub fn for_value<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(
            started.elapsed() < limit,
            "{what}: not within {limit:?} ({:?} passed)",
            started.elapsed()
        );
        thread::sleep(LOOK_AGAIN);
    }
}

/// Waits until `condition` holds; panics with `what` after `limit`.
#[track_caller]
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    for_value(what, limit, || condition().then_some(()));
}
