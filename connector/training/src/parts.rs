//! A checkpoint without its weights: what a run takes over from its base, or makes for a model from
//! scratch, and writes beside the weights.

use std::path::Path;

use aligner::Profile;
use aligner_evaluation::Triple;
use serde_json::{Value, json};

use crate::{
    error::TrainError,
    files::{self, BaseFiles},
    generation::as_trained,
    options::{Scratch, TrainOptions},
    shape::small_config,
    tokens::train_tokenizer,
};

/// A checkpoint without its weights.
pub(crate) struct Parts {
    pub config: Value,
    pub config_file: String,
    pub tokenizer: Vec<u8>,
    pub tokenizer_file: String,
    pub profile: Profile,
    pub end: u32,
    /// Name and bytes of files that are written as they are.
    others: Vec<(String, Vec<u8>)>,
    /// Keys of the base's `generation_config.json` that are not among them and change outputs.
    pub dropped_keys: Vec<String>,
}

impl Parts {
    /// Those of a base.
    pub fn of(base: &BaseFiles) -> Result<Self, TrainError> {
        base.required(files::CONFIG)?;
        let config = base.json(files::CONFIG)?.unwrap_or_default();
        let generation = base.json(files::GENERATION)?;
        let end = id(generation.as_ref(), "eos_token_id")
            .or_else(|| id(Some(&config), "eos_token_id"))
            .ok_or_else(|| no_end(&base.file(files::CONFIG)))?;
        let profile = match base.optional(files::PROFILE) {
            Some(bytes) => Profile::from_json(bytes, &base.file(files::PROFILE))?,
            None => Profile::paper("aligner"),
        };
        let mut others: Vec<(String, Vec<u8>)> = files::TAKEN_OVER
            .into_iter()
            .filter(|name| *name != files::TOKENIZER)
            .filter_map(|name| Some((name.to_owned(), base.optional(name)?.to_vec())))
            .collect();
        let mut dropped_keys = Vec::new();
        if let Some(generation) = generation {
            let (kept, dropped) = as_trained(&generation);
            others.push((files::GENERATION.to_owned(), pretty(&kept)));
            dropped_keys = dropped;
        }
        Ok(Self {
            config,
            config_file: base.file(files::CONFIG),
            tokenizer: base.required(files::TOKENIZER)?.to_vec(),
            tokenizer_file: base.file(files::TOKENIZER),
            profile,
            end,
            others,
            dropped_keys,
        })
    }

    /// Those of a model from scratch.
    pub fn scratch(
        scratch: &Scratch,
        options: &TrainOptions,
        training: &[Triple],
    ) -> Result<Self, TrainError> {
        let (mut config, config_file) = match &scratch.config {
            None => (small_config(), files::CONFIG.to_owned()),
            Some(path) => {
                let file = path.display().to_string();
                let json = serde_json::from_slice(&files::read(path)?).map_err(|error| {
                    TrainError::Checkpoint {
                        file: file.clone(),
                        problem: format!("is not JSON ({error})"),
                    }
                })?;
                (json, file)
            }
        };
        let given = match &scratch.profile {
            None => None,
            Some(path) => {
                let origin = path.display().to_string();
                Some(Profile::from_json(&files::read(path)?, &origin)?)
            }
        };
        let name = options.name.as_deref().unwrap_or("aligner");
        if let Some(path) = &scratch.tokenizer {
            let end = id(Some(&config), "eos_token_id").ok_or_else(|| no_end(&config_file))?;
            return Ok(Self {
                config,
                config_file,
                tokenizer: files::read(path)?,
                tokenizer_file: path.display().to_string(),
                profile: given.unwrap_or_else(|| Profile::paper(name)),
                end,
                others: vec![(files::GENERATION.to_owned(), generation(end, None))],
                dropped_keys: Vec::new(),
            });
        }
        let texts = training.iter().flat_map(|triple| {
            [triple.question.as_str(), triple.answer.as_str()]
                .into_iter()
                .chain(triple.correction.as_deref())
        });
        let own = train_tokenizer(texts, scratch.vocabulary, name)?;
        if let Value::Object(config) = &mut config {
            // Quantised kernels need multiples of 256; the ids beyond the last are never used.
            let rows = own.vocabulary.next_multiple_of(256);
            config.insert("vocab_size".to_owned(), rows.into());
            config.insert("eos_token_id".to_owned(), own.end.into());
            config.insert("pad_token_id".to_owned(), own.pad.into());
        }
        let tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|end|>",
            "pad_token": "<|pad|>",
            "clean_up_tokenization_spaces": false,
        });
        Ok(Self {
            config,
            config_file,
            tokenizer: own.json,
            tokenizer_file: files::TOKENIZER.to_owned(),
            profile: given.unwrap_or(own.profile),
            end: own.end,
            others: vec![
                (
                    files::GENERATION.to_owned(),
                    generation(own.end, Some(own.pad)),
                ),
                (
                    "tokenizer_config.json".to_owned(),
                    pretty(&tokenizer_config),
                ),
            ],
            dropped_keys: Vec::new(),
        })
    }

    /// Writes them into the folder of the result.
    pub fn write(&self, output: &Path) -> Result<(), TrainError> {
        files::create_folder(output)?;
        write_profile(&self.profile, output)?;
        let written = [
            (files::CONFIG, pretty(&self.config)),
            (files::TOKENIZER, self.tokenizer.clone()),
        ];
        let others = self
            .others
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes));
        for (name, bytes) in written
            .iter()
            .map(|(name, bytes)| (*name, bytes))
            .chain(others)
        {
            files::write(&output.join(name), bytes)?;
        }
        Ok(())
    }
}

/// Writes `aligner.json`.
pub(crate) fn write_profile(profile: &Profile, output: &Path) -> Result<(), TrainError> {
    let json = serde_json::to_value(profile).expect("a profile is plain data");
    files::write(&output.join(files::PROFILE), &pretty(&json))
}

/// The first id under `key`, which may be one or a list.
fn id(json: Option<&Value>, key: &str) -> Option<u32> {
    let value = json?.get(key)?;
    let value = value.get(0).unwrap_or(value);
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn no_end(config_file: &str) -> TrainError {
    TrainError::Checkpoint {
        file: format!("{config_file}: eos_token_id"),
        problem: "is missing; it must name the token that ends a correction".to_owned(),
    }
}

fn generation(end: u32, pad: Option<u32>) -> Vec<u8> {
    pretty(&json!({"eos_token_id": end, "pad_token_id": pad, "do_sample": false}))
}

fn pretty(json: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(json).expect("it is JSON already")
}
