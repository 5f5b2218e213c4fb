//! A broker inside this process, for demonstrations without a Kafka.
//!
//! It is librdkafka's mock: real protocol over a loopback socket, records in memory, at most
//! 5 MiB of them per partition. Its transactions are a facade: every call succeeds, offsets sent
//! in a transaction are never committed, readers see aborted records, and nobody is fenced. The
//! pipeline runs on it unchanged, but nothing about delivery can be shown with it.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    config::{ClientConfig, FromClientConfig, RDKafkaLogLevel},
    error::KafkaError,
    producer::{DefaultProducerContext, Producer, ThreadedProducer},
};
use thiserror::Error;

use crate::native;

/// The mock broker could not be set up.
#[derive(Debug, Error)]
#[error("the mock broker could not {step}")]
pub struct MockError {
    step: String,
    source: Option<KafkaError>,
}

/// A broker that lives as long as this value.
pub struct MockBroker {
    /// The client that carries the mock and takes it along when dropped.
    carrier: ThreadedProducer<DefaultProducerContext>,
    bootstrap_servers: String,
}

impl std::fmt::Debug for MockBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MockBroker")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .finish_non_exhaustive()
    }
}

fn failed(step: String) -> impl FnOnce(KafkaError) -> MockError {
    move |source| MockError {
        step,
        source: Some(source),
    }
}

fn nowhere() -> MockError {
    MockError {
        step: "be found behind its client".to_owned(),
        source: None,
    }
}

impl MockBroker {
    /// Starts a broker with these topics and numbers of partitions.
    ///
    /// # Errors
    ///
    /// When the port or the topics cannot be had.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, MockError> {
        let mut config = ClientConfig::new();
        config
            .set("test.mock.num.brokers", "1")
            .set_log_level(RDKafkaLogLevel::Error);
        let carrier: ThreadedProducer<DefaultProducerContext> =
            ThreadedProducer::from_config(&config).map_err(failed("be started".to_owned()))?;
        if !native::set_mock_rebalance_delay(carrier.client(), Duration::ZERO) {
            return Err(nowhere());
        }
        let cluster = carrier.client().mock_cluster();
        let bootstrap_servers = cluster.ok_or_else(nowhere)?.bootstrap_servers();
        let broker = Self {
            carrier,
            bootstrap_servers,
        };
        for (topic, partitions) in topics {
            broker.add_topic(topic, *partitions)?;
        }
        Ok(broker)
    }

    /// Makes a topic.
    ///
    /// # Errors
    ///
    /// When it cannot be had.
    pub fn add_topic(&self, topic: &str, partitions: i32) -> Result<(), MockError> {
        let cluster = self.carrier.client().mock_cluster().ok_or_else(nowhere)?;
        cluster
            .create_topic(topic, partitions, 1)
            .map_err(failed(format!("make topic \"{topic}\"")))
    }

    /// Where clients find it.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// librdkafka properties that clients of this broker need: it does not wake a waiting fetch
    /// when records arrive.
    pub fn client_properties() -> BTreeMap<String, String> {
        BTreeMap::from([("fetch.wait.max.ms".to_owned(), "10".to_owned())])
    }

    #[cfg(test)]
    pub(crate) fn with_cluster<R>(
        &self,
        act: impl FnOnce(
            &rdkafka::mocking::MockCluster<'_, rdkafka::producer::DefaultProducerContext>,
        ) -> R,
    ) -> R {
        let cluster = self
            .carrier
            .client()
            .mock_cluster()
            .expect("the carrier was started with a mock");
        act(&cluster)
    }
}
