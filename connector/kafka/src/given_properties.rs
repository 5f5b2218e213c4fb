//! librdkafka properties of the configuration: which ones a person may set to what, and which must
//! never be shown.
//!
//! Brokers and networks differ, so most are taken as they are; those that the delivery guarantee rests
//! on, and those that would be overruled, cannot be given at all.

use std::{collections::BTreeMap, fmt};

use rdkafka::{
    ClientConfig,
    consumer::BaseConsumer,
    error::{KafkaError, KafkaResult},
    producer::BaseProducer,
    types::RDKafkaConfRes,
};

use crate::{
    fault::Fault,
    misspelt, properties,
    sent_once::LEAST_BACKOFF_MS,
    settings::{Connection, DeliveryGuarantee, KafkaSettings, Problem},
};

/// Properties that are not for a person to set, each with why, unless a setting of ours says the same,
/// and what to do instead.
pub(crate) const REFUSED: &[(&str, Option<&str>, &str)] = &[
    ("acks", Some("exactly once needs all of them"), "remove it"),
    (
        "allow.auto.create.topics",
        Some("a topic that was deleted must not come back by being looked at"),
        "set topics.create",
    ),
    ("auto.offset.reset", None, "set kafka.start_from"),
    (
        "batch.size",
        Some("it begins at 1000000 and shrinks where a broker refuses a batch"),
        "remove it",
    ),
    ("bootstrap.servers", None, "set kafka.bootstrap_servers"),
    (
        "client.id",
        Some("it is the transactional id"),
        "set name and kafka.instance_id",
    ),
    (
        "debug",
        Some("what librdkafka says for debugging is not logged"),
        "set telemetry.log_level to info,aligner_kafka=debug for the rest",
    ),
    (
        "delivery.report.only.error",
        Some("every delivery is counted before a commit"),
        "remove it",
    ),
    (
        "enable.auto.commit",
        Some("offsets are committed with the outputs"),
        "remove it",
    ),
    (
        "enable.auto.offset.store",
        Some("offsets are committed with the outputs"),
        "remove it",
    ),
    (
        "enable.idempotence",
        Some("both delivery modes need it"),
        "remove it",
    ),
    (
        "enable.partition.eof",
        Some("the end of a partition is no event here"),
        "remove it",
    ),
    (
        "enabled_events",
        Some("the client library sets it"),
        "remove it",
    ),
    ("group.id", None, "set kafka.group_id"),
    ("group.instance.id", None, "set kafka.instance_id"),
    (
        "heartbeat.interval.ms",
        None,
        "set kafka.heartbeat_interval_ms",
    ),
    (
        "isolation.level",
        Some("it also makes committed offsets stable"),
        "remove it",
    ),
    ("log.queue", Some("the client library sets it"), "remove it"),
    ("log_level", None, "set telemetry.log_level"),
    ("message.max.bytes", None, "set pipeline.max_output_bytes"),
    (
        "message.timeout.ms",
        None,
        "set kafka.transaction_timeout_ms",
    ),
    (
        "delivery.timeout.ms",
        None,
        "set kafka.transaction_timeout_ms",
    ),
    ("metadata.broker.list", None, "set kafka.bootstrap_servers"),
    (
        "partition.assignment.strategy",
        Some("cooperative-sticky keeps partitions that do not move"),
        "remove it",
    ),
    (
        "request.required.acks",
        Some("exactly once needs all of them"),
        "remove it",
    ),
    ("session.timeout.ms", None, "set kafka.session_timeout_ms"),
    (
        "statistics.interval.ms",
        Some("readiness and metrics rest on a report every second"),
        "remove it",
    ),
    (
        "topic.blacklist",
        Some("topics.answers says what is read"),
        "remove it",
    ),
    (
        "transaction.timeout.ms",
        None,
        "set kafka.transaction_timeout_ms",
    ),
    ("transactional.id", None, "set name and kafka.instance_id"),
];

/// The values of properties that have names for them; librdkafka only says that it has others.
pub(crate) const NAMED_VALUES: [(&str, &str); 9] = [
    ("broker.address.family", "any, v4, v6"),
    (
        "client.dns.lookup",
        "use_all_dns_ips, resolve_canonical_bootstrap_servers_only",
    ),
    ("compression.codec", "none, gzip, snappy, lz4, zstd"),
    ("compression.type", "none, gzip, snappy, lz4, zstd"),
    ("group.protocol", "classic, consumer"),
    ("metadata.recovery.strategy", "none, rebootstrap"),
    // Without the two that exactly once rules out.
    (
        "partitioner",
        "murmur2_random, murmur2, consistent, fnv1a_random, fnv1a",
    ),
    (
        "security.protocol",
        "plaintext, ssl, sasl_plaintext, sasl_ssl",
    ),
    ("ssl.endpoint.identification.algorithm", "https, none"),
];

/// The values that a property takes, separated by commas, if they are words.
pub fn named_values(property: &str) -> Option<&'static str> {
    let mut named = NAMED_VALUES.into_iter();
    named.find_map(|(name, values)| (name == property).then_some(values))
}

/// Why no property of this name can be given, whatever its value.
pub fn property_fault(name: &str) -> Option<Fault> {
    if let Some((_, reason, fix)) = REFUSED.iter().find(|(refused, ..)| *refused == name) {
        let message = match reason {
            Some(reason) => format!("cannot be set here: {reason}"),
            None => "cannot be set here".to_owned(),
        };
        return Some(Fault::with_fix(message, *fix));
    }
    if let Some(instead) = misspelt::of_java(name) {
        return Some(Fault::with_fix(
            "it is for Java clients only",
            format!("use {instead}"),
        ));
    }
    let message = unknown(name)?;
    let meant =
        misspelt::meant(name).map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    Some(Fault::new(format!("librdkafka says: {message}{meant}")))
}

/// Whether neither librdkafka nor we have a word on a property: it may be the misspelt one of any other.
pub fn is_unknown(name: &str) -> bool {
    misspelt::of_java(name).is_none() && unknown(name).is_some()
}

/// What librdkafka says of a name that is no property of its.
fn unknown(name: &str) -> Option<String> {
    let mut alone = ClientConfig::new();
    alone.set(name, "");
    match alone.create_native_config() {
        Err(KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, message, ..)) => {
            Some(message)
        }
        _ => None,
    }
}

/// What is wrong with the properties given.
pub(crate) fn problems(settings: &KafkaSettings) -> Vec<Problem> {
    let mut found = Vec::new();
    for (key, value) in &settings.properties {
        let fault = property_fault(key)
            .or_else(|| unusable(key, value))
            .or_else(|| at_odds(key, value, settings));
        if let Some(fault) = fault {
            found.push(Problem {
                key: format!("kafka.properties.{key}"),
                fault,
            });
        }
    }
    found
}

/// What librdkafka finds wrong with properties that are each right, which it says only once a client is made of
/// them. None connects: it has no servers. Logins and certificates are left out, since they may be at hand
/// only where the service runs.
pub(crate) fn contradiction(connection: &Connection) -> Option<Fault> {
    let consumer =
        || -> KafkaResult<BaseConsumer> { alone(properties::consumer(connection)).create() };
    let producer =
        || -> KafkaResult<BaseProducer> { alone(properties::producer(connection)).create() };
    let refused = consumer().err().or_else(|| producer().err())?;
    let KafkaError::ClientCreation(said) = refused else {
        return Some(Fault::new(format!("librdkafka says: {refused}")));
    };
    Some(Fault::with_fix(
        format!("librdkafka says of these together: {said}"),
        "change or remove the one that you gave",
    ))
}

fn alone(mut config: ClientConfig) -> ClientConfig {
    let remote: Vec<String> = config
        .config_map()
        .keys()
        .filter(|key| {
            let of_a_login = ["ssl.", "sasl.", "security."];
            **key == "bootstrap.servers" || of_a_login.iter().any(|start| key.starts_with(start))
        })
        .map(|key| (*key).to_owned())
        .collect();
    for key in remote {
        config.remove(&key);
    }
    config.set("statistics.interval.ms", "0");
    config
}

/// Asks librdkafka, which knows its properties best. Its message may repeat the value, so it is
/// passed on only where the value is no secret.
fn unusable(key: &str, value: &str) -> Option<Fault> {
    let mut alone = ClientConfig::new();
    alone.set(key, value);
    match alone.create_native_config() {
        Ok(_) => None,
        Err(_) if is_secret(key) => Some(Fault::new("librdkafka does not take this value")),
        Err(KafkaError::ClientConfig(_, message, ..)) => {
            Some(Fault::new(format!("librdkafka says: {message}")))
        }
        Err(error) => Some(Fault::new(format!("librdkafka says: {error}"))),
    }
}

/// Where a property contradicts a setting of ours. librdkafka finds that out too, but only once a
/// client is made, and then speaks of properties that nobody wrote.
fn at_odds(key: &str, value: &str, settings: &KafkaSettings) -> Option<Fault> {
    if key == "partitioner" {
        return wayward(value, settings);
    }
    let value: u32 = value.trim().parse().ok()?;
    match key {
        "max.poll.interval.ms"
            if !settings.brokers_decide_on_sessions() && value < settings.session_timeout_ms =>
        {
            let session = settings.session_timeout_ms;
            Some(Fault::with_fix(
                format!("{value} is below kafka.session_timeout_ms {session}"),
                format!("use {session} or more, or lower the session's"),
            ))
        }
        "retry.backoff.ms" | "retry.backoff.max.ms"
            if settings.delivery == DeliveryGuarantee::ExactlyOnce && value < LEAST_BACKOFF_MS =>
        {
            Some(Fault::with_fix(
                format!(
                    "{value} is below {LEAST_BACKOFF_MS}: a commit that takes nearly as long may have been sent \
                     twice, and the next transaction would need a new producer"
                ),
                format!("use {LEAST_BACKOFF_MS} or more, or remove it"),
            ))
        }
        "socket.timeout.ms"
            if settings.delivery == DeliveryGuarantee::ExactlyOnce
                && value > settings.transaction_timeout_ms =>
        {
            let transaction = settings.transaction_timeout_ms;
            Some(Fault::with_fix(
                format!(
                    "{value} is above kafka.transaction_timeout_ms {transaction}: a request would \
                     outlive its transaction"
                ),
                format!("use {transaction} or less, or raise the transaction's"),
            ))
        }
        _ => None,
    }
}

/// Why outputs must not be spread like this: a transaction that failed is written a second time, to the
/// same partitions ([`crate::unended`]), and only the keys say which those were. Every output has one; the
/// key of a dead letter is the record's own, and may be empty.
fn wayward(partitioner: &str, settings: &KafkaSettings) -> Option<Fault> {
    if settings.delivery != DeliveryGuarantee::ExactlyOnce {
        return None;
    }
    let instead = match partitioner {
        "random" => "remove it",
        "consistent_random" => "use consistent, which differs for empty keys alone",
        _ => return None,
    };
    Some(Fault::with_fix(
        format!(
            "{partitioner} may choose another partition for the same key: exactly once writes what \
             a failed transaction held a second time, and must find its partitions again"
        ),
        instead,
    ))
}

/// Whether a property's value must never be printed.
pub fn is_secret(key: &str) -> bool {
    // Where tokens come from is named in errors, and written in every configuration that has some.
    let is_address = key.ends_with(".url");
    !is_address
        && [
            "password",
            "secret",
            ".pem",
            // A private key of Java clients.
            "keystore.key",
            "jaas",
            "token",
            "sasl.oauthbearer.config",
        ]
        .iter()
        .any(|word| key.contains(word))
}

/// Prints properties without their secrets.
pub(crate) struct Redacted<'a>(pub &'a BTreeMap<String, String>);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(key, value)| {
                let shown = if is_secret(key) { "[redacted]" } else { value };
                (key, shown)
            }))
            .finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::settings::{self, TopicSettings};

    /// Settings with one property.
    pub(crate) fn given(key: &str, value: &str) -> KafkaSettings {
        KafkaSettings {
            properties: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..KafkaSettings::default()
        }
    }

    #[test]
    fn what_the_guarantee_rests_on_is_refused_with_a_fix() {
        for key in [
            "enable.auto.commit",
            "transactional.id",
            "isolation.level",
            "group.instance.id",
            "acks",
        ] {
            let found = problems(&given(key, "true"));
            assert_eq!(found.len(), 1, "{key}");
            assert_eq!(found[0].key, format!("kafka.properties.{key}"));
            let fault = &found[0].fault;
            assert!(fault.message.starts_with("cannot be set here"), "{fault}");
            assert!(fault.fix.is_some(), "{fault}");
        }
    }

    #[test]
    fn a_property_that_would_be_overruled_is_refused_with_the_reason() {
        for (key, value, reason) in [
            // 0 would leave a connector unready for ever.
            ("statistics.interval.ms", "0", "readiness"),
            ("statistics.interval.ms", "1000", "readiness"),
            ("batch.size", "16384", "shrinks where a broker refuses"),
            ("debug", "consumer", "telemetry.log_level"),
            ("log_level", "7", "telemetry.log_level"),
            ("log.queue", "false", "the client library"),
            ("enabled_events", "0", "the client library"),
        ] {
            let found = problems(&given(key, value));
            assert_eq!(found.len(), 1, "{key}");
            let told = found[0].to_string();
            assert!(told.contains(reason), "{told}");
        }
    }

    #[test]
    fn properties_that_no_client_can_be_made_of_are_told_without_a_connection() {
        let found = |key: &str, value: &str| {
            settings::problems("moderation", &given(key, value), &TopicSettings::default())
        };
        for (key, value, said) in [
            ("fetch.max.bytes", "10", "`fetch.max.bytes`"),
            ("linger.ms", "100000", "`linger.ms`"),
            (
                "reconnect.backoff.max.ms",
                "50",
                "`reconnect.backoff.max.ms`",
            ),
        ] {
            let found = found(key, value);
            assert_eq!(found.len(), 1, "{key}: {found:?}");
            assert_eq!(found[0].key, "kafka.properties");
            assert!(found[0].fault.message.contains(said), "{found:?}");
        }
        // Where the service runs there may be one.
        assert_eq!(found("ssl.ca.location", "/not/here.pem"), []);
        assert_eq!(found("linger.ms", "5"), []);
    }

    #[test]
    fn every_property_that_is_refused_is_one_of_librdkafka() {
        for (key, ..) in REFUSED {
            assert_eq!(unknown(key), None, "{key}");
        }
    }

    #[test]
    fn a_property_that_librdkafka_does_not_know_is_refused_with_the_one_that_was_likely_meant() {
        for (name, meant) in [
            ("sasl.pasword", "; did you mean sasl.password?"),
            ("security.protocl", "; did you mean security.protocol?"),
            ("key.deserializer", ""),
        ] {
            let found = problems(&given(name, "x"));
            let message = &found[0].fault.message;
            assert!(
                message.contains("No such configuration property"),
                "{message}"
            );
            assert!(message.ends_with(meant), "{message}");
            assert_eq!(
                message.contains("did you mean"),
                !meant.is_empty(),
                "{message}"
            );
        }
    }

    #[test]
    fn a_property_of_java_clients_is_refused_with_what_is_used_here() {
        let found = problems(&given("sasl.jaas.config", "a.b.PlainLoginModule required;"));
        assert_eq!(
            found[0].fault.to_string(),
            "it is for Java clients only; use sasl.mechanism, sasl.username and sasl.password, or with \
             OAUTHBEARER sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret"
        );
    }

    #[test]
    fn values_that_are_named_are_taken_and_others_are_not() {
        for (name, values) in NAMED_VALUES {
            assert_eq!(named_values(name), Some(values));
            assert_eq!(problems(&given(name, "nonsense")).len(), 1, "{name}");
            for value in values.split(", ") {
                assert_eq!(problems(&given(name, value)), [], "{name}: {value}");
            }
        }
        assert_eq!(named_values("fetch.wait.max.ms"), None);
    }

    #[test]
    fn a_property_that_contradicts_a_setting_is_refused_in_the_words_of_the_setting() {
        let found = problems(&given("max.poll.interval.ms", "5999"));
        assert_eq!(
            found[0].fault.to_string(),
            "5999 is below kafka.session_timeout_ms 6000; use 6000 or more, or lower the session's"
        );
        let found = problems(&given("socket.timeout.ms", "10001"));
        assert_eq!(
            found[0].fault.to_string(),
            "10001 is above kafka.transaction_timeout_ms 10000: a request would outlive its \
             transaction; use 10000 or less, or raise the transaction's"
        );
        let found = problems(&given("retry.backoff.ms", "100"));
        assert_eq!(
            found[0].fault.to_string(),
            "100 is below 500: a commit that takes nearly as long may have been sent twice, and the next \
             transaction would need a new producer; use 500 or more, or remove it"
        );
        assert_eq!(problems(&given("retry.backoff.ms", "500")), []);
        for (name, value) in [("socket.timeout.ms", "60000"), ("retry.backoff.ms", "100")] {
            let without_transactions = KafkaSettings {
                delivery: DeliveryGuarantee::AtLeastOnce,
                ..given(name, value)
            };
            assert_eq!(problems(&without_transactions), []);
        }
    }

    #[test]
    fn a_partitioner_that_does_not_go_by_the_key_alone_is_refused_with_exactly_once() {
        for value in ["random", "consistent_random"] {
            let found = problems(&given("partitioner", value));
            assert_eq!(found.len(), 1, "{value}");
            assert!(
                found[0].fault.message.contains("find its partitions again"),
                "{value}"
            );
            let without_transactions = KafkaSettings {
                delivery: DeliveryGuarantee::AtLeastOnce,
                ..given("partitioner", value)
            };
            assert_eq!(problems(&without_transactions), []);
        }
        for value in [
            "murmur2_random",
            "murmur2",
            "consistent",
            "fnv1a_random",
            "fnv1a",
        ] {
            assert_eq!(problems(&given("partitioner", value)), []);
        }
    }
}
