//! The service: from settings to records that flow. `run` and `demo` both go through here.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aligner_kafka::{ClientStats, Connection, TopicSettings};
use aligner_pipeline::{Parts, Pipeline, Summary, progress::Progress, system_clock};
use anyhow::Context;
use tokio::sync::oneshot;

use crate::{
    codecs,
    config::{self, Problem, Problems, Secret, Settings},
    login::Oidc,
    models,
    tolerance::Tolerant,
};

/// What can be looked at while the service runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// What the pipeline is doing.
    pub progress: Progress,
    /// What the clients know of Kafka.
    pub kafka: Arc<ClientStats>,
}

/// Runs until `shutdown` is ready or something cannot go on; `connecting` is set once there is
/// nothing to wait for but Kafka, and `started` is told once records can flow.
///
/// # Errors
/// If the model cannot be loaded, Kafka refuses us, or the pipeline cannot go on.
pub async fn serve(
    settings: &Settings,
    shutdown: impl Future<Output = ()> + Send,
    connecting: &AtomicBool,
    started: oneshot::Sender<Running>,
) -> anyhow::Result<Option<Summary>> {
    let mut shutdown = Box::pin(shutdown);
    let begun = std::time::Instant::now();
    let (pipeline, kafka) = tokio::select! {
        pipeline = build(settings, connecting) => pipeline?,
        // Nothing was read yet, so there is nothing to finish.
        () = &mut shutdown => return Ok(None),
    };
    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "reading answers");
    // Nobody may be interested.
    let _ = started.send(Running {
        progress: pipeline.progress(),
        kafka,
    });
    Ok(Some(pipeline.run(shutdown).await?))
}

type KafkaPipeline = Pipeline<aligner_kafka::KafkaSource, Tolerant<aligner_kafka::KafkaSink>>;

async fn build(
    settings: &Settings,
    connecting: &AtomicBool,
) -> anyhow::Result<(KafkaPipeline, Arc<ClientStats>)> {
    let connection = connection(settings)?;
    // /readyz says what is waited for, and whoever restarts what is not ready decides how long.
    let loaded = models::load(&settings.aligner, Duration::MAX).await?;
    let aligner = loaded.aligner();
    let identity = aligner.identity();
    tracing::info!(
        aligner = identity.name,
        revision = identity.revision,
        detail = loaded.describe(),
        "aligner loaded"
    );
    let codecs = codecs::codecs(settings).await?;
    let TopicSettings {
        answers,
        corrections,
        pairs,
        dead_letters,
        ..
    } = &connection.topics;
    tracing::info!(
        client_id = connection.identity,
        group = connection.group_id,
        answers = answers.join(" "),
        corrections,
        pairs,
        dead_letters,
        "connecting to kafka"
    );
    connecting.store(true, Ordering::Relaxed);
    let kafka = aligner_kafka::connect(connection).await?;
    let pipeline = Pipeline::new(Parts {
        source: kafka.source,
        sink: Tolerant::new(kafka.sink, settings.errors.tolerance),
        aligner,
        decoder: codecs.decoder,
        encoder: codecs.encoder,
        settings: settings.pipeline.clone(),
        connector: settings.name.0.clone(),
        task: 0,
        wall_clock: system_clock(),
    });
    Ok((pipeline, kafka.stats))
}

/// The connection, with the secrets that lie in files.
///
/// # Errors
/// If a file cannot be read, or the settings contradict themselves.
pub fn connection(settings: &Settings) -> anyhow::Result<Connection> {
    let read = |(name, path): (&String, &String)| {
        let secret =
            config::secret_in(path).with_context(|| format!("kafka.property_files.{name}"))?;
        anyhow::Ok((name.clone(), secret))
    };
    let from_files: BTreeMap<String, Secret> = settings
        .kafka
        .property_files
        .iter()
        .map(read)
        .collect::<Result<_, _>>()?;
    let properties = config::properties(settings, &from_files);
    let login = config::token_login(&properties);
    let (kafka, topics) = config::kafka_sections(settings, properties);
    let connection = Connection::new(&settings.name.0, kafka, topics).map_err(|problems| {
        Problems(
            problems
                .into_iter()
                .map(|problem| Problem {
                    key: problem.key,
                    value: None,
                    message: problem.fault.message,
                    fix: problem.fault.fix,
                })
                .collect(),
        )
    })?;
    let Some((oidc, extensions)) = login else {
        return Ok(connection);
    };
    let source = Oidc::new(oidc, extensions).map_err(|fault| {
        Problems(vec![Problem {
            key: format!("kafka.properties.{}", fault.property),
            value: None,
            message: fault.fault,
            fix: None,
        }])
    })?;
    connection
        .with_tokens(source)
        .context("no thread could be started")
}
