//! Before the first step: data, tokenizer, shape and weights, and examples made of them.
//!
//! Nothing is written here: a run that cannot begin leaves its output folder as it was.

use aligner_evaluation::Triple;

use crate::{
    data::{self, Split},
    error::TrainError,
    examples::{self, Example},
    options::{Recipe, TrainOptions},
    origin::{Origin, resume_or_start},
    parts::Parts,
    shape::Shape,
    tokens::Tokens,
};

/// Everything that a run needs.
pub(crate) struct Prepared {
    /// Of a new run, all of the result but its weights.
    pub to_write: Option<Parts>,
    pub origin: Origin,
    pub examples: Examples,
    /// Digest of the data.
    pub data: String,
}

/// What is trained and validated on.
pub(crate) struct Examples {
    pub identity: Vec<Example>,
    pub residual: Vec<Example>,
    /// How many triples `residual` was made of.
    pub triples: usize,
    /// Those of them with nothing to correct.
    pub clean: usize,
    /// Those of them that the base corrected itself.
    pub own: usize,
    pub validation: Vec<Example>,
    /// What `validation` was made of, in its order.
    pub held_out: Vec<Triple>,
    /// Rows to validate on that are too long.
    pub validation_too_long: usize,
    /// Those beyond the most that are validated on.
    pub validation_left_out: usize,
    /// Those of `held_out` that are trained on, too.
    pub validation_repeated: usize,
    /// Most tokens of a row: those of the recipe, or the model's context where that is less.
    pub max_tokens: usize,
    /// Of all files: rows of more tokens than `max_tokens`.
    pub skipped_too_long: usize,
    /// Of all files: rows without a verdict.
    pub skipped_undecided: usize,
    /// Of all files: rows whose question is the last of several messages.
    pub shortened: usize,
}

pub(crate) fn prepare(options: &TrainOptions) -> Result<Prepared, TrainError> {
    let split = Split::read(options)?;
    let (parts, origin) = resume_or_start(options, &split)?;
    let tokens = Tokens::new(
        &parts.tokenizer,
        &parts.tokenizer_file,
        &parts.profile,
        parts.end,
    )?;
    if tokens.vocabulary() > origin.shape.vocabulary {
        return Err(TrainError::Checkpoint {
            file: format!("{}: vocab_size", parts.config_file),
            problem: format!(
                "is {}, and the tokenizer has {} entries",
                origin.shape.vocabulary,
                tokens.vocabulary()
            ),
        });
    }
    let data = split.digest.clone();
    let examples = Examples::of(split, options, &tokens, &origin)?;
    check_ids(&parts, &origin.shape, &examples)?;
    Ok(Prepared {
        to_write: origin.state.is_none().then_some(parts),
        origin,
        examples,
        data,
    })
}

impl Examples {
    fn of(
        split: Split,
        options: &TrainOptions,
        tokens: &Tokens,
        origin: &Origin,
    ) -> Result<Self, TrainError> {
        let recipe = &options.recipe;
        let Split {
            training, held_out, ..
        } = split;
        let most = recipe.max_tokens.min(origin.shape.context);
        let (residual, kept) = fitting(
            examples::residual(&training, tokens)?,
            training.iter(),
            most,
        );
        let too_long = training.len() - residual.len();
        let to_validate = held_out.len();
        let (mut validation, mut held_out) =
            fitting(examples::residual(&held_out, tokens)?, held_out, most);
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
                origin.shape.context
            )));
        }
        let validation_left_out = validation.len().saturating_sub(recipe.validation_limit);
        validation.truncate(recipe.validation_limit);
        held_out.truncate(recipe.validation_limit);
        let identity = identity(&training, tokens, recipe, most)?;
        let count = |of: &dyn Fn(&Triple) -> bool| kept.iter().filter(|triple| of(triple)).count();
        Ok(Self {
            triples: residual.len(),
            clean: count(&examples::is_clean),
            own: origin.base_name.as_ref().map_or(0, |name| {
                count(&|triple| triple.aligner_name.as_ref() == Some(name))
            }),
            validation_repeated: data::count_repeated(kept, &held_out),
            identity,
            residual,
            validation,
            held_out,
            validation_too_long,
            validation_left_out,
            max_tokens: most,
            skipped_too_long: too_long + validation_too_long,
            skipped_undecided: split.undecided,
            shortened: split.shortened,
        })
    }
}

/// Examples of at most so many tokens, and the triples that they were made of.
fn fitting<T>(
    examples: Vec<Example>,
    triples: impl IntoIterator<Item = T>,
    most: usize,
) -> (Vec<Example>, Vec<T>) {
    examples
        .into_iter()
        .zip(triples)
        .filter(|(example, _)| example.positions() <= most)
        .unzip()
}

/// The examples of the warm-up.
fn identity(
    training: &[Triple],
    tokens: &Tokens,
    recipe: &Recipe,
    most: usize,
) -> Result<Vec<Example>, TrainError> {
    let mut identity = examples::identity(training, tokens, recipe.identity_target)?;
    identity.retain(|example| example.positions() <= most);
    if identity.is_empty() && recipe.identity_share > 0.0 {
        return Err(TrainError::NoExamples(format!(
            "each identity pair has more than {most} tokens; raise max_tokens, or set identity_share to 0"
        )));
    }
    Ok(identity)
}

/// The ids of a vocabulary may have gaps, and nothing said that the end is one of them.
fn check_ids(parts: &Parts, shape: &Shape, examples: &Examples) -> Result<(), TrainError> {
    let used = [&examples.identity, &examples.residual, &examples.validation];
    let ids = used
        .into_iter()
        .flatten()
        .flat_map(|example| example.prompt.iter().chain(&example.target));
    let vocabulary = shape.vocabulary;
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
