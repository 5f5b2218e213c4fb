//! `eval`: what an Aligner corrects, and what it should have left alone.

use std::{path::Path, process::ExitCode, sync::Arc};

use aligner::Aligner;
use aligner_evaluation::{
    CompareOptions, Options, Progress, Report, Triple, compare, evaluate, parse_triples, render,
};
use anyhow::Context;
use tokio::runtime::Runtime;

use crate::{cli, commands, config, models, telemetry};

/// Runs the command.
pub fn run(args: &cli::Eval) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    let settings = commands::model(&args.model)?;
    let against = args.against.as_ref().map(|model| config::Aligner {
        model: model.clone(),
        profile: None,
        ..settings.clone()
    });
    let mut triples = triples(&args.data)?;
    triples.truncate(args.limit.unwrap_or(usize::MAX));
    let runtime = commands::runtime()?;
    let options = Options {
        data: args.data.display().to_string(),
        known_phrases: aligner_corpus::faults::correction_phrases(),
        ..Options::default()
    };
    let measure = |settings: &config::Aligner| -> anyhow::Result<Report> {
        let aligner = runtime.block_on(models::load(settings))?.aligner();
        measure(&runtime, aligner, &triples, &options)
    };
    let report = measure(&settings)?;
    let html = match against {
        None => {
            if args.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                println!("{}", render::terminal(&report));
            }
            render::html(&report)
        }
        Some(other) => {
            let comparison = compare(&report, &measure(&other)?, &CompareOptions::default())?;
            if args.json {
                println!("{}", serde_json::to_string(&comparison)?);
            } else {
                println!("{}", render::comparison_terminal(&comparison));
            }
            render::comparison_html(&comparison)
        }
    };
    if let Some(path) = &args.report {
        std::fs::write(path, html).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn triples(path: &Path) -> anyhow::Result<Vec<Triple>> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(parse_triples(&bytes, &path.display().to_string())?)
}

fn measure(
    runtime: &Runtime,
    aligner: Arc<dyn Aligner>,
    triples: &[Triple],
    options: &Options,
) -> anyhow::Result<Report> {
    let bar = commands::progress_bar(Some(triples.len() as u64));
    bar.set_message(aligner.identity().name.clone());
    let mut progress = |progress: Progress| bar.set_position(progress.done as u64);
    let report = runtime.block_on(evaluate(aligner, triples, options, &mut progress))?;
    bar.finish_and_clear();
    Ok(report)
}
