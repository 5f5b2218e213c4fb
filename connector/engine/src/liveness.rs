//! Whether the engine gets on, for whoever waits for its answers.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// What one worker shows of its work while it works.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    steps: AtomicU64,
    busy: AtomicBool,
}

impl Pulse {
    /// A step is done.
    pub(crate) fn beat(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the worker has something to do.
    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }
}

/// The work of all workers together. A worker that hangs in a step must not be hidden by others that
/// do not, since nobody but it serves what it holds.
#[derive(Debug)]
pub(crate) struct Liveness {
    pulses: Vec<Arc<Pulse>>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// How often the work was found to have gone on.
    times: u64,
    /// Steps of each worker by then.
    steps: Vec<u64>,
}

impl Liveness {
    pub(crate) fn of(pulses: Vec<Arc<Pulse>>) -> Self {
        let seen = Seen {
            times: 0,
            steps: vec![0; pulses.len()],
        };
        Self {
            pulses,
            seen: Mutex::new(seen),
        }
    }

    /// A number that has risen if since it rose last some worker has got on, and every one that has
    /// something to do.
    pub(crate) fn done(&self) -> u64 {
        // Every change is complete before anything can panic.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let steps: Vec<u64> = (self.pulses.iter())
            .map(|pulse| pulse.steps.load(Ordering::Relaxed))
            .collect();
        let stands = |(pulse, (now, before)): (&Arc<Pulse>, (&u64, &u64))| {
            pulse.busy.load(Ordering::Relaxed) && now == before
        };
        let mut workers = self.pulses.iter().zip(steps.iter().zip(&seen.steps));
        if steps != seen.steps && !workers.any(stands) {
            seen.times += 1;
            seen.steps = steps;
        }
        seen.times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_goes_on_while_every_busy_worker_gets_on() {
        let pulses = [Arc::<Pulse>::default(), Arc::default()];
        let liveness = Liveness::of(pulses.to_vec());
        let [first, second] = &pulses;
        assert_eq!(liveness.done(), 0);
        first.set_busy(true);
        first.beat();
        assert_eq!(liveness.done(), 1, "the other one has nothing to do");
        assert_eq!(liveness.done(), 1);
        second.set_busy(true);
        first.beat();
        assert_eq!(liveness.done(), 1, "the other one hangs");
        second.beat();
        assert_eq!(liveness.done(), 2, "both got on");
        first.set_busy(false);
        second.beat();
        second.set_busy(false);
        assert_eq!(liveness.done(), 3);
        assert_eq!(liveness.done(), 3);
    }
}
