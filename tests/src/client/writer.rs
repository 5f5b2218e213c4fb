//! A producer that knows where each record landed.

use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{reminder::Reminder, wait};

/// How long a record may wait for room, or for its partition to be known.
const SEND_LIMIT: Duration = Duration::from_secs(30);

/// Where a record landed, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Landing {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// What a record to write consists of.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// Partition; the key decides where there is none.
    pub partition: Option<i32>,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes; none is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

#[derive(Debug, Default)]
struct Landings {
    landed: Mutex<BTreeMap<usize, Result<Landing, String>>>,
}

impl ClientContext for Landings {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Landings {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, index: Self::DeliveryOpaque) {
        let landing = match result {
            Ok(message) => Ok(Landing {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((error, _)) => Err(error.to_string()),
        };
        self.landed
            .lock()
            .expect("no holder panics")
            .insert(*index, landing);
    }
}

/// An idempotent producer that knows where each record landed.
pub struct Writer {
    producer: ThreadedProducer<Landings>,
    reminder: Reminder,
    sent: usize,
}

impl Writer {
    /// A writer with the given client settings.
    pub fn open(settings: &ClientConfig) -> Self {
        let mut settings = settings.clone();
        if settings.get("linger.ms").is_none() {
            settings.set("linger.ms", "5");
        }
        let reminder = Reminder::of(&settings);
        let producer = settings
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "8388608")
            .create_with_context(Landings::default())
            .expect("constant settings are valid");
        Self {
            producer,
            reminder,
            sent: 0,
        }
    }

    /// Sends one record; its index in [`Writer::settle`]'s answer is the order of sending.
    pub fn send(&mut self, topic: &str, record: &Outgoing) {
        let index = self.sent;
        self.sent += 1;
        let started = Instant::now();
        loop {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &record.headers {
                headers = headers.insert(Header {
                    key,
                    value: Some(value),
                });
            }
            let mut outgoing =
                BaseRecord::<[u8], [u8], Box<usize>>::with_opaque_to(topic, Box::new(index))
                    .headers(headers);
            if let Some(partition) = record.partition {
                outgoing = outgoing.partition(partition);
            }
            if let Some(key) = &record.key {
                outgoing = outgoing.key(key);
            }
            if let Some(value) = &record.value {
                outgoing = outgoing.payload(value);
            }
            match self.producer.send(outgoing) {
                Ok(()) => return,
                // No room yet, or a partition that was added a moment ago.
                Err((
                    KafkaError::MessageProduction(
                        RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::UnknownPartition,
                    ),
                    _,
                )) if started.elapsed() < SEND_LIMIT => {
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("send to {topic}: {error}"),
            }
        }
    }

    /// Waits until everything sent so far has landed, and says where.
    pub fn settle(&mut self, limit: Duration) -> Vec<Landing> {
        let sent = std::mem::take(&mut self.sent);
        self.reminder.postpone();
        wait::until("input records landed", limit, || {
            if self.reminder.is_due() {
                self.reminder.remind(self.producer.client());
            }
            let landed = self
                .producer
                .context()
                .landed
                .lock()
                .expect("no holder panics");
            landed.len() >= sent
        });
        let landed = std::mem::take(
            &mut *self
                .producer
                .context()
                .landed
                .lock()
                .expect("no holder panics"),
        );
        landed
            .into_values()
            .map(|landing| landing.unwrap_or_else(|error| panic!("an input was refused: {error}")))
            .collect()
    }
}
