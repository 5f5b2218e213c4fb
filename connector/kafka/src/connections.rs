//! Which brokers our clients are connected to, and how many requests were never answered.
//!
//! A producer is replaced now and then. For a while there are two of them, if a call of the first is
//! stuck, or none: so each client counts for itself, from its first report until it is gone. What it
//! has counted stays.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One client, for as long as the process runs.
pub(crate) type ClientId = u64;

/// What a client says of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerState {
    pub(crate) address: String,
    pub(crate) is_up: bool,
    /// Requests that it never answered, since the client knows it.
    pub(crate) timeouts: u64,
}

#[derive(Debug, Default)]
struct Client {
    /// Addresses.
    up: BTreeSet<String>,
    /// By broker, also of those that its reports do not name any more.
    timeouts: BTreeMap<String, u64>,
}

/// The connections of all clients.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    clients: HashMap<ClientId, Client>,
    began: ClientId,
    /// Whether any client has said anything yet.
    told: bool,
    /// Of brokers that clients knew before, and of clients that are gone.
    earlier_timeouts: u64,
}

impl Connections {
    pub(crate) fn begin(&mut self) -> ClientId {
        self.began += 1;
        self.clients.insert(self.began, Client::default());
        self.began
    }

    /// Takes in the whole of a client's report, each broker by its id; a client that is gone has nothing
    /// to say.
    pub(crate) fn report(
        &mut self,
        client: ClientId,
        brokers: impl IntoIterator<Item = (String, BrokerState)>,
    ) {
        let Some(client) = self.clients.get_mut(&client) else {
            return;
        };
        self.told = true;
        client.up.clear();
        for (id, broker) in brokers {
            if broker.is_up {
                client.up.insert(broker.address);
            }
            let counted = client.timeouts.entry(id).or_default();
            // A broker that was forgotten and is known anew begins at zero.
            if broker.timeouts < *counted {
                self.earlier_timeouts += *counted;
            }
            *counted = broker.timeouts;
        }
    }

    pub(crate) fn end(&mut self, client: ClientId) {
        if let Some(client) = self.clients.remove(&client) {
            self.earlier_timeouts += client.timeouts.values().sum::<u64>();
        }
    }

    /// Whether it is known to which brokers clients are connected: the first report takes a second.
    pub(crate) fn is_known(&self) -> bool {
        self.told
    }

    /// Brokers that any client is connected to.
    pub(crate) fn brokers_up(&self) -> usize {
        let names: BTreeSet<_> = self
            .clients
            .values()
            .flat_map(|client| &client.up)
            .collect();
        names.len()
    }

    /// Requests that were never answered, of all clients there ever were.
    pub(crate) fn request_timeouts(&self) -> u64 {
        let present = self
            .clients
            .values()
            .flat_map(|client| client.timeouts.values());
        self.earlier_timeouts + present.sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report<const N: usize>(brokers: [(&str, bool, u64); N]) -> [(String, BrokerState); N] {
        brokers.map(|(id, is_up, timeouts)| {
            let address = id.split('/').next().unwrap_or(id).to_owned();
            let said = BrokerState {
                address,
                is_up,
                timeouts,
            };
            (id.to_owned(), said)
        })
    }

    #[test]
    fn a_broker_that_any_client_reaches_is_up_once() {
        let mut connections = Connections::default();
        let (consumer, producer) = (connections.begin(), connections.begin());
        connections.report(consumer, report([("a", true, 0), ("b", false, 0)]));
        connections.report(producer, report([("a", true, 0), ("b", true, 0)]));
        assert_eq!(connections.brokers_up(), 2);
        connections.report(producer, report([("a", false, 0)]));
        assert_eq!(connections.brokers_up(), 1);
    }

    #[test]
    fn nothing_is_known_before_the_first_report_and_a_client_that_is_gone_is_not_forgotten() {
        let mut connections = Connections::default();
        let producer = connections.begin();
        assert!(!connections.is_known());
        connections.report(producer + 1, report([("a", true, 0)]));
        assert!(!connections.is_known(), "nobody said that");
        connections.report(producer, report([("a", false, 0)]));
        assert!(connections.is_known());
        assert_eq!(connections.brokers_up(), 0);
        connections.end(producer);
        assert!(connections.is_known());
    }

    #[test]
    fn a_client_that_is_gone_is_connected_to_nothing_and_what_it_counted_stays() {
        let mut connections = Connections::default();
        let producer = connections.begin();
        connections.report(producer, report([("a", true, 3)]));
        connections.end(producer);
        assert_eq!(
            (connections.brokers_up(), connections.request_timeouts()),
            (0, 3)
        );
        connections.report(producer, report([("a", true, 9)]));
        assert_eq!(connections.request_timeouts(), 3);
    }

    #[test]
    fn two_producers_that_report_in_turns_are_counted_once_each() {
        let mut connections = Connections::default();
        let (stuck, successor) = (connections.begin(), connections.begin());
        for _ in 0..5 {
            connections.report(stuck, report([("a", true, 3)]));
            connections.report(successor, report([("a", true, 0)]));
        }
        assert_eq!(connections.request_timeouts(), 3);
    }

    #[test]
    fn two_brokers_at_one_address_are_counted_each() {
        let mut connections = Connections::default();
        let consumer = connections.begin();
        for _ in 0..3 {
            connections.report(consumer, report([("a/1", true, 5), ("a/2", true, 2)]));
        }
        assert_eq!(
            (connections.brokers_up(), connections.request_timeouts()),
            (1, 7)
        );
    }

    #[test]
    fn a_broker_that_goes_and_comes_back_is_counted_once() {
        let mut connections = Connections::default();
        let consumer = connections.begin();
        connections.report(consumer, report([("a", true, 2), ("b", true, 5)]));
        connections.report(consumer, report([("a", true, 2)]));
        assert_eq!(connections.request_timeouts(), 7);
        connections.report(consumer, report([("a", true, 2), ("b", true, 1)]));
        assert_eq!(connections.request_timeouts(), 8);
    }
}
