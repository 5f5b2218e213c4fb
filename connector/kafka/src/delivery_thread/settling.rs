//! What became of commits that were not answered.
//!
//! A new producer comes first: it makes the broker finish or abort the old transaction, and the group's
//! offsets are stable after that, and tell. Where all partitions have left meanwhile, nobody waits: the
//! commit stays in doubt, and is looked at before anything else is committed. Where a broker lost its
//! decision on the offsets, the coordinator's log tells.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, SystemTime},
};

use aligner_pipeline::{Delivery, DeliveryError, Partition};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{DeliveryThread, RETRY_PAUSE};
use crate::{
    producer_thread::NoProducer,
    recovery::{Committed, Settlement, settle},
    verdict::{self, Verdict},
};

/// How long one look at the committed offsets may take.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(5);

/// What became of an unanswered commit.
pub(super) enum Settled {
    Delivered,
    NotDelivered,
    /// Every partition has left meanwhile, and nobody waits for an answer; whoever has them now goes on
    /// from what was committed.
    NotOurs,
}

impl DeliveryThread {
    /// Finds out whether an unanswered commit took place, for as long as any of its partitions is ours.
    pub(super) fn settle(
        &mut self,
        chosen: &[Delivery],
        began: SystemTime,
    ) -> Result<Settled, DeliveryError> {
        loop {
            if self.split(chosen).0.is_empty() {
                return Ok(Settled::NotOurs);
            }
            if self.closing.load(Ordering::Acquire) {
                return Err(DeliveryError::Stopped(
                    "closed before an unanswered commit was settled; committed offsets tell the \
                     next process"
                        .to_owned(),
                ));
            }
            match self.prepare() {
                Ok(()) => {}
                Err(NoProducer::Lasting(cause)) => return Err(DeliveryError::Stopped(cause)),
                Err(NoProducer::Passing { cause, fenced }) => {
                    tracing::warn!(%cause, "an unanswered commit waits for a producer");
                    self.judge_fencing(fenced, Duration::ZERO)?;
                    thread::sleep(RETRY_PAUSE);
                    continue;
                }
            }
            match self.committed(chosen) {
                Ok(committed) => return self.settled(chosen, &committed),
                Err(cause) => match self.ask_coordinator(chosen, began) {
                    Some(Verdict::Committed) => {
                        self.unended.remember_offsets(chosen);
                        return Ok(Settled::Delivered);
                    }
                    Some(Verdict::Aborted) => return Ok(Settled::NotDelivered),
                    None => {
                        tracing::warn!(%cause, "an unanswered commit waits for committed offsets");
                        thread::sleep(RETRY_PAUSE);
                    }
                },
            }
        }
    }

    fn settled(
        &self,
        chosen: &[Delivery],
        committed: &TopicPartitionList,
    ) -> Result<Settled, DeliveryError> {
        // Only what is still ours after the look counts: nobody else can have moved it, unless the group
        // went on without us and we have not heard of it yet.
        let (live, _) = self.split(chosen);
        if live.is_empty() {
            return Ok(Settled::NotOurs);
        }
        let targets = targets(live.into_iter().map(|index| &chosen[index]));
        let settlement = settle(&targets, |partition| self.found(committed, partition));
        tracing::info!(%settlement, "unanswered commit settled");
        match settlement {
            Settlement::Delivered => Ok(Settled::Delivered),
            Settlement::NotDelivered => Ok(Settled::NotDelivered),
            Settlement::Torn { .. } => Err(DeliveryError::Stopped(format!(
                "a transaction was {settlement}; please report this with the broker's version"
            ))),
        }
    }

    /// What an answer says of a partition.
    fn found(&self, committed: &TopicPartitionList, partition: &Partition) -> Option<Committed> {
        let found = committed.find_partition(&partition.topic, partition.number)?;
        let Offset::Offset(offset) = found.offset() else {
            return None;
        };
        Some(Committed {
            offset,
            by_us: found.metadata() == self.parts.connection.identity,
        })
    }

    fn committed(&self, chosen: &[Delivery]) -> Result<TopicPartitionList, String> {
        let consumer = self
            .parts
            .consumer
            .get()
            .ok_or_else(|| "the consumer group was left".to_owned())?;
        verdict::committed(&consumer, &targets(chosen), COMMITTED_TIMEOUT)
            .map_err(|error| error.to_string())
    }

    /// Finds out what became of a commit in doubt, one attempt only. Our producer is one that claimed
    /// the id since: offsets are decided by now, or about to be.
    pub(super) fn end_doubt(&mut self) -> Result<(), DeliveryError> {
        let Some((deliveries, began)) = self.unended.in_doubt() else {
            return Ok(());
        };
        match self.committed(&deliveries) {
            Ok(committed) => {
                let targets = targets(deliveries.iter());
                let settlement = settle(&targets, |partition| self.found(&committed, partition));
                tracing::info!(
                    %settlement,
                    "unanswered commit of partitions that left settled"
                );
                match settlement {
                    Settlement::NotDelivered => self.unended.was_not_committed(),
                    // The offsets of a partition may have been moved back since.
                    Settlement::Delivered | Settlement::Torn { .. } => self.unended.forget(),
                }
            }
            Err(cause) => match self.ask_coordinator(&deliveries, began) {
                Some(Verdict::Aborted) => self.unended.was_not_committed(),
                Some(Verdict::Committed) => self.unended.remember_offsets(&deliveries),
                None => {
                    return Err(DeliveryError::Aborted(format!(
                        "an unanswered commit waits for committed offsets: {cause}"
                    )));
                }
            },
        }
        Ok(())
    }

    /// What became of a transaction in doubt whose offsets nobody tells, by the coordinator's log. Where it
    /// was committed, its offsets are committed without a transaction: the one that still holds them would
    /// take them along, or throw them away, as the next one ends.
    fn ask_coordinator(&self, deliveries: &[Delivery], began: SystemTime) -> Option<Verdict> {
        if self.closing.load(Ordering::Acquire) {
            return None;
        }
        let connection = &self.parts.connection;
        let targets = targets(deliveries);
        let found = verdict::without_pending(connection, &targets)
            .inspect_err(|error| tracing::debug!(%error, "no committed offsets were to be had"))
            .ok()?;
        match settle(&targets, |partition| self.found(&found, partition)) {
            Settlement::Delivered => return Some(Verdict::Committed),
            Settlement::Torn { .. } => return None,
            Settlement::NotDelivered => {}
        }
        let verdict = verdict::find(connection, began)?;
        tracing::warn!(
            ?verdict,
            "the broker lost its decision on offsets; the log of the coordinator tells it"
        );
        if verdict == Verdict::Committed {
            let committed = self.parts.offsets(deliveries).and_then(|offsets| {
                let Some(consumer) = self.parts.consumer.get() else {
                    return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::State));
                };
                consumer.commit(&offsets, CommitMode::Sync)
            });
            if let Err(error) = committed {
                tracing::warn!(%error, "offsets of a transaction that was committed are not there yet");
                return None;
            }
        }
        Some(verdict)
    }
}

/// Where the group stands in each partition once these are delivered.
fn targets<'a>(deliveries: impl IntoIterator<Item = &'a Delivery>) -> Vec<(Partition, i64)> {
    deliveries
        .into_iter()
        .map(|delivery| (delivery.partition.partition.clone(), delivery.next_offset))
        .collect()
}
