//! Checkpoints of a run: everything that decides how it goes on.
//!
//! `checkpoints/step-<n>/` in the output folder holds weights, moments and `state.json`; it is
//! written under another name and renamed, so that it is whole or absent. The weights of the
//! best validation lie beside as `best-<n>.safetensors`, and the state names them.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    error::{TrainError, Tried},
    files,
    history::{History, Point},
    options::{Precision, Recipe, TrainOptions},
};

const FOLDER: &str = "checkpoints";
const STATE: &str = "state.json";
const MOMENTS: &str = "optimiser.safetensors";

/// What a run knows beside weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub recipe: Recipe,
    /// What the run began with; states of earlier versions do not say.
    pub base: Option<String>,
    /// Steps of the learning rate's rise. States of earlier versions do not say: theirs are those of
    /// the recipe, or the whole run where that is shorter.
    pub warmup_steps: Option<u64>,
    /// Digest of the data.
    pub data: String,
    /// Number format of the weights that are written at the end.
    pub precision: Precision,
    pub step: u64,
    pub tokens: u64,
    pub seconds: f64,
    /// Step and loss of the best validation.
    pub best: Option<Point>,
    /// Validations since.
    pub not_better: u32,
    pub history: History,
}

/// The checkpoints of one output folder.
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

fn step_of(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
    name.strip_prefix(prefix)?
        .strip_suffix(suffix)?
        .parse()
        .ok()
}

impl Checkpoints {
    pub fn of(output: &Path) -> Self {
        Self {
            folder: output.join(FOLDER),
        }
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    fn best_path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("best-{step:08}.safetensors"))
    }

    /// Steps of the files with this name, in order.
    fn steps(&self, prefix: &str, suffix: &str) -> Result<Vec<u64>, TrainError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).tried("read", &self.folder),
        };
        let mut steps = Vec::new();
        for entry in entries {
            let name = entry.tried("read", &self.folder)?.file_name();
            steps.extend(name.to_str().and_then(|name| step_of(name, prefix, suffix)));
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// The newest checkpoint, if there is one.
    pub fn newest(&self) -> Result<Option<PathBuf>, TrainError> {
        Ok(self.steps("step-", "")?.last().map(|step| self.path(*step)))
    }

    pub fn read(&self, path: &Path) -> Result<(State, Stored), TrainError> {
        let file = path.join(STATE);
        let state = serde_json::from_slice(&files::read(&file)?).map_err(|error| {
            TrainError::Checkpoint {
                file: file.display().to_string(),
                problem: format!("is not the state of a run of this version ({error})"),
            }
        })?;
        let tensors = |name: &str| {
            let file = path.join(name);
            candle_core::safetensors::load_buffer(&files::read(&file)?, &Device::Cpu).map_err(
                |error| TrainError::Checkpoint {
                    file: file.display().to_string(),
                    problem: format!("cannot be read ({error})"),
                },
            )
        };
        let stored = Stored {
            weights: tensors(files::WEIGHTS)?,
            moments: tensors(MOMENTS)?,
        };
        Ok((state, stored))
    }

    /// Writes a checkpoint, and removes all but the newest `keep` and the best weights that they
    /// name.
    pub fn write(&self, state: &State, stored: Stored, keep: usize) -> Result<(), TrainError> {
        let path = self.path(state.step);
        if path.exists() {
            return Ok(());
        }
        let part = path.with_extension("part");
        if part.exists() {
            fs::remove_dir_all(&part).tried("remove", &part)?;
        }
        files::create_folder(&part)?;
        for (name, tensors) in [(files::WEIGHTS, stored.weights), (MOMENTS, stored.moments)] {
            let tensors = tensors.into_iter().collect();
            files::write_weights(&part.join(name), &tensors, Precision::F32)?;
        }
        let json = serde_json::to_vec(state).expect("numbers and words are always JSON");
        files::write(&part.join(STATE), &json)?;
        fs::rename(&part, &path).tried("write", &path)?;
        self.prune(keep.max(1), state.best.map(|best| best.step))
    }

    fn prune(&self, keep: usize, best: Option<u64>) -> Result<(), TrainError> {
        let steps = self.steps("step-", "")?;
        let (old, kept) = steps.split_at(steps.len().saturating_sub(keep));
        for step in old {
            let path = self.path(*step);
            fs::remove_dir_all(&path).tried("remove", &path)?;
        }
        let oldest = kept.first().copied().unwrap_or(0);
        let named = self.best_before(oldest)?;
        for step in self.steps("best-", ".safetensors")? {
            // A kept checkpoint may name any best since its own, and the last before it.
            if step < oldest && Some(step) != best && Some(step) != named {
                let path = self.best_path(step);
                fs::remove_file(&path).tried("remove", &path)?;
            }
        }
        Ok(())
    }

    fn best_before(&self, step: u64) -> Result<Option<u64>, TrainError> {
        let steps = self.steps("best-", ".safetensors")?;
        Ok(steps.into_iter().rfind(|best| *best <= step))
    }

    pub fn write_best(
        &self,
        step: u64,
        weights: &BTreeMap<String, Tensor>,
    ) -> Result<(), TrainError> {
        files::create_folder(&self.folder)?;
        files::write_weights(&self.best_path(step), weights, Precision::F32)
    }

    pub fn read_best(&self, step: u64) -> Result<HashMap<String, Tensor>, TrainError> {
        let path = self.best_path(step);
        candle_core::safetensors::load_buffer(&files::read(&path)?, &Device::Cpu).map_err(|error| {
            TrainError::Checkpoint {
                file: path.display().to_string(),
                problem: format!("cannot be read ({error})"),
            }
        })
    }
}

/// Tensors of a checkpoint, by name.
pub(crate) struct Stored {
    pub weights: HashMap<String, Tensor>,
    pub moments: HashMap<String, Tensor>,
}

impl State {
    /// Refuses to go on from another base or under another name than the run began with, where
    /// they are given. The name is the one in the profile, which the run writes when it begins.
    pub fn check_origin(
        &self,
        options: &TrainOptions,
        name: &str,
        path: &Path,
    ) -> Result<(), TrainError> {
        let base = options.base.name();
        if let Some(was) = &self.base
            && options.base_given
            && *was != base
        {
            return Err(TrainError::Resume {
                path: path.to_owned(),
                what: "base".to_owned(),
                was: was.clone(),
                now: base,
                further: " (of a folder, its name alone is compared)".to_owned(),
            });
        }
        match &options.name {
            Some(now) if now != name => Err(differs(path, "name", name.to_owned(), now.clone())),
            _ => Ok(()),
        }
    }

    /// Refuses to go on with another recipe or other data than the run began with.
    pub fn check(&self, recipe: &Recipe, data: &str, path: &Path) -> Result<(), TrainError> {
        // Both through text, so that a number compares equal to itself.
        let as_map = |recipe: &Recipe| -> serde_json::Map<String, serde_json::Value> {
            let text = serde_json::to_string(recipe).expect("numbers and words are always JSON");
            serde_json::from_str(&text).expect("it was just written")
        };
        let (was, now) = (as_map(&self.recipe), as_map(recipe));
        for (key, was) in &was {
            if now.get(key) != Some(was) {
                return Err(differs(path, key, was.to_string(), now[key].to_string()));
            }
        }
        if self.data != data {
            return Err(differs(
                path,
                "data of digest",
                self.data.clone(),
                data.to_owned(),
            ));
        }
        Ok(())
    }
}

fn differs(path: &Path, what: &str, was: String, now: String) -> TrainError {
    TrainError::Resume {
        path: path.to_owned(),
        what: what.to_owned(),
        was,
        now,
        further: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::options::{Base, Scratch};

    fn state(step: u64, best: Option<u64>) -> State {
        State {
            recipe: Recipe::default(),
            base: Some("mine".into()),
            warmup_steps: Some(5),
            data: "d".into(),
            precision: Precision::F16,
            step,
            tokens: 5,
            seconds: 1.5,
            best: best.map(|step| Point { step, loss: 0.5 }),
            not_better: 1,
            history: History::default(),
        }
    }

    fn stored() -> Stored {
        let one = || Tensor::ones(2, DType::F32, &Device::Cpu).expect("small");
        Stored {
            weights: HashMap::from([("w".to_owned(), one())]),
            moments: HashMap::from([("mean.w".to_owned(), one())]),
        }
    }

    #[test]
    fn the_newest_checkpoints_are_kept_with_the_best_that_they_name() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let checkpoints = Checkpoints::of(folder.path());
        assert_eq!(checkpoints.newest().expect("reads"), None);
        let weights = stored().weights.into_iter().collect();
        for (step, best) in [(10, 10), (20, 20), (30, 20), (40, 40)] {
            if step == best {
                checkpoints.write_best(step, &weights).expect("writes");
            }
            checkpoints
                .write(&state(step, Some(best)), stored(), 2)
                .expect("writes");
        }
        assert_eq!(checkpoints.steps("step-", "").expect("reads"), [30, 40]);
        // Step 30 names 20.
        assert_eq!(
            checkpoints.steps("best-", ".safetensors").expect("reads"),
            [20, 40]
        );
        let newest = checkpoints.newest().expect("reads").expect("is there");
        let (read, tensors) = checkpoints.read(&newest).expect("reads");
        assert_eq!(read, state(40, Some(40)));
        assert_eq!(
            tensors.weights["w"].to_vec1::<f32>().expect("f32"),
            [1.0, 1.0]
        );
        assert!(tensors.moments.contains_key("mean.w"));
    }

    #[test]
    fn another_base_or_name_is_refused_where_it_was_asked_for() {
        let path = Path::new("run/step-1");
        let from = |base| TrainOptions::new(base, Vec::new(), "run");
        let folder = |name: &str| from(Base::Folder(PathBuf::from(name)));
        let said = |state: &State, options: &TrainOptions| {
            let refused = state.check_origin(options, "kind", path).err();
            refused.map(|error| error.to_string())
        };
        let known = state(1, None);
        assert_eq!(said(&known, &folder("elsewhere/mine/")), None);
        let fix = "give the same, or train into a new folder";
        let scratch = from(Base::Scratch(Scratch::default()));
        for (mut options, now) in [(folder("other"), "other"), (scratch, "random weights")] {
            let expected = format!(
                "run/step-1 was made with base mine, now it is {now}; {fix} (of a folder, its name \
                 alone is compared)"
            );
            assert_eq!(said(&known, &options), Some(expected));
            let unknown = State {
                base: None,
                ..known.clone()
            };
            assert_eq!(said(&unknown, &options), None, "an earlier version");
            options.base_given = false;
            assert_eq!(said(&known, &options), None, "only the usual one");
        }
        let mut named = folder("mine");
        named.name = Some("kind".into());
        assert_eq!(said(&known, &named), None);
        named.name = Some("strict".into());
        let expected = format!("run/step-1 was made with name kind, now it is strict; {fix}");
        assert_eq!(said(&known, &named), Some(expected));
    }

    #[test]
    fn losses_are_read_as_they_were_written_to_the_last_bit() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let checkpoints = Checkpoints::of(folder.path());
        let mut written = state(7, None);
        for step in 1..=2500 {
            // Of many digits, and of all sizes.
            let loss = (-0.013 * step as f64).exp() * (1.0 + 0.3 * (step as f64).sin());
            written.history.trained(step, loss);
            written.history.validated(step, loss);
            written.best = Some(Point { step, loss });
        }
        checkpoints.write(&written, stored(), 1).expect("writes");
        let newest = checkpoints.newest().expect("reads").expect("is there");
        let (read, _) = checkpoints.read(&newest).expect("reads");
        assert_eq!(read, written);
    }

    #[test]
    fn another_recipe_or_other_data_is_refused_by_name() {
        let state = state(1, None);
        let path = Path::new("run/step-1");
        state
            .check(&Recipe::default(), "d", path)
            .expect("the same");
        let other = Recipe {
            learning_rate: 0.5,
            ..Recipe::default()
        };
        assert_eq!(
            state
                .check(&other, "d", path)
                .expect_err("differs")
                .to_string(),
            "run/step-1 was made with learning_rate 0.0003, now it is 0.5; \
             give the same, or train into a new folder"
        );
        let error = state
            .check(&Recipe::default(), "e", path)
            .expect_err("differs");
        assert!(error.to_string().contains("data of digest d, now it is e"));
    }
}
