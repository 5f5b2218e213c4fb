//! Clients that know no broker any more, and are told again where to begin.
//!
//! Where no broker keeps its session with the controller (one that was frozen, or a cluster that starts
//! anew), those that still answer tell, for a moment, of a cluster without brokers. librdkafka then
//! drops all brokers that it knows, and begins anew with the bootstrap servers once it counts them as
//! gone. It can miscount, or hold on to one that it has dropped (seen with 2.12.1): then it has nobody to
//! ask, and stays so for ever, without an error. Its reports go on, and tell.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{ClientConfig, ClientContext, client::Client};

use crate::{
    native,
    report::{BrokerReport, Report},
};

/// So many reports in a row make a client lost, one a second.
const LOST_REPORTS: u32 = 2;
/// A client without any connection begins one within a second, and nobody connects to a broker that was
/// dropped.
const LONGEST_INIT: Duration = Duration::from_secs(3);
/// Nor does one that was dropped on the way get any further. Pauses between attempts are within this
/// state, too.
const LONGEST_TRY_CONNECT: Duration = Duration::from_secs(30);

/// Listens to the reports of one client.
#[derive(Debug)]
pub(crate) struct Reminder {
    client: &'static str,
    /// None where they are not what the client would take them for.
    bootstrap_servers: Option<String>,
    lost_reports: AtomicU32,
    pauses: Mutex<Pauses>,
}

impl Reminder {
    /// For a client that is made with these properties.
    pub(crate) fn new(client: &'static str, config: &ClientConfig) -> Self {
        // Names that are added later are not resolved to those that certificates and tickets are for.
        let are_aliases =
            config.get("client.dns.lookup") == Some("resolve_canonical_bootstrap_servers_only");
        let servers = config.get("bootstrap.servers").filter(|_| !are_aliases);
        Self {
            client,
            bootstrap_servers: servers.map(str::to_owned),
            lost_reports: AtomicU32::new(0),
            pauses: Mutex::default(),
        }
    }

    /// Takes in a report.
    pub(crate) fn take_report(&self, report: &Report) {
        if report.brokers.values().any(is_known) {
            self.lost_reports.store(0, Ordering::Release);
        } else {
            self.lost_reports.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn is_lost(&self) -> bool {
        self.lost_reports.load(Ordering::Acquire) >= LOST_REPORTS
    }

    /// Names the bootstrap servers to a client whose reports know no broker. Called by those who use
    /// the client, again and again: its callbacks do not have it at hand.
    pub(crate) fn remind<C: ClientContext>(&self, client: &Client<C>) {
        if self.is_lost() && self.name_servers(client) {
            self.lost_reports.store(0, Ordering::Release);
            tracing::warn!(
                client = self.client,
                "the client knew no broker of the cluster any more, and begins anew"
            );
        }
    }

    /// The same whatever the reports say: to one that knows brokers, it does no harm.
    pub(crate) fn remind_anyway<C: ClientContext>(&self, client: &Client<C>) {
        self.name_servers(client);
    }

    fn name_servers<C: ClientContext>(&self, client: &Client<C>) -> bool {
        let Some(servers) = &self.bootstrap_servers else {
            return false;
        };
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = pauses.are_over(Instant::now());
        if is_due {
            native::add_brokers(client, servers);
        }
        is_due
    }
}

/// Between reminders, each longer than the one before: librdkafka keeps every one of them.
#[derive(Debug, Default)]
struct Pauses {
    last: Option<Instant>,
    length: Duration,
}

impl Pauses {
    const SHORTEST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(300);

    /// Whether it is time for another one, which is then counted.
    fn are_over(&mut self, now: Instant) -> bool {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        match since {
            Some(since) if since < self.length => return false,
            // Something new.
            None => self.length = Self::SHORTEST,
            Some(since) if since > 2 * Self::LONGEST => self.length = Self::SHORTEST,
            Some(_) => self.length = (2 * self.length).min(Self::LONGEST),
        }
        self.last = Some(now);
        true
    }
}

/// Beside brokers that are named or were learned, librdkafka lists two that lead nowhere by themselves:
/// one for partitions without a leader, and the coordinator, an alias of another one. One that was
/// dropped stays in the list for as long as anything refers to it.
fn is_known(broker: &BrokerReport) -> bool {
    let age = Duration::from_micros(broker.stateage.try_into().unwrap_or(0));
    let leads_somewhere = matches!(&*broker.source, "configured" | "learned");
    leads_somewhere
        && match &*broker.state {
            "INIT" => age < LONGEST_INIT,
            "TRY_CONNECT" => age < LONGEST_TRY_CONNECT,
            _ => true,
        }
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        config::FromClientConfigAndContext,
        consumer::{BaseConsumer, Consumer, ConsumerContext},
    };

    use super::*;
    use crate::MockBroker;

    struct Reminded(Reminder);

    impl ClientContext for Reminded {
        fn stats_raw(&self, statistics: &[u8]) {
            if let Some(report) = Report::read(statistics) {
                self.0.take_report(&report);
            }
        }
    }

    impl ConsumerContext for Reminded {}

    /// A client without a group that reports every second, as ours do.
    fn client(servers: Option<&str>) -> BaseConsumer<Reminded> {
        let mut config = ClientConfig::new();
        config.set("statistics.interval.ms", "1000");
        if let Some(servers) = servers {
            config.set("bootstrap.servers", servers);
        }
        let mut reminder = Reminder::new("tried", &config);
        reminder.bootstrap_servers = Some("127.0.0.1:9".to_owned());
        BaseConsumer::from_config_and_context(&config, Reminded(reminder))
            .expect("a usable configuration")
    }

    fn report(brokers: &[(&str, &str, i64)]) -> Report {
        let broker = |(source, state, stateage): &(&str, &str, i64)| {
            let told = serde_json::json!({
                "nodeid": 1,
                "nodename": "a:9092",
                "source": source,
                "state": state,
                "stateage": stateage,
                "req_timeouts": 0,
            });
            format!(r#""a:9092/1": {told}"#)
        };
        let brokers: Vec<_> = brokers.iter().map(broker).collect();
        let json = format!(
            r#"{{"type": "consumer", "brokers": {{{}}}}}"#,
            brokers.join(", ")
        );
        Report::read(json.as_bytes()).expect("a whole report")
    }

    #[test]
    fn a_client_is_lost_without_brokers_that_are_named_or_were_learned() {
        const LONG: i64 = 60_000_000;
        for (brokers, is_lost) in [
            (&[("configured", "TRY_CONNECT", 900_000)][..], false),
            (&[("learned", "UP", LONG)], false),
            (&[("learned", "DOWN", LONG)], false),
            // Just made, and not connected to yet.
            (&[("configured", "INIT", -10)], false),
            (&[("learned", "INIT", 1_500_000)], false),
            // Learned again, the dropped one by the same name is in the list.
            (&[("learned", "UP", LONG), ("learned", "INIT", LONG)], false),
            // Dropped, and still referred to.
            (&[("learned", "INIT", LONG)], true),
            (&[("learned", "TRY_CONNECT", LONG)], true),
            (&[("logical", "UP", LONG)], true),
            (&[("internal", "UP", LONG)], true),
            (&[], true),
        ] {
            let reminder = Reminder::new("tried", &ClientConfig::new());
            for _ in 0..LOST_REPORTS {
                assert!(!reminder.is_lost(), "after one report: {brokers:?}");
                reminder.take_report(&report(brokers));
            }
            assert_eq!(reminder.is_lost(), is_lost, "{brokers:?}");
        }
    }

    #[test]
    fn a_report_that_cannot_be_read_changes_nothing_and_one_with_a_broker_all() {
        let reminder = Reminder::new("tried", &ClientConfig::new());
        for _ in 0..LOST_REPORTS {
            reminder.take_report(&report(&[]));
        }
        assert!(Report::read(b"[not a report").is_none());
        assert!(reminder.is_lost());
        reminder.take_report(&report(&[("learned", "UP", 1)]));
        assert!(!reminder.is_lost());
    }

    #[test]
    fn reminders_become_rare_and_are_soon_at_hand_again() {
        let start = Instant::now();
        let mut pauses = Pauses::default();
        let hour = (0..3_600).map(|second| start + Duration::from_secs(second));
        let due: Vec<_> = hour.filter(|&now| pauses.are_over(now)).collect();
        let after = |number: usize| (due[number] - start).as_secs();
        assert_eq!([after(0), after(1), after(2), after(3)], [0, 5, 15, 35]);
        assert!(due.len() < 20, "{}", due.len());
        let much_later = start + Duration::from_secs(10_000);
        assert!(pauses.are_over(much_later));
        assert!(pauses.are_over(much_later + Pauses::SHORTEST));
    }

    #[test]
    fn names_that_must_be_resolved_first_are_not_given_again() {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "alias:9092");
        assert!(Reminder::new("tried", &config).bootstrap_servers.is_some());
        config.set(
            "client.dns.lookup",
            "resolve_canonical_bootstrap_servers_only",
        );
        assert!(Reminder::new("tried", &config).bootstrap_servers.is_none());
    }

    #[test]
    fn only_a_client_without_brokers_is_lost_and_it_is_told_of_some() {
        let broker = MockBroker::start(&[]).expect("the mock starts");
        let idle = client(Some(broker.bootstrap_servers()));
        let refused = client(Some("127.0.0.1:9"));
        // None was named: it knows as many as one that dropped all of its own.
        let lost = client(None);
        let is_lost = |client: &BaseConsumer<Reminded>| client.context().0.is_lost();
        let poll_all = || {
            for client in [&idle, &refused, &lost] {
                let _ = client.poll(Duration::from_millis(5));
            }
            assert!(!is_lost(&idle), "it has a broker and nothing to ask");
            assert!(!is_lost(&refused), "it has a broker that is away");
        };
        let started = Instant::now();
        while !is_lost(&lost) {
            assert!(started.elapsed() < Duration::from_secs(60), "no reports");
            poll_all();
        }
        lost.context().0.remind(lost.client());
        let reminded = Instant::now();
        while reminded.elapsed() < 2 * LONGEST_INIT {
            poll_all();
            assert!(!is_lost(&lost), "it was told of a broker");
        }
    }
}
