//! One attempt to deliver: the calls of a transaction, or of a delivery without one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aligner_pipeline::{Delivery, Outbound};
use rdkafka::{
    TopicPartitionList,
    consumer::{CommitMode, Consumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::Producer,
};

use super::{Outlet, size};
use crate::{
    native::{self, GroupStanding, TransactionError},
    recovery::Phase,
    reports::{RoundFailure, Tally, Undelivered},
    sent_once::Call,
    transaction::{End, Failure, OffsetsFailure, TransactionalClient, WriteFailure},
};

/// Time given to an abort even when the transaction's own time is over.
const LEAST_ABORT_TIME: Duration = Duration::from_millis(250);

/// One attempt to deliver.
pub(super) struct Attempt<'a> {
    pub(super) outlet: &'a Outlet,
    pub(super) deliveries: &'a [Delivery],
    pub(super) phase: &'a Phase,
    pub(super) write_deadline: Instant,
    pub(super) deadline: Instant,
}

impl Attempt<'_> {
    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = &Outbound> {
        self.deliveries
            .iter()
            .flat_map(|delivery| delivery.outputs.iter().map(Arc::as_ref))
    }

    fn wait_for_reports(&self) -> Result<(), WriteFailure> {
        let outlet = self.outlet;
        match outlet.tally().wait(self.write_deadline, || outlet.remind()) {
            Ok(()) => Ok(()),
            Err(RoundFailure::Undelivered(undelivered)) => {
                let batching = self.outlet.batching;
                Err(self.judge(&undelivered, |output| batching.leaves_alone(size(output))))
            }
            Err(RoundFailure::Outstanding(indexes)) => Err(self.unacknowledged(&indexes)),
        }
    }

    /// Its place in the group, to be named with the offsets.
    pub(super) fn standing(&self) -> Result<GroupStanding, String> {
        let consumer = self
            .outlet
            .parts
            .consumer
            .get()
            .ok_or_else(|| "the consumer group was left".to_owned())?;
        let standing =
            GroupStanding::of(&consumer).ok_or_else(|| "the consumer has no group".to_owned())?;
        // A broker takes offsets from such a member without asking whose they are.
        if standing.generation() < 0 || !standing.has_member_id() {
            return Err("not a member of the consumer group at the moment".to_owned());
        }
        Ok(standing)
    }

    /// After the standing was taken: a change in between makes the standing stale, and the
    /// broker refuses it.
    fn tenures_last(&self) -> Result<(), String> {
        let ended = self
            .deliveries
            .iter()
            .find(|delivery| !self.outlet.parts.tenures.is_current(&delivery.partition));
        match ended {
            Some(delivery) => Err(format!(
                "partition {} is not ours any more",
                delivery.partition.partition
            )),
            None => Ok(()),
        }
    }

    fn send_offsets_as(&self, standing: &GroupStanding) -> Result<(), OffsetsFailure> {
        let offsets = self
            .offsets()
            .map_err(|error| OffsetsFailure::NotOurs(error.to_string()))?;
        let client = self.outlet.producer.client();
        self.outlet
            .timed(Call::Offsets, || {
                native::send_offsets(client, &offsets, standing, self.left())
            })
            .map_err(OffsetsFailure::Failed)
    }

    fn offsets(&self) -> KafkaResult<TopicPartitionList> {
        self.outlet.parts.offsets(self.deliveries)
    }

    /// Outputs first, offsets after them.
    pub(super) fn deliver_at_least_once(mut self) -> End {
        if let Err(failure) = self.write() {
            return End::Failed(failure.into());
        }
        let committed = self
            .standing()
            .and_then(|_| self.tenures_last())
            .and_then(|()| self.commit_offsets().map_err(|error| error.to_string()));
        match committed {
            Ok(()) => End::Committed,
            Err(cause) => End::Failed(Failure::Aborted(format!(
                "outputs were written, offsets were not committed: {cause}"
            ))),
        }
    }

    fn commit_offsets(&self) -> KafkaResult<()> {
        let Some(consumer) = self.outlet.parts.consumer.get() else {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::State));
        };
        consumer.commit(&self.offsets()?, CommitMode::Sync)
    }
}

impl TransactionalClient for Attempt<'_> {
    fn begin(&mut self) -> Result<(), TransactionError> {
        native::begin_transaction(self.outlet.producer.client())
    }

    fn write(&mut self) -> Result<(), WriteFailure> {
        let tally = self.outlet.tally();
        let round = tally.start(self.outputs().count());
        for (index, output) in self.outputs().enumerate() {
            let label = Tally::label(round, index);
            let queue = || self.outlet.queue(output, label);
            if let Err(code) = tally.queued(self.write_deadline, queue) {
                let refused = Undelivered { index, code };
                if refused.says_why() && !tally.is_doomed() {
                    // The client itself refuses the message that it is given, and no other for it.
                    return Err(self.judge(&[refused], |_| true));
                }
                if code != RDKafkaErrorCode::QueueFull {
                    // Once the transaction has failed this is every message, and a report about an earlier
                    // one says why.
                    tally.report(label, Some(code));
                }
                return self.wait_for_reports();
            }
        }
        self.wait_for_reports()
    }

    fn send_offsets(&mut self) -> Result<(), OffsetsFailure> {
        let standing = self.standing().map_err(OffsetsFailure::NotOurs)?;
        self.tenures_last().map_err(OffsetsFailure::NotOurs)?;
        self.send_offsets_as(&standing)
    }

    fn touch_offsets(&mut self) -> Result<(), OffsetsFailure> {
        let standing = self.standing().map_err(OffsetsFailure::NotOurs)?;
        self.send_offsets_as(&standing)
    }

    fn check_tenures(&mut self) -> Result<(), String> {
        self.tenures_last()
    }

    fn may_commit(&mut self) -> bool {
        self.phase.enter_commit()
    }

    fn commit(&mut self) -> Result<(), TransactionError> {
        let client = self.outlet.producer.client();
        self.outlet.timed(Call::Other, || {
            native::commit_transaction(client, self.left())
        })
    }

    fn abort(&mut self) -> Result<(), TransactionError> {
        let client = self.outlet.producer.client();
        let time = self.left().max(LEAST_ABORT_TIME);
        self.outlet
            .timed(Call::Other, || native::abort_transaction(client, time))
    }
}
