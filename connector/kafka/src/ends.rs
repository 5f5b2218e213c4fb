//! Where the partitions that are ours end, while fetching is suspended or nothing new is heard of them.
//!
//! Otherwise the statistics know it: each answer to a fetch says where the partition ends. With
//! nothing fetched their figures stand still, and so the lag would fall while a backlog grows. So
//! for as long as that lasts, a client beside the consumer asks once a second, as a committed
//! reader. So it finds partitions that have records which are not fetched ([`crate::unfetched`]). It also asks
//! where those begin that did not hold what the consumer asked for ([`crate::resets`]).
//!
//! And it says where a transaction that nobody ends withholds what we read, and where a topic was deleted and
//! made again while it was read ([`crate::identities`]).
//!
//! Deliberately absent: a remedy for a partition without a leader. It keeps the answers about all
//! others back, and their ends stay as old as the last answer.

use std::{
    collections::BTreeMap,
    iter,
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::error::KafkaResult;

use crate::{
    identities::Identities,
    listing::shown,
    lookout::{LOOK_TIMEOUT, LogEnds, Lookout},
    repeats::RepeatFilter,
    settings::Connection,
    stats::{ClientStats, Withheld},
};

/// The thread's state.
pub(crate) struct Ends {
    committed: LogEnds,
    stats: Arc<ClientStats>,
    repeats: RepeatFilter,
    servers: String,
    identities: Identities,
}

impl Ends {
    pub(crate) fn new(connection: &Connection, stats: Arc<ClientStats>) -> KafkaResult<Self> {
        Ok(Self {
            committed: LogEnds::seen_with("read_committed", connection)?,
            stats,
            repeats: RepeatFilter::default(),
            servers: connection.kafka.bootstrap_servers.clone(),
            identities: Identities::of(&connection.topics.answers, Instant::now()),
        })
    }
}

impl Lookout for Ends {
    /// librdkafka's own figures are as old at most.
    const INTERVAL: Duration = Duration::from_secs(1);

    fn clients(&self) -> impl Iterator<Item = &LogEnds> {
        iter::once(&self.committed)
    }

    fn look(&mut self) {
        self.look_for_ends();
        self.tell_withheld(&self.stats.withheld());
        self.look_for_beginnings();
        self.look_for_another_topic();
    }
}

impl Ends {
    /// Looks where the statistics do not.
    fn look_for_ends(&mut self) {
        let partitions = self.stats.unfollowed(Instant::now());
        let found = if partitions.is_empty() {
            Ok(BTreeMap::new())
        } else {
            self.committed.of(&partitions, LOOK_TIMEOUT)
        };
        match found {
            Ok(ends) => {
                let now = Instant::now();
                let unfetched = self.stats.end_at(ends, now);
                self.tell(&unfetched, now);
            }
            Err(error) => {
                tracing::debug!(%error, "where answer partitions end was not to be had");
            }
        }
    }

    fn tell(&mut self, unfetched: &[Partition], now: Instant) {
        if unfetched.is_empty() {
            return;
        }
        if let Some(unsaid) = self.repeats.admit("unfetched", now) {
            tracing::warn!(
                partitions = shown(unfetched),
                unsaid,
                "the client does not fetch these partitions, although they hold records that were not read; \
                 if that lasts, restart the connector"
            );
        }
    }

    /// Not mended here: whoever wrote the transaction knows whether it is to be committed.
    fn tell_withheld(&mut self, withheld: &[Withheld]) {
        let Some(longest) = withheld.first() else {
            return;
        };
        if let Some(unsaid) = self.repeats.admit("withheld", Instant::now()) {
            let (topic, number) = (&longest.partition.topic, longest.partition.number);
            tracing::warn!(
                %topic,
                partition = number,
                offset = longest.offset,
                lasted_s = longest.lasted.as_secs(),
                partitions = withheld.len(),
                unsaid,
                "a producer has not ended its transaction, and all that was written behind this offset is \
                 withheld from us and counted in no lag: \"kafka-transactions.sh --bootstrap-server {} \
                 describe-producers --topic {topic} --partition {number}\" shows whose it is; see \
                 \"Withheld answers\" in docs/operations.md",
                self.servers
            );
        }
    }

    /// Where offsets went back, too, that is said beside it.
    fn look_for_another_topic(&mut self) {
        // One at a time: a question may take as long as a look has.
        let ask = |topic: &str| self.committed.topic_id(topic, LOOK_TIMEOUT);
        if let Some(topic) = self.identities.look(Instant::now(), ask) {
            self.stats.rewound();
            tracing::error!(
                topic,
                "the topic was deleted and made again while it was read: where its partitions already held as \
                 many records as were read of the old ones, their first records were passed over; see \
                 \"Offsets that go back\" in docs/operations.md"
            );
        }
    }

    fn look_for_beginnings(&self) {
        let partitions = self.stats.unsettled();
        if partitions.is_empty() {
            return;
        }
        match self.committed.beginnings(&partitions, LOOK_TIMEOUT) {
            Ok(beginnings) => {
                for (partition, begins) in beginnings {
                    self.stats.settle_reset(&partition, begins);
                }
            }
            Err(error) => {
                tracing::debug!(%error, "where answer partitions begin was not to be had");
            }
        }
    }
}

impl Drop for Ends {
    /// Records that are missed are not passed over in silence.
    fn drop(&mut self) {
        self.stats.tell_unsettled();
    }
}
