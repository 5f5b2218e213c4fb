//! For how long brokers held our clients back, since a quota was exceeded.
//!
//! A broker that throttles a client answers at once, says for how long, and reads nothing more of that
//! connection meanwhile. librdkafka waits, and neither logs nor returns anything about it: requests only
//! take longer, and in the end deliveries fail by their timeouts. Its reports have the time that brokers
//! named in their answers to fetching and to writing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use aligner_pipeline::Throttle;

/// Between two lines about the same client.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// What one client was held back by.
#[derive(Debug)]
struct Held {
    total: Duration,
    said: Throttle,
    /// Milliseconds by broker's address since the last line.
    unsaid: BTreeMap<String, u64>,
}

/// Something to say: how long a client was held back since the last time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Slowed {
    /// Address of the broker that did so for longest.
    pub(crate) broker: String,
    pub(crate) by_it_ms: u64,
    /// By all brokers.
    pub(crate) ms: u64,
}

/// How long each client was held back.
#[derive(Debug, Default)]
pub(crate) struct Throttling(BTreeMap<&'static str, Held>);

impl Throttling {
    /// A client begins to report, perhaps in the place of another one by its name.
    pub(crate) fn begin(&mut self, client: &'static str) {
        self.0.entry(client).or_insert_with(|| Held {
            total: Duration::ZERO,
            said: Throttle::every(BETWEEN_LINES),
            unsaid: BTreeMap::new(),
        });
    }

    /// Takes in what each broker, by its address, has named since the last report of this client.
    pub(crate) fn note(
        &mut self,
        client: &'static str,
        named_ms: impl IntoIterator<Item = (String, u64)>,
        now: Instant,
    ) -> Option<Slowed> {
        let held = self.0.get_mut(client)?;
        let mut added = 0;
        for (broker, ms) in named_ms.into_iter().filter(|(_, ms)| *ms > 0) {
            added += ms;
            *held.unsaid.entry(broker).or_default() += ms;
        }
        held.total += Duration::from_millis(added);
        let ms = held.said.add(added, now)?;
        let (broker, by_it_ms) = held.unsaid.iter().max_by_key(|(_, ms)| **ms)?;
        let slowed = Slowed {
            broker: broker.clone(),
            by_it_ms: *by_it_ms,
            ms,
        };
        held.unsaid.clear();
        Some(slowed)
    }

    /// Since the start, by client.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        self.0.iter().map(|(client, held)| (*client, held.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_held_back_is_told_at_once_then_once_a_minute_by_its_slowest_broker() {
        let mut throttling = Throttling::default();
        throttling.begin("producer");
        let start = Instant::now();
        let (none, a, b) = (0, 1_000, 300);
        for (second, to_a, to_b, said) in [
            (0, none, none, None),
            (1, none, b, Some(("b:9092", 300, 300))),
            (2, a, b, None),
            (3, a, none, None),
            // All since the last line, of which one broker is named.
            (61, none, b, Some(("a:9092", 2_000, 2_600))),
            (62, none, none, None),
            (200, none, none, None),
            (300, none, b, Some(("b:9092", 300, 300))),
        ] {
            let named = [("a:9092".to_owned(), to_a), ("b:9092".to_owned(), to_b)];
            let now = start + Duration::from_secs(second);
            let expected = said.map(|(broker, by_it_ms, ms)| Slowed {
                broker: broker.to_owned(),
                by_it_ms,
                ms,
            });
            let found = throttling.note("producer", named, now);
            assert_eq!(found, expected, "second {second}");
        }
    }

    #[test]
    fn time_is_counted_by_client_and_outlives_a_producer_that_is_replaced() {
        let mut throttling = Throttling::default();
        let now = Instant::now();
        let note = |throttling: &mut Throttling, client| {
            throttling.note(client, [("a:9092".to_owned(), 250)], now)
        };
        for _ in 0..2 {
            throttling.begin("producer");
            throttling.begin("consumer");
            note(&mut throttling, "producer");
        }
        assert_eq!(note(&mut throttling, "nobody"), None);
        let totals: Vec<_> = throttling.totals().collect();
        assert_eq!(
            totals,
            [
                ("consumer", Duration::ZERO),
                ("producer", Duration::from_millis(500))
            ]
        );
    }
}
