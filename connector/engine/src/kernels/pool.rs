//! The threads of one worker, for the inside of one operation.
//!
//! A decode step of a small model is a few dozen operations of some microseconds, so handing one
//! out must cost less than that: helpers spin briefly before they sleep, and chunks are claimed
//! with one compare-and-swap. The caller works too and waits only for chunks that a helper has
//! *claimed*: a helper that the operating system does not run delays nothing.
//!
//! Chunks are parts of the output, never of a sum: who computes which does not show in a result.

use std::{
    cell::UnsafeCell,
    hint,
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Spins before a helper sleeps: some tens of microseconds, longer than the gap between two
/// operations and far shorter than an idle wait.
const SPINS: u32 = 4_000;

/// A few threads that run the chunks of one operation at a time.
pub(crate) struct Pool {
    shared: Arc<State>,
    helpers: Vec<JoinHandle<()>>,
}

struct State {
    /// Operation number (32 bits), its chunks (16), the next chunk to claim (16).
    claim: AtomicU64,
    done: AtomicU32,
    operation: UnsafeCell<Operation>,
    panicked: AtomicBool,
    stopping: AtomicBool,
    sleepers: AtomicU32,
}

// SAFETY: `operation` is written only by the caller while no chunk of it can be claimed, and read
// only after a chunk has been claimed, which the caller waits for.
unsafe impl Sync for State {}
unsafe impl Send for State {}

#[derive(Clone, Copy)]
struct Operation(*const (dyn Fn(usize, usize) + Sync));

impl Pool {
    /// A pool in which `threads` work, the caller included.
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        let idle: &'static (dyn Fn(usize, usize) + Sync) = &|_, _| ();
        let shared = Arc::new(State {
            claim: AtomicU64::new(0),
            done: AtomicU32::new(0),
            operation: UnsafeCell::new(Operation(idle)),
            panicked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            sleepers: AtomicU32::new(0),
        });
        let helpers = (1..threads.get())
            .map(|worker| {
                let shared = Arc::clone(&shared);
                thread::Builder::new()
                    .name(format!("aligner-cpu-{worker}"))
                    .spawn(move || shared.help(worker))
                    .expect("the operating system gives a thread at start")
            })
            .collect();
        Self { shared, helpers }
    }

    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Runs `operation(chunk, worker)` for every chunk; `worker` is below [`Self::threads`] and
    /// belongs to one running chunk at a time.
    pub(crate) fn run(&mut self, chunks: usize, operation: &(dyn Fn(usize, usize) + Sync)) {
        if self.helpers.is_empty() || chunks < 2 {
            (0..chunks).for_each(|chunk| operation(chunk, 0));
            return;
        }
        assert!(chunks < 1 << 16, "an operation has at most 65535 chunks");
        let state = &*self.shared;
        // SAFETY: all chunks of the previous operation are done, so nobody reads the cell; the
        // lifetime is erased, and this function returns only after the last chunk.
        unsafe {
            *state.operation.get() = Operation(std::mem::transmute::<
                *const (dyn Fn(usize, usize) + Sync + '_),
                *const (dyn Fn(usize, usize) + Sync + 'static),
            >(operation));
        }
        state.done.store(0, Ordering::Relaxed);
        let number = (state.claim.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        state
            .claim
            .store(number << 32 | (chunks as u64) << 16, Ordering::SeqCst);
        if state.sleepers.load(Ordering::SeqCst) > 0 {
            self.helpers
                .iter()
                .for_each(|helper| helper.thread().unpark());
        }
        while let Some(chunk) = state.claim_chunk() {
            state.run_chunk(chunk, 0);
        }
        let mut spins = 0;
        while state.done.load(Ordering::Acquire) < chunks as u32 {
            spins += 1;
            if spins < SPINS {
                hint::spin_loop();
            } else {
                thread::yield_now();
            }
        }
        if state.panicked.swap(false, Ordering::Relaxed) {
            resume_unwind(Box::new("a chunk of a kernel panicked"));
        }
    }
}

impl State {
    fn claim_chunk(&self) -> Option<usize> {
        let mut word = self.claim.load(Ordering::Acquire);
        loop {
            let (next, chunks) = (word & 0xffff, word >> 16 & 0xffff);
            if next >= chunks {
                return None;
            }
            let taken = self.claim.compare_exchange_weak(
                word,
                word + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match taken {
                Ok(_) => return Some(next as usize),
                Err(current) => word = current,
            }
        }
    }

    fn run_chunk(&self, chunk: usize, worker: usize) {
        // SAFETY: this chunk is claimed and not done, so the caller still waits in `run` and
        // keeps the operation alive.
        let operation = unsafe { &*(*self.operation.get()).0 };
        if catch_unwind(AssertUnwindSafe(|| operation(chunk, worker))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
        self.done.fetch_add(1, Ordering::Release);
    }

    fn help(&self, worker: usize) {
        let mut spins = 0;
        while !self.stopping.load(Ordering::Acquire) {
            if let Some(chunk) = self.claim_chunk() {
                self.run_chunk(chunk, worker);
                spins = 0;
            } else if spins < SPINS {
                spins += 1;
                hint::spin_loop();
            } else {
                self.sleep();
                spins = 0;
            }
        }
    }

    /// Sleeps until the next operation. Announcing the sleep first and looking again after makes
    /// sure that either the helper sees the operation or the caller sees the sleeper.
    fn sleep(&self) {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let word = self.claim.load(Ordering::SeqCst);
        let idle = (word & 0xffff) >= (word >> 16 & 0xffff);
        if idle && !self.stopping.load(Ordering::SeqCst) {
            thread::park();
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for helper in self.helpers.drain(..) {
            helper.thread().unpark();
            helper
                .join()
                .expect("a helper catches the panics of its chunks");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_chunk_of_every_operation_runs_exactly_once() {
        let mut pool = Pool::new(NonZeroUsize::new(3).expect("three"));
        for round in 0..2_000 {
            let chunks = 1 + round % 17;
            let runs: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
            pool.run(chunks, &|chunk, worker| {
                assert!(worker < 3);
                runs[chunk].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn a_panic_in_any_chunk_reaches_the_caller_and_the_pool_goes_on() {
        let mut pool = Pool::new(NonZeroUsize::new(2).expect("two"));
        for guilty in 0..8 {
            let run = AssertUnwindSafe(|| {
                pool.run(8, &|chunk, _| assert!(chunk != guilty, "guilty"));
            });
            assert!(catch_unwind(run).is_err());
        }
        let count = AtomicUsize::new(0);
        pool.run(8, &|_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 8);
    }
}
