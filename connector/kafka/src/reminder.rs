//! Clients that know no broker any more, and are told again where to begin.
//!
//! Where no broker keeps its session with the controller (one that was frozen, or a cluster that starts
//! anew), those that still answer tell, for a moment, of a cluster without brokers. librdkafka then
//! drops all brokers that it knows, and begins anew with the bootstrap servers once it counts them as
//! gone. It can miscount, or hold on to one that it has dropped (seen with 2.12.1): then it has nobody to
//! ask, and stays so for ever, without an error. Its reports go on, and tell.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, ClientContext, client::Client};
use serde::Deserialize;

use crate::native;

/// A client connects to its first broker at once.
const DROPPED_AFTER_US: u64 = 900_000;
/// Between two reminders. librdkafka keeps each of them.
const PAUSE: Duration = Duration::from_secs(5);

/// Listens to the reports of one client.
#[derive(Debug)]
pub(crate) struct Reminder {
    bootstrap_servers: String,
    is_lost: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Reminder {
    /// For a client that is made with these properties.
    pub(crate) fn of(config: &ClientConfig) -> Self {
        let servers = config.get("bootstrap.servers").unwrap_or_default();
        Self {
            bootstrap_servers: servers.to_owned(),
            is_lost: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }

    /// Takes in a report of librdkafka; one that cannot be read is left out.
    pub(crate) fn take_report(&self, json: &[u8]) {
        if let Ok(report) = serde_json::from_slice::<Report>(json) {
            self.is_lost
                .store(!report.knows_a_broker(), Ordering::Release);
        }
    }

    /// Names the bootstrap servers to a client whose last report knew no broker. Called by those who
    /// use the client, again and again: its callbacks do not have it at hand.
    pub(crate) fn remind<C: ClientContext>(&self, client: &Client<C>) {
        if !self.is_lost.load(Ordering::Acquire) {
            return;
        }
        let now = Instant::now();
        {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
                return;
            }
            *last = Some(now);
        }
        self.is_lost.store(false, Ordering::Release);
        if native::add_brokers(client, &self.bootstrap_servers) > 0 {
            tracing::warn!(
                servers = %self.bootstrap_servers,
                "a client knew no broker of the cluster any more, it begins anew"
            );
        }
    }
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    source: String,
    state: String,
    /// Microseconds in this state.
    stateage: u64,
}

impl Broker {
    /// Beside brokers that are named or were learned, librdkafka lists two that lead nowhere by
    /// themselves: one for partitions without a leader, and the coordinator, an alias of another one.
    /// One that was dropped stays in the list for as long as anything refers to it, as if nobody had
    /// connected to it yet.
    fn is_known(&self) -> bool {
        let leads_somewhere = matches!(&*self.source, "configured" | "learned");
        leads_somewhere && (self.state != "INIT" || self.stateage < DROPPED_AFTER_US)
    }
}

impl Report {
    fn knows_a_broker(&self) -> bool {
        self.brokers.values().any(Broker::is_known)
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        config::FromClientConfigAndContext,
        consumer::{BaseConsumer, Consumer, ConsumerContext},
    };

    use super::*;

    struct Reminded(Reminder);

    impl ClientContext for Reminded {
        fn stats_raw(&self, statistics: &[u8]) {
            self.0.take_report(statistics);
        }
    }

    impl ConsumerContext for Reminded {}

    fn report(brokers: &[(&str, &str, u64)]) -> String {
        let broker = |(number, (source, state, stateage)): (usize, &(&str, &str, u64))| {
            let told =
                serde_json::json!({ "source": source, "state": state, "stateage": stateage });
            (number.to_string(), told)
        };
        let brokers: serde_json::Map<_, _> = brokers.iter().enumerate().map(broker).collect();
        serde_json::json!({ "type": "consumer", "brokers": brokers }).to_string()
    }

    #[test]
    fn a_client_is_lost_without_brokers_that_are_named_or_were_learned() {
        const LONG: u64 = 60_000_000;
        let reminder = Reminder::of(&ClientConfig::new());
        for (brokers, is_lost) in [
            (&[("configured", "TRY_CONNECT", LONG)][..], false),
            (&[("learned", "UP", LONG), ("logical", "UP", LONG)], false),
            (&[("learned", "DOWN", LONG)], false),
            // Just made.
            (&[("configured", "INIT", 10)], false),
            // Dropped, and still referred to.
            (&[("learned", "INIT", LONG), ("logical", "UP", LONG)], true),
            (&[("logical", "UP", LONG), ("internal", "UP", LONG)], true),
            (&[], true),
        ] {
            reminder.take_report(report(brokers).as_bytes());
            let found = reminder.is_lost.load(Ordering::Acquire);
            assert_eq!(found, is_lost, "{brokers:?}");
        }
        reminder.take_report(b"[not a report");
        assert!(reminder.is_lost.load(Ordering::Acquire));
    }

    #[test]
    fn a_client_without_brokers_says_so_and_is_told_of_some() {
        // None is named at first: this client knows as many as one that dropped all of its own.
        let mut config = ClientConfig::new();
        config.set("statistics.interval.ms", "50");
        let mut reminder = Reminder::of(&config);
        "127.0.0.1:9".clone_into(&mut reminder.bootstrap_servers);
        let client = BaseConsumer::from_config_and_context(
            config.set("group.id", "alone"),
            Reminded(reminder),
        )
        .expect("a usable configuration");
        let reminder = &client.context().0;
        let until = |is_lost: bool| {
            let started = Instant::now();
            while reminder.is_lost.load(Ordering::Acquire) != is_lost {
                assert!(started.elapsed() < Duration::from_secs(30), "{is_lost}");
                let _ = client.poll(Duration::from_millis(10));
            }
        };
        until(true);
        reminder.remind(client.client());
        // It stays so with every report from now on.
        for _ in 0..20 {
            let _ = client.poll(Duration::from_millis(50));
            assert!(!reminder.is_lost.load(Ordering::Acquire));
        }
    }
}
