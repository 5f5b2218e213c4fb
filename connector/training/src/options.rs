//! What a training run is told: where from, where to, on what, and the recipe.

use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::TrainError;

/// A training run.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// What it starts from.
    pub base: Base,
    /// Whether somebody asked for this base: a run that is resumed must have begun with it then.
    pub base_given: bool,
    /// Files of triples or preference pairs, as JSON array or JSON Lines.
    pub data: Vec<PathBuf>,
    /// Files to validate on; without any, a share of `data` is held out (see
    /// [`Recipe::validation_share`]).
    pub validation: Vec<PathBuf>,
    /// Folder for the trained model, its curve and its checkpoints.
    pub output: PathBuf,
    /// Name of the trained Aligner, written to `aligner.json`; that of the output folder where
    /// absent. A run that is resumed must have it already.
    pub name: Option<String>,
    /// Go on from the newest checkpoint in `output`, if there is one. Without it a folder with
    /// checkpoints is refused, and a folder with a model and no checkpoints always is.
    pub resume: bool,
    /// Where to compute.
    pub device: DeviceChoice,
    /// Number format of the weights that are written; that of the base where absent.
    pub precision: Option<Precision>,
    /// Steps between two checkpoints.
    pub checkpoint_every_steps: u64,
    /// Checkpoints that are kept, at least 1.
    pub keep_checkpoints: usize,
    /// Stop here with a checkpoint, to be resumed later.
    pub stop_after_step: Option<u64>,
    /// How to train. Everything in it decides the result.
    pub recipe: Recipe,
}

impl TrainOptions {
    /// Continues `base` on `data` into `output`, with everything else as usual.
    pub fn new(base: Base, data: Vec<PathBuf>, output: impl Into<PathBuf>) -> Self {
        let recipe = match base {
            Base::Scratch(_) => Recipe::from_scratch(),
            _ => Recipe::default(),
        };
        Self {
            base,
            base_given: true,
            data,
            validation: Vec::new(),
            output: output.into(),
            name: None,
            resume: false,
            device: DeviceChoice::Cpu,
            precision: None,
            checkpoint_every_steps: 500,
            keep_checkpoints: 2,
            stop_after_step: None,
            recipe,
        }
    }
}

/// What a run starts from.
#[derive(Debug, Clone)]
pub enum Base {
    /// A checkpoint in Hugging Face layout: `config.json`, `tokenizer.json`,
    /// `model.safetensors`, and `aligner.json` where it is an Aligner already.
    Folder(PathBuf),
    /// The same files, by name, from inside the program.
    Files {
        /// What errors call them.
        name: String,
        /// Name and bytes of each.
        files: Vec<(String, Cow<'static, [u8]>)>,
    },
    /// Nothing: random weights.
    Scratch(Scratch),
}

impl Base {
    /// What records call it. A trained folder may be moved or published: it names no place on this
    /// machine.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(folder) => {
                // "." has a name, too.
                let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
                whole.file_name().map_or_else(
                    || "a folder".to_owned(),
                    |name| name.to_string_lossy().into_owned(),
                )
            }
            Self::Files { name, .. } => name.clone(),
            Self::Scratch(_) => "random weights".to_owned(),
        }
    }
}

/// How a model that starts from nothing looks.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// A `config.json`; without it, 4 layers of 256 with an FFN of 768 (about 4 M parameters).
    /// Its `vocab_size`, `eos_token_id` and `pad_token_id` follow the tokenizer where that is
    /// trained here.
    pub config: Option<PathBuf>,
    /// A `tokenizer.json`; without it, a byte-level BPE is trained on the data.
    pub tokenizer: Option<PathBuf>,
    /// An `aligner.json`; without it, the template of the tokenizer trained here, or the
    /// paper's.
    pub profile: Option<PathBuf>,
    /// Entries of the vocabulary that is trained here.
    pub vocabulary: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            config: None,
            tokenizer: None,
            profile: None,
            vocabulary: 4096,
        }
    }
}

/// Where to compute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    #[default]
    Cpu,
    /// The GPU of this number; needs a build with the feature `cuda`.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = TrainError;

    fn from_str(text: &str) -> Result<Self, TrainError> {
        match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            Some(("cuda", number)) => number.parse().ok().map(Self::Cuda),
            _ => None,
        }
        .ok_or_else(|| TrainError::Option {
            option: "device",
            value: text.to_owned(),
            expected: "expected cpu or cuda:<number>",
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Number format of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 4 bytes.
    F32,
    /// 2 bytes, finer.
    F16,
    /// 2 bytes, wider.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// What the warm-up's identity pairs teach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityTarget {
    /// The token, where the profile has an `unchanged_token`; else the copy.
    #[default]
    Auto,
    /// Question, answer → the answer again, word for word: the paper's warm-up, which teaches
    /// copying. The answer may have faults: copying is the point.
    Copy,
    /// Question, *correction* → the profile's `unchanged_token`: a corrected answer needs no
    /// correction. (On uncorrected answers this target would teach to overlook faults.)
    Token,
}

/// How to train. Everything here decides the result, so a resumed run must have the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Seed of everything random.
    pub seed: u64,
    /// Passes over the triples, identity warm-up aside.
    pub epochs: f64,
    /// Steps in all, instead of `epochs`.
    pub steps: Option<u64>,
    /// Least steps on corrections where `steps` is absent: a small file is passed over more often
    /// than `epochs` says, since a few steps teach nothing.
    pub min_residual_steps: u64,
    /// Most tokens of a batch, padding included. Rows of similar length share a batch.
    pub batch_tokens: usize,
    /// Batches whose gradients make one step.
    pub accumulation: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end, as a share of the highest.
    pub final_learning_rate_share: f64,
    /// Steps over which the learning rate rises; a fifth of a run where that is less.
    pub warmup_steps: u64,
    /// AdamW's weight decay, on matrices other than the embeddings.
    pub weight_decay: f64,
    /// AdamW's decay of the mean gradient.
    pub beta1: f64,
    /// AdamW's decay of the mean squared gradient.
    pub beta2: f64,
    /// AdamW's guard against division by zero.
    pub epsilon: f64,
    /// Longest gradient, as the norm over all weights; longer ones are shortened.
    pub clip_norm: f64,
    /// Share of the steps, at the start, that train on identity pairs.
    pub identity_share: f64,
    /// What those teach.
    pub identity_target: IdentityTarget,
    /// Weight of a correction's first token in the loss: it decides between unchanged and
    /// corrected.
    pub first_token_weight: f32,
    /// Most tokens of prompt and correction together; longer triples are skipped and counted.
    pub max_tokens: usize,
    /// Share of the triples that is held out where no validation file is given.
    pub validation_share: f64,
    /// Most triples that are validated on; of more, a sample.
    pub validation_limit: usize,
    /// Steps between two validations.
    pub validate_every_steps: u64,
    /// Validations without a lower loss after which the run stops early, those of the identity
    /// warm-up not counted; never where absent.
    pub patience: Option<u32>,
    /// By how much the validation loss must fall to count as lower.
    pub min_improvement: f64,
}

impl Default for Recipe {
    /// To continue a trained Aligner.
    fn default() -> Self {
        Self {
            seed: 1,
            epochs: 2.0,
            steps: None,
            // Of eighty triples of a simple rule, 5 steps taught nothing and 22 the rule.
            min_residual_steps: 24,
            batch_tokens: 4096,
            accumulation: 1,
            learning_rate: 3e-4,
            final_learning_rate_share: 0.05,
            warmup_steps: 50,
            weight_decay: 0.05,
            beta1: 0.9,
            beta2: 0.98,
            epsilon: 1e-8,
            clip_norm: 1.0,
            identity_share: 0.05,
            identity_target: IdentityTarget::Auto,
            first_token_weight: 1.0,
            max_tokens: 1024,
            validation_share: 0.05,
            validation_limit: 512,
            validate_every_steps: 100,
            patience: Some(5),
            min_improvement: 0.0,
        }
    }
}

impl Recipe {
    /// To train from random weights.
    pub fn from_scratch() -> Self {
        Self {
            epochs: 10.0,
            learning_rate: 1.5e-3,
            warmup_steps: 100,
            identity_share: 0.2,
            identity_target: IdentityTarget::Copy,
            patience: Some(20),
            ..Self::default()
        }
    }

    /// This recipe with what `json`, an object of some of its keys, says instead.
    ///
    /// # Errors
    /// If it is no such object, has a key that no recipe has, or a value of another type.
    pub fn overlaid(&self, json: &str) -> Result<Self, serde_json::Error> {
        // As a recipe of its own first: only then do errors name line and column.
        serde_json::from_str::<Self>(json)?;
        let keys: Map<String, Value> = serde_json::from_str(json)?;
        let mut recipe = serde_json::to_value(self)?;
        if let Value::Object(fields) = &mut recipe {
            fields.extend(keys);
        }
        serde_json::from_value(recipe)
    }

    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let share = |value: f64| (0.0..1.0).contains(&value);
        let checks: [(&'static str, String, bool, &'static str); 17] = [
            (
                "epochs",
                self.epochs.to_string(),
                self.epochs > 0.0 && self.epochs.is_finite(),
                "expected a finite number above 0",
            ),
            (
                "steps",
                self.steps.unwrap_or_default().to_string(),
                self.steps != Some(0),
                "expected at least 1",
            ),
            (
                "batch_tokens",
                self.batch_tokens.to_string(),
                self.batch_tokens > 0,
                "expected at least 1",
            ),
            (
                "accumulation",
                self.accumulation.to_string(),
                self.accumulation > 0,
                "expected at least 1",
            ),
            (
                "learning_rate",
                self.learning_rate.to_string(),
                self.learning_rate > 0.0 && self.learning_rate.is_finite(),
                "expected a finite number above 0",
            ),
            (
                "final_learning_rate_share",
                self.final_learning_rate_share.to_string(),
                (0.0..=1.0).contains(&self.final_learning_rate_share),
                "expected 0 to 1",
            ),
            (
                "weight_decay",
                self.weight_decay.to_string(),
                self.weight_decay >= 0.0,
                "expected at least 0",
            ),
            (
                "beta1",
                self.beta1.to_string(),
                share(self.beta1),
                "expected 0 to below 1",
            ),
            (
                "beta2",
                self.beta2.to_string(),
                share(self.beta2),
                "expected 0 to below 1",
            ),
            (
                "epsilon",
                self.epsilon.to_string(),
                self.epsilon > 0.0,
                "expected more than 0",
            ),
            (
                "clip_norm",
                self.clip_norm.to_string(),
                self.clip_norm > 0.0,
                "expected more than 0",
            ),
            (
                "identity_share",
                self.identity_share.to_string(),
                (0.0..=1.0).contains(&self.identity_share),
                "expected 0 to 1",
            ),
            (
                "first_token_weight",
                self.first_token_weight.to_string(),
                self.first_token_weight > 0.0,
                "expected more than 0",
            ),
            (
                "validation_share",
                self.validation_share.to_string(),
                share(self.validation_share),
                "expected 0 to below 1",
            ),
            (
                "validation_limit",
                self.validation_limit.to_string(),
                self.validation_limit > 0,
                "expected at least 1; without validation, set validation_share to 0",
            ),
            (
                "max_tokens",
                self.max_tokens.to_string(),
                self.max_tokens > 0,
                "expected at least 1",
            ),
            (
                "validate_every_steps",
                self.validate_every_steps.to_string(),
                self.validate_every_steps > 0,
                "expected at least 1",
            ),
        ];
        for (option, value, holds, expected) in checks {
            if !holds {
                return Err(TrainError::Option {
                    option,
                    value,
                    expected,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_the_configuration() {
        for (text, device) in [
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse::<DeviceChoice>().expect("valid"), device);
        }
        for text in ["gpu", "cuda"] {
            let error = text.parse::<DeviceChoice>().expect_err("unknown");
            assert_eq!(
                error.to_string(),
                format!("device is {text}, expected cpu or cuda:<number>")
            );
        }
    }

    #[test]
    fn a_recipe_keeps_what_a_file_does_not_say() {
        for usual in [Recipe::default(), Recipe::from_scratch()] {
            let keys = r#"{"steps": 8, "learning_rate": 0.002, "patience": null}"#;
            let recipe = usual.overlaid(keys).expect("keys of a recipe");
            let expected = Recipe {
                steps: Some(8),
                learning_rate: 0.002,
                patience: None,
                ..usual
            };
            assert_eq!(recipe, expected);
        }
        for (json, said) in [
            ("{\"seed\": 1,\n\"step\": 8}", "unknown field `step`"),
            ("{\"seed\": 1,\n\"steps\": \"8\"}", "at line 2 column"),
            ("[1]", "invalid"),
            ("{", "EOF"),
        ] {
            let error = Recipe::from_scratch().overlaid(json).expect_err(json);
            assert!(error.to_string().contains(said), "{json}: {error}");
        }
    }

    #[test]
    fn the_usual_recipes_hold_and_a_bad_one_names_its_option() {
        Recipe::default().check().expect("usual");
        Recipe::from_scratch().check().expect("usual");
        let bad = Recipe {
            beta2: 1.0,
            ..Recipe::default()
        };
        let error = bad.check().expect_err("bad");
        assert_eq!(error.to_string(), "beta2 is 1, expected 0 to below 1");
        let bad = Recipe {
            learning_rate: f64::INFINITY,
            ..Recipe::default()
        };
        let error = bad.check().expect_err("bad");
        assert_eq!(
            error.to_string(),
            "learning_rate is inf, expected a finite number above 0"
        );
        let bad = Recipe {
            steps: Some(0),
            ..Recipe::default()
        };
        let error = bad.check().expect_err("bad");
        assert_eq!(error.to_string(), "steps is 0, expected at least 1");
    }
}
