//! Output partitions that committed readers do not get to the end of.
//!
//! Transactions of ours are decided within their timeout, or by the broker, which
//! looks for older ones every ten seconds. Where the offset stands still for longer, a transaction
//! hangs. Apache Kafka 4.3.0 can leave one behind after a crash (KAFKA-20734, see
//! [`crate::unended`]): only the next transaction of its transactional id or a person ends it, and
//! until then all that is written behind it is hidden, while every delivery succeeds. So two clients
//! ask where the partitions end, one as committed readers see it, one as all others do; what stands
//! still for too long is said, and counted.
//!
//! Deliberately absent: a remedy. How the transaction was decided is only in the coordinator's log,
//! and to abort what was committed would lose it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_pipeline::Partition;
use rdkafka::error::KafkaResult;

use crate::{
    lookout::{LOOK_TIMEOUT, LogEnds, Lookout},
    settings::Connection,
    standstill::{Ends, Standstills},
    stats::ClientStats,
};

/// How often it is said that one hangs.
const SAY_INTERVAL: Duration = Duration::from_secs(60);

/// The thread's state.
pub(crate) struct Watch {
    connection: Connection,
    committed: LogEnds,
    uncommitted: LogEnds,
    standstills: Standstills,
    /// The longest that a transaction may stay open.
    patience: Duration,
    next_word: Instant,
    stats: Arc<ClientStats>,
}

impl Watch {
    pub(crate) fn new(connection: Connection, stats: Arc<ClientStats>) -> KafkaResult<Self> {
        Ok(Self {
            committed: LogEnds::seen_with("read_committed", &connection)?,
            uncommitted: LogEnds::seen_with("read_uncommitted", &connection)?,
            standstills: Standstills::default(),
            patience: connection.longest_transaction(),
            next_word: Instant::now(),
            connection,
            stats,
        })
    }

    fn ends(&self) -> KafkaResult<BTreeMap<Partition, Ends>> {
        let deadline = Instant::now() + LOOK_TIMEOUT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut outputs = Vec::new();
        for (_, topic) in self.connection.topics.outputs() {
            outputs.extend(self.uncommitted.led_partitions(topic, left())?);
        }
        // That of committed readers first: what is written in between can only move the other one
        // on.
        let stable = self.committed.of(&outputs, left())?;
        let all = self.uncommitted.of(&outputs, left())?;
        let both = stable.into_iter().filter_map(|(partition, stable)| {
            let all = *all.get(&partition)?;
            Some((partition, Ends { stable, all }))
        });
        Ok(both.collect())
    }

    fn tell(&mut self) {
        let hanging = self.standstills.hanging(self.patience);
        self.stats.set_hanging(hanging.len());
        let now = Instant::now();
        let Some((partition, standstill)) = hanging.first() else {
            return;
        };
        if now < self.next_word {
            return;
        }
        self.next_word = now + SAY_INTERVAL;
        let (topic, number, offset) = (&partition.topic, partition.number, standstill.offset);
        let tool = format!(
            "kafka-transactions.sh --bootstrap-server {}",
            self.connection.kafka.bootstrap_servers
        );
        tracing::warn!(
            %topic,
            partition = number,
            offset,
            lasted_s = standstill.lasted().as_secs(),
            partitions = hanging.len(),
            "readers with read_committed get no further, a transaction hangs at this offset: find \
             it with \"{tool} find-hanging --topic {topic} --max-transaction-timeout 1\"; if its \
             coordinator decided to abort, end it with \"{tool} abort --topic {topic} --partition \
             {number} --start-offset {offset}\"; if to commit, that would lose outputs: see \
             \"Hidden outputs\" in docs/operations.md"
        );
    }
}

impl Lookout for Watch {
    const INTERVAL: Duration = Duration::from_secs(5);

    fn clients(&self) -> impl Iterator<Item = &LogEnds> {
        [&self.committed, &self.uncommitted].into_iter()
    }

    fn look(&mut self) {
        let seen = self.ends().unwrap_or_else(|error| {
            tracing::debug!(%error, "where output partitions end was not to be had");
            BTreeMap::new()
        });
        self.standstills.look(&seen, Instant::now(), self.patience);
        self.tell();
    }
}
