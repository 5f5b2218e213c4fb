//! A transaction that nobody ends, as a broker leaves it that forgets a marker (KAFKA-20734).

use std::time::Duration;

use rdkafka::{
    ClientConfig,
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};

use crate::client::Silent;

/// How long each call of the producer may take.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Longer than any test, shorter than what a stock broker allows.
const TRANSACTION_TIMEOUT_MS: u32 = 600_000;

/// An open transaction over one partition.
pub struct Hanging(ThreadedProducer<Silent>);

impl Hanging {
    /// Writes one record to a partition, and decides nothing about it.
    pub fn over(settings: &ClientConfig, topic: &str, partition: i32) -> Self {
        let producer: ThreadedProducer<Silent> = settings
            .clone()
            .set(
                "transactional.id",
                format!("hanging-{:016x}", rand::random::<u64>()),
            )
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS.to_string())
            .set("linger.ms", "0")
            .create_with_context(Silent)
            .expect("constant settings are valid");
        producer
            .init_transactions(CALL_LIMIT)
            .expect("the broker coordinates transactions");
        producer.begin_transaction().expect("none is open");
        producer
            .send(
                BaseRecord::<(), [u8]>::to(topic)
                    .partition(partition)
                    .payload(b"undecided"),
            )
            .map_err(|(error, _)| error)
            .expect("the queue has room");
        producer.flush(CALL_LIMIT).expect("the broker is there");
        Self(producer)
    }

    /// Ends it, and its record was never there.
    pub fn abort(self) {
        self.0
            .abort_transaction(CALL_LIMIT)
            .expect("the broker is there");
    }
}
