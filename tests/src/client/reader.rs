//! A `read_committed` reader that knows when it has read everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Header, Headers as _, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};

use super::{Landing, leaders};
use crate::{heard::Heard, reminder::Reminder, wait};

/// How long the cluster may take to say where partitions are.
const METADATA_LIMIT: Duration = Duration::from_secs(30);

/// One record as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Topic it was read from.
    pub topic: String,
    /// Partition it was read from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Key bytes.
    pub key: Option<Vec<u8>>,
    /// Value bytes.
    pub value: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its timestamp, epoch milliseconds.
    pub timestamp: Option<i64>,
}

impl Record {
    /// Copies a message out of librdkafka.
    pub fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|headers| {
                    headers
                        .iter()
                        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                        .collect()
                })
                .unwrap_or_default(),
            timestamp: message.timestamp().to_millis(),
        }
    }

    /// The text of a header.
    pub fn header(&self, key: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(name, _)| name == key)
            .and_then(|(_, value)| value.as_deref())
            .and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// Header of the marks that a [`Reader`] writes to find the end of a log.
const MARK_HEADER: &str = "harness.mark";

/// A `read_committed` reader of whole topics, from their beginning, in no group.
///
/// Where a committed log ends cannot be seen from its records: commit markers have offsets too.
/// So the reader writes a mark into every partition and reads until it meets them. A mark is
/// also proof that no transaction hangs: the last stable offset cannot pass an open one.
pub struct Reader {
    consumer: BaseConsumer<Heard>,
    marker: ThreadedProducer<Heard>,
    reminder: Reminder,
    partitions: BTreeSet<(String, i32)>,
    marks: Marks,
    next_mark: u64,
    /// Tells its marks from those of other readers of the same topics.
    name: u64,
}

/// The marks that were written and not yet met, and where.
#[derive(Debug, Clone, Default)]
struct Marks(Arc<Mutex<Unmet>>);

/// By mark, where it was not met.
type Unmet = BTreeMap<u64, BTreeSet<(String, i32)>>;

impl Marks {
    fn lock(&self) -> MutexGuard<'_, Unmet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands between a [`Reader`] and its marks, for whoever waits in another thread.
#[derive(Debug, Clone)]
pub struct Progress {
    marks: Marks,
    marker: Heard,
    consumer: Heard,
}

impl Progress {
    /// The marks that were not met, and what both clients heard last.
    pub fn told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (mark, partitions) in self.marks.lock().iter() {
            let partitions: Vec<_> = partitions
                .iter()
                .map(|(topic, partition)| format!("{topic}-{partition}"))
                .collect();
            if !partitions.is_empty() {
                lines.push(format!("mark {mark} not met in {}", partitions.join(" ")));
            }
        }
        for (client, heard) in [("marker", &self.marker), ("reader", &self.consumer)] {
            lines.extend(heard.lines().iter().map(|line| format!("{client}: {line}")));
        }
        lines
    }
}

impl Reader {
    /// Reads `topics` from the beginning. Topics that do not exist are an error of the test.
    pub fn open(settings: &ClientConfig, topics: &[&str]) -> Self {
        let heard = Heard::default();
        let marker = heard
            .about(&mut settings.clone(), "eos,broker")
            .set("enable.idempotence", "true")
            .set("linger.ms", "0")
            .create_with_context(heard)
            .expect("constant settings are valid");
        let heard = Heard::default();
        let consumer: BaseConsumer<Heard> = heard
            .about(&mut settings.clone(), "broker,metadata")
            .set("group.id", "harness-reader")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.message.max.bytes", "4194304")
            .create_with_context(heard)
            .expect("constant settings are valid");
        let mut partitions = BTreeSet::new();
        let mut list = TopicPartitionList::new();
        for &topic in topics {
            let leaders = wait::for_value(&format!("metadata of {topic}"), METADATA_LIMIT, || {
                leaders(&consumer, topic)
            });
            for partition in 0..i32::try_from(leaders.len()).expect("few partitions") {
                partitions.insert((topic.to_owned(), partition));
                list.add_partition_offset(topic, partition, Offset::Beginning)
                    .expect("the beginning is a valid offset");
            }
        }
        consumer.assign(&list).expect("the list is not empty");
        Self {
            consumer,
            marker,
            reminder: Reminder::of(settings),
            partitions,
            marks: Marks::default(),
            next_mark: 0,
            name: rand::random(),
        }
    }

    /// The next record that is not a mark, or nothing within `limit`.
    pub fn next(&mut self, limit: Duration) -> Option<Record> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // Brokers come and go under these tests, and the reader outlives them: an error is
            // only a moment without records.
            if let Some(Ok(message)) = self.consumer.poll(left) {
                self.reminder.postpone();
                let record = Record::of(&message);
                match record.header(MARK_HEADER) {
                    None => return Some(record),
                    Some(mark) => {
                        let (name, mark) = mark.split_once('-').expect("marks have two parts");
                        if name == self.name.to_string()
                            && let Some(missing) = self
                                .marks
                                .lock()
                                .get_mut(&mark.parse().expect("marks are numbered"))
                        {
                            missing.remove(&(record.topic, record.partition));
                        }
                    }
                }
            }
            if left.is_zero() {
                if self.reminder.is_due() {
                    self.reminder.remind(self.consumer.client());
                    self.reminder.remind(self.marker.client());
                }
                return None;
            }
        }
    }

    /// Writes a mark at the present end of every partition.
    pub fn mark(&mut self) -> u64 {
        let mark = self.next_mark;
        self.next_mark += 1;
        let text = format!("{}-{mark}", self.name);
        for (topic, partition) in &self.partitions {
            let headers = OwnedHeaders::new().insert(Header {
                key: MARK_HEADER,
                value: Some(&text),
            });
            self.marker
                .send(
                    BaseRecord::<(), [u8]>::to(topic)
                        .partition(*partition)
                        .payload(b"")
                        .headers(headers),
                )
                .unwrap_or_else(|(error, _)| panic!("mark {topic}-{partition}: {error}"));
        }
        self.marks.lock().insert(mark, self.partitions.clone());
        mark
    }

    /// Whether everything before `mark` was handed out.
    pub fn passed(&self, mark: u64) -> bool {
        self.marks.lock().get(&mark).is_none_or(BTreeSet::is_empty)
    }

    /// Where it stands, to be asked by whoever waits for it.
    pub fn progress(&self) -> Progress {
        Progress {
            marks: self.marks.clone(),
            marker: self.marker.context().as_ref().clone(),
            consumer: self.consumer.context().as_ref().clone(),
        }
    }

    /// Everything up to the last of `landings`, which must be there. Writes no mark, for topics
    /// whose content is the test's business.
    pub fn read_to_the_last(&mut self, landings: &[Landing], limit: Duration) -> Vec<Record> {
        let last = landings.iter().map(|landing| landing.offset).max();
        let mut records: Vec<Record> = Vec::new();
        wait::until("the last record was read", limit, || {
            records.extend(self.next(Duration::from_millis(50)));
            records.last().map(|record| record.offset) == last
        });
        records
    }

    /// Everything that is readable now.
    pub fn read_to_end(&mut self, limit: Duration) -> Vec<Record> {
        let mark = self.mark();
        let mut records = Vec::new();
        wait::until("everything readable was read", limit, || {
            while let Some(record) = self.next(Duration::from_millis(50)) {
                records.push(record);
            }
            self.passed(mark)
        });
        records
    }
}
