//! Checkpoints by Hugging Face id: `owner/name@revision` becomes a folder on this machine.
//!
//! Files lie where `huggingface-cli download` puts them, so either finds what the other fetched.
//! Other tools leave out what only we read: transformers never asks for `aligner.json`, without
//! which a model is prompted otherwise and nothing guards it. So a note in each snapshot says that
//! all was fetched which the engine reads, and where it is missing the hub is asked. If that fails,
//! a commit that is whole is used as it is, with a warning that names what may be missing.
//! A revision that is a commit and was fetched before costs no request; a branch or tag is
//! resolved to its commit, which is logged, so that it can be pinned. Large files are checked
//! against the SHA-256 that the hub gives for them, and nothing half fetched is ever found under
//! its own name.
//!
//! Of the weights only `model.safetensors` is fetched, or what the index names where that is not
//! there, as the engine takes them: repositories such as Mistral's hold a second copy beside them.
//!
//! The variables are those of Hugging Face's own tools: `HF_ENDPOINT`, `HF_HUB_CACHE` or
//! `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`. The `hf-hub` crate is not used: it would bring a
//! second HTTP client and a second TLS library for three requests.

mod snapshot;

use std::{
    env, fmt,
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use aligner_checkpoint::{INDEX, SINGLE};
use anyhow::{Context, bail, ensure};
use reqwest::{StatusCode, blocking::Client, blocking::Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tempfile::Builder;

use self::snapshot::{SMALL, is_noted, is_whole, note, warn_of_gaps, weights};
use crate::config::Secret;

/// A model on the hub, at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    owner: String,
    name: String,
    revision: String,
}

impl FromStr for HubId {
    type Err = ();

    /// `owner/name@revision`, in the characters that the hub allows.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (model, revision) = text.split_once('@').ok_or(())?;
        let (owner, name) = model.split_once('/').ok_or(())?;
        // A part is a file name later, so it must be one.
        let is_part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let id = Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
        };
        [owner, name, revision]
            .into_iter()
            .all(is_part)
            .then_some(id)
            .ok_or(())
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.owner, self.name, self.revision)
    }
}

/// Where models come from and where they are kept.
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<Secret>,
    offline: bool,
}

/// What the hub says about a revision.
#[derive(Deserialize)]
struct Revision {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A download may take long, but not without a byte for so long.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

impl Hub {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let home = || {
            variable("HF_HOME").map_or_else(
                || {
                    let home = variable("HOME").unwrap_or_else(|| ".".to_owned());
                    Path::new(&home).join(".cache/huggingface")
                },
                PathBuf::from,
            )
        };
        Self {
            endpoint: variable("HF_ENDPOINT")
                .unwrap_or_else(|| "https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home().join("hub"), PathBuf::from),
            token: variable("HF_TOKEN").map(Secret::new),
            offline: variable("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
        }
    }

    /// The folder that holds the model, after what is missing there was fetched.
    ///
    /// # Errors
    /// If the model is not here and the hub cannot be reached, does not have it or refuses it, or the
    /// cache cannot be written; for a branch or tag also if it is here, unless offline.
    pub fn folder(&self, id: &HubId) -> anyhow::Result<PathBuf> {
        let home = self
            .cache
            .join(format!("models--{}--{}", id.owner, id.name));
        let snapshots = home.join("snapshots");
        if self.offline {
            let reference = home.join("refs").join(&id.revision);
            let commit = fs::read_to_string(&reference).unwrap_or_else(|_| id.revision.clone());
            let folder = snapshots.join(commit.trim());
            ensure!(
                folder.is_dir(),
                "{id} is not in {}, and HF_HUB_OFFLINE forbids to fetch it: fetch it once \
                 without, or copy the cache from a machine that has it",
                self.cache.display()
            );
            warn_of_gaps(id, &folder);
            return Ok(folder);
        }
        let pinned = snapshots.join(&id.revision);
        if !is_commit(&id.revision) || !is_whole(&pinned) {
            return self.fetched(id, &home);
        }
        if is_noted(&pinned) {
            return Ok(pinned);
        }
        // A commit never changes: what another tool fetched of it serves where the hub is out of
        // reach, or the cache cannot be written.
        self.fetched(id, &home).or_else(|error| {
            tracing::warn!(
                model = %id,
                error = format!("{error:#}"),
                "whether all of this model is here could not be found out; it is used as it is"
            );
            warn_of_gaps(id, &pinned);
            Ok(pinned)
        })
    }

    /// The folder of the revision that the hub knows, with what was missing there.
    fn fetched(&self, id: &HubId, home: &Path) -> anyhow::Result<PathBuf> {
        let reference = home.join("refs").join(&id.revision);
        // It is named in errors and logs.
        if let Some(fault) = aligner_http::base_url_fault(&self.endpoint, "use HF_TOKEN") {
            bail!("HF_ENDPOINT: {fault}");
        }
        // Whatever the hub answers, without it there is no place for a model.
        create_folder(&self.cache)?;
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(OPERATION_TIMEOUT)
            .build()
            .context("making an HTTP client")?;
        let revision = self.revision(&client, id)?;
        let folder = home.join("snapshots").join(&revision.sha);
        self.complete(&client, id, &revision, &folder)?;
        if revision.sha != id.revision {
            let HubId { owner, name, .. } = id;
            tracing::warn!(
                model = %id,
                pinned = format!("{owner}/{name}@{}", revision.sha),
                "the revision may move; pin the commit to get the same model after a restart"
            );
            create_parent(&reference)?;
            fs::write(&reference, &revision.sha)
                .with_context(|| format!("writing {}", reference.display()))?;
        }
        Ok(folder)
    }

    fn revision(&self, client: &Client, id: &HubId) -> anyhow::Result<Revision> {
        let HubId {
            owner,
            name,
            revision,
        } = id;
        let url = format!(
            "{}/api/models/{owner}/{name}/revision/{revision}?blobs=true",
            self.endpoint
        );
        let found: Revision = self
            .get(client, &url, id)?
            .json()
            .with_context(|| format!("{} does not answer as a hub does", self.endpoint))?;
        // It names a folder.
        ensure!(
            is_commit(&found.sha),
            "{} gives {:?} as the commit of {id}, which is none",
            self.endpoint,
            found.sha
        );
        Ok(found)
    }

    fn get(&self, client: &Client, url: &str, id: &HubId) -> anyhow::Result<Response> {
        let mut request = client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().with_context(|| {
            format!(
                "asking {} for {id}; if this machine has no way there, set HF_ENDPOINT to a \
                 mirror, or HF_HUB_OFFLINE=1 with a cache that holds the model",
                self.endpoint
            )
        })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!(
                "{} does not let us read {id}: it does not exist, or it is private or gated; set \
                 HF_TOKEN to a token that may read it",
                self.endpoint
            ),
            StatusCode::NOT_FOUND => bail!(
                "{} has no {id}: check the name and the revision",
                self.endpoint
            ),
            status => bail!("{} answers {status} for {id}", self.endpoint),
        }
    }

    /// Fetches what the folder lacks, weights last, for the index says which they are, and notes
    /// that nothing is missing.
    fn complete(
        &self,
        client: &Client,
        id: &HubId,
        revision: &Revision,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let find = |name: &str| revision.siblings.iter().find(|file| file.rfilename == name);
        let fetch = |file: &Sibling| {
            let path = folder.join(&file.rfilename);
            if path.is_file() {
                return Ok(());
            }
            self.fetch(client, id, &revision.sha, file, &path)
                .with_context(|| format!("fetching {} of {id}", file.rfilename))
        };
        ensure!(
            find(INDEX).is_some() || find(SINGLE).is_some(),
            "model {id}: it has neither {SINGLE} nor {INDEX}; of a repository with GGUF files, \
             fetch one and give its path"
        );
        for name in SMALL {
            if let Some(file) = find(name) {
                fetch(file)?;
            }
        }
        if let Some(file) = find(SINGLE) {
            fetch(file)?;
        } else {
            for name in weights(folder).with_context(|| format!("model {id}"))? {
                let file = find(&name).with_context(|| {
                    format!("model {id}: its {INDEX} names {name:?}, which the hub does not have")
                })?;
                fetch(file)?;
            }
        }
        if !is_noted(folder)
            && let Err(error) = note(folder)
        {
            tracing::warn!(
                model = %id,
                folder = %folder.display(),
                %error,
                "nothing is missing, but that cannot be noted there: each start will ask the hub"
            );
        }
        Ok(())
    }

    /// Fetches a file beside its place, checks it, and moves it there.
    fn fetch(
        &self,
        client: &Client,
        id: &HubId,
        commit: &str,
        file: &Sibling,
        path: &Path,
    ) -> anyhow::Result<()> {
        let HubId { owner, name, .. } = id;
        let url = format!(
            "{}/{owner}/{name}/resolve/{commit}/{}",
            self.endpoint, file.rfilename
        );
        let mut body = self.get(client, &url, id)?;
        create_parent(path)?;
        // Two processes that fetch the same model do not write into each other's file, be they in
        // containers where each has the same number. It is removed where it does not get to its place, or,
        // if the process ends meanwhile, by a later one.
        let folder = path.parent().context("a file of a snapshot has a folder")?;
        let prefix = format!(".{}.", file.rfilename);
        remove_abandoned(folder, &prefix);
        let mut part = Builder::new()
            .prefix(&prefix)
            .suffix(PART)
            // The cache belongs to whom the mask says, as other tools leave it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .with_context(|| format!("creating a file in {}", folder.display()))?;
        let (bytes, sha256) = copy(&mut body, part.as_file_mut(), path)?;
        if let Some(lfs) = &file.lfs {
            ensure!(
                lfs.sha256 == sha256,
                "its SHA-256 is {sha256}, but the hub says {}: it was damaged on the way, try again",
                lfs.sha256
            );
        }
        tracing::info!(model = %id, file = file.rfilename, bytes, sha256, "fetched");
        part.persist(path).context("moving it to its place")?;
        Ok(())
    }
}

/// How files end that are being fetched.
const PART: &str = ".part";
/// Nobody writes any more to a file that nobody has written to for so long: each read has a timeout.
const ABANDONED: Duration = Duration::from_secs(3_600);

/// Removes what others began to fetch and left: it may be as large as a model.
fn remove_abandoned(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let modified = entry.metadata().and_then(|found| found.modified());
        let age = modified.map(|at| at.elapsed().unwrap_or_default());
        if name.starts_with(prefix) && name.ends_with(PART) && age.is_ok_and(|age| age > ABANDONED)
        {
            // It takes room, and does no other harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes what is read; how many bytes, and their SHA-256.
fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> anyhow::Result<(u64, String)> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    let mut bytes = 0;
    loop {
        let count = from.read(&mut buffer).context("reading the answer")?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        to.write_all(&buffer[..count])
            .with_context(|| format!("writing {}", path.display()))?;
        bytes += count as u64;
    }
    to.sync_all()?;
    Ok((bytes, aligner::hex(&digest.finalize())))
}

fn create_parent(path: &Path) -> anyhow::Result<()> {
    create_folder(path.parent().context("a file of the cache has a folder")?)
}

fn create_folder(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| {
        format!(
            "making {}, where models are kept; set HF_HOME (or HF_HUB_CACHE, which wins over it) \
             to a folder that this user may write",
            folder.display()
        )
    })
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a variable is set to what Hugging Face's own tools take for true
/// (huggingface/huggingface_hub, `constants.py`): all else is false to them, `False` and `off` too.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_variable_is_true_where_hugging_faces_own_tools_take_it_for_that() {
        for value in ["1", "ON", "on", "Yes", "TRUE", "True"] {
            assert!(is_true(value), "{value}");
        }
        for value in ["0", "False", "FALSE", "No", "off", "2", "y", ""] {
            assert!(!is_true(value), "{value}");
        }
    }

    #[test]
    fn what_others_left_long_ago_is_removed_and_what_they_may_write_to_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        for (name, modified) in [
            (".model.safetensors.Ab1.part", long_ago),
            (".model.safetensors.Ab2.part", SystemTime::now()),
            (".config.json.Ab3.part", long_ago),
            ("model.safetensors", long_ago),
        ] {
            let file = File::create(folder.path().join(name)).expect("created");
            file.set_modified(modified).expect("set");
        }
        remove_abandoned(folder.path(), ".model.safetensors.");
        let left = fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 3);
        assert!(!folder.path().join(".model.safetensors.Ab1.part").exists());
    }

    #[test]
    fn credentials_in_the_endpoint_are_refused_by_name_and_not_repeated() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        for endpoint in [
            "http://ada:hunter2@127.0.0.1:1",
            "http://127.0.0.1:1/?token=hunter2",
        ] {
            let hub = Hub {
                endpoint: endpoint.to_owned(),
                cache: cache.path().join("hub"),
                token: None,
                offline: false,
            };
            let id = "acme/tiny@main".parse::<HubId>().expect("an id");
            let error = format!("{:#}", hub.folder(&id).expect_err("no such endpoint"));
            assert!(error.starts_with("HF_ENDPOINT: "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_made_is_named_with_what_to_set() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let cache = file.path().join("hub");
        let hub = Hub {
            endpoint: "http://127.0.0.1:1".to_owned(),
            cache: cache.clone(),
            token: None,
            offline: false,
        };
        let id = "acme/tiny@main".parse::<HubId>().expect("an id");
        let error = format!("{:#}", hub.folder(&id).expect_err("a file holds no folder"));
        assert!(error.contains(&cache.display().to_string()), "{error}");
        assert!(error.contains("set HF_HOME"), "{error}");
    }
}
