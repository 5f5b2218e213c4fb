//! Makes topics.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    error::RDKafkaErrorCode,
};

use crate::{
    native::Listed,
    preflight::{StartError, advertised},
    properties,
    settings::Connection,
};

/// How long brokers may take to make topics.
const CREATE_TIMEOUT: Duration = Duration::from_secs(15);
/// Lets the broker choose the replication factor.
const BROKER_DEFAULT: i32 = -1;

/// Makes topics with these numbers of partitions, and tells which it made: one that is there
/// already is left as it is.
///
/// # Errors
///
/// When the broker refuses one, with the topic and its reason.
pub async fn create(
    connection: &Connection,
    topics: &[(&str, i32)],
) -> Result<Vec<String>, StartError> {
    let mut config = properties::looker(connection);
    config.set_log_level(RDKafkaLogLevel::Error);
    let admin: Listed<AdminClient<DefaultClientContext>> = connection
        .client(&config, DefaultClientContext)
        .map_err(|error| StartError::Other(error.to_string()))?;
    let wanted: Vec<_> = topics
        .iter()
        .map(|(name, partitions)| {
            NewTopic::new(name, *partitions, TopicReplication::Fixed(BROKER_DEFAULT))
        })
        .collect();
    let options = AdminOptions::new()
        .operation_timeout(Some(CREATE_TIMEOUT))
        .request_timeout(Some(CREATE_TIMEOUT));
    let results = admin
        .create_topics(&wanted, &options)
        .await
        .map_err(|error| {
            let topic = topics.first().map(|(name, _)| *name);
            let advertised = advertised(admin.inner(), topic);
            StartError::Other(format!("topics could not be made: {error}{advertised}"))
        })?;
    let mut made = Vec::new();
    for result in results {
        match result {
            Ok(topic) => made.push(topic),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((
                topic,
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => {
                return Err(StartError::Forbidden(format!(
                    "topic \"{topic}\" may not be made by this user; allow CREATE on it, or make \
                     it beforehand"
                )));
            }
            Err((topic, code)) => {
                return Err(StartError::Other(format!(
                    "topic \"{topic}\" could not be made: {code}"
                )));
            }
        }
    }
    Ok(made)
}
