//! Before the first step: data, tokenizer, shape and weights, from a base or from the run's own
//! newest checkpoint, and the files that go beside the trained weights.
//!
//! Nothing is written here: a run that cannot begin leaves its output folder as it was.

use std::{collections::HashMap, path::Path};

use aligner::Profile;
use aligner_checkpoint::INDEX;
use aligner_evaluation::Triple;
use candle_core::Tensor;
use serde_json::{Value, json};

use crate::{
    data::{self, Split},
    error::TrainError,
    examples::{self, Example},
    files::{self, BaseFiles},
    fit,
    generation::as_trained,
    options::{Base, Precision, Scratch, TrainOptions},
    shape::{Shape, small_config},
    state::{Checkpoints, State},
    tokens::{Tokens, train_tokenizer},
};

/// Everything that a run needs.
pub(crate) struct Prepared {
    /// Of a new run, all of the result but its weights.
    pub to_write: Option<Parts>,
    /// Goes beside the trained weights.
    pub profile: Profile,
    pub shape: Shape,
    /// None for random weights.
    pub weights: Option<HashMap<String, Tensor>>,
    /// How errors call their file.
    pub weights_file: String,
    pub moments: Option<HashMap<String, Tensor>>,
    pub state: Option<State>,
    pub precision: Precision,
    pub data: String,
    pub identity: Vec<Example>,
    pub residual: Vec<Example>,
    pub validation: Vec<Example>,
    /// What `validation` was made of, in its order.
    pub held_out: Vec<Triple>,
    pub triples: usize,
    /// Those of them with nothing to correct.
    pub clean_triples: usize,
    /// Those of them that the base corrected itself.
    pub own_triples: usize,
    /// Name of the Aligner that the run begins with; none from scratch, or when resumed.
    pub base_name: Option<String>,
    /// Keys of the base's `generation_config.json` that are left behind and change outputs; none
    /// when resumed.
    pub dropped_keys: Vec<String>,
    /// Of all files: rows of more tokens than `max_tokens`.
    pub skipped_too_long: usize,
    /// Of all files: rows without a verdict.
    pub skipped_undecided: usize,
    /// Most tokens of a row: those of the recipe, or the model's context where that is less.
    pub max_tokens: usize,
    /// Rows to validate on that are too long.
    pub validation_too_long: usize,
    /// Those beyond the most that are validated on.
    pub validation_left_out: usize,
    /// Those of `held_out` that are trained on, too.
    pub validation_repeated: usize,
}

/// A checkpoint without its weights.
pub(crate) struct Parts {
    config: Value,
    config_file: String,
    tokenizer: Vec<u8>,
    tokenizer_file: String,
    profile: Profile,
    end: u32,
    /// Name and bytes of files that are written as they are.
    others: Vec<(String, Vec<u8>)>,
    /// Keys of the base's `generation_config.json` that are not among them and change outputs.
    dropped_keys: Vec<String>,
}

pub(crate) fn prepare(options: &TrainOptions) -> Result<Prepared, TrainError> {
    let recipe = &options.recipe;
    let Split {
        training,
        held_out,
        undecided,
        digest,
    } = Split::read(options)?;
    let (parts, mut prepared) = resume_or_start(options, &training, &held_out, &digest)?;
    let tokens = Tokens::new(
        &parts.tokenizer,
        &parts.tokenizer_file,
        &parts.profile,
        parts.end,
    )?;
    if tokens.vocabulary() > prepared.shape.vocabulary {
        return Err(TrainError::Checkpoint {
            file: format!("{}: vocab_size", parts.config_file),
            problem: format!(
                "is {}, and the tokenizer has {} entries",
                prepared.shape.vocabulary,
                tokens.vocabulary()
            ),
        });
    }
    let most = recipe.max_tokens.min(prepared.shape.context);
    let fits = |example: &Example| example.positions() <= most;
    let (residual, kept): (Vec<Example>, Vec<&Triple>) = examples::residual(&training, &tokens)
        .into_iter()
        .zip(&training)
        .filter(|(example, _)| fits(example))
        .unzip();
    let too_long = training.len() - residual.len();
    let to_validate = held_out.len();
    let (mut validation, mut held_out): (Vec<Example>, Vec<Triple>) =
        examples::residual(&held_out, &tokens)
            .into_iter()
            .zip(held_out)
            .filter(|(example, _)| fits(example))
            .unzip();
    let validation_too_long = to_validate - validation.len();
    if residual.is_empty() {
        // Rows that were held out of the data are rows of it.
        let which = if options.validation.is_empty() && validation.is_empty() {
            format!("each of {} triples has", too_long + validation_too_long)
        } else {
            format!("each of {too_long} triples to train on has")
        };
        return Err(TrainError::NoExamples(format!(
            "{which} more than {most} tokens; raise max_tokens up to the context of {}",
            prepared.shape.context
        )));
    }
    prepared.validation_left_out = validation.len().saturating_sub(recipe.validation_limit);
    validation.truncate(recipe.validation_limit);
    held_out.truncate(recipe.validation_limit);
    prepared.identity = examples::identity(&training, &tokens, recipe.identity_target)?;
    prepared.identity.retain(fits);
    if prepared.identity.is_empty() && recipe.identity_share > 0.0 {
        return Err(TrainError::NoExamples(format!(
            "each identity pair has more than {most} tokens; raise max_tokens, or set identity_share to 0"
        )));
    }
    let count = |of: &dyn Fn(&Triple) -> bool| kept.iter().filter(|triple| of(triple)).count();
    prepared.clean_triples = count(&examples::is_clean);
    prepared.own_triples = prepared.base_name.as_ref().map_or(0, |name| {
        count(&|triple| triple.aligner_name.as_ref() == Some(name))
    });
    prepared.validation_repeated = data::count_repeated(kept, &held_out);
    prepared.validation_too_long = validation_too_long;
    (prepared.validation, prepared.held_out) = (validation, held_out);
    prepared.triples = residual.len();
    prepared.residual = residual;
    prepared.skipped_too_long = too_long + validation_too_long;
    prepared.skipped_undecided = undecided;
    prepared.max_tokens = most;
    prepared.data = digest;
    check_ids(&parts, &prepared)?;
    prepared.to_write = prepared.state.is_none().then_some(parts);
    Ok(prepared)
}

/// From the newest checkpoint of the output folder if the run is to go on, and else from its base.
fn resume_or_start(
    options: &TrainOptions,
    training: &[Triple],
    held_out: &[Triple],
    digest: &str,
) -> Result<(Parts, Prepared), TrainError> {
    let checkpoints = Checkpoints::of(&options.output);
    let Some(path) = checkpoints.newest()? else {
        return start(options, training, held_out);
    };
    // The weights are written last.
    let finished = options.output.join(files::WEIGHTS).is_file();
    if !options.resume {
        return Err(TrainError::Option {
            option: "output",
            value: options.output.display().to_string(),
            expected: if finished {
                "which holds a finished run; to go on from it, name it by --from and another folder \
                 by --output"
            } else {
                "which holds checkpoints of an earlier run; resume it, or give another folder"
            },
        });
    }
    let (state, stored) = checkpoints.read(&path)?;
    let parts = Parts::of(&BaseFiles::read(&Base::Folder(options.output.clone()))?)?;
    state
        .check_origin(options, &parts.profile.name, &path)
        .and_then(|()| state.check(&options.recipe, digest, &path))
        .map_err(|error| match finished {
            true => error.of_finished(&options.output),
            false => error,
        })?;
    let prepared = Prepared {
        weights: Some(stored.weights),
        weights_file: path.display().to_string(),
        moments: Some(stored.moments),
        precision: state.precision,
        state: Some(state),
        ..Prepared::empty(&parts)?
    };
    Ok((parts, prepared))
}

/// The ids of a vocabulary may have gaps, and nothing said that the end is one of them.
fn check_ids(parts: &Parts, prepared: &Prepared) -> Result<(), TrainError> {
    let used = [&prepared.identity, &prepared.residual, &prepared.validation];
    let ids = used
        .into_iter()
        .flatten()
        .flat_map(|example| example.prompt.iter().chain(&example.target));
    let vocabulary = prepared.shape.vocabulary;
    let Some(id) = ids.copied().max().filter(|id| *id as usize >= vocabulary) else {
        return Ok(());
    };
    let named_by = if id == parts.end {
        "eos_token_id"
    } else {
        parts.tokenizer_file.as_str()
    };
    Err(TrainError::Checkpoint {
        file: format!("{}: vocab_size", parts.config_file),
        problem: format!("is {vocabulary}, and {named_by} names token {id}"),
    })
}

impl TrainOptions {
    /// Whether a run that is to go on has no checkpoint to go on from.
    ///
    /// # Errors
    /// If the folder of its checkpoints cannot be read, or no run may begin there.
    pub fn begins_anew(&self) -> Result<bool, TrainError> {
        let anew = self.resume && Checkpoints::of(&self.output).newest()?.is_none();
        if anew {
            self.check_new_output()?;
        }
        Ok(anew)
    }

    /// A run that begins writes over no model.
    fn check_new_output(&self) -> Result<(), TrainError> {
        let refuse = |expected| {
            Err(TrainError::Option {
                option: "output",
                value: self.output.display().to_string(),
                expected,
            })
        };
        if let Base::Folder(folder) = &self.base
            && same_folder(folder, &self.output)
        {
            return refuse("which is the folder that the run starts from; give another folder");
        }
        if [files::WEIGHTS, INDEX]
            .iter()
            .any(|name| self.output.join(name).exists())
        {
            return refuse(
                "which holds a model, and no checkpoint of a run to resume; give another folder",
            );
        }
        Ok(())
    }
}

impl Prepared {
    fn empty(parts: &Parts) -> Result<Self, TrainError> {
        Ok(Self {
            to_write: None,
            profile: parts.profile.clone(),
            shape: Shape::from_config(&parts.config, &parts.config_file)?,
            weights: None,
            weights_file: String::new(),
            moments: None,
            state: None,
            precision: Precision::F32,
            data: String::new(),
            identity: Vec::new(),
            residual: Vec::new(),
            validation: Vec::new(),
            held_out: Vec::new(),
            triples: 0,
            clean_triples: 0,
            own_triples: 0,
            base_name: None,
            dropped_keys: Vec::new(),
            skipped_too_long: 0,
            skipped_undecided: 0,
            max_tokens: 0,
            validation_too_long: 0,
            validation_left_out: 0,
            validation_repeated: 0,
        })
    }
}

/// A new run: reads or makes the base, and with it all of the result but its weights.
fn start(
    options: &TrainOptions,
    training: &[Triple],
    held_out: &[Triple],
) -> Result<(Parts, Prepared), TrainError> {
    options.check_new_output()?;
    let base = BaseFiles::read(&options.base)?;
    let mut parts = match &options.base {
        Base::Scratch(scratch) => Parts::scratch(scratch, options, training)?,
        _ => Parts::of(&base)?,
    };
    let weights = match &options.base {
        Base::Scratch(_) => None,
        _ => Some(base.weights()?),
    };
    let base_name = match &options.base {
        Base::Scratch(_) => None,
        _ => Some(parts.profile.name.clone()),
    };
    // Two Aligners of one name could not be told apart in what they corrected.
    let folder = options.output.file_name().map(|n| n.to_string_lossy());
    if let Some(name) = options.name.as_deref().or(folder.as_deref()) {
        name.clone_into(&mut parts.profile.name);
    }
    fit::to_corrections(&mut parts.profile.guard, training, held_out);
    let stored = weights.as_ref().map_or(Precision::F32, files::precision_of);
    let precision = options.precision.unwrap_or(stored);
    for key in ["torch_dtype", "dtype"] {
        if let Some(value) = parts.config.get_mut(key) {
            *value = precision.torch_name().into();
        }
    }
    let prepared = Prepared {
        weights,
        weights_file: base.file(files::WEIGHTS),
        precision,
        base_name,
        dropped_keys: parts.dropped_keys.clone(),
        ..Prepared::empty(&parts)?
    };
    Ok((parts, prepared))
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// The first id under `key`, which may be one or a list.
fn id(json: Option<&Value>, key: &str) -> Option<u32> {
    let value = json?.get(key)?;
    let value = value.get(0).unwrap_or(value);
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

impl Parts {
    fn of(base: &BaseFiles) -> Result<Self, TrainError> {
        base.required(files::CONFIG)?;
        let config = base.json(files::CONFIG)?.unwrap_or_default();
        let generation = base.json(files::GENERATION)?;
        let end = id(generation.as_ref(), "eos_token_id")
            .or_else(|| id(Some(&config), "eos_token_id"))
            .ok_or_else(|| TrainError::Checkpoint {
                file: format!("{}: eos_token_id", base.file(files::CONFIG)),
                problem: "is missing; it must name the token that ends a correction".to_owned(),
            })?;
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

    fn scratch(
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
            let end = id(Some(&config), "eos_token_id").ok_or_else(|| TrainError::Checkpoint {
                file: format!("{config_file}: eos_token_id"),
                problem: "is missing; it must name the token that ends a correction".to_owned(),
            })?;
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

fn generation(end: u32, pad: Option<u32>) -> Vec<u8> {
    pretty(&json!({"eos_token_id": end, "pad_token_id": pad, "do_sample": false}))
}

fn pretty(json: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(json).expect("it is JSON already")
}
