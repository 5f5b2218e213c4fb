//! The producer with its group: makes the calls of one delivery, in either mode.
//!
//! Calls may block; they are made on a thread of their own, which [`crate::producer_thread`]
//! watches. A producer lives until something fatal happens to it.

mod attempt;
mod failures;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aligner_pipeline::{Delivery, Outbound, OutputKind};
use rdkafka::{
    Offset, TopicPartitionList,
    config::{ClientConfig, RDKafkaLogLevel},
    error::{KafkaResult, RDKafkaErrorCode},
    producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer},
};

use self::attempt::Attempt;
use crate::{
    batching::Batching,
    consumer_thread::ConsumerHandle,
    headers,
    listener::Listener,
    native::{self, Listed, TransactionError},
    recovery::Phase,
    reports::{Reports, Tally},
    sent_once::{Call, SentOnce},
    settings::Connection,
    stats::ClientStats,
    tenure::Tenures,
    transaction::{self, End, EndedAgain},
};

/// How long a new producer may look for the group's coordinator before it goes on without.
pub(crate) const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(2);
/// Share of the transaction's time that writing may use, in tenths; the rest is for its end.
const WRITING_TENTHS: u32 = 7;

/// What an outlet is made of.
#[derive(Clone)]
pub(crate) struct OutletParts {
    pub(crate) config: ClientConfig,
    pub(crate) transactional: bool,
    pub(crate) connection: Connection,
    pub(crate) consumer: ConsumerHandle,
    pub(crate) tenures: Arc<Tenures>,
    pub(crate) stats: Arc<ClientStats>,
}

impl OutletParts {
    /// The group's offsets once these are delivered.
    pub(crate) fn offsets(&self, deliveries: &[Delivery]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(deliveries.len());
        for delivery in deliveries {
            let partition = &delivery.partition.partition;
            let mut entry = list.add_partition(&partition.topic, partition.number);
            entry.set_offset(Offset::Offset(delivery.next_offset))?;
            // Whoever gets the partition after us learns whose transaction may still be open.
            entry.set_metadata(&self.connection.identity);
        }
        Ok(list)
    }

    /// Where outputs of this kind go.
    pub(crate) fn topic(&self, kind: OutputKind) -> &str {
        match kind {
            OutputKind::Correction => &self.connection.topics.corrections,
            OutputKind::Pair => &self.connection.topics.pairs,
            OutputKind::DeadLetter => &self.connection.topics.dead_letters,
        }
    }
}

/// What one transaction is made of, and the time that it has.
pub(crate) struct Work {
    deliveries: Arc<Vec<Delivery>>,
    started: Instant,
    timeout: Duration,
}

impl Work {
    /// Its time begins now.
    pub(crate) fn new(deliveries: Arc<Vec<Delivery>>, timeout: Duration) -> Self {
        Self {
            deliveries,
            started: Instant::now(),
            timeout,
        }
    }
}

/// Bytes of an output without its headers.
fn size(output: &Outbound) -> usize {
    output.value.as_ref().map_or(0, |value| value.len())
        + output.key.as_ref().map_or(0, |key| key.len())
}

/// A producer and what it needs to know of the group.
pub(crate) struct Outlet {
    parts: OutletParts,
    producer: Listed<ThreadedProducer<Reports>>,
    batching: Batching,
    sent_once: SentOnce,
    /// Set once something of an earlier delivery may still reach a broker.
    spent: Arc<AtomicBool>,
}

impl Outlet {
    /// Creates the producer; opens no transaction.
    pub(crate) fn new(
        parts: OutletParts,
        batching: Batching,
        spent: Arc<AtomicBool>,
    ) -> KafkaResult<Self> {
        let mut config = parts.config.clone();
        config.set_log_level(RDKafkaLogLevel::Info);
        // Nobody else sets it: see `properties`.
        config.set("batch.size", batching.max_bytes.to_string());
        if batching.one_by_one {
            config.set("batch.num.messages", "1");
        }
        let reports = Reports {
            listener: Listener::new("producer", Some(parts.stats.client("producer")), &config),
            tally: Tally::default(),
        };
        let producer = parts.connection.client(&config, reports)?;
        Ok(Self {
            parts,
            producer,
            batching,
            sent_once: SentOnce::of(&config),
            spent,
        })
    }

    /// Claims the transactional id, which ends whatever an earlier holder left open. Returns whether that
    /// was asked for once for sure.
    pub(crate) fn claim(&self, timeout: Duration) -> Result<bool, TransactionError> {
        if !self.parts.transactional {
            return Ok(true);
        }
        let began = Instant::now();
        native::init_transactions(self.producer.client(), timeout)?;
        let is_sure = self.sent_once.is_sure_after(Call::Other, began.elapsed());
        self.meet_coordinator();
        Ok(is_sure)
    }

    /// The first offsets of a producer would have to wait until the group's coordinator is found and
    /// connected to: over a long way that alone takes so much time that the producer would be spent, and
    /// each one after it.
    fn meet_coordinator(&self) {
        let connection = &self.parts.connection;
        let Some(topic) = connection.topics.answers.first() else {
            return;
        };
        let (client, group) = (self.producer.client(), &connection.group_id);
        let met = native::meet_coordinator(client, group, (topic, 0), COORDINATOR_TIMEOUT);
        if let Err(error) = met {
            // Whatever it is, a delivery meets it as well, and says so.
            tracing::debug!(%error, "the group's coordinator was not met");
        }
    }

    /// Delivers outputs and offsets.
    pub(crate) fn deliver(&self, work: &Work, phase: &Phase) -> End {
        let attempt = self.attempt(work, phase);
        if self.parts.transactional {
            transaction::run(attempt)
        } else {
            let end = attempt.deliver_at_least_once();
            // No transaction takes back what was queued and not written, and the next delivery has it, too.
            // Throwing it away leaves gaps in this producer's numbers.
            if matches!(end, End::Failed(_)) && self.producer.in_flight_count() > 0 {
                self.producer
                    .purge(PurgeConfig::default().queue().inflight());
                self.spend();
            }
            end
        }
    }

    /// Ends a transaction again that never ended properly; see [`crate::unended`].
    pub(crate) fn end_again(&self, work: &Work, phase: &Phase) -> EndedAgain {
        let attempt = self.attempt(work, phase);
        // Without a place in the group, the offsets could not be brought in.
        if let Err(cause) = attempt.standing() {
            return EndedAgain::NotTried(cause);
        }
        transaction::end_again(attempt)
    }

    /// Makes a call whose requests librdkafka may send twice; see [`crate::sent_once`].
    fn timed<T>(&self, call: Call, made: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let returned = made();
        if !self.sent_once.is_sure_after(call, started.elapsed()) {
            self.spend();
        }
        returned
    }

    fn spend(&self) {
        self.spent.store(true, Ordering::Release);
    }

    fn remind(&self) {
        let client = self.producer.client();
        self.producer.context().listener.remind(client);
    }

    fn attempt<'a>(&'a self, work: &'a Work, phase: &'a Phase) -> Attempt<'a> {
        self.remind();
        Attempt {
            outlet: self,
            deliveries: &work.deliveries,
            phase,
            write_deadline: work.started + work.timeout * WRITING_TENTHS / 10,
            deadline: work.started + work.timeout,
        }
    }

    fn topic(&self, kind: OutputKind) -> &str {
        self.parts.topic(kind)
    }

    fn tally(&self) -> &Tally {
        &self.producer.context().tally
    }

    fn queue(&self, output: &Outbound, label: usize) -> Result<(), RDKafkaErrorCode> {
        let mut record: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(self.topic(output.kind), label);
        record.key = output.key.as_deref();
        record.payload = output.value.as_deref();
        record.headers = headers::owned(&output.headers);
        self.producer.send(record).map_err(|(error, _)| {
            error
                .rdkafka_error_code()
                .unwrap_or(RDKafkaErrorCode::InvalidArgument)
        })
    }
}
