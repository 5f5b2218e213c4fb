//! What a person sets about Kafka, and what it must satisfy before any connection is opened.
//!
//! How values are spelt in a file is said here; reading one is not done here. Defaults fit a stock
//! broker and are chosen so that a killed process is replaced within ten seconds: a session of six
//! seconds is the shortest a stock broker grants, and a transaction of ten is the longest that a
//! reader may be held back by one that died.
//!
//! Any librdkafka property may be given as well, except those that the delivery guarantee rests
//! on: they are refused with the key to use instead, rather than silently overruled.

use std::{collections::BTreeMap, fmt, io, time::Duration};

use rand::Rng;
use rdkafka::{
    ClientConfig, ClientContext, config::FromClientConfigAndContext, error::KafkaResult,
};
use serde::{Deserialize, Serialize};

use crate::{
    bootstrap,
    fault::Fault,
    fetching::SUSPEND_AFTER,
    given_properties,
    login::{Login, TokenSource},
    native::{Listed, Native},
};

/// How long past its timeout a transaction may stay open: how often a stock broker looks for those.
const BROKER_GRACE: Duration = Duration::from_secs(10);

/// The section `kafka`.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port`, more than one separated by commas.
    pub bootstrap_servers: String,
    /// What is promised when something fails.
    pub delivery: DeliveryGuarantee,
    /// Where a group begins in partitions that were there by then; those that are added later are read
    /// from their beginning. After records were deleted unread by the broker's retention, reading goes
    /// on with the oldest that are left, whatever is given here.
    pub start_from: StartFrom,
    /// A name that survives a restart, such as a StatefulSet ordinal; turns static membership on.
    pub instance_id: Option<String>,
    /// Consumer group; [`default_group_id`] unless given.
    pub group_id: Option<String>,
    /// Any librdkafka property, for both clients.
    pub properties: BTreeMap<String, String>,
    /// After this long without a heartbeat the broker gives our partitions to another member.
    pub session_timeout_ms: u32,
    /// How often we say that we live; a rebalance takes about two of these.
    pub heartbeat_interval_ms: u32,
    /// The longest a transaction may stay open. Committed readers of the output topics can be
    /// held back this long by a process that died.
    pub transaction_timeout_ms: u32,
    /// How long a single rebalance waits for finished results to be delivered.
    pub revoke_timeout_ms: u32,
    /// How long leaving the group may take.
    pub close_timeout_ms: u32,
    /// Within this time a wrong start is named.
    pub start_timeout_ms: u32,
    /// Bytes of records that were fetched and not yet taken. Full for long, fetching is suspended.
    pub fetch_buffer_bytes: usize,
    /// The most records handed over at once.
    pub fetch_batch_records: usize,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "localhost:9092".to_owned(),
            delivery: DeliveryGuarantee::ExactlyOnce,
            start_from: StartFrom::Earliest,
            instance_id: None,
            group_id: None,
            properties: BTreeMap::new(),
            session_timeout_ms: 6_000,
            heartbeat_interval_ms: 1_500,
            transaction_timeout_ms: 10_000,
            revoke_timeout_ms: 3_000,
            close_timeout_ms: 5_000,
            start_timeout_ms: 30_000,
            fetch_buffer_bytes: 8 << 20,
            fetch_batch_records: 1_000,
        }
    }
}

impl KafkaSettings {
    /// Whether the group's protocol is the newer one, where the brokers alone decide on sessions, and
    /// librdkafka refuses settings about them.
    pub fn brokers_decide_on_sessions(&self) -> bool {
        self.properties
            .get("group.protocol")
            .is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
    }
}

/// What is promised when something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryGuarantee {
    /// Outputs and offsets in one transaction; readers must use `read_committed`.
    #[default]
    ExactlyOnce,
    /// Outputs first, offsets after: a crash between the two writes some outputs again, with the
    /// same ids. For brokers without transactions.
    AtLeastOnce,
}

/// Where a group begins that has committed nothing in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// At the oldest record there is.
    #[default]
    Earliest,
    /// At records that arrive from now on.
    Latest,
}

/// The section `topics`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicSettings {
    /// Topics with answer events.
    pub answers: Vec<String>,
    /// Topic for corrections.
    pub corrections: String,
    /// Topic for preference pairs.
    pub pairs: String,
    /// Topic for dead letters.
    pub dead_letters: String,
    /// Make topics that are missing, instead of refusing to start.
    pub create: bool,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            answers: vec!["llm.answers".to_owned()],
            corrections: "llm.corrections".to_owned(),
            pairs: "llm.pairs".to_owned(),
            dead_letters: "llm.dead-letters".to_owned(),
            create: false,
        }
    }
}

impl TopicSettings {
    /// The topics we write, each with the key that names it.
    pub fn outputs(&self) -> [(&'static str, &str); 3] {
        [
            ("topics.corrections", &self.corrections),
            ("topics.pairs", &self.pairs),
            ("topics.dead_letters", &self.dead_letters),
        ]
    }
}

/// The consumer group of a pipeline for which none is given.
pub fn default_group_id(name: &str) -> String {
    format!("connect-{name}")
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as written in the configuration file.
    pub key: String,
    /// What is wrong with its value.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.fault)
    }
}

/// Everything needed to reach Kafka, checked, with the names of this process settled.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Name of the pipeline.
    pub name: String,
    /// The section `kafka`.
    pub kafka: KafkaSettings,
    /// The section `topics`.
    pub topics: TopicSettings,
    /// Transactional id and client id of this process.
    pub identity: String,
    /// Consumer group.
    pub group_id: String,
    /// Where the login is one by access tokens.
    pub(crate) login: Option<Login>,
}

impl Connection {
    /// Checks the settings and settles the names of this process.
    ///
    /// # Errors
    ///
    /// Every problem there is, not only the first.
    pub fn new(
        name: &str,
        kafka: KafkaSettings,
        topics: TopicSettings,
    ) -> Result<Self, Vec<Problem>> {
        let problems = problems(name, &kafka, &topics);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self::unchecked(name, kafka, topics))
    }

    fn unchecked(name: &str, kafka: KafkaSettings, topics: TopicSettings) -> Self {
        let suffix = kafka
            .instance_id
            .clone()
            .unwrap_or_else(|| format!("{:012x}", rand::rng().random::<u64>() >> 16));
        Self {
            identity: format!("{name}-{suffix}"),
            group_id: kafka
                .group_id
                .clone()
                .unwrap_or_else(|| default_group_id(name)),
            name: name.to_owned(),
            kafka,
            topics,
            login: None,
        }
    }

    /// Logs in with access tokens of this source: `sasl.mechanism` is OAUTHBEARER. The first of them is
    /// asked for at once.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn with_tokens(self, source: impl TokenSource) -> io::Result<Self> {
        let login = Login::start(source)?;
        Ok(Self {
            login: Some(login),
            ..self
        })
    }

    /// Makes a client that logs in as this connection does. All clients come from here.
    pub(crate) fn client<C: ClientContext, T: FromClientConfigAndContext<C> + Native>(
        &self,
        config: &ClientConfig,
        context: C,
    ) -> KafkaResult<Listed<T>> {
        let client = T::from_config_and_context(config, context)?;
        Ok(match &self.login {
            Some(login) => login.list(client),
            None => Listed::unlisted(client),
        })
    }

    pub(crate) fn session_timeout(&self) -> Duration {
        millis(self.kafka.session_timeout_ms)
    }

    pub(crate) fn transaction_timeout(&self) -> Duration {
        millis(self.kafka.transaction_timeout_ms)
    }

    /// The longest that a transaction of ours stays open, whatever becomes of us.
    pub(crate) fn longest_transaction(&self) -> Duration {
        self.transaction_timeout() + BROKER_GRACE
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        millis(self.kafka.start_timeout_ms)
    }

    pub(crate) fn revoke_timeout(&self) -> Duration {
        millis(self.kafka.revoke_timeout_ms)
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        millis(self.kafka.close_timeout_ms)
    }

    /// With an instance id: how long the group takes to tell that another process has it. Two
    /// heartbeats, because the first may be under way, and the time that nobody may poll.
    pub(crate) fn news_of_a_duplicate(&self) -> Option<Duration> {
        let _ = self.kafka.instance_id.as_ref()?;
        Some(2 * millis(self.kafka.heartbeat_interval_ms) + SUSPEND_AFTER)
    }
}

fn millis(value: u32) -> Duration {
    Duration::from_millis(u64::from(value))
}

/// Every problem of these settings; opens no connection.
pub fn problems(name: &str, kafka: &KafkaSettings, topics: &TopicSettings) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut say = |key: &str, fault: Fault| {
        found.push(Problem {
            key: key.to_owned(),
            fault,
        });
    };
    if name.trim().is_empty() {
        say("name", Fault::with_fix("is empty", "name the pipeline"));
    }
    if let Some(fault) = bootstrap::problem(&kafka.bootstrap_servers) {
        say("kafka.bootstrap_servers", fault);
    }
    if kafka.instance_id.as_deref().is_some_and(|id| id.is_empty()) {
        say(
            "kafka.instance_id",
            Fault::with_fix(
                "is empty",
                "remove the key or give each instance its own value",
            ),
        );
    }
    if kafka.heartbeat_interval_ms == 0
        || kafka.heartbeat_interval_ms.saturating_mul(2) > kafka.session_timeout_ms
    {
        let session = kafka.session_timeout_ms;
        let quarter = (session / 4).max(1);
        say(
            "kafka.heartbeat_interval_ms",
            Fault::with_fix(
                format!(
                    "{} does not fit twice into session_timeout_ms {session}",
                    kafka.heartbeat_interval_ms
                ),
                format!("set it to {quarter}, a quarter of kafka.session_timeout_ms {session}"),
            ),
        );
    }
    for (key, value, least, most) in [
        (
            "kafka.session_timeout_ms",
            kafka.session_timeout_ms,
            1_000,
            1_800_000,
        ),
        (
            "kafka.transaction_timeout_ms",
            kafka.transaction_timeout_ms,
            1_000,
            900_000,
        ),
        (
            "kafka.revoke_timeout_ms",
            kafka.revoke_timeout_ms,
            10,
            60_000,
        ),
        (
            "kafka.close_timeout_ms",
            kafka.close_timeout_ms,
            100,
            600_000,
        ),
        (
            "kafka.start_timeout_ms",
            kafka.start_timeout_ms,
            1_000,
            600_000,
        ),
    ] {
        if !(least..=most).contains(&value) {
            say(
                key,
                Fault::with_fix(
                    format!("{value} is out of range"),
                    format!("use {least} to {most}"),
                ),
            );
        }
    }
    if kafka.fetch_buffer_bytes < 1 << 20 {
        say(
            "kafka.fetch_buffer_bytes",
            Fault::with_fix(
                format!(
                    "{} is below 1048576, too little for a single record",
                    kafka.fetch_buffer_bytes
                ),
                "set it to 1048576 or more",
            ),
        );
    }
    if kafka.fetch_batch_records == 0 {
        say(
            "kafka.fetch_batch_records",
            Fault::with_fix("0 hands over nothing", "use 1 or more"),
        );
    }
    found.extend(topic_problems(topics));
    found.extend(given_properties::problems(kafka));
    // What is wrong by itself would be found again, in other words.
    if found.is_empty() && !kafka.properties.is_empty() {
        let connection = Connection::unchecked(name, kafka.clone(), topics.clone());
        found.extend(
            given_properties::contradiction(&connection).map(|fault| Problem {
                key: "kafka.properties".to_owned(),
                fault,
            }),
        );
    }
    found
}

fn topic_problems(topics: &TopicSettings) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut seen: Vec<(String, &str)> = Vec::new();
    if topics.answers.is_empty() {
        found.push(Problem {
            key: "topics.answers".to_owned(),
            fault: Fault::with_fix("is empty", "name at least one topic with answer events"),
        });
    }
    let answers = topics
        .answers
        .iter()
        .enumerate()
        .map(|(index, topic)| (format!("topics.answers[{index}]"), topic.as_str()));
    let outputs = topics.outputs().map(|(key, topic)| (key.to_owned(), topic));
    for (key, topic) in answers.chain(outputs) {
        if let Some((reason, fix)) = unusable_topic_name(topic) {
            found.push(Problem {
                key: key.clone(),
                fault: Fault {
                    message: format!("\"{topic}\" {reason}"),
                    fix: fix.map(str::to_owned),
                },
            });
        }
        if let Some((other, _)) = seen.iter().find(|(_, known)| *known == topic) {
            found.push(Problem {
                key: key.clone(),
                fault: Fault::with_fix(
                    format!("\"{topic}\" is also {other}"),
                    "name another topic",
                ),
            });
        }
        seen.push((key, topic));
    }
    found
}

/// Whether Kafka takes this as the name of a topic. What suits there suits clients and groups, too.
pub fn is_topic_name(name: &str) -> bool {
    unusable_topic_name(name).is_none()
}

/// What Kafka's own rules for names of topics have against this one, and what to do if that is not plain
/// from it.
fn unusable_topic_name(name: &str) -> Option<(&'static str, Option<&'static str>)> {
    if name.is_empty() {
        Some(("is empty", Some("name a topic")))
    } else if name == "." || name == ".." {
        Some(("is not a name Kafka accepts", None))
    } else if name.len() > 249 {
        Some(("is longer than the 249 characters Kafka accepts", None))
    } else if name.starts_with('^') {
        Some(("is a pattern", Some("name each topic")))
    } else if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    {
        Some((
            "has characters other than letters, digits, dot, underscore and hyphen",
            None,
        ))
    } else {
        None
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("delivery", &self.delivery)
            .field("start_from", &self.start_from)
            .field("instance_id", &self.instance_id)
            .field("group_id", &self.group_id)
            .field("properties", &given_properties::Redacted(&self.properties))
            .field("session_timeout_ms", &self.session_timeout_ms)
            .field("heartbeat_interval_ms", &self.heartbeat_interval_ms)
            .field("transaction_timeout_ms", &self.transaction_timeout_ms)
            .field("revoke_timeout_ms", &self.revoke_timeout_ms)
            .field("close_timeout_ms", &self.close_timeout_ms)
            .field("start_timeout_ms", &self.start_timeout_ms)
            .field("fetch_buffer_bytes", &self.fetch_buffer_bytes)
            .field("fetch_batch_records", &self.fetch_batch_records)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(kafka: KafkaSettings, topics: TopicSettings) -> Vec<String> {
        problems("moderation", &kafka, &topics)
            .into_iter()
            .map(|problem| problem.key)
            .collect()
    }

    #[test]
    fn the_defaults_are_usable() {
        assert_eq!(
            problems(
                "moderation",
                &KafkaSettings::default(),
                &TopicSettings::default()
            ),
            []
        );
    }

    #[test]
    fn an_answer_topic_that_is_also_an_output_is_refused() {
        let topics = TopicSettings {
            pairs: "llm.answers".to_owned(),
            ..TopicSettings::default()
        };
        let found = problems("moderation", &KafkaSettings::default(), &topics);
        assert_eq!(
            found[0].to_string(),
            "topics.pairs: \"llm.answers\" is also topics.answers[0]; name another topic"
        );
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let kafka = KafkaSettings {
            bootstrap_servers: String::new(),
            heartbeat_interval_ms: 5_000,
            transaction_timeout_ms: 1,
            properties: BTreeMap::from([("transactional.id".to_owned(), "x".to_owned())]),
            ..KafkaSettings::default()
        };
        let topics = TopicSettings {
            answers: vec!["^llm.*".to_owned()],
            ..TopicSettings::default()
        };
        assert_eq!(
            keys(kafka, topics),
            [
                "kafka.bootstrap_servers",
                "kafka.heartbeat_interval_ms",
                "kafka.transaction_timeout_ms",
                "topics.answers[0]",
                "kafka.properties.transactional.id",
            ]
        );
    }

    #[test]
    fn processes_started_from_one_file_have_names_of_their_own() {
        let make = || {
            Connection::new(
                "moderation",
                KafkaSettings::default(),
                TopicSettings::default(),
            )
            .expect("the defaults are usable")
        };
        let (one, other) = (make(), make());
        assert!(one.identity.starts_with("moderation-"));
        assert_ne!(one.identity, other.identity);
        assert_eq!(one.group_id, "connect-moderation");
    }

    #[test]
    fn an_instance_id_names_the_process_for_good() {
        let kafka = KafkaSettings {
            instance_id: Some("2".to_owned()),
            ..KafkaSettings::default()
        };
        let connection = Connection::new("moderation", kafka, TopicSettings::default())
            .expect("an instance id is usable");
        assert_eq!(connection.identity, "moderation-2");
    }

    #[test]
    fn secrets_are_not_printed() {
        let kafka = KafkaSettings {
            properties: BTreeMap::from([
                ("sasl.password".to_owned(), "hunter2".to_owned()),
                ("ssl.key.password".to_owned(), "hunter3".to_owned()),
                ("sasl.username".to_owned(), "admin".to_owned()),
            ]),
            ..KafkaSettings::default()
        };
        let printed = format!("{kafka:?}");
        assert!(!printed.contains("hunter"), "{printed}");
        assert!(printed.contains("admin"));
    }
}
