//! From settings to an Aligner: which one, with which profile, decoding how.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use aligner::{Aligner, Decoding, Profile, builtin::Builtin};
use aligner_engine::{Device, EmbeddedModel, Engine, EngineOptions, ModelSource};
use aligner_remote::{RemoteAligner, RemoteError, RemoteSettings};
use anyhow::{Context, bail};

use crate::{
    config::{self, ModelChoice},
    hub::{Hub, HubId},
};

/// Between two tries to reach a completions server at start.
const REMOTE_RETRY: Duration = Duration::from_secs(2);

/// An Aligner that is ready to correct.
#[derive(Clone)]
pub enum Loaded {
    /// A model in this process.
    Engine(Engine),
    /// Anything else behind the contract.
    Other(Arc<dyn Aligner>),
}

impl Loaded {
    /// The Aligner, whatever runs it.
    pub fn aligner(&self) -> Arc<dyn Aligner> {
        match self {
            Self::Engine(engine) => Arc::new(engine.clone()),
            Self::Other(aligner) => Arc::clone(aligner),
        }
    }

    /// What runs, for people and logs.
    pub fn describe(&self) -> String {
        match self {
            Self::Engine(engine) => {
                let model = engine.describe();
                format!(
                    "{} {:.1} M parameters, {}, {} kernels, {} threads, up to {} MiB of keys and \
                     values, weights sha256 {}",
                    model.family,
                    model.parameters as f64 / 1e6,
                    model.dtype,
                    model.kernels,
                    model.threads,
                    model.kv_bytes.div_ceil(1 << 20),
                    &model.weights_sha256[..16]
                )
            }
            Self::Other(aligner) => aligner.identity().name.clone(),
        }
    }

    /// The engine, where there is one.
    ///
    /// # Errors
    /// For Aligners without weights in this process.
    pub fn engine(&self) -> anyhow::Result<&Engine> {
        match self {
            Self::Engine(engine) => Ok(engine),
            Self::Other(aligner) => bail!(
                "the Aligner {} has no weights in this process: give --model bundled or a folder \
                 in Hugging Face layout",
                aligner.identity().name
            ),
        }
    }
}

/// Loads the Aligner that the settings name. A completions server that is out of reach is waited for
/// with so much patience.
///
/// # Errors
/// If its files, its profile or its server cannot be used.
pub async fn load(settings: &config::Aligner, patience: Duration) -> anyhow::Result<Loaded> {
    match &settings.model {
        ModelChoice::StandIn(rule) => Ok(Loaded::Other(Arc::new(Builtin::new(*rule)))),
        ModelChoice::Remote => remote(settings, patience).await,
        ModelChoice::Bundled | ModelChoice::Named(_) => {
            let settings = settings.clone();
            // Fetching, reading and packing weights takes its time.
            let load = move || anyhow::Ok(Engine::load(engine_options(&settings)?)?);
            let engine = tokio::task::spawn_blocking(load)
                .await
                .context("loading the model")??;
            Ok(Loaded::Engine(engine))
        }
    }
}

/// Options of the engine for a model with weights; one of the Hugging Face hub is fetched first. Not
/// for async code: it waits for the hub.
///
/// # Errors
/// If the model has no weights in this process, or it or its profile does not exist.
pub fn engine_options(settings: &config::Aligner) -> anyhow::Result<EngineOptions> {
    let source = match &settings.model {
        ModelChoice::Bundled => ModelSource::Embedded(EmbeddedModel {
            name: aligner_bundled::NAME.to_owned(),
            files: aligner_bundled::FILES,
        }),
        ModelChoice::Named(name) => named(name)?,
        model @ (ModelChoice::StandIn(_) | ModelChoice::Remote) => {
            bail!("aligner.model = {model}: it has no weights in this process")
        }
    };
    if settings.profile.is_none() {
        warn_without_profile(&source);
    }
    let mut options = EngineOptions::new(source);
    options.profile = settings
        .profile
        .as_deref()
        .map(config::profile)
        .transpose()?;
    options.dtype = settings.dtype;
    options.devices = settings
        .device
        .values()
        .iter()
        .map(|name| name.parse::<Device>())
        .collect::<Result<_, _>>()?;
    options.threads = settings
        .threads
        .and_then(|threads| NonZeroUsize::new(threads.into()));
    options.decoding = decoding(settings);
    options.speculation = settings.speculation;
    options.limits.history_tokens = settings.history_tokens as usize;
    options.limits.kv_tokens = settings.kv_tokens.map(|tokens| tokens as usize);
    Ok(options)
}

/// Where the weights of a model lie that is a path, or is fetched from the hub.
fn named(model: &str) -> anyhow::Result<ModelSource> {
    let path = Path::new(model);
    if path.is_dir() {
        Ok(ModelSource::Folder(path.to_owned()))
    } else if path.is_file() {
        Ok(ModelSource::Gguf(path.to_owned()))
    } else if let Ok(id) = model.parse::<HubId>() {
        Ok(ModelSource::Folder(Hub::from_environment().folder(&id)?))
    } else {
        bail!(
            "aligner.model = {model}: neither a built-in Aligner, nor a file or folder that \
             exists, nor a model of the Hugging Face hub as owner/name@revision"
        )
    }
}

/// The file of a profile, beside weights.
pub const PROFILE: &str = "aligner.json";

/// Says that nothing gives the prompt of a model: with another one than it was trained on it writes
/// nonsense, and nobody sees why.
fn warn_without_profile(source: &ModelSource) {
    let folder = match source {
        ModelSource::Folder(folder) => folder.as_path(),
        ModelSource::Gguf(file) => file.parent().unwrap_or(Path::new("")),
        ModelSource::Embedded(_) => return,
    };
    if !folder.join(PROFILE).is_file() {
        tracing::warn!(
            folder = %folder.display(),
            "no aligner.json lies beside the weights, so that the prompt is the paper's, and there is \
             no guard: put the one there that the model was trained with, or set aligner.profile \
             (--profile), to paper where that is what you want"
        );
    }
}

fn decoding(settings: &config::Aligner) -> Decoding {
    Decoding {
        max_new_tokens: settings.max_new_tokens,
        temperature: settings.temperature,
        top_p: settings.top_p,
        seed: settings.seed,
    }
}

async fn remote(settings: &config::Aligner, patience: Duration) -> anyhow::Result<Loaded> {
    let remote = &settings.remote;
    let api_key = config::secret(remote.api_key.as_ref(), remote.api_key_file.as_deref())
        .context("reading aligner.remote.api_key_file")?;
    let url = remote
        .url
        .clone()
        .context("aligner.remote.url is not set")?;
    let model = remote
        .model
        .clone()
        .context("aligner.remote.model is not set")?;
    let profile = match settings.profile.as_deref() {
        Some(name) => config::profile(name)?,
        None => Profile::paper(model.clone()),
    };
    let max_concurrency = NonZeroU32::new(remote.max_concurrency)
        .context("aligner.remote.max_concurrency = 0: set it to 1 or more")?;
    let remote = RemoteSettings {
        api_key,
        add_special_tokens: remote.add_special_tokens,
        decoding: decoding(settings),
        max_concurrency,
        timeout: Duration::from_millis(remote.timeout_ms),
        ..RemoteSettings::new(url, model, profile)
    };
    // None is further off than a clock can say.
    let give_up = Instant::now().checked_add(patience);
    loop {
        match RemoteAligner::connect(remote.clone()).await {
            Ok(aligner) => return Ok(Loaded::Other(Arc::new(aligner))),
            Err(error @ RemoteError::Unavailable { .. }) => {
                if give_up.is_some_and(|at| Instant::now() + REMOTE_RETRY > at) {
                    return Err(anyhow::Error::new(error).context(format!(
                        "no completions server within {patience:?}: start it, or check \
                         aligner.remote.url"
                    )));
                }
                tracing::warn!(%error, "waiting for the completions server");
                tokio::time::sleep(REMOTE_RETRY).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}
