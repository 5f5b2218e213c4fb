//! `correct`: answers from the command line, a file or stdin; the same pipeline, engine and prompt
//! as `run`, with lines of text where that has Kafka.

mod input;
mod lines;
mod raw;
mod settings;
mod writer;

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    iter,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aligner::reason as bypass;
use aligner_pipeline::{Parts, Pipeline, Summary, system_clock};
use aligner_records::{Disposition, FieldMap, reason};
use anyhow::{Context, anyhow, bail};
use clap::ArgMatches;
use indicatif::ProgressBar;

use crate::{
    cli::{self, OutputFormat},
    commands::{
        self, Unread, Usage,
        files::{self, Named},
        line_output::{LineOutput, Unwritten},
    },
    config::{self, Settings},
    diff::Paint,
    models,
    signals::{self, INTERRUPTED},
    stderr::tell,
    telemetry,
};

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
    let limits = settings::limits(settings.pipeline.clone(), args.config.is_some());
    let patience = Duration::from_millis(limits.max_outage_ms);
    let loaded = runtime.block_on(models::load(&settings.aligner, patience))?;
    let (output, pairs) = outputs(args)?;
    let (source, input_end) = lines::LineSource::new(input);
    if args.raw {
        let engine = loaded.engine()?;
        let ending =
            runtime.block_on(async { raw::run(engine, source, output, interruption()?).await })?;
        if let Some(error) = ending.unwritten {
            return Err(unwritten(args, &error, ending.lines));
        }
        if !is_whole(args, &input_end, !ending.is_interrupted)? {
            tell!("{}", interrupted(ending.lines, &[]));
            return Ok(ExitCode::from(INTERRUPTED));
        }
        return Ok(if ending.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let aligner = loaded.aligner();
    let (sink, ending) = writer::LineSink::new(
        output,
        pairs,
        format,
        paint(args),
        aligner.identity().clone(),
        fields.clone(),
        progress(args),
    );
    let is_mapped = fields.is_some();
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
    let summary = runtime.block_on(async { anyhow::Ok(pipeline.run(interruption()?).await?) });
    let ending = ending.wait();
    if let Some(error) = ending.unwritten {
        return Err(unwritten(args, &error, ending.lines));
    }
    let summary = summary?;
    if !is_whole(args, &input_end, summary.left == 0)? {
        let counts: Vec<String> = Disposition::ALL
            .into_iter()
            .filter_map(|disposition| count(&summary, disposition))
            .collect();
        let done = summary.received - summary.left;
        tell!("{}", interrupted(done, &counts));
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if summary.received == 0 {
        tell!("warning: {} holds no lines", input::name(args));
    } else if output_file(args).is_some() || args.pairs.is_some() {
        tell!("{}", done(&summary));
    }
    if is_silent(&summary) {
        tell!(
            "warning: question or answer is empty in every line (no_text); {}",
            where_fields_lie(is_mapped)
        );
    }
    if ending.dead_lettered == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    tell!(
        "{} of {} lines could not be corrected: their \"disposition\" is dead_lettered, and \
         \"message\" says why",
        ending.dead_lettered,
        summary.received
    );
    if lacks_fields(&summary) {
        tell!("{}", where_fields_lie(is_mapped));
    }
    Ok(ExitCode::FAILURE)
}

/// Ready when somebody stops the command, who is told so.
fn interruption() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let stop = signals::stop_signal(INTERRUPTED)?;
    Ok(async {
        stop.await;
        tell!("stopping: what is finished is written; a second signal ends at once");
    })
}

/// Whether all lines were done: not if somebody stopped the command while some were left.
///
/// # Errors
/// If the input could not be read to its end.
fn is_whole(
    args: &cli::Correct,
    end: &lines::InputEnd,
    is_nothing_left: bool,
) -> anyhow::Result<bool> {
    match end.reached() {
        Some(Err(error)) => bail!(
            "{}: {error}; the lines before it are done: give the others again once they can be read",
            input::name(args)
        ),
        end => Ok(end.is_some() && is_nothing_left),
    }
}

/// The error of an output that could not be written any more when so many lines were done. If it is
/// the only one, and its reader has seen enough, there is none to tell of.
fn unwritten(args: &cli::Correct, error: &Unwritten, lines: u64) -> anyhow::Error {
    if error.is_unread() && to_stdout(args) && args.pairs.is_none() {
        return Unread.into();
    }
    anyhow!("{error}; {lines} lines were done, and what is written of others may be cut off")
}

/// What became of all lines, where nobody sees them pass.
fn done(summary: &Summary) -> String {
    let counts = Disposition::ALL.into_iter().filter_map(|disposition| {
        let count = count(summary, disposition)?;
        let outcomes = summary.outcomes.iter();
        let reasons = outcomes
            .filter(|outcome| outcome.disposition == disposition)
            .filter_map(|outcome| Some((outcome.records, outcome.reason?)));
        let reasons = commands::by_count(reasons);
        Some(format!("{count}{}", commands::in_brackets(&reasons)))
    });
    let plural = if summary.received == 1 { "" } else { "s" };
    format!(
        "{} line{plural}: {}",
        summary.received,
        counts.collect::<Vec<_>>().join(", ")
    )
}

/// What was done until somebody stopped it.
fn interrupted(lines: u64, counts: &[String]) -> String {
    format!(
        "interrupted: {lines} lines were done{}, the others are not in the output",
        commands::in_brackets(counts)
    )
}

/// How many lines ended so, if any did.
fn count(summary: &Summary, disposition: Disposition) -> Option<String> {
    let outcomes = summary.outcomes.iter();
    let records: u64 = outcomes
        .filter(|outcome| outcome.disposition == disposition)
        .map(|outcome| outcome.records)
        .sum();
    (records > 0).then(|| format!("{records} {}", disposition.as_str()))
}

/// Whether most lines lack question or answer where we look for them, and none has both, so that most
/// likely they lie elsewhere. A line that is cut off or no JSON says nothing about the others.
fn lacks_fields(summary: &Summary) -> bool {
    let missing = [reason::MISSING_QUESTION, reason::MISSING_ANSWER];
    let outcomes = || summary.outcomes.iter();
    let lacking: u64 = outcomes()
        .filter(|outcome| outcome.reason.is_some_and(|word| missing.contains(&word)))
        .map(|outcome| outcome.records)
        .sum();
    outcomes().all(|outcome| outcome.disposition == Disposition::DeadLettered)
        && lacking > summary.received / 2
}

/// Whether there are lines, and nothing to read in any of them where the mapping looks for question and
/// answer.
fn is_silent(summary: &Summary) -> bool {
    let mut outcomes = summary.outcomes.iter();
    summary.received > 0 && outcomes.all(|outcome| outcome.reason == Some(bypass::NO_TEXT))
}

/// What to do where question and answer are not found.
fn where_fields_lie(is_mapped: bool) -> &'static str {
    if is_mapped {
        "if question and answer lie elsewhere in the log, mend input.fields, see \
         config/existing-log.yaml"
    } else {
        "if the log has another layout, say where question and answer lie: --config with \
         input.fields, see config/existing-log.yaml"
    }
}

/// How the lines are laid out, where not in our own way. A pair from the command line is no line of
/// a log.
fn fields(args: &cli::Correct, settings: &Settings) -> anyhow::Result<Option<FieldMap>> {
    if args.question.is_some() || args.raw {
        return Ok(None);
    }
    Ok(config::fields(settings)?)
}

/// An output is emptied: the answers would be gone before they are read. One that a shell appends to
/// its own input has no end. And two outputs that are one would lie in each other.
fn refuse_own_files(args: &cli::Correct, settings: &Settings) -> Result<(), Usage> {
    let (output, pairs) = (output_file(args), pairs_file(args));
    if to_stdout(args) && args.pairs.is_some() && pairs.is_none() {
        let message = "--pairs -: stdout already has the corrections; name a file for one of them";
        return Err(Usage(message.to_owned()));
    }
    let mut read: Vec<Named<'_>> = input::origin(args).into_iter().collect();
    let config = args.config.as_deref();
    read.extend(config.map(|path| Named::new("--config", path)));
    read.extend(files::of_aligner(&settings.aligner));
    // Stdout may be one of the files, too.
    let stdout = |flag| Named::new(flag, Path::new("/dev/stdout"));
    let output = output.unwrap_or_else(|| stdout("--output"));
    let is_paired = args.pairs.is_some();
    let pairs = is_paired.then(|| pairs.unwrap_or_else(|| stdout("--pairs")));
    for written in iter::once(output).chain(pairs) {
        written.refuse_if_among(&read)?;
    }
    pairs.map_or(Ok(()), |pairs| pairs.refuse_if_with(output))
}

fn to_stdout(args: &cli::Correct) -> bool {
    args.output.as_os_str() == "-"
}

/// Whether changes are coloured. A file would keep the escapes for good.
fn paint(args: &cli::Correct) -> Paint {
    if to_stdout(args) {
        Paint::of_stdout()
    } else {
        Paint::Plain
    }
}

/// Progress on stderr, unless lines pass on the same terminal: they say as much, and would lie among
/// what is left of the bar.
fn progress(args: &cli::Correct) -> ProgressBar {
    let is_stdout_used = to_stdout(args) || (args.pairs.is_some() && pairs_file(args).is_none());
    if is_stdout_used && io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    // Nobody sees what is counted where stderr is no terminal.
    let total = if io::stderr().is_terminal() {
        input::total_lines(args)
    } else {
        None
    };
    commands::progress_bar(total)
}

/// The file of the corrections, unless that is stdout.
fn output_file(args: &cli::Correct) -> Option<Named<'_>> {
    (!to_stdout(args)).then(|| Named::new("--output", &args.output))
}

/// The file of the pairs, if they are asked for and not on stdout.
fn pairs_file(args: &cli::Correct) -> Option<Named<'_>> {
    let path = args.pairs.as_deref()?;
    (path.as_os_str() != "-").then(|| Named::new("--pairs", path))
}

/// Both are opened before either is emptied: what one of them held is not lost by what is wrong with
/// the other.
fn outputs(args: &cli::Correct) -> anyhow::Result<(LineOutput, Option<LineOutput>)> {
    let (output, pairs) = (output_file(args), pairs_file(args));
    let opened = output.map(Named::reserve).transpose()?;
    let opened_pairs = pairs.map(Named::reserve).transpose()?;
    if let (Some(output), Some(pairs)) = (output, pairs) {
        // Links that led to what was not there may lead to one file.
        pairs.refuse_if_among(&[output])?;
    }
    let output = line_output(output, opened, "stdout")
        .with_context(|| format!("emptying {}", args.output.display()))?;
    let pairs = match &args.pairs {
        Some(path) => {
            let pairs = line_output(pairs, opened_pairs, "--pairs -");
            Some(pairs.with_context(|| format!("emptying {}", path.display()))?)
        }
        None => None,
    };
    Ok((output, pairs))
}

/// A reserved file, empty; without one stdout, which is called so.
fn line_output(
    named: Option<Named<'_>>,
    file: Option<File>,
    stdout: &str,
) -> io::Result<LineOutput> {
    let name = named.map_or_else(|| stdout.to_owned(), |named| named.to_string());
    let writer: Box<dyn Write + Send> = match file {
        Some(file) => Box::new(BufWriter::new(files::emptied(file)?)),
        None => Box::new(BufWriter::new(io::stdout())),
    };
    Ok(LineOutput::new(name, writer))
}
