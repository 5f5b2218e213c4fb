//! `correct`: answers from the command line, a file or stdin; the same pipeline, engine and prompt
//! as `run`, with lines of text where that has Kafka.

pub(super) mod files;
mod input;
mod lines;
mod raw;
mod settings;
mod writer;

use std::{
    io::{self, BufRead, BufWriter, IsTerminal, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aligner_pipeline::{Parts, Pipeline, Summary, system_clock};
use aligner_records::{Disposition, FieldMap};
use anyhow::bail;
use clap::ArgMatches;

use self::files::Named;
use crate::{
    cli::{self, OutputFormat},
    commands::{self, Usage},
    config::{self, Settings},
    diff::Paint,
    models, serve, telemetry,
};

/// What shells give for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Runs the command; `matches` are those of the whole command line.
pub fn run(args: &cli::Correct, matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    let settings = settings::read(args, matches)?;
    let fields = fields(args, &settings)?;
    refuse_own_files(args, &settings)?;
    let input = input::open(args, fields.as_ref())?;
    let format = args.format.unwrap_or_else(|| {
        let terminal = to_stdout(args) && io::stdout().is_terminal();
        if terminal {
            OutputFormat::Text
        } else {
            OutputFormat::Json
        }
    });
    let runtime = commands::runtime()?;
    let limits = settings::limits(settings.pipeline.clone());
    let patience = Duration::from_millis(limits.max_outage_ms);
    let loaded = runtime.block_on(models::load(&settings.aligner, patience))?;
    let output = output(args)?;
    let pairs = pairs(args)?;
    if args.raw {
        return runtime.block_on(raw::run(loaded.engine()?, input, output));
    }
    let aligner = loaded.aligner();
    let progress = commands::progress_bar(input::total_lines(args));
    let identity = aligner.identity().clone();
    let (sink, ending) =
        writer::LineSink::new(output, pairs, format, paint(args), identity, progress);
    let (source, input_end) = lines::LineSource::new(input);
    let pipeline = Pipeline::new(Parts {
        source,
        sink,
        decoder: Arc::new(lines::LineDecoder::new(fields)),
        encoder: Arc::new(writer::LineEncoder::new(&aligner.identity().revision)),
        aligner,
        settings: limits,
        connector: "correct".to_owned(),
        task: 0,
        wall_clock: system_clock(),
    });
    let summary = runtime.block_on(async {
        let stop = serve::stop_signal(INTERRUPTED)?;
        let interrupted = async {
            stop.await;
            eprintln!("stopping: what is finished is written; a second signal ends at once");
        };
        anyhow::Ok(pipeline.run(interrupted).await?)
    });
    let ending = ending.wait();
    if let Some(error) = ending.write_error {
        return Err(anyhow::Error::new(error).context("writing corrections"));
    }
    let summary = summary?;
    match input_end.reached() {
        Some(Ok(())) if summary.left == 0 => {}
        Some(Err(error)) => bail!(
            "{}: {error}; the lines before it are done: give the others again once they can be read",
            input::name(args)
        ),
        _ => {
            eprintln!("{}", interrupted(&summary));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    }
    if ending.dead_lettered == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "{} of {} lines could not be corrected: their \"disposition\" is dead_lettered, and \
         \"message\" says why",
        ending.dead_lettered, summary.received
    );
    Ok(ExitCode::FAILURE)
}

/// What was done until somebody stopped it.
fn interrupted(summary: &Summary) -> String {
    let count = |disposition: Disposition| {
        let outcomes = summary.outcomes.iter();
        let records: u64 = outcomes
            .filter(|outcome| outcome.disposition == disposition)
            .map(|outcome| outcome.records)
            .sum();
        (records > 0).then(|| format!("{records} {}", disposition.as_str()))
    };
    let counts: Vec<String> = Disposition::ALL.into_iter().filter_map(count).collect();
    let of_these = match counts.as_slice() {
        [] => String::new(),
        counts => format!(" ({})", counts.join(", ")),
    };
    format!(
        "interrupted: {} lines were done{of_these}, the others are not in the output",
        summary.received - summary.left
    )
}

type Input = Box<dyn BufRead + Send>;
type Output = Box<dyn Write + Send>;

/// How the lines are laid out, where not in our own way. A pair from the command line is no line of
/// a log.
fn fields(args: &cli::Correct, settings: &Settings) -> anyhow::Result<Option<FieldMap>> {
    if args.question.is_some() || args.raw {
        return Ok(None);
    }
    Ok(config::fields(settings)?)
}

/// Making an output empties it: the answers would be gone before they are read.
fn refuse_own_files(args: &cli::Correct, settings: &Settings) -> Result<(), Usage> {
    let mut read: Vec<Named<'_>> = input::origin(args).into_iter().collect();
    let config = args.config.as_deref();
    read.extend(config.map(|path| Named::new("--config", path)));
    read.extend(files::of_aligner(&settings.aligner));
    let output = (!to_stdout(args)).then(|| Named::new("--output", &args.output));
    let pairs = args.pairs.as_deref();
    let pairs = pairs.map(|path| Named::new("--pairs", path));
    for written in output.into_iter().chain(pairs) {
        written.refuse_if_among(&read)?;
    }
    Ok(())
}

fn to_stdout(args: &cli::Correct) -> bool {
    args.output.as_os_str() == "-"
}

/// Whether changes are coloured: on a terminal. A file would keep the escapes for good.
fn paint(args: &cli::Correct) -> Paint {
    let terminal = to_stdout(args) && io::stdout().is_terminal();
    if terminal && std::env::var_os("NO_COLOR").is_none() {
        Paint::Colour
    } else {
        Paint::Plain
    }
}

fn output(args: &cli::Correct) -> anyhow::Result<Output> {
    if to_stdout(args) {
        return Ok(Box::new(BufWriter::new(io::stdout())));
    }
    let file = Named::new("--output", &args.output).create()?;
    Ok(Box::new(BufWriter::new(file)))
}

fn pairs(args: &cli::Correct) -> anyhow::Result<Option<Output>> {
    let Some(path) = &args.pairs else {
        return Ok(None);
    };
    let file = Named::new("--pairs", path);
    // The output may have been made just now.
    file.refuse_if_among(&[Named::new("--output", &args.output)])?;
    Ok(Some(Box::new(BufWriter::new(file.create()?))))
}
