//! `train`: makes an Aligner from triples, or continues one.

mod warnings;

use std::{
    borrow::Cow,
    fs,
    io::{self, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use aligner_training::{
    Base, Ended, Outcome, Phase, Progress, Scratch, TrainError, TrainOptions, train,
};
use anyhow::Context;

use crate::{
    cli,
    commands::{self, Usage, files::Named},
    models::PROFILE,
    signals::{self, INTERRUPTED},
    stderr::tell,
    telemetry,
};

/// Runs the command.
pub fn run(args: &cli::Train) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    let options = options(args)?;
    refuse_data_as_validation(args)?;
    refuse_own_files(args, &options)?;
    if options
        .begins_anew()
        .map_err(|error| by_flag(args, error))?
    {
        let output = args.output.display();
        tell!("{output} holds no checkpoint: beginning anew");
    }
    if let Some(warning) = lacks_profile(&options) {
        tell!("warning: {warning}");
    }
    let interrupted = signals::interrupt_flag()?;
    let mut reporter = Reporter::default();
    let outcome = train(&options, &mut |progress| {
        reporter.report(progress);
        if interrupted.load(std::sync::atomic::Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .map_err(|error| by_flag(args, error))?;
    match outcome.ended {
        Ended::Interrupted => {
            tell!(
                "interrupted at step {}; --resume continues there",
                outcome.step
            );
        }
        Ended::EarlyStopped => tell!("stopped early: the validation loss fell no more"),
        Ended::Completed => {}
    }
    if outcome.validation_left_out > 0 {
        let used = outcome.validation_triples;
        tell!(
            "validated on {used} of {} rows, a sample as large as validation_limit in the recipe",
            used + outcome.validation_left_out
        );
    }
    if let Some(line) = losses(&outcome) {
        tell!("{line}");
    }
    if let (Some(exact), Some(delivered)) = (outcome.exact, outcome.delivered) {
        tell!(
            "of {} validation triples, {} with something to correct, {:.1} % come out exactly right, and \
             {:.1} % also pass the guard in {}/aligner.json",
            outcome.validation_triples,
            outcome.validation_corrections,
            100.0 * exact,
            100.0 * delivered,
            outcome.output.display(),
        );
    }
    for line in warnings::skipped(&outcome, options.recipe.max_tokens) {
        tell!("{line}");
    }
    for warning in warnings::of(&outcome, !args.validation.is_empty()) {
        tell!("warning: {warning}");
    }
    // Not println!, which panics where nobody reads it.
    let printed = writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?);
    match outcome.ended {
        // There is no Aligner yet: whatever was to follow must not go on.
        Ended::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
        Ended::EarlyStopped | Ended::Completed => {
            printed.map_err(commands::unprinted).with_context(|| {
                let output = outcome.output.display();
                format!("printing the outcome, which {output}/training.json has too")
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// That nothing gives the prompt of the base. A run that goes on has written its own.
fn lacks_profile(options: &TrainOptions) -> Option<String> {
    let Base::Folder(folder) = &options.base else {
        return None;
    };
    let lacks = |folder: &Path| !folder.join(PROFILE).is_file();
    (lacks(folder) && lacks(&options.output)).then(|| {
        format!(
            "--from {} has no {PROFILE}, so that the prompt is the paper's, without a token for answers \
             that stand: where the model was trained with another one, put its {PROFILE} there first",
            folder.display()
        )
    })
}

/// The validation loss of what was written, beside those that led there.
fn losses(outcome: &Outcome) -> Option<String> {
    let (best, written) = (outcome.best_validation?, outcome.loss_as_written?);
    let before = outcome
        .first_validation_loss
        .map_or_else(String::new, |loss| format!(" {loss:.4} before,"));
    Some(format!(
        "validation loss{before} {:.4} at step {}, {written:.4} as written in {}",
        best.loss, best.step, outcome.precision
    ))
}

/// An error of the run, by the flag that mends it.
fn by_flag(args: &cli::Train, error: TrainError) -> anyhow::Error {
    let TrainError::Io {
        action,
        path,
        source,
    } = &error
    else {
        return match error {
            TrainError::Option { .. } => Usage(error.to_string()).into(),
            _ => error.into(),
        };
    };
    let file = if args.validation.contains(path) {
        Named::new("--validation", path)
    } else if args.data.contains(path) {
        Named::new("--data", path)
    } else if path.starts_with(&args.output) {
        Named::new("--output", path)
    } else {
        return error.into();
    };
    match *action {
        "read" => file.unreadable(source),
        _ => file.unwritable(source),
    }
}

/// What was trained on cannot show what was learnt.
fn refuse_data_as_validation(args: &cli::Train) -> Result<(), Usage> {
    let data: Vec<_> = args
        .data
        .iter()
        .map(|path| Named::new("--data", path))
        .collect();
    args.validation
        .iter()
        .try_for_each(|path| Named::new("--validation", path).refuse_if_among(&data))
}

/// A run does not write over what it reads, which may lie in the folder of an earlier one.
fn refuse_own_files(args: &cli::Train, options: &TrainOptions) -> Result<(), Usage> {
    let base = match &options.base {
        Base::Folder(folder) if !same_folder(folder, &args.output) => files_in(folder),
        // That one is refused as a whole; the others are no files of the user's.
        Base::Folder(_) | Base::Files { .. } | Base::Scratch(_) => Vec::new(),
    };
    let flags = [
        ("--data", &args.data[..]),
        ("--validation", &args.validation[..]),
        ("--recipe", args.recipe.as_slice()),
        ("--from", &base[..]),
    ];
    let read: Vec<_> = flags
        .into_iter()
        .flat_map(|(flag, paths)| paths.iter().map(move |path| Named::new(flag, path)))
        .collect();
    options
        .written()
        .iter()
        .try_for_each(|path| Named::new("--output", path).refuse_if_among(&read))
}

/// Whether the two are one folder, which may not be there yet.
fn same_folder(a: &Path, b: &Path) -> bool {
    a.canonicalize()
        .is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// What lies in a folder; nothing if it cannot be read, which whoever reads it says better.
fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.flatten().map(|entry| entry.path()).collect()
}

fn options(args: &cli::Train) -> anyhow::Result<TrainOptions> {
    if args.output.exists() && !args.output.is_dir() {
        let output = args.output.display();
        return Err(Usage(format!("--output {output} is a file: name a folder")).into());
    }
    let base = match args.from.as_deref().unwrap_or("bundled") {
        "bundled" => Base::Files {
            name: "bundled".to_owned(),
            files: aligner_bundled::FILES
                .iter()
                .map(|(name, bytes)| ((*name).to_owned(), Cow::Borrowed(*bytes)))
                .collect(),
        },
        "scratch" => Base::Scratch(Scratch::default()),
        // A run that is resumed goes on without the folder that it began with.
        folder if args.resume || Path::new(folder).is_dir() => Base::Folder(PathBuf::from(folder)),
        other => {
            let takes =
                "expected bundled, scratch, or the folder of a Llama in Hugging Face layout";
            return Err(Usage(format!("--from {other} is no folder, {takes}")).into());
        }
    };
    let mut options = TrainOptions::new(base, args.data.clone(), &args.output);
    options.base_given = args.from.is_some();
    options.validation.clone_from(&args.validation);
    options.resume = args.resume;
    options.name.clone_from(&args.name);
    options.device = args
        .device
        .parse()
        .map_err(|error| Usage(format!("--{error}")))?;
    options.checkpoint_every_steps = args.checkpoint_every;
    let recipe = &mut options.recipe;
    if let Some(path) = &args.recipe {
        let bytes = Named::new("--recipe", path).read()?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Usage(format!("--recipe {}: it is not UTF-8", path.display())))?;
        *recipe = recipe
            .overlaid(&text)
            .map_err(|error| Usage(format!("--recipe {}: {error}", path.display())))?;
    }
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    recipe.steps = args.steps.or(recipe.steps);
    if let Some(epochs) = args.epochs {
        // As many as were asked for, however few steps they make.
        recipe.epochs = epochs;
        recipe.steps = None;
        recipe.min_residual_steps = 0;
    }
    recipe.batch_tokens = args.batch_tokens.unwrap_or(recipe.batch_tokens);
    recipe.accumulation = args.accumulation.unwrap_or(recipe.accumulation);
    recipe.learning_rate = args.learning_rate.unwrap_or(recipe.learning_rate);
    recipe.identity_share = args.identity_share.unwrap_or(recipe.identity_share);
    Ok(options)
}

/// Progress to stderr: every validation, and at most one line every few seconds between.
#[derive(Default)]
struct Reporter {
    last: Option<Duration>,
}

impl Reporter {
    fn report(&mut self, progress: &Progress) {
        const EVERY: Duration = Duration::from_secs(5);
        let due = self
            .last
            .is_none_or(|last| progress.elapsed >= last + EVERY);
        if !due && progress.validation.is_none() && progress.step < progress.steps {
            return;
        }
        self.last = Some(progress.elapsed);
        let phase = match progress.phase {
            Phase::Identity => "identity",
            Phase::Residual => "residual",
        };
        let validation = progress.validation.as_ref().map(|validation| {
            format!(
                "; validation loss {:.4}, exact {:.1} %{}",
                validation.loss,
                100.0 * validation.exact,
                if validation.best { " (best)" } else { "" },
            )
        });
        tell!(
            "step {}/{} {phase} loss {:.4} {:.0} tokens/s {} left{}",
            progress.step,
            progress.steps,
            progress.loss,
            progress.tokens_per_second,
            span(progress.left),
            validation.unwrap_or_default(),
        );
    }
}

fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
