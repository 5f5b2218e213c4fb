//! librdkafka properties: the full set for each client.
//!
//! A property given in the configuration ([`crate::given_properties`]) wins over ours.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::{
    sent_once::LEAST_BACKOFF_MS,
    settings::{Connection, DeliveryGuarantee},
};

/// A broker that is gone without a word is noticed within this time.
const MAX_SOCKET_TIMEOUT_MS: u32 = 10_000;

fn common(connection: &Connection) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &connection.kafka.bootstrap_servers)
        .set("client.id", &connection.identity)
        // Producers ask for it by default, and stock brokers grant it: a topic that somebody deletes
        // would be back within a refresh, with one partition and one replica.
        .set("allow.auto.create.topics", "false")
        .set("statistics.interval.ms", "1000")
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        .set("socket.timeout.ms", MAX_SOCKET_TIMEOUT_MS.to_string())
        .set("reconnect.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "1000")
        .set("topic.metadata.refresh.interval.ms", "30000");
    config
}

/// Properties that we set under the second name, and users may know by the first.
const ALIASES: [(&str, &str); 3] = [
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("compression.codec", "compression.type"),
    ("queue.buffering.max.ms", "linger.ms"),
];

fn with_given(mut config: ClientConfig, connection: &Connection) -> ClientConfig {
    // librdkafka takes the name that comes last, and they come in no order.
    for (alias, name) in ALIASES {
        if connection.kafka.properties.contains_key(alias) {
            config.remove(name);
        }
    }
    for (key, value) in &connection.kafka.properties {
        config.set(key, value);
    }
    config
}

/// The longest time between two polls before the group goes on without us.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

/// The same, of a consumer with these properties.
pub(crate) fn max_poll_interval(consumer: &ClientConfig) -> Duration {
    let given = consumer.get("max.poll.interval.ms");
    let given = given.and_then(|value| value.trim().parse().ok());
    Duration::from_millis(given.unwrap_or(MAX_POLL_INTERVAL_MS))
}

/// Properties of the consumer.
pub(crate) fn consumer(connection: &Connection) -> ClientConfig {
    let settings = &connection.kafka;
    let mut config = common(connection);
    config
        .set("group.id", &connection.group_id)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Also what makes the broker answer with stable committed offsets only.
        .set("isolation.level", "read_committed")
        // Where a new group begins is pinned when it begins (`start_position`). What is left for
        // this is records that retention deleted unread: go on with the oldest that are left.
        .set("auto.offset.reset", "earliest")
        // As in the Java client: a batch with a wrong checksum would be read as if it were right.
        .set("check.crcs", "true")
        .set("max.poll.interval.ms", MAX_POLL_INTERVAL_MS.to_string())
        // A suspension throws the prefetched records away, so few may be waiting, and few asked for
        // at a time; our own buffer, which a suspension keeps, holds the rest.
        .set("queued.max.messages.kbytes", "2048")
        .set("queued.min.messages", "20000")
        .set("fetch.message.max.bytes", "262144")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100");
    if let Some(instance) = &settings.instance_id {
        config.set("group.instance.id", instance);
    }
    if !settings.brokers_decide_on_sessions() {
        config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set(
                "session.timeout.ms",
                settings.session_timeout_ms.to_string(),
            )
            .set(
                "heartbeat.interval.ms",
                settings.heartbeat_interval_ms.to_string(),
            );
    }
    with_given(config, connection)
}

/// Properties of the producer.
pub(crate) fn producer(connection: &Connection) -> ClientConfig {
    let timeout = connection.kafka.transaction_timeout_ms.to_string();
    let mut config = common(connection);
    config
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", &timeout)
        // librdkafka holds the former against it, even without transactions.
        .set("transaction.timeout.ms", &timeout)
        .set("linger.ms", "1")
        // Less than half of zstd's time, for less than twice its bytes.
        .set("compression.type", "lz4")
        // The encoder bounds an output, and the broker judges it after compression: no third limit.
        .set("message.max.bytes", "1000000000")
        // The same event id goes to the same partition as from a Java producer.
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "131072")
        .set("retry.backoff.ms", "50")
        .set("retry.backoff.max.ms", "500");
    if connection.kafka.delivery == DeliveryGuarantee::ExactlyOnce {
        transactional(&mut config, connection, &connection.identity);
    }
    with_given(config, connection)
}

/// Properties of any producer with a transactional id.
fn transactional(config: &mut ClientConfig, connection: &Connection, id: &str) {
    let timeout = connection.kafka.transaction_timeout_ms;
    config
        .set("transactional.id", id)
        .set("transaction.timeout.ms", timeout.to_string())
        // A commit that takes nearly as long may have been sent twice, and costs its producer.
        .set("retry.backoff.ms", LEAST_BACKOFF_MS.to_string())
        .set("retry.backoff.max.ms", (2 * LEAST_BACKOFF_MS).to_string())
        // A silent broker must be noticed before the transaction is dead.
        .set(
            "socket.timeout.ms",
            timeout.min(MAX_SOCKET_TIMEOUT_MS).to_string(),
        );
}

/// Properties of a producer that exists only to end the transactions of a process that died.
pub(crate) fn successor(connection: &Connection, transactional_id: &str) -> ClientConfig {
    let mut config = common(connection);
    config
        .set("statistics.interval.ms", "0")
        .set("enable.idempotence", "true");
    transactional(&mut config, connection, transactional_id);
    with_given(config, connection)
}

/// Properties of a client that only looks.
pub(crate) fn looker(connection: &Connection) -> ClientConfig {
    let mut config = common(connection);
    config
        .set("group.id", &connection.group_id)
        .set("enable.auto.commit", "false")
        // Committed offsets are asked for only to learn whether we may; one that an open
        // transaction is about to change must not make us wait.
        .set("isolation.level", "read_uncommitted");
    outside_the_group(with_given(config, connection))
}

/// A client that never joins does without the properties of membership: they would only bring
/// rules of their own.
fn outside_the_group(mut config: ClientConfig) -> ClientConfig {
    for membership in [
        "group.protocol",
        "group.remote.assignor",
        "max.poll.interval.ms",
    ] {
        config.remove(membership);
    }
    config
}

/// Properties of a plain writer beside the pipeline.
pub(crate) fn writer(connection: &Connection) -> ClientConfig {
    let mut config = common(connection);
    config
        .set("client.id", format!("{}-writer", connection.identity))
        .set("statistics.interval.ms", "0")
        .set("enable.idempotence", "true")
        .set("linger.ms", "1")
        .set("partitioner", "murmur2_random");
    with_given(config, connection)
}

/// Properties of a plain reader beside the pipeline.
pub(crate) fn reader(connection: &Connection) -> ClientConfig {
    let mut config = common(connection);
    config
        .set("client.id", format!("{}-reader", connection.identity))
        .set("statistics.interval.ms", "0")
        // librdkafka wants a group even where partitions are assigned by hand; nothing joins it.
        .set("group.id", format!("{}-reader", connection.group_id))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest");
    outside_the_group(with_given(config, connection))
}

/// Properties of a plain reader that is told where a partition ends.
pub(crate) fn scanner(connection: &Connection) -> ClientConfig {
    let mut config = reader(connection);
    config
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        // It is told of an end by an answer without records, for which brokers wait so long.
        .set("fetch.wait.max.ms", "50")
        // A follower may not have all yet, and would tell of an end before it.
        .remove("client.rack");
    config
}

#[cfg(test)]
mod tests {
    use rdkafka::{consumer::BaseConsumer, producer::BaseProducer};

    use super::*;
    use crate::{
        given_properties::tests::given,
        settings::{KafkaSettings, TopicSettings},
    };

    fn connection(kafka: KafkaSettings) -> Connection {
        Connection::new("moderation", kafka, TopicSettings::default())
            .expect("these settings are usable")
    }

    /// Makes every client there is; none gets as far as a broker.
    fn make_all(connection: &Connection) {
        for config in [
            consumer(connection),
            looker(connection),
            reader(connection),
            scanner(connection),
        ] {
            let made: Result<BaseConsumer, _> = config.create();
            made.expect("librdkafka takes our properties");
        }
        for config in [
            producer(connection),
            successor(connection, "moderation-1"),
            writer(connection),
        ] {
            let made: Result<BaseProducer, _> = config.create();
            made.expect("librdkafka takes our properties");
        }
    }

    #[test]
    fn unusual_poll_intervals_and_transactions_are_taken_by_every_client() {
        make_all(&connection(given("max.poll.interval.ms", "6000")));
        for (delivery, transaction_timeout_ms) in [
            (DeliveryGuarantee::ExactlyOnce, 1_000),
            (DeliveryGuarantee::AtLeastOnce, 1_000),
            (DeliveryGuarantee::AtLeastOnce, 900_000),
        ] {
            make_all(&connection(KafkaSettings {
                delivery,
                transaction_timeout_ms,
                ..KafkaSettings::default()
            }));
        }
        let mut newer_protocol = given("group.protocol", "consumer");
        newer_protocol
            .properties
            .insert("max.poll.interval.ms".to_owned(), "5000".to_owned());
        make_all(&connection(newer_protocol));
    }

    #[test]
    fn ordinary_properties_reach_both_clients() {
        let connection = connection(given("security.protocol", "sasl_ssl"));
        for config in [consumer(&connection), producer(&connection)] {
            assert_eq!(config.get("security.protocol"), Some("sasl_ssl"));
            assert_eq!(config.get("client.id"), Some(connection.identity.as_str()));
        }
    }

    #[test]
    fn a_property_that_is_given_wins_by_whichever_name_it_is_known() {
        for (alias, value) in [
            ("max.partition.fetch.bytes", "1048576"),
            ("compression.codec", "zstd"),
            ("queue.buffering.max.ms", "7"),
        ] {
            let (_, name) = ALIASES
                .into_iter()
                .find(|(known, _)| *known == alias)
                .expect("it is listed");
            let connection = connection(given(alias, value));
            for config in [consumer(&connection), producer(&connection)] {
                assert_eq!(config.get(alias), Some(value));
                assert_eq!(config.get(name), None);
            }
        }
    }

    #[test]
    fn every_set_of_properties_is_one_librdkafka_takes() {
        for delivery in [
            DeliveryGuarantee::ExactlyOnce,
            DeliveryGuarantee::AtLeastOnce,
        ] {
            for instance_id in [None, Some("0".to_owned())] {
                make_all(&connection(KafkaSettings {
                    delivery,
                    instance_id,
                    ..KafkaSettings::default()
                }));
            }
        }
    }
}
