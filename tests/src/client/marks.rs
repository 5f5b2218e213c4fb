//! Marks at the ends of partitions: a reader that has met its marks has read all that lies before.
//!
//! Tests hurt brokers, and librdkafka may then leave a single partition behind for good, with
//! messages that it neither sends nor fails (seen with 2.12.1, for several minutes beside a broker
//! that took all others). A mark that is stuck is written again by another producer: one more mark
//! does no harm, and whatever it proves, it proves later.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    client::Client,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Header, Message as _, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};

use super::Record;
use crate::heard::Heard;

/// Header of the marks.
const HEADER: &str = "harness.mark";
/// How long a mark may be on its way before another client is tried. Where brokers are away for
/// longer, that client waits for them as well as the old one.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// A topic's name and the number of a partition.
pub(super) type Place = (String, i32);

/// How far a mark has come that was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The producer has it.
    Sent,
    /// It is in the log, at this offset.
    Landed(i64),
}

/// By number of the mark, where it was not met; marks that were met everywhere are gone.
type Unmet = BTreeMap<u64, BTreeMap<Place, Stage>>;

/// The marks of one reader that were not met, for whoever waits in another thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<Mutex<Unmet>>);

impl Marks {
    fn lock(&self) -> MutexGuard<'_, Unmet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line for each mark that was not met.
    pub(super) fn told(&self) -> Vec<String> {
        let unmet = self.lock();
        let lines = unmet.iter().map(|(mark, places)| {
            let places = places
                .iter()
                .map(|((topic, partition), stage)| match stage {
                    Stage::Sent => format!("{topic}-{partition} (not delivered)"),
                    Stage::Landed(offset) => format!("{topic}-{partition} (it lies at {offset})"),
                });
            format!(
                "mark {mark} not met in {}",
                places.collect::<Vec<_>>().join(", ")
            )
        });
        lines.collect()
    }

    fn note(&self, mark: u64, place: &Place, stage: Stage) {
        if let Some(known) = self
            .lock()
            .get_mut(&mark)
            .and_then(|places| places.get_mut(place))
        {
            *known = stage;
        }
    }

    fn met(&self, mark: u64, place: &Place) {
        let mut unmet = self.lock();
        if let Some(places) = unmet.get_mut(&mark) {
            places.remove(place);
            if places.is_empty() {
                unmet.remove(&mark);
            }
        }
    }
}

/// Who has not done its part for [`STUCK_AFTER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stuck {
    /// Marks were sent, and are not in the log.
    Producer,
    /// All of them are there, and were not read.
    Consumer,
}

/// Writes marks.
pub(super) struct Marker {
    settings: ClientConfig,
    heard: Heard,
    producer: ThreadedProducer<Deliveries>,
    marks: Marks,
    next: u64,
    /// Tells its marks from those of other readers of the same topics.
    name: u64,
    /// When nothing was on its way, or something was tried against it.
    fine_at: Instant,
}

impl Marker {
    pub(super) fn of(settings: &ClientConfig) -> Self {
        let heard = Heard::default();
        let mut settings = settings.clone();
        heard
            .about(&mut settings, "eos,broker")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0");
        let marks = Marks::default();
        Self {
            producer: Deliveries::producer(&settings, &heard, &marks),
            settings,
            heard,
            marks,
            next: 0,
            name: rand::random(),
            fine_at: Instant::now(),
        }
    }

    pub(super) fn client(&self) -> &Client<Deliveries> {
        self.producer.client()
    }

    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// Writes a mark at the present end of every one of these partitions, and tells its number.
    pub(super) fn write<'a>(&mut self, places: impl IntoIterator<Item = &'a Place>) -> u64 {
        let mark = self.next;
        self.next += 1;
        let places: BTreeMap<_, _> = places
            .into_iter()
            .map(|place| (place.clone(), Stage::Sent))
            .collect();
        self.marks.lock().insert(mark, places.clone());
        for place in places.into_keys() {
            self.send(mark, place);
        }
        mark
    }

    fn send(&self, mark: u64, place: Place) {
        let text = format!("{}-{mark}", self.name);
        let headers = OwnedHeaders::new().insert(Header {
            key: HEADER,
            value: Some(&text),
        });
        let (topic, partition) = place.clone();
        let record = BaseRecord::<(), [u8], _>::with_opaque_to(&topic, Box::new((mark, place)))
            .partition(partition)
            .payload(b"")
            .headers(headers);
        if let Err((error, _)) = self.producer.send(record) {
            panic!("mark {topic}-{partition}: {error}");
        }
    }

    /// Whether a record is a mark, of whichever reader; one of its own is met.
    pub(super) fn meets(&self, record: &Record) -> bool {
        let Some(text) = record.header(HEADER) else {
            return false;
        };
        let (name, mark) = text.split_once('-').expect("marks have two parts");
        if name == self.name.to_string() {
            let mark = mark.parse().expect("marks are numbered");
            self.marks
                .met(mark, &(record.topic.clone(), record.partition));
        }
        true
    }

    /// Whether everything before `mark` was handed out.
    pub(super) fn passed(&self, mark: u64) -> bool {
        !self.marks.lock().contains_key(&mark)
    }

    /// Who is stuck, to be asked again and again. Whoever it is has [`STUCK_AFTER`] from then on.
    pub(super) fn stuck(&mut self, now: Instant) -> Option<Stuck> {
        let unmet = self.marks.lock();
        let mut stages = unmet.values().flat_map(BTreeMap::values).peekable();
        if stages.peek().is_some() && now.duration_since(self.fine_at) < STUCK_AFTER {
            return None;
        }
        self.fine_at = now;
        stages.peek()?;
        Some(if stages.any(|&stage| stage == Stage::Sent) {
            Stuck::Producer
        } else {
            Stuck::Consumer
        })
    }

    /// Has another producer write what is not in the log.
    pub(super) fn renew(&mut self) {
        let producer = Deliveries::producer(&self.settings, &self.heard, &self.marks);
        let old = std::mem::replace(&mut self.producer, producer);
        // A stuck one may not come to its end.
        thread::spawn(move || drop(old));
        let undelivered: Vec<_> = {
            let unmet = self.marks.lock();
            let stages = unmet.iter().flat_map(|(mark, places)| {
                places
                    .iter()
                    .map(move |(place, stage)| (mark, place, stage))
            });
            stages
                .filter(|(_, _, stage)| **stage == Stage::Sent)
                .map(|(mark, place, _)| (*mark, place.clone()))
                .collect()
        };
        for (mark, place) in undelivered {
            self.send(mark, place);
        }
    }
}

/// Notes which marks have landed.
pub(super) struct Deliveries {
    heard: Heard,
    marks: Marks,
}

impl Deliveries {
    fn producer(settings: &ClientConfig, heard: &Heard, marks: &Marks) -> ThreadedProducer<Self> {
        settings
            .create_with_context(Self {
                heard: heard.clone(),
                marks: marks.clone(),
            })
            .expect("constant settings are valid")
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.heard.log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(u64, Place)>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (mark, place) = *opaque;
        match result {
            Ok(message) => self
                .marks
                .note(mark, &place, Stage::Landed(message.offset())),
            Err((error, _)) => self
                .heard
                .note(&format!("mark {mark} not delivered to {place:?}: {error}")),
        }
    }
}
