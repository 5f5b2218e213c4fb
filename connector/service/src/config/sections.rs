//! Sections as the crates that use them want them.

use std::{collections::BTreeMap, path::PathBuf};

use aligner::{
    Profile,
    prompt::{ALPACA_EVAL, Template},
};
use aligner_kafka::{KafkaSettings, TopicSettings};
use aligner_records::{FieldMap, FieldMapError};
use aligner_registry::RegistrySettings;
use anyhow::Context;

use super::{Secret, Settings, login};

/// All of `kafka.properties`, with those that were read from files.
pub fn properties(
    settings: &Settings,
    from_files: &BTreeMap<String, Secret>,
) -> BTreeMap<String, String> {
    let given = settings.kafka.properties.iter();
    given
        // The later wins, where one is given twice.
        .chain(from_files)
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect()
}

/// `kafka` and `topics`, with the properties that are librdkafka's to act on.
pub fn kafka_sections(
    settings: &Settings,
    mut properties: BTreeMap<String, String>,
) -> (KafkaSettings, TopicSettings) {
    let kafka = &settings.kafka;
    properties.retain(|name, _| !login::is_ours(name));
    let kafka = KafkaSettings {
        bootstrap_servers: kafka.bootstrap_servers.clone(),
        delivery: kafka.delivery,
        start_from: kafka.start_from,
        instance_id: kafka.instance_id.as_ref().map(|id| id.0.clone()),
        group_id: Some(settings.group_id()),
        properties,
        session_timeout_ms: kafka.session_timeout_ms,
        heartbeat_interval_ms: kafka.heartbeat_interval_ms,
        transaction_timeout_ms: kafka.transaction_timeout_ms,
        revoke_timeout_ms: kafka.revoke_timeout_ms,
        close_timeout_ms: kafka.close_timeout_ms,
        start_timeout_ms: kafka.start_timeout_ms,
        fetch_buffer_bytes: kafka.fetch_buffer_bytes,
        fetch_batch_records: kafka.fetch_batch_records,
    };
    (kafka, settings.topics.clone())
}

/// `input.fields`, where there are any.
///
/// # Errors
/// If a pointer is not one, or question or answer is missing.
pub fn fields(settings: &Settings) -> Result<Option<FieldMap>, FieldMapError> {
    let given: BTreeMap<String, Vec<String>> = settings
        .input
        .fields
        .pointers()
        .into_iter()
        .filter_map(|(name, places)| Some((name.to_owned(), places.as_ref()?.values().to_vec())))
        .collect();
    if given.is_empty() {
        return Ok(None);
    }
    let mut fields = FieldMap::try_from(given)?;
    fields.created_at_unit = settings.input.created_at_unit;
    Ok(Some(fields))
}

/// A profile by name, or from a file.
///
/// # Errors
/// If the file cannot be read or is not a profile.
pub fn profile(name: &str) -> anyhow::Result<Profile> {
    match name {
        "paper" => Ok(Profile::paper("aligner")),
        "alpaca-eval" => Ok(Profile {
            template: Template::new(ALPACA_EVAL).expect("a published template has both fields"),
            ..Profile::paper("aligner")
        }),
        path => {
            let json = std::fs::read(path).with_context(|| format!("reading profile {path}"))?;
            Ok(Profile::from_json(&json, path)?)
        }
    }
}

/// `formats.schema_registry` at `url`, with its password wherever that came from.
pub fn registry(settings: &Settings, url: &str, password: Option<&Secret>) -> RegistrySettings {
    let given = &settings.formats.schema_registry;
    RegistrySettings {
        username: given.username.clone(),
        password: password.cloned(),
        ca_file: given.ca_file.as_ref().map(PathBuf::from),
        certificate_file: given.certificate_file.as_ref().map(PathBuf::from),
        key_file: given.key_file.as_ref().map(PathBuf::from),
        auto_register: given.auto_register,
        ..RegistrySettings::new(url)
    }
}
