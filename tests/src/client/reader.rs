//! A `read_committed` reader that knows when it has read everything.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{BorrowedMessage, Headers as _},
};

use super::{
    Landing, leaders,
    marks::{Marker, Marks, Place, Stuck},
};
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

/// A `read_committed` reader of whole topics, from their beginning, in no group.
///
/// Where a committed log ends cannot be seen from its records: commit markers have offsets too.
/// So the reader writes a mark into every partition and reads until it meets them. A mark is
/// also proof that no transaction hangs: the last stable offset cannot pass an open one.
pub struct Reader {
    settings: ClientConfig,
    heard: Heard,
    consumer: BaseConsumer<Heard>,
    marker: Marker,
    reminder: Reminder,
    /// Where it reads on in each partition.
    positions: BTreeMap<Place, Offset>,
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
        let mut lines = self.marks.told();
        for (client, heard) in [("marker", &self.marker), ("reader", &self.consumer)] {
            lines.extend(heard.lines().iter().map(|line| format!("{client}: {line}")));
        }
        lines
    }
}

impl Reader {
    /// Reads `topics` from the beginning. Topics that do not exist are an error of the test.
    pub fn open(settings: &ClientConfig, topics: &[&str]) -> Self {
        let marker = Marker::of(settings);
        let heard = Heard::default();
        let mut settings = settings.clone();
        heard
            .about(&mut settings, "broker,metadata")
            .set("group.id", "harness-reader")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "50")
            .set("fetch.message.max.bytes", "4194304");
        let consumer = new_consumer(&settings, &heard);
        let mut positions = BTreeMap::new();
        for &topic in topics {
            let leaders = wait::for_value(&format!("metadata of {topic}"), METADATA_LIMIT, || {
                leaders(&consumer, topic)
            });
            for partition in 0..i32::try_from(leaders.len()).expect("few partitions") {
                positions.insert((topic.to_owned(), partition), Offset::Beginning);
            }
        }
        let reader = Self {
            marker,
            reminder: Reminder::of(&settings),
            settings,
            heard,
            consumer,
            positions,
        };
        reader.assign();
        reader
    }

    /// Has the consumer read from where this reader stands.
    fn assign(&self) {
        let mut list = TopicPartitionList::new();
        for ((topic, partition), position) in &self.positions {
            list.add_partition_offset(topic, *partition, *position)
                .expect("a valid offset");
        }
        self.consumer.assign(&list).expect("the list is not empty");
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
                self.positions.insert(
                    (record.topic.clone(), record.partition),
                    Offset::Offset(record.offset + 1),
                );
                if !self.marker.meets(&record) {
                    return Some(record);
                }
            }
            if left.is_zero() {
                if self.reminder.is_due() {
                    self.reminder.remind(self.consumer.client());
                    self.reminder.remind(self.marker.client());
                }
                self.renew_what_is_stuck();
                return None;
            }
        }
    }

    /// librdkafka may forget a single partition for good, see [`Marker`]; what the test is about is
    /// somebody else.
    fn renew_what_is_stuck(&mut self) {
        let Some(stuck) = self.marker.stuck(Instant::now()) else {
            return;
        };
        eprintln!(
            "the harness renews its {stuck:?}:\n  {}",
            self.marker.marks().told().join("\n  ")
        );
        match stuck {
            Stuck::Producer => self.marker.renew(),
            Stuck::Consumer => {
                let consumer = new_consumer(&self.settings, &self.heard);
                let old = std::mem::replace(&mut self.consumer, consumer);
                // A stuck one may not come to its end.
                thread::spawn(move || drop(old));
                self.assign();
            }
        }
    }

    /// Writes a mark at the present end of every partition.
    pub fn mark(&mut self) -> u64 {
        self.marker.write(self.positions.keys())
    }

    /// Whether everything before `mark` was handed out.
    pub fn passed(&self, mark: u64) -> bool {
        self.marker.passed(mark)
    }

    /// Where it stands, to be asked by whoever waits for it.
    pub fn progress(&self) -> Progress {
        Progress {
            marks: self.marker.marks().clone(),
            marker: self.marker.heard().clone(),
            consumer: self.heard.clone(),
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

fn new_consumer(settings: &ClientConfig, heard: &Heard) -> BaseConsumer<Heard> {
    settings
        .create_with_context(heard.clone())
        .expect("constant settings are valid")
}
