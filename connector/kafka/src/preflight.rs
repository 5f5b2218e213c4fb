//! Looks before anything is started, and names what is wrong.
//!
//! A broker that is not there yet is waited for: it may be starting, and the log says what is
//! missed. Everything that waiting does not mend ends the start with its cause: a refused
//! password, a failed TLS handshake, a missing topic, a missing permission.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::Client,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use thiserror::Error;

use crate::{
    listener::{ClientFault, Listener},
    missing_topics::MissingTopics,
    native::Listed,
    properties,
    repeats::RepeatFilter,
    settings::Connection,
    start_position::Found,
    topics,
};

/// How long one question to a broker may take. Short, so that errors reported on the side are
/// looked at soon.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a topic may be unknown to whichever broker is asked before it is missing: brokers learn of
/// a new one, and a broker that has just started of all of them, a little later than others.
const ABSENCE_PATIENCE: Duration = Duration::from_secs(3);
/// Between questions to a broker that does not answer.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

/// Why the connection to Kafka was not set up. Waiting mends none of these.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartError {
    /// The brokers refuse our name or password.
    #[error(
        "kafka at {servers} refuses the login: {cause}; check sasl.mechanism, sasl.username and \
         sasl.password in kafka.properties"
    )]
    Login {
        /// As configured.
        servers: String,
        /// What the broker says.
        cause: String,
    },
    /// The brokers refuse a token that was just issued to us.
    #[error(
        "kafka at {servers} refuses the access token: {cause}; check that the token endpoint issues \
         it for this cluster, as sasl.oauthbearer.scope and sasl.oauthbearer.extensions in \
         kafka.properties may have to say, and that the brokers trust its issuer and audience"
    )]
    RefusedToken {
        /// As configured.
        servers: String,
        /// What the broker says.
        cause: String,
    },
    /// No token is issued to us.
    #[error("no access token to log in to kafka with: {0}")]
    Token(String),
    /// The TLS handshake fails.
    #[error(
        "TLS with kafka at {servers} fails: {cause}; check security.protocol, ssl.ca.location, \
         ssl.certificate.location and ssl.key.location in kafka.properties, and whether the brokers' \
         certificates name the hosts by which they are reached"
    )]
    Tls {
        /// As configured.
        servers: String,
        /// What the TLS library says.
        cause: String,
    },
    /// Topics are not there.
    #[error("{0}")]
    MissingTopics(MissingTopics),
    /// We may not do what we must.
    #[error("kafka does not permit it: {0}")]
    Forbidden(String),
    /// A topic cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// Something else that stands in the way.
    #[error("connection to kafka could not be set up: {0}")]
    Other(String),
    /// The one who asked does not wait any more.
    #[error("the start was given up")]
    GivenUp,
}

/// What to say where brokers answer at first and then do not: they name the addresses at which they are
/// asked from then on.
pub(crate) fn advertised<C: ClientContext>(client: &Client<C>, topic: Option<&str>) -> String {
    let metadata = client.fetch_metadata(topic, QUESTION_TIMEOUT).ok();
    let named: Vec<_> = metadata
        .iter()
        .flat_map(|metadata| metadata.brokers())
        .map(|broker| format!("{}:{}", broker.host(), broker.port()))
        .collect();
    if named.is_empty() {
        return String::new();
    }
    format!(
        "; the brokers say that they are at {} (their advertised.listeners): see whether these can be reached \
         from here",
        named.join(", ")
    )
}

/// Listens to a client that only looks.
pub(crate) struct Looker(pub(crate) Listener);

impl ClientContext for Looker {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.0.stats_raw(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // Where it was asked for, it is told as an error, and is none.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            self.0.error(error, reason);
        }
    }
}

impl ConsumerContext for Looker {}

/// A client that looks at the cluster and joins nothing.
pub(crate) struct Preflight<'a> {
    connection: &'a Connection,
    client: Listed<BaseConsumer<Looker>>,
    given_up: Arc<AtomicBool>,
}

/// Looks whether the topics are there and may be used, and says by name what is wrong. Blocks; waits for brokers
/// that are not there yet, until somebody gives up.
///
/// # Errors
///
/// When something is missing or not permitted.
pub fn preflight(
    connection: &Connection,
    runtime: &tokio::runtime::Handle,
    given_up: &Arc<AtomicBool>,
) -> Result<(), StartError> {
    if let Some(login) = &connection.login {
        login.wait(given_up)?;
    }
    Preflight::new(connection, Arc::clone(given_up))?.run(runtime)?;
    Ok(())
}

/// What a topic looks like from here.
enum Seen {
    Partitions(i32),
    Missing,
}

impl<'a> Preflight<'a> {
    pub(crate) fn new(
        connection: &'a Connection,
        given_up: Arc<AtomicBool>,
    ) -> Result<Self, StartError> {
        let mut config = properties::looker(connection);
        config.set_log_level(RDKafkaLogLevel::Info);
        let looker = Looker(Listener::new("preflight", None, &config));
        let client = connection
            .client(&config, looker)
            .map_err(|error| StartError::Other(error.to_string()))?;
        Ok(Self {
            connection,
            client,
            given_up,
        })
    }

    /// Looks at everything that can be looked at without writing; returns the answer topics.
    pub(crate) fn run(
        &self,
        runtime: &tokio::runtime::Handle,
    ) -> Result<BTreeMap<String, Found>, StartError> {
        self.wait_for_a_broker()?;
        // From here on somebody answers, and what cannot be answered in time is a finding.
        let deadline = Instant::now() + self.connection.start_timeout();
        let answers = self.look_at_topics(deadline, runtime)?;
        let found = self.look_at_group(&answers, deadline)?;
        tracing::info!(
            group = %self.connection.group_id,
            identity = %self.connection.identity,
            partitions = most_partitions(&answers),
            "kafka is reachable and topics are there"
        );
        Ok(found)
    }

    /// Between two questions: errors are reported to whoever polls, and some end the start.
    fn pause(&self) -> Result<(), StartError> {
        let _ = self.client.poll(RETRY_PAUSE);
        self.client.context().0.remind(self.client.client());
        if self.given_up.load(Ordering::Acquire) {
            return Err(StartError::GivenUp);
        }
        match self.client.context().0.fault() {
            Some(fault) => self.judge(&fault),
            None => Ok(()),
        }
    }

    fn judge(&self, fault: &ClientFault) -> Result<(), StartError> {
        let servers = self.connection.kafka.bootstrap_servers.clone();
        let cause = fault.reason.clone();
        match (fault.code, &self.connection.login) {
            (_, Some(login)) if fault.is_refused_login() => {
                if login.is_about_the_present(fault) {
                    Err(StartError::RefusedToken { servers, cause })
                } else {
                    Ok(())
                }
            }
            (_, None) if fault.is_refused_login() => Err(StartError::Login { servers, cause }),
            (RDKafkaErrorCode::SSL, _) => Err(StartError::Tls { servers, cause }),
            _ => Ok(()),
        }
    }

    fn wait_for_a_broker(&self) -> Result<(), StartError> {
        let mut repeats = RepeatFilter::default();
        loop {
            let answer = self.client.fetch_metadata(
                self.connection.topics.answers.first().map(String::as_str),
                QUESTION_TIMEOUT,
            );
            match answer {
                Ok(_) => return Ok(()),
                Err(error) => {
                    self.pause()?;
                    if repeats.admit("unreachable", Instant::now()).is_some() {
                        let reason = self
                            .client
                            .context()
                            .0
                            .fault()
                            .map_or_else(|| error.to_string(), |fault| fault.reason);
                        tracing::warn!(
                            servers = %self.connection.kafka.bootstrap_servers,
                            "kafka is not reachable, waiting for it: {reason}; check \
                             kafka.bootstrap_servers and kafka.properties.security.protocol"
                        );
                    }
                }
            }
        }
    }

    /// The answer topics, with the number of their partitions.
    fn look_at_topics(
        &self,
        deadline: Instant,
        runtime: &tokio::runtime::Handle,
    ) -> Result<BTreeMap<String, i32>, StartError> {
        let settings = &self.connection.topics;
        let believed = Instant::now() + ABSENCE_PATIENCE;
        let mut missing_answers = Vec::new();
        let mut answers = BTreeMap::new();
        for topic in &settings.answers {
            match self.look_at_topic(topic, believed, deadline)? {
                Seen::Partitions(count) => {
                    answers.insert(topic.clone(), count);
                }
                Seen::Missing => missing_answers.push(topic.clone()),
            }
        }
        let partitions = most_partitions(&answers);
        let mut missing_outputs = Vec::new();
        for (_, topic) in settings.outputs() {
            if let Seen::Missing = self.look_at_topic(topic, believed, deadline)? {
                missing_outputs.push(topic.to_owned());
            }
        }
        let wanted = partitions.max(1);
        if missing_answers.is_empty() && settings.create && !missing_outputs.is_empty() {
            let specs: Vec<_> = missing_outputs
                .iter()
                .map(|topic| (topic.as_str(), wanted))
                .collect();
            let made = runtime.block_on(topics::create(self.connection, &specs))?;
            if !made.is_empty() {
                let topics = made.join(" ");
                tracing::info!(topics, partitions = wanted, "output topics made");
            }
            return Ok(answers);
        }
        if missing_answers.is_empty() && missing_outputs.is_empty() {
            return Ok(answers);
        }
        Err(StartError::MissingTopics(MissingTopics {
            answers: missing_answers,
            outputs: missing_outputs,
            create: settings.create,
            servers: self.connection.kafka.bootstrap_servers.clone(),
            partitions: (partitions > 0).then_some(partitions),
        }))
    }

    /// Asks until a broker tells of the topic; one that is unknown after `believed` is missing.
    fn look_at_topic(
        &self,
        topic: &str,
        believed: Instant,
        deadline: Instant,
    ) -> Result<Seen, StartError> {
        loop {
            let problem = match self.client.fetch_metadata(Some(topic), QUESTION_TIMEOUT) {
                Ok(metadata) => {
                    let found = metadata.topics().iter().find(|found| found.name() == topic);
                    match found.map(|found| (found.error(), found.partitions().len())) {
                        Some((None, count)) if count > 0 => {
                            let count = i32::try_from(count).unwrap_or(i32::MAX);
                            return Ok(Seen::Partitions(count));
                        }
                        Some((Some(code), _)) => match RDKafkaErrorCode::from(code) {
                            RDKafkaErrorCode::UnknownTopicOrPartition
                            | RDKafkaErrorCode::UnknownTopic
                                if Instant::now() >= believed =>
                            {
                                return Ok(Seen::Missing);
                            }
                            RDKafkaErrorCode::TopicAuthorizationFailed => {
                                return Err(StartError::Forbidden(format!(
                                    "topic \"{topic}\" may not be used by this user; allow READ \
                                     and DESCRIBE on answer topics, WRITE and DESCRIBE on \
                                     output topics"
                                )));
                            }
                            other => other.to_string(),
                        },
                        Some((None, _)) | None => "no partitions yet".to_owned(),
                    }
                }
                Err(error) => error.to_string(),
            };
            self.pause()?;
            if Instant::now() >= deadline {
                return Err(StartError::Other(format!(
                    "nothing could be learned about topic \"{topic}\": {problem}"
                )));
            }
        }
    }

    fn look_at_group(
        &self,
        answers: &BTreeMap<String, i32>,
        deadline: Instant,
    ) -> Result<BTreeMap<String, Found>, StartError> {
        loop {
            let problem = match self.committed_in(answers) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            self.pause()?;
            // Who may not even look for the coordinator is told so on the side alone.
            let told = self.client.context().0.fault().map(|fault| fault.code);
            if [problem.rdkafka_error_code(), told]
                .contains(&Some(RDKafkaErrorCode::GroupAuthorizationFailed))
            {
                return Err(StartError::Forbidden(format!(
                    "consumer group \"{}\" may not be used by this user; allow READ on it",
                    self.connection.group_id
                )));
            }
            if Instant::now() >= deadline {
                return Err(StartError::Other(format!(
                    "the coordinator of consumer group \"{}\" does not answer: {problem}{}",
                    self.connection.group_id,
                    advertised(
                        self.client.client(),
                        self.connection.topics.answers.first().map(String::as_str)
                    )
                )));
            }
        }
    }

    /// Whether the group has committed anything in these topics.
    fn committed_in(
        &self,
        answers: &BTreeMap<String, i32>,
    ) -> KafkaResult<BTreeMap<String, Found>> {
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in answers {
            list.add_partition_range(topic, 0, partitions - 1);
        }
        let committed = self.client.committed_offsets(list, QUESTION_TIMEOUT)?;
        let mut found = BTreeMap::new();
        for (topic, partitions) in answers {
            let mut begun = false;
            for element in committed.elements_for_topic(topic) {
                element.error()?;
                begun |= matches!(element.offset(), Offset::Offset(_));
            }
            let partitions = *partitions;
            found.insert(topic.clone(), Found { partitions, begun });
        }
        Ok(found)
    }
}

fn most_partitions(answers: &BTreeMap<String, i32>) -> i32 {
    answers.values().copied().max().unwrap_or(0)
}
