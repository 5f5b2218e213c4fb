//! `eval`: what an Aligner corrects, and what it should have left alone.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use aligner::{Aligner, Identity};
use aligner_evaluation::{
    Class, CompareOptions, Dimension, Options, Progress, Purpose, Report, RowFaults, Rows, Triple,
    compare, contrasts, evaluate, parse_rows, render, sample,
};
use anyhow::{Context, bail};
use tokio::runtime::Runtime;

use crate::{
    cli,
    commands::{
        self, Usage,
        files::{self, Named},
    },
    config::{self, Problem, Problems},
    models,
    stderr::tell,
    telemetry,
};

/// How long a completions server may be out of reach before measuring begins.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub fn run(args: &cli::Eval) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    if args.limit == Some(0) {
        let message = "--limit 0 leaves nothing to measure: give 1 or more, or no limit";
        return Err(Usage(message.to_owned()).into());
    }
    let settings = commands::model(&args.model)?;
    let other = match &args.against {
        Some(model) => Some(second(args, model)?),
        None => None,
    };
    refuse_own_files(args, &settings, other.as_ref())?;
    let (triples, notes) = sampled(args)?;
    let page = page(args)?;
    let runtime = commands::runtime()?;
    let options = Options {
        data: args.data.display().to_string(),
        known_phrases: aligner_corpus::correction_phrases(),
        notes,
        ..Options::default()
    };
    let measure = |settings: &config::Aligner| -> anyhow::Result<Report> {
        let aligner = runtime
            .block_on(models::load(settings, PATIENCE))?
            .aligner();
        let mut options = options.clone();
        if let Some(warning) = own_rows(aligner.identity(), &triples) {
            tell!("warning: {warning}");
            options.notes.push(warning);
        }
        measure(&runtime, aligner, &triples, &options)
    };
    let report = measure(&settings)?;
    let other = other.map(|other| measure(&other)).transpose()?;
    let (text, html) = match &other {
        None => alone(args, &report)?,
        Some(other) => compared(args, &report, other, &triples, options.worst_cases)?,
    };
    // Neither is lost by what becomes of the other.
    let written = page.map_or(Ok(()), |(named, there)| write(named, there, &html));
    // Not println!, which panics where nobody reads it.
    let printed = writeln!(io::stdout(), "{text}")
        .map_err(commands::unprinted)
        .context("printing the figures");
    written.and(printed)?;
    Ok(ExitCode::SUCCESS)
}

/// The figures of one Aligner, as text and as a page.
fn alone(args: &cli::Eval, report: &Report) -> anyhow::Result<(String, String)> {
    let text = if args.json {
        serde_json::to_string(report)?
    } else {
        render::terminal(report)
    };
    Ok((text, render::html(report)))
}

/// The same of two.
fn compared(
    args: &cli::Eval,
    report: &Report,
    other: &Report,
    triples: &[Triple],
    worst_cases: usize,
) -> anyhow::Result<(String, String)> {
    let comparison = compare(report, other, &CompareOptions::default())?;
    let contrasts = contrasts(report, other, triples, worst_cases);
    let text = if args.json {
        serde_json::to_string(&comparison)?
    } else {
        render::comparison_terminal(&comparison)
    };
    Ok((text, render::comparison_html(&comparison, &contrasts)))
}

/// The Aligner to compare with: decoded as the first one, with a profile of its own.
fn second(args: &cli::Eval, model: &str) -> Result<config::Aligner, Problems> {
    let flags = cli::Model {
        model: model.to_owned(),
        profile: None,
        ..args.model.clone()
    };
    let by_flag = |problem: Problem| {
        if problem.key != "--model" {
            return problem;
        }
        Problem {
            key: "--against".to_owned(),
            ..problem
        }
    };
    match commands::model(&flags) {
        Ok(settings) => Ok(config::Aligner {
            profile: None,
            ..settings
        }),
        Err(Problems(problems)) => Err(Problems(problems.into_iter().map(by_flag).collect())),
    }
}

fn report(args: &cli::Eval) -> Option<Named<'_>> {
    let path = args.report.as_deref();
    path.map(|path| Named::new("--report", path))
}

fn refuse_own_files(
    args: &cli::Eval,
    settings: &config::Aligner,
    other: Option<&config::Aligner>,
) -> Result<(), Usage> {
    let Some(report) = report(args) else {
        return Ok(());
    };
    let mut read = vec![Named::new("--data", &args.data)];
    read.extend(files::of_aligner(settings));
    let other = other.and_then(|other| other.model.path());
    read.extend(other.map(|path| Named::new("--against", path)));
    report.refuse_if_among(&read)
}

/// The file of the report, with what is there of it: looked at before hours go into what it is to
/// hold.
fn page(args: &cli::Eval) -> anyhow::Result<Option<(Named<'_>, Option<File>)>> {
    report(args)
        .map(|report| Ok((report, report.reserve_if_there()?)))
        .transpose()
}

/// Writes the report over what is there, or makes it.
fn write(report: Named<'_>, there: Option<File>, html: &str) -> anyhow::Result<()> {
    let writing = || format!("writing {report}");
    let mut file = match there {
        Some(file) => files::emptied(file).with_context(writing)?,
        None => report.create()?,
    };
    file.write_all(html.as_bytes()).with_context(writing)
}

/// The rows to measure, with what they do not tell: on stderr at once, and in each report.
fn sampled(args: &cli::Eval) -> anyhow::Result<(Vec<Triple>, Vec<String>)> {
    let (triples, mut notes) = triples(&args.data)?;
    let all = triples.len();
    let triples = sample(triples, args.limit.unwrap_or(usize::MAX));
    if triples.len() < all {
        notes.push(format!(
            "measuring {} of {all} rows, a sample as large as --limit",
            triples.len()
        ));
    }
    let plain = |triple: &Triple| Class::of(triple) == Class::Unlabelled;
    if triples.iter().all(plain) {
        notes.push(
            "no answer is labelled, so only the proxy measures count: give each row a \
             \"correction\", the answer itself where nothing is wrong"
                .to_owned(),
        );
    }
    for note in &notes {
        tell!("{note}");
    }
    for warning in absent_faults(&triples)
        .into_iter()
        .chain(untold_kinds(&triples))
    {
        tell!("warning: {warning}");
        notes.push(warning);
    }
    Ok((triples, notes))
}

fn triples(path: &Path) -> anyhow::Result<(Vec<Triple>, Vec<String>)> {
    let file = Named::new("--data", path);
    let bytes = file.read()?;
    let mut faults = RowFaults::default();
    let rows = parse_rows(
        &bytes,
        &path.display().to_string(),
        Purpose::Measuring,
        &mut faults,
    )?;
    faults.check()?;
    let Rows {
        triples,
        undecided: skipped,
        shortened,
    } = rows;
    if triples.is_empty() {
        bail!(
            "{file}: each of {skipped} rows was bypassed or dead-lettered, which says nothing \
             about what is right; give corrected ones"
        );
    }
    let skipped = (skipped > 0).then(|| {
        format!(
            "{skipped} rows were skipped: bypassed or dead-lettered, which says nothing about what \
             is right"
        )
    });
    let notes = skipped.into_iter().chain(commands::shortened(shortened));
    Ok((triples, notes.collect()))
}

/// That faults are named which no answer has: nothing tells whether they are gone.
fn absent_faults(triples: &[Triple]) -> Option<String> {
    let first = triples.iter().find(|triple| triple.absent_faults() > 0)?;
    let absent: usize = triples.iter().map(Triple::absent_faults).sum();
    let named: usize = triples
        .iter()
        .filter(|triple| Class::of(triple) != Class::Clean)
        .map(|triple| triple.faults.len())
        .sum();
    Some(format!(
        "{absent} of {named} faults stand in no answer of their row, the first of them in row {}, and \
         are passed over; copy them from the answer as they stand there, in whole words (--json has \
         their number in each verdict, as \"absent\")",
        render::harmless_line(&first.event_id)
    ))
}

/// Kinds of fault that count in no dimension, because no word of their names tells one.
fn untold_kinds(triples: &[Triple]) -> Vec<String> {
    let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
    let faulty = triples
        .iter()
        .filter(|triple| Class::of(triple) == Class::Faulty);
    for kind in faulty.filter_map(|triple| triple.kind.as_deref()) {
        if Dimension::of_kind(kind).is_none() {
            *rows.entry(kind).or_default() += 1;
        }
    }
    rows.into_iter()
        .map(|(kind, count)| {
            format!(
                "kind {}, of {count} faulty rows, counts in none of helpful, harmless and honest: \
                 no word in its name tells which; put one there, such as unhelpful, harmful or \
                 dishonest",
                render::harmless_line(kind)
            )
        })
        .collect()
}

/// That an Aligner is measured by what it wrote itself.
fn own_rows(aligner: &Identity, triples: &[Triple]) -> Option<String> {
    let own = |triple: &&Triple| {
        // Revisions of Aligners without weights are words that several share.
        triple.aligner_name.as_ref() == Some(&aligner.name)
            && triple.aligner_revision.as_ref() == Some(&aligner.revision)
    };
    let count = triples.iter().filter(own).count();
    (count > 0).then(|| {
        format!(
            "{count} of {} rows were corrected by {}, the model that is measured: they say nothing \
             about it; give corrections that people have mended (without their aligner_name), or \
             those of another Aligner",
            triples.len(),
            render::harmless_line(&aligner.name)
        )
    })
}

fn measure(
    runtime: &Runtime,
    aligner: Arc<dyn Aligner>,
    triples: &[Triple],
    options: &Options,
) -> anyhow::Result<Report> {
    let bar = commands::progress_bar(Some(triples.len() as u64));
    bar.set_message(render::harmless_line(&aligner.identity().name));
    let mut progress = |progress: Progress| bar.set_position(progress.done as u64);
    let report = runtime.block_on(evaluate(aligner, triples, options, &mut progress))?;
    bar.finish_and_clear();
    Ok(report)
}
