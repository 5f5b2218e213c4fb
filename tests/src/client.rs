//! Kafka clients of the harness: an admin, a plain producer that knows where records landed, and
//! a `read_committed` reader. None of them logs: what they see is what the test asserts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
        TopicReplication,
    },
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::KafkaError,
    message::{BorrowedMessage, DeliveryResult, Header, Headers as _, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{heard::Heard, reminder::Reminder, wait};

/// How long an admin call may take.
const ADMIN_LIMIT: Duration = Duration::from_secs(30);

/// A client context that says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// Settings that every client of the harness starts from.
pub fn settings(bootstrap: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        // Tests change topics, and want that to be seen soon.
        .set("topic.metadata.refresh.interval.ms", "2000")
        .set("reconnect.backoff.max.ms", "1000");
    settings
}

/// A consumer that reads nothing until told.
pub fn silent_consumer(settings: &ClientConfig) -> BaseConsumer<Silent> {
    settings
        .create_with_context(Silent)
        .expect("constant settings are valid")
}

/// How many brokers the cluster says it has.
pub fn broker_count(consumer: &BaseConsumer<Silent>) -> Option<usize> {
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(2)).ok()?;
    Some(metadata.brokers().len())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be started")
        .block_on(future)
}

fn admin(settings: &ClientConfig) -> AdminClient<DefaultClientContext> {
    let mut settings = settings.clone();
    settings.set_log_level(RDKafkaLogLevel::Emerg);
    settings.create().expect("constant settings are valid")
}

/// Creates a topic with the cluster's default replication, and waits until it has leaders.
pub fn create_topic(settings: &ClientConfig, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let admin = admin(settings);
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
    for (key, value) in config {
        topic = topic.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT));
    wait::until(
        &format!("creation of topic {name}"),
        ADMIN_LIMIT,
        || match block_on(admin.create_topics([&topic], &options)).as_deref() {
            Ok([Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))]) => true,
            Ok([Err((_, code))]) if matches!(code, RDKafkaErrorCode::InvalidConfig) => {
                panic!("topic {name}: {code}")
            }
            _ => false,
        },
    );
    let consumer: BaseConsumer<Silent> = settings
        .create_with_context(Silent)
        .expect("the same settings made the admin");
    wait::until(&format!("leaders of topic {name}"), ADMIN_LIMIT, || {
        leaders(&consumer, name).is_some_and(|leaders| {
            leaders.len() == usize::try_from(partitions).unwrap_or(0)
                && leaders.iter().all(|&leader| leader >= 0)
        })
    });
}

/// Raises the number of partitions of a topic.
pub fn add_partitions(settings: &ClientConfig, topic: &str, total: usize) {
    let admin = admin(settings);
    let result = block_on(admin.create_partitions(
        [&NewPartitions::new(topic, total)],
        &AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT)),
    ));
    assert!(
        matches!(result.as_deref(), Ok([Ok(_)])),
        "add partitions to {topic}: {result:?}"
    );
}

/// Deletes a topic.
pub fn delete_topic(settings: &ClientConfig, topic: &str) {
    let admin = admin(settings);
    let result = block_on(admin.delete_topics(
        &[topic],
        &AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT)),
    ));
    assert!(
        matches!(result.as_deref(), Ok([Ok(_)])),
        "delete {topic}: {result:?}"
    );
}

/// Changes settings of a topic; those that are not given go back to their defaults.
pub fn alter_topic(settings: &ClientConfig, topic: &str, config: &[(&str, &str)]) {
    let admin = admin(settings);
    let mut altered = AlterConfig::new(ResourceSpecifier::Topic(topic));
    for (key, value) in config {
        altered = altered.set(key, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT));
    let result = block_on(admin.alter_configs([&altered], &options));
    assert!(
        matches!(result.as_deref(), Ok([Ok(_)])),
        "alter {topic}: {result:?}"
    );
}

/// Deletes the records of a partition before `offset`, as retention does.
pub fn delete_records(settings: &ClientConfig, topic: &str, partition: i32, offset: i64) {
    let admin = admin(settings);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset))
        .expect("offsets of records are valid");
    block_on(admin.delete_records(
        &list,
        &AdminOptions::new().operation_timeout(Some(ADMIN_LIMIT)),
    ))
    .unwrap_or_else(|error| panic!("delete records of {topic}: {error}"));
}

/// Broker ids that lead the partitions of `topic`, -1 where there is none.
pub fn leaders<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Option<Vec<i32>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(5))
        .ok()?;
    let topic = metadata.topics().first()?;
    if topic.error().is_some() {
        return None;
    }
    Some(
        topic
            .partitions()
            .iter()
            .map(|partition| partition.leader())
            .collect(),
    )
}

/// The broker that coordinates `key`: a group, with `__consumer_offsets`, or a transactional id,
/// with `__transaction_state`. It leads the partition that the key's hash, as Java computes it,
/// falls on.
pub fn coordinator(consumer: &BaseConsumer<Silent>, topic: &str, key: &str) -> Option<usize> {
    let leaders = leaders(consumer, topic)?;
    let hash = key.encode_utf16().fold(0_i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    let partition = usize::try_from(hash.unsigned_abs()).ok()? % leaders.len();
    usize::try_from(leaders[partition]).ok()
}

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
            let leaders = wait::for_value(&format!("metadata of {topic}"), ADMIN_LIMIT, || {
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
                )) if started.elapsed() < ADMIN_LIMIT => {
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

/// Looks up the stable committed offsets of a group.
pub struct Committed {
    consumer: BaseConsumer<Silent>,
    reminder: Reminder,
    topic: String,
}

impl Committed {
    /// Offsets of `group` on `topic`.
    pub fn of(settings: &ClientConfig, group: &str, topic: &str) -> Self {
        let consumer = settings
            .clone()
            .set("group.id", group)
            // Also what makes the broker wait for open transactions on these offsets.
            .set("isolation.level", "read_committed")
            .create_with_context(Silent)
            .expect("constant settings are valid");
        Self {
            consumer,
            reminder: Reminder::of(settings),
            topic: topic.to_owned(),
        }
    }

    /// Moves the group, which has no members, in one partition.
    pub fn move_to(&mut self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
            .expect("a usable offset");
        self.consumer
            .commit(&list, CommitMode::Sync)
            .expect("the group has no members");
    }

    /// The offsets of the partitions that have one; nothing while the brokers cannot say.
    pub fn fetch(&mut self) -> Option<BTreeMap<i32, i64>> {
        let found = self.look();
        if found.is_none() && self.reminder.is_due() {
            self.reminder.remind(self.consumer.client());
        }
        found
    }

    fn look(&self) -> Option<BTreeMap<i32, i64>> {
        let partitions = leaders(&self.consumer, &self.topic)?.len();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).expect("few partitions") {
            list.add_partition(&self.topic, partition);
        }
        let found = self
            .consumer
            .committed_offsets(list, Duration::from_secs(2))
            .ok()?;
        Some(
            found
                .elements()
                .iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                })
                .collect(),
        )
    }
}
