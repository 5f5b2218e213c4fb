//! What a name that is no property of librdkafka was likely meant to be.
//!
//! librdkafka only says that there is no such property, and cannot be asked for the names of all: its
//! dump leaves out those without a value, such as `sasl.password`. So what is compared with is a list of
//! those that people set.

use crate::given_properties::{NAMED_VALUES, REFUSED};

/// Properties of Java clients, by how they begin, and what is used here instead.
const OF_JAVA: [(&str, &str); 6] = [
    (
        "sasl.jaas.config",
        "sasl.mechanism, sasl.username and sasl.password, or with OAUTHBEARER \
         sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret",
    ),
    ("sasl.login.", "sasl.oauthbearer.method: oidc"),
    ("ssl.truststore.", "ssl.ca.location, a file in PEM"),
    (
        "ssl.keystore.type",
        "ssl.keystore.location, a file in PKCS#12, or ssl.certificate.location and ssl.key.location",
    ),
    (
        "ssl.keystore.certificate.chain",
        "ssl.certificate.location or ssl.certificate.pem",
    ),
    ("ssl.keystore.key", "ssl.key.location or ssl.key.pem"),
];

/// What people set, beside what has words for values, and what is refused here.
const SET: [&str; 40] = [
    "client.rack",
    "check.crcs",
    "compression.level",
    "connections.max.idle.ms",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "https.ca.location",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
];

/// Names that have less in common than this are not taken for each other.
const ALIKE: f64 = 0.75;

/// What is used instead of a property that Java clients alone have.
pub(crate) fn of_java(name: &str) -> Option<&'static str> {
    let mut known = OF_JAVA.into_iter();
    known.find_map(|(begin, instead)| name.starts_with(begin).then_some(instead))
}

/// The name that comes nearest.
pub(crate) fn meant(name: &str) -> Option<&'static str> {
    let written = name.to_lowercase();
    known()
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(known, &written),
                known,
            )
        })
        .filter(|(alike, _)| *alike > ALIKE)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

fn known() -> impl Iterator<Item = &'static str> {
    let named = NAMED_VALUES.into_iter().map(|(name, _)| name);
    let refused = REFUSED.iter().map(|(name, ..)| *name);
    SET.into_iter().chain(named).chain(refused)
}

#[cfg(test)]
mod tests {
    use rdkafka::{ClientConfig, error::KafkaError, types::RDKafkaConfRes};

    use super::*;

    #[test]
    fn every_name_that_is_compared_with_is_a_property_of_librdkafka() {
        for name in known() {
            let mut alone = ClientConfig::new();
            alone.set(name, "");
            let unknown = matches!(
                alone.create_native_config(),
                Err(KafkaError::ClientConfig(
                    RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
                    ..
                ))
            );
            assert!(!unknown, "{name}");
        }
    }

    #[test]
    fn a_slip_leads_to_the_name_that_was_meant_and_another_word_to_none() {
        for (written, name) in [
            ("sasl.pasword", Some("sasl.password")),
            ("sasl.user", None),
            ("sasl_username", Some("sasl.username")),
            ("SSL.CA.Location", Some("ssl.ca.location")),
            ("security.protocl", Some("security.protocol")),
            ("bootstrap.server", Some("bootstrap.servers")),
            ("key.deserializer", None),
            ("x", None),
        ] {
            assert_eq!(meant(written), name, "{written}");
        }
    }

    #[test]
    fn what_java_clients_alone_have_is_told_from_what_librdkafka_has_too() {
        for (name, instead) in [
            ("sasl.jaas.config", Some("sasl.mechanism")),
            ("ssl.truststore.location", Some("ssl.ca.location")),
            ("ssl.truststore.password", Some("ssl.ca.location")),
            ("ssl.keystore.type", Some("PKCS#12")),
            ("ssl.keystore.location", None),
            ("ssl.keystore.password", None),
            ("sasl.password", None),
        ] {
            let found = of_java(name);
            assert_eq!(found.is_some(), instead.is_some(), "{name}");
            let found = found.unwrap_or_default();
            assert!(found.contains(instead.unwrap_or_default()), "{found}");
        }
    }
}
