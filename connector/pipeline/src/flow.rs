//! When to stop asking the source for more, and when to go on.
//!
//! Load is the fuller of two budgets: tokens that the Aligner still has to work through, and bytes
//! that are held until they are delivered. At 80 % the pipeline stops asking; at 50 % it asks
//! again. Only if the load stays high for a while is the source told to pause: a pause may cost it
//! what it has prefetched, and at full speed a queue is full for milliseconds at a time. Once
//! paused, the source is listened to again, since it may have rebalances to report; one that goes
//! on handing out records all the same is not asked again beyond twice the budget.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::Flow;

/// Share of a budget from which on the source is not asked: what is left has room for what it hands
/// out at once, and for the outputs of what is held.
const HOLD_SHARE: f64 = 0.8;
/// Share down to which it stays so: far enough below the other that a source is not held and asked
/// in turn with every batch, and still enough that the Aligner is not out of work meanwhile.
const RESUME_SHARE: f64 = 0.5;
/// Share from which on even a paused source is not asked: so much more than the budget comes only
/// from one that does not heed the pause.
const OVERFULL_SHARE: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Full since then; not asking.
    Holding(Instant),
    /// Told to pause, then.
    Paused(Instant),
}

/// The rule, and its state.
#[derive(Debug)]
pub(crate) struct FlowControl {
    max_tokens: u64,
    max_bytes: u64,
    pause_after: Duration,
    state: State,
    /// Whether even a paused source is not asked.
    overfull: bool,
}

impl FlowControl {
    pub(crate) fn new(max_tokens: u64, max_bytes: u64, pause_after: Duration) -> Self {
        Self {
            max_tokens: max_tokens.max(1),
            max_bytes: max_bytes.max(1),
            pause_after,
            state: State::Open,
            overfull: false,
        }
    }

    /// Takes note of what is held; returns what the source is to be told, if anything.
    pub(crate) fn observe(&mut self, tokens: u64, bytes: u64, now: Instant) -> Option<Flow> {
        let load = share(tokens, self.max_tokens).max(share(bytes, self.max_bytes));
        self.overfull = load >= OVERFULL_SHARE;
        match self.state {
            State::Open if load >= HOLD_SHARE => {
                self.state = State::Holding(now);
                None
            }
            State::Holding(_) if load <= RESUME_SHARE => {
                self.state = State::Open;
                None
            }
            State::Holding(since) if now >= since + self.pause_after => {
                self.state = State::Paused(now);
                Some(Flow::Pause)
            }
            State::Paused(_) if load <= RESUME_SHARE => {
                self.state = State::Open;
                Some(Flow::Resume)
            }
            _ => None,
        }
    }

    /// Whether the source may be asked for its next event.
    pub(crate) fn listens(&self) -> bool {
        match self.state {
            State::Open => true,
            State::Holding(_) => false,
            State::Paused(_) => !self.overfull,
        }
    }

    /// Whether this many bytes hold the source back, so that a delivery should make room.
    pub(crate) fn nearly_full(&self, bytes: u64) -> bool {
        share(bytes, self.max_bytes) >= HOLD_SHARE
    }

    /// Whether the source was told to pause, and when.
    pub(crate) fn paused_since(&self) -> Option<Instant> {
        match self.state {
            State::Paused(since) => Some(since),
            _ => None,
        }
    }

    /// When to observe again though nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Holding(since) => Some(since + self.pause_after),
            _ => None,
        }
    }
}

fn share(held: u64, budget: u64) -> f64 {
    held as f64 / budget as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn flow() -> FlowControl {
        FlowControl::new(100, 1_000, 100 * MS)
    }

    #[test]
    fn a_short_fullness_holds_without_telling_the_source() {
        let mut flow = flow();
        let start = Instant::now();
        assert_eq!(flow.observe(79, 0, start), None);
        assert!(flow.listens());
        assert_eq!(flow.observe(80, 0, start), None);
        assert!(!flow.listens());
        assert_eq!(flow.deadline(), Some(start + 100 * MS));
        assert_eq!(flow.observe(51, 0, start + 50 * MS), None);
        assert!(!flow.listens(), "between the marks nothing changes");
        assert_eq!(flow.observe(50, 0, start + 60 * MS), None);
        assert!(flow.listens());
    }

    #[test]
    fn a_lasting_fullness_pauses_at_the_high_mark_and_resumes_at_the_low_one() {
        let mut flow = flow();
        let start = Instant::now();
        flow.observe(0, 800, start);
        assert_eq!(flow.observe(0, 900, start + 99 * MS), None);
        assert_eq!(flow.observe(0, 700, start + 100 * MS), Some(Flow::Pause));
        assert!(flow.listens(), "a paused source may report rebalances");
        assert_eq!(flow.paused_since(), Some(start + 100 * MS));
        assert_eq!(flow.observe(0, 2_000, start + 200 * MS), None);
        assert!(!flow.listens(), "one that does not heed it is not asked");
        assert_eq!(flow.observe(0, 1_999, start + 250 * MS), None);
        assert!(flow.listens());
        assert_eq!(flow.observe(0, 501, start + 300 * MS), None);
        assert_eq!(flow.observe(0, 500, start + 400 * MS), Some(Flow::Resume));
        assert_eq!(flow.paused_since(), None);
    }

    #[test]
    fn a_delivery_is_urgent_from_as_many_bytes_on_as_hold_the_source_back() {
        let mut flow = flow();
        assert!(!flow.nearly_full(799));
        flow.observe(0, 799, Instant::now());
        assert!(flow.listens());
        assert!(flow.nearly_full(800));
        flow.observe(0, 800, Instant::now());
        assert!(!flow.listens());
    }

    #[test]
    fn the_fuller_budget_decides() {
        let mut flow = flow();
        let start = Instant::now();
        flow.observe(100, 0, start);
        assert_eq!(flow.observe(0, 600, start + 10 * MS), None);
        assert!(!flow.listens(), "bytes are still above the low mark");
    }
}
