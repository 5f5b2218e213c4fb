//! Ends the transactions of members that vanished.
//!
//! A process that dies leaves its transaction open, and committed readers of every partition it
//! wrote to wait until the broker gives it up: the transaction's timeout and up to ten seconds
//! more. Whoever inherits its partitions can end that at once by claiming its transactional id
//! for a moment. Every member's client id is its transactional id, so the group tells who lives;
//! members seen earlier, and the id that was left beside the last committed offset, tell who may
//! have died.
//!
//! A wrong guess costs the live owner a new producer, never a record. Where the broker lists no
//! groups, as librdkafka's mock, nobody is looked for.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::{
    TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaResult, RDKafkaErrorCode},
    producer::{Producer, ThreadedProducer},
};

use crate::{
    listener::Listener,
    native::{self, Listed},
    preflight::Looker,
    properties,
    reports::{Reports, Tally},
    settings::Connection,
    stats::ClientStats,
};

/// How often the group is looked at while nothing happens.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How soon a close is noticed.
const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// How long one question about the group may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);
/// Attempts to learn who lives before a takeover is left to the broker's timeouts.
const LOOKS_PER_TAKEOVER: u32 = 5;
/// Between those attempts.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// How long claiming one id may take.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts to claim it before it is left to the broker's timeouts.
const CLAIMS_PER_ID: u32 = 3;
/// More members than this are not remembered.
const MAX_REMEMBERED: usize = 256;

/// Who was seen in the group, and who of them is gone.
#[derive(Debug)]
pub(crate) struct Neighbours {
    own: String,
    prefix: String,
    seen: BTreeSet<String>,
}

impl Neighbours {
    pub(crate) fn new(name: &str, own: &str) -> Self {
        Self {
            own: own.to_owned(),
            prefix: format!("{name}-"),
            seen: BTreeSet::new(),
        }
    }

    /// Remembers who is there, the first few hundred of them.
    pub(crate) fn remember(&mut self, members: &BTreeSet<String>) {
        for member in members {
            if self.is_one_of_us(member) && self.seen.len() < MAX_REMEMBERED {
                self.seen.insert(member.clone());
            }
        }
    }

    fn is_one_of_us(&self, id: &str) -> bool {
        id != self.own && id.starts_with(&self.prefix)
    }

    /// Who is gone, given who is there and whose transactions the inherited offsets name.
    /// Nobody, where the list lacks ourselves: it is of another kind of group, or too old.
    pub(crate) fn vanished(
        &self,
        members: &BTreeSet<String>,
        named: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        if !members.contains(&self.own) {
            return BTreeSet::new();
        }
        self.seen
            .union(named)
            .filter(|id| self.is_one_of_us(id) && !members.contains(*id))
            .cloned()
            .collect()
    }

    /// These need not be ended again.
    pub(crate) fn forget(&mut self, ended: &str) {
        self.seen.remove(ended);
    }
}

/// The thread's state.
pub(crate) struct Successor {
    connection: Connection,
    client: Listed<BaseConsumer<Looker>>,
    neighbours: Neighbours,
    stats: Arc<ClientStats>,
    closing: Arc<AtomicBool>,
    /// Whether the broker lists groups, as far as it was asked.
    lists_groups: bool,
}

impl Successor {
    pub(crate) fn new(
        connection: Connection,
        stats: Arc<ClientStats>,
        closing: Arc<AtomicBool>,
    ) -> KafkaResult<Self> {
        let mut config = properties::looker(&connection);
        config.set_log_level(RDKafkaLogLevel::Error);
        let looker = Looker(Listener::new("successor", None, &config));
        let client = connection.client(&config, looker)?;
        Ok(Self {
            neighbours: Neighbours::new(&connection.name, &connection.identity),
            connection,
            client,
            stats,
            closing,
            lists_groups: true,
        })
    }

    /// Looks at the group now and then, and after every arrival ends what vanished members left.
    pub(crate) fn run(mut self, arrivals: &Receiver<Vec<Partition>>) {
        let mut next_look = Instant::now();
        while !self.is_over() {
            // Errors and log lines wait for somebody who polls.
            let _ = self.client.poll(Duration::ZERO);
            self.client.context().0.remind(self.client.client());
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK_INTERVAL;
                if let Some(members) = self.members() {
                    self.neighbours.remember(&members);
                }
            }
            match arrivals.recv_timeout(CLOSE_CHECK_INTERVAL) {
                // The group changed: somebody may have come who is worth remembering.
                Ok(gained) if gained.is_empty() => next_look = Instant::now(),
                Ok(gained) => self.take_over(&gained),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn is_over(&self) -> bool {
        self.closing.load(Ordering::Acquire) || !self.lists_groups
    }

    fn take_over(&mut self, gained: &[Partition]) {
        let mut named = None;
        for _ in 0..LOOKS_PER_TAKEOVER {
            if self.is_over() {
                return;
            }
            named = named.or_else(|| self.named(gained));
            if let (Some(members), Some(named)) = (self.members(), &named)
                && members.contains(&self.connection.identity)
            {
                let vanished = self.neighbours.vanished(&members, named);
                self.neighbours.remember(&members);
                for id in vanished {
                    self.end_transactions_of(&id);
                }
                return;
            }
            thread::sleep(LOOK_PAUSE);
        }
        tracing::warn!(
            "the group could not be looked at, open transactions time out by themselves"
        );
    }

    /// Client ids of the group's members; `None` where they cannot be learned.
    fn members(&mut self) -> Option<BTreeSet<String>> {
        let answer = self
            .client
            .fetch_group_list(Some(&self.connection.group_id), QUESTION_TIMEOUT);
        let list = match answer {
            Ok(list) => list,
            Err(error) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnsupportedFeature) {
                    self.lists_groups = false;
                    tracing::info!(
                        "the broker lists no groups, transactions of members that vanish time out \
                         by themselves"
                    );
                }
                return None;
            }
        };
        let group = list
            .groups()
            .iter()
            .find(|group| group.name() == self.connection.group_id)?;
        Some(
            group
                .members()
                .iter()
                .map(|member| member.client_id().to_owned())
                .collect(),
        )
    }

    /// Ids left beside the committed offsets of these partitions.
    fn named(&self, gained: &[Partition]) -> Option<BTreeSet<String>> {
        let mut list = TopicPartitionList::with_capacity(gained.len());
        for partition in gained {
            list.add_partition(&partition.topic, partition.number);
        }
        let committed = self.client.committed_offsets(list, QUESTION_TIMEOUT).ok()?;
        Some(
            committed
                .elements()
                .iter()
                .map(|element| element.metadata().to_owned())
                .filter(|metadata| !metadata.is_empty())
                .collect(),
        )
    }

    fn end_transactions_of(&mut self, id: &str) {
        for attempt in 1..=CLAIMS_PER_ID {
            if attempt > 1 && !self.is_to_be_claimed_again(id) {
                return;
            }
            let started = Instant::now();
            match self.claim(id) {
                Ok(()) => {
                    self.neighbours.forget(id);
                    self.stats.fenced("vanished");
                    tracing::info!(
                        transactional_id = id,
                        took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
                        "claimed a vanished member's id"
                    );
                    return;
                }
                Err(error) => tracing::warn!(
                    transactional_id = id,
                    attempt,
                    limit = CLAIMS_PER_ID,
                    %error,
                    "a vanished member's id was not claimed, its transaction times out by itself"
                ),
            }
        }
    }

    /// Its owner may be back by now, and would take claim after claim for a duplicate of itself.
    fn is_to_be_claimed_again(&mut self, id: &str) -> bool {
        thread::sleep(LOOK_PAUSE);
        !self.closing.load(Ordering::Acquire)
            && self.members().is_some_and(|members| !members.contains(id))
    }

    /// Ends what is open under this transactional id, as far as its coordinator knows.
    fn claim(&self, id: &str) -> Result<(), String> {
        let mut config = properties::successor(&self.connection, id);
        config.set_log_level(RDKafkaLogLevel::Error);
        let reports = Reports {
            listener: Listener::new("successor", None, &config),
            tally: Tally::default(),
        };
        let producer: Listed<ThreadedProducer<Reports>> = self
            .connection
            .client(&config, reports)
            .map_err(|error| error.to_string())?;
        native::init_transactions(producer.client(), CLAIM_TIMEOUT)
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn neighbours() -> Neighbours {
        Neighbours::new("moderation", "moderation-me")
    }

    #[test]
    fn a_member_that_was_seen_and_is_gone_has_vanished() {
        let mut neighbours = neighbours();
        neighbours.remember(&ids(&["moderation-me", "moderation-a", "moderation-b"]));
        let now = ids(&["moderation-me", "moderation-b"]);
        assert_eq!(neighbours.vanished(&now, &ids(&[])), ids(&["moderation-a"]));
        neighbours.forget("moderation-a");
        assert_eq!(neighbours.vanished(&now, &ids(&[])), ids(&[]));
    }

    #[test]
    fn an_owner_named_by_the_offsets_has_vanished_even_if_never_seen() {
        let now = ids(&["moderation-me", "moderation-b"]);
        let named = ids(&["moderation-a", "moderation-b", "moderation-me"]);
        assert_eq!(neighbours().vanished(&now, &named), ids(&["moderation-a"]));
    }

    #[test]
    fn a_list_without_ourselves_proves_nothing() {
        let mut neighbours = neighbours();
        neighbours.remember(&ids(&["moderation-a"]));
        assert_eq!(
            neighbours.vanished(&ids(&[]), &ids(&["moderation-c"])),
            ids(&[])
        );
    }

    #[test]
    fn ids_of_others_are_left_alone() {
        let mut neighbours = neighbours();
        neighbours.remember(&ids(&["some-tool", "moderation-me"]));
        let now = ids(&["moderation-me"]);
        assert_eq!(neighbours.vanished(&now, &ids(&["payments-7"])), ids(&[]));
    }
}
