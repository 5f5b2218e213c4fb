//! Whether librdkafka may have sent a request twice without a word.
//!
//! Where nobody answers, or the connection breaks, it sends the requests that add offsets to a transaction and
//! end it again, and tells its caller of the second answer alone. The first request may still arrive. All
//! transactions of a producer have one epoch (librdkafka does not speak KIP-890), so to a broker that request
//! belongs to whichever is open then: a commit shows half of the outputs of the *next* transaction without
//! their offsets, an abort takes outputs away whose offsets are committed after it. A new producer has a new
//! epoch, and brokers refuse what comes late for the old one.
//!
//! librdkafka waits before it sends a request again, though. What was answered sooner was sent once.

use std::time::Duration;

use rdkafka::config::ClientConfig;

/// librdkafka waits `retry.backoff.ms`, give or take a fifth.
const LEAST_FIFTHS_OF_BACKOFF: u32 = 4;
/// It waits so long, whatever its properties are, before offsets are sent again (`rdkafka_txnmgr.c`).
const PAUSE_OF_OFFSETS: Duration = Duration::from_millis(500);
/// Below this `retry.backoff.ms`, commits that are merely a little slow would cost their producer.
pub(crate) const LEAST_BACKOFF_MS: u32 = 500;
/// librdkafka's own defaults, where properties leave them out.
const DEFAULT_BACKOFF_MS: u64 = 100;
const DEFAULT_MAX_BACKOFF_MS: u64 = 1_000;

/// What librdkafka may send twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Offsets are added to a transaction.
    Offsets,
    /// A transaction is committed or aborted, or its id is claimed.
    Other,
}

/// The time within which a client sends no request twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentOnce(Duration);

impl SentOnce {
    /// Of a client with these properties.
    pub(crate) fn of(config: &ClientConfig) -> Self {
        // What only librdkafka can read leaves no time that is sure.
        let millis = |name, default| {
            let given = config.get(name).map(|value| value.parse().unwrap_or(0));
            Duration::from_millis(given.unwrap_or(default))
        };
        let backoff = millis("retry.backoff.ms", DEFAULT_BACKOFF_MS);
        let most = millis("retry.backoff.max.ms", DEFAULT_MAX_BACKOFF_MS);
        Self((backoff * LEAST_FIFTHS_OF_BACKOFF / 5).min(most))
    }

    /// Whether each request of a call that took so long was sent once for sure.
    pub(crate) fn is_sure_after(self, call: Call, took: Duration) -> bool {
        took < match call {
            Call::Offsets => self.0.min(PAUSE_OF_OFFSETS),
            Call::Other => self.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_sure_for_as_long_as_nothing_is_sent_again() {
        for (backoff, most, offsets_ms, others_ms) in [
            // The pause shrinks by a fifth at most, and never grows beyond its limit.
            (Some("500"), Some("1000"), 400, 400),
            (Some("100"), Some("1000"), 80, 80),
            (Some("500"), Some("50"), 50, 50),
            // Offsets are sent again sooner.
            (Some("5000"), Some("10000"), 500, 4_000),
            // librdkafka's own.
            (None, None, 80, 80),
            (None, Some("50"), 50, 50),
            // It takes this for 16.
            (Some("0x10"), None, 0, 0),
        ] {
            let mut config = ClientConfig::new();
            for (name, value) in [
                ("retry.backoff.ms", backoff),
                ("retry.backoff.max.ms", most),
            ] {
                if let Some(value) = value {
                    config.set(name, value);
                }
            }
            let sent_once = SentOnce::of(&config);
            for (call, sure_ms) in [(Call::Offsets, offsets_ms), (Call::Other, others_ms)] {
                let case = format!("{backoff:?}, {most:?}, {call:?}");
                let is_sure = |ms| sent_once.is_sure_after(call, Duration::from_millis(ms));
                assert!(sure_ms == 0 || is_sure(sure_ms - 1), "{case}");
                assert!(!is_sure(sure_ms), "{case}");
            }
        }
    }
}
