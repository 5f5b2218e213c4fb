//! Collects records into batches for the Aligner.
//!
//! A batch closes when one more record would exceed its token or record budget, or when its first
//! record has waited for `linger`. Order is kept. A record that exceeds the token budget on its
//! own makes a batch on its own: whether it is too long is for the Aligner to say.
//!
//! A pure core: time is an argument, and [`Batcher::deadline`] tells when to ask again.

use std::{mem, time::Duration};

use tokio::time::Instant;

/// When a batch is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most tokens, as the Aligner estimates them.
    pub tokens: u64,
    /// Most records.
    pub records: usize,
    /// Longest wait of the first record.
    pub linger: Duration,
}

/// A batch that is being filled.
pub(crate) struct Batcher<T> {
    limits: Limits,
    open: Vec<T>,
    tokens: u64,
    since: Option<Instant>,
}

impl<T> Batcher<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            open: Vec::new(),
            tokens: 0,
            since: None,
        }
    }

    /// Adds a record; `close` gets the batches that this completes, at most two.
    pub(crate) fn push(
        &mut self,
        item: T,
        tokens: u64,
        now: Instant,
        mut close: impl FnMut(Vec<T>),
    ) {
        if !self.open.is_empty() && self.tokens.saturating_add(tokens) > self.limits.tokens {
            close(self.take());
        }
        if self.open.is_empty() {
            self.open.reserve_exact(self.limits.records.min(64));
            self.since = Some(now);
        }
        self.open.push(item);
        self.tokens = self.tokens.saturating_add(tokens);
        if self.open.len() >= self.limits.records || self.tokens >= self.limits.tokens {
            close(self.take());
        }
    }

    /// The open batch, if its first record has waited long enough.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Vec<T>> {
        (self.deadline()? <= now).then(|| self.take())
    }

    /// The open batch, however short it has waited.
    pub(crate) fn flush(&mut self) -> Option<Vec<T>> {
        (!self.open.is_empty()).then(|| self.take())
    }

    /// When the open batch is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.limits.linger)
    }

    /// Records in the open batch.
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    fn take(&mut self) -> Vec<T> {
        self.tokens = 0;
        self.since = None;
        mem::take(&mut self.open)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINGER: Duration = Duration::from_millis(5);

    fn batcher(tokens: u64, records: usize) -> Batcher<u32> {
        Batcher::new(Limits {
            tokens,
            records,
            linger: LINGER,
        })
    }

    /// Batches that pushing items of these tokens, all at once, completes; and what stays open.
    fn batches(tokens: u64, records: usize, items: &[u64]) -> (Vec<Vec<u32>>, usize) {
        let mut batcher = batcher(tokens, records);
        let mut closed = Vec::new();
        let now = Instant::now();
        for (index, tokens) in (0..).zip(items) {
            batcher.push(index, *tokens, now, |batch| closed.push(batch));
        }
        (closed, batcher.len())
    }

    #[test]
    fn a_batch_closes_at_its_budget() {
        type Case = (
            &'static str,
            &'static [u64],
            &'static [&'static [u32]],
            usize,
        );
        let cases: [Case; 6] = [
            ("nothing", &[], &[], 0),
            ("below both limits", &[3, 3], &[], 2),
            ("tokens exactly reached", &[5, 5], &[&[0, 1]], 0),
            ("one more would exceed", &[5, 4, 2], &[&[0, 1]], 1),
            ("records reached", &[1, 1, 1, 1, 1], &[&[0, 1, 2, 3]], 1),
            ("oversize goes alone", &[1, 99, 1], &[&[0], &[1]], 1),
        ];
        for (name, items, closed, open) in cases {
            assert_eq!(
                batches(10, 4, items),
                (closed.iter().map(|batch| batch.to_vec()).collect(), open),
                "{name}"
            );
        }
    }

    #[test]
    fn the_first_record_waits_for_linger_and_no_longer() {
        let mut batcher = batcher(10, 4);
        let start = Instant::now();
        assert_eq!(batcher.deadline(), None);
        batcher.push(0, 1, start, |_| unreachable!("far from full"));
        batcher.push(1, 1, start + LINGER / 2, |_| unreachable!("far from full"));
        assert_eq!(batcher.deadline(), Some(start + LINGER));
        assert_eq!(batcher.due(start + LINGER / 2), None);
        assert_eq!(batcher.due(start + LINGER), Some(vec![0, 1]));
        assert_eq!(batcher.deadline(), None);
        assert_eq!(batcher.flush(), None);
    }

    proptest! {
        #[test]
        fn no_batch_exceeds_its_budget_and_no_record_is_lost_or_overtaken(
            budget in 1_u64..50,
            records in 1_usize..8,
            items in prop::collection::vec((0_u64..60, 0_u64..8), 0..80),
        ) {
            let mut batcher = batcher(budget, records);
            let mut now = Instant::now();
            let mut closed = Vec::new();
            let mut waiting_since: Option<Instant> = None;
            for (index, (tokens, pause)) in (0..).zip(&items) {
                now += Duration::from_millis(*pause);
                if let Some(batch) = batcher.due(now) {
                    closed.push(batch);
                }
                batcher.push(index, *tokens, now, |batch| closed.push(batch));
                // Whoever asks in time never sees a record older than linger.
                waiting_since = match (batcher.len(), waiting_since) {
                    (0, _) => None,
                    (1, _) => Some(now),
                    (_, since) => since,
                };
                prop_assert_eq!(batcher.deadline(), waiting_since.map(|since| since + LINGER));
            }
            closed.extend(batcher.flush());
            for batch in &closed {
                let tokens: u64 = batch.iter().map(|index| items[*index as usize].0).sum();
                prop_assert!(!batch.is_empty() && batch.len() <= records);
                prop_assert!(tokens <= budget || batch.len() == 1);
            }
            let order: Vec<u32> = closed.into_iter().flatten().collect();
            let all: Vec<u32> = (0..).take(items.len()).collect();
            prop_assert_eq!(order, all);
        }
    }
}
