//! The order in which requests are served, wherever they queue.

use std::{collections::BTreeMap, time::Instant};

/// What waits: the longest waiting comes out first, and of those that wait equally long the first
/// to have come in.
pub(crate) struct OldestFirst<T> {
    items: BTreeMap<(Instant, u64), T>,
    arrivals: u64,
}

impl<T> Default for OldestFirst<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            arrivals: 0,
        }
    }
}

impl<T> OldestFirst<T> {
    pub(crate) fn push(&mut self, waiting_since: Instant, item: T) {
        self.items.insert((waiting_since, self.arrivals), item);
        self.arrivals += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        self.items.pop_first().map(|(_, item)| item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
