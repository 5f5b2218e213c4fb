//! From settings to a decoder of answers and an encoder of outputs.

use std::{sync::Arc, time::Duration};

use aligner_pipeline::{Decoder, Encoder, JsonDecoder, JsonEncoder, SourceRecord, Undecoded};
use aligner_records::{AnswerEvent, Correction, DecodeError, PreferencePair};
use aligner_registry::{AnswerDecoder, DecodeFailure, RegisteredEncoder, Registry, RegistryError};
use anyhow::Context;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::config::{self, Format, Settings};

/// Between two tries to reach the registry at start.
const REGISTRY_RETRY: Duration = Duration::from_secs(2);

/// Both codecs of a service.
pub struct Codecs {
    /// Reads answer events.
    pub decoder: Arc<dyn Decoder>,
    /// Writes corrections and pairs.
    pub encoder: Arc<dyn Encoder>,
}

/// Makes the codecs. Waits for a registry that is away; dropping the future gives up.
///
/// # Errors
/// If the registry says no, or its settings cannot be used.
pub async fn codecs(settings: &Settings) -> anyhow::Result<Codecs> {
    let fields = config::fields(settings)?;
    let avro = |format| format == Format::Avro;
    let registry = if avro(settings.formats.answers) || avro(settings.formats.outputs) {
        Some(registry(settings)?)
    } else {
        None
    };
    let decoder: Arc<dyn Decoder> = match &registry {
        Some(registry) if avro(settings.formats.answers) => {
            Arc::new(AvroDecoder(AnswerDecoder::new(registry.clone(), fields)))
        }
        _ => Arc::new(JsonDecoder::new(fields)),
    };
    let encoder: Arc<dyn Encoder> = match &registry {
        Some(registry) if avro(settings.formats.outputs) => {
            Arc::new(AvroEncoder(outputs(registry, settings).await?))
        }
        _ => Arc::new(JsonEncoder),
    };
    Ok(Codecs { decoder, encoder })
}

fn registry(settings: &Settings) -> anyhow::Result<Registry> {
    let given = &settings.formats.schema_registry;
    let url = given
        .url
        .as_deref()
        .context("formats.schema_registry.url is not set")?;
    let password = config::secret(given.password.as_ref(), given.password_file.as_deref())?;
    Ok(Registry::new(config::registry(
        settings,
        url,
        password.as_ref(),
    ))?)
}

async fn outputs(registry: &Registry, settings: &Settings) -> anyhow::Result<RegisteredEncoder> {
    let topics = &settings.topics;
    loop {
        match registry.outputs(&topics.corrections, &topics.pairs).await {
            Ok(encoder) => return Ok(encoder),
            Err(error @ RegistryError::Unavailable { .. }) => {
                tracing::warn!(%error, "waiting for the schema registry");
                tokio::time::sleep(REGISTRY_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

struct AvroDecoder(AnswerDecoder);

impl Decoder for AvroDecoder {
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
        let value = record.value.as_deref().ok_or_else(DecodeError::tombstone)?;
        self.0.decode(value).map_err(|failure| match failure {
            DecodeFailure::Invalid(error) => error.into(),
            DecodeFailure::SchemaNeeded(_) => Undecoded::NotReady,
        })
    }

    fn make_ready<'a>(&'a self, record: &'a SourceRecord) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let value = record.value.as_deref().unwrap_or_default();
            match self.0.decode(value) {
                Err(DecodeFailure::SchemaNeeded(id)) => {
                    self.0.fetch(id).await.map_err(|error| error.to_string())
                }
                // Decoding decides.
                Ok(_) | Err(DecodeFailure::Invalid(_)) => Ok(()),
            }
        })
    }
}

struct AvroEncoder(RegisteredEncoder);

impl Encoder for AvroEncoder {
    fn correction(&self, correction: &Correction) -> Bytes {
        self.0.correction(correction).into()
    }

    fn pair(&self, pair: &PreferencePair) -> Bytes {
        self.0.pair(pair).into()
    }
}
