//! `bench`: how fast an Aligner is on this machine, in tokens, without a tokenizer.
//!
//! Either batches of equal sequences and a ragged queue at several numbers of slots, or a queue
//! of one's own: requests with given lengths, all present at the start and served first come
//! first served. Prompts are made of ids by a fixed formula, so that another program can replay
//! the same queue on the same weights.

mod caches;
mod figures;
mod queue;
mod sizes;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use aligner::AlignError;
use aligner_engine::{
    EngineOptions, LoadError, Speculation,
    probe::{Machine, Output, Probe, Run, TokenRequest, measure_machine},
};
use anyhow::{Context, anyhow};

use self::{
    figures::{Figures, Report},
    queue::{Queue, ids},
};
use crate::{
    cli,
    commands::{
        self, Usage,
        files::{self, Named},
    },
    config, models, telemetry,
};

/// Batch sizes without a queue of one's own.
const BATCHES: [usize; 3] = [1, 8, 32];

/// Slots for the ragged queue, and its requests.
const SLOTS: [usize; 3] = [1, 4, 16];
const RAGGED: usize = 16;

/// Runs the command.
pub fn run(args: &cli::Bench) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    sizes::slots(args)?;
    let settings = commands::model(&args.model)?;
    if !settings.model.has_weights() {
        let message = "bench measures weights in this process: give --model bundled or a folder";
        return Err(Usage(message.to_owned()).into());
    }
    refuse_own_files(args, &settings)?;
    let file = queue_file(args);
    let queue = file.map(Queue::read).transpose()?;
    let mut options = models::engine_options(&settings)?;
    options.speculation = if args.speculate {
        Speculation::Auto
    } else {
        Speculation::Off
    };
    options.kernels.clone_from(&args.kernels);
    let probe = load(&options)?;
    let context = probe.describe().context;
    sizes::lengths(args, context)?;
    if let (Some(queue), Some(file)) = (&queue, file) {
        queue.fit(file, context)?;
    }
    // Before the time that measuring takes.
    let emitted = match emitted(args) {
        Some(named) => Some((named, named.reserve()?)),
        None => None,
    };
    let mut bench = Bench::new(probe);
    let (figures, batches, queues) = match queue {
        Some(queue) => {
            let (figures, run) = bench.queue(&queue, args.slots)?;
            if let Some((named, file)) = emitted {
                queue
                    .emit(file, &run)
                    .with_context(|| format!("writing {named}"))?;
            }
            (figures, Vec::new(), Vec::new())
        }
        None => {
            let batches = BATCHES
                .into_iter()
                .map(|size| bench.batch(size, args.prompt_tokens, args.new_tokens))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let queue = Queue::ragged(RAGGED);
            let queues = SLOTS
                .into_iter()
                .map(|slots| Ok(bench.queue(&queue, slots)?.0))
                .collect::<anyhow::Result<Vec<_>>>()?;
            (queues[queues.len() - 1].clone(), batches, queues)
        }
    };
    let report = bench.report(args, figures, batches, queues);
    // Not println!, which panics where nobody reads it.
    let mut out = io::stdout().lock();
    let printed = if args.json {
        writeln!(out, "{}", serde_json::to_string(&report)?)
    } else {
        report.write(&mut out)
    };
    printed.map_err(commands::unprinted)?;
    Ok(ExitCode::SUCCESS)
}

fn queue_file(args: &cli::Bench) -> Option<Named<'_>> {
    let path = args.queue.as_deref();
    path.map(|path| Named::new("--queue", path))
}

fn emitted(args: &cli::Bench) -> Option<Named<'_>> {
    let path = args.emit.as_deref();
    path.map(|path| Named::new("--emit", path))
}

fn refuse_own_files(args: &cli::Bench, settings: &config::Aligner) -> Result<(), Usage> {
    let Some(emitted) = emitted(args) else {
        return Ok(());
    };
    let mut read: Vec<Named<'_>> = queue_file(args).into_iter().collect();
    read.extend(files::of_aligner(settings));
    emitted.refuse_if_among(&read)
}

fn load(options: &EngineOptions) -> anyhow::Result<Probe> {
    Probe::load(options).map_err(|error| match error {
        LoadError::Setting {
            setting: "kernels",
            value,
            problem,
        } => Usage(format!("--kernels {value} {problem}")).into(),
        other => other.into(),
    })
}

/// A loaded model on a measured machine.
struct Bench {
    probe: Probe,
    machine: Machine,
    /// Of the processor, where the model is on it.
    cache_bytes: Option<usize>,
}

impl Bench {
    fn new(probe: Probe) -> Self {
        let on_processor = probe.describe().kernels != "cuda";
        Self {
            machine: measure_machine(&probe),
            cache_bytes: on_processor.then(caches::last_level_bytes).flatten(),
            probe,
        }
    }

    /// All of these at once, at most `slots` at a time.
    fn serve(&mut self, requests: &[TokenRequest], slots: usize) -> anyhow::Result<(Figures, Run)> {
        let warm_up = TokenRequest {
            prompt: ids(0, 0..16, self.probe.describe().vocab),
            output: Output::Exactly(4),
        };
        self.run(&[warm_up], slots)?;
        let run = self.run(requests, slots)?;
        let model = self.probe.describe();
        let (machine, cache) = (&self.machine, self.cache_bytes);
        let figures = Figures::new(requests, &run, slots, model, machine, cache);
        Ok((figures, run))
    }

    fn run(&self, requests: &[TokenRequest], slots: usize) -> anyhow::Result<Run> {
        let run = self.probe.run_in(requests, slots);
        run.map_err(|error| match error {
            // There are no records here.
            AlignError::Rejected(problem) => anyhow!(problem),
            other => other.into(),
        })
    }

    fn queue(&mut self, queue: &Queue, slots: usize) -> anyhow::Result<(Figures, Run)> {
        let requests = queue.requests(self.probe.describe().vocab);
        self.serve(&requests, slots)
    }

    fn batch(
        &mut self,
        size: usize,
        prompt_tokens: usize,
        new_tokens: usize,
    ) -> anyhow::Result<Figures> {
        let vocab = self.probe.describe().vocab;
        let requests: Vec<TokenRequest> = (0..size)
            .map(|index| TokenRequest {
                prompt: ids(index, 0..prompt_tokens, vocab),
                output: Output::Exactly(new_tokens),
            })
            .collect();
        Ok(self.serve(&requests, size)?.0)
    }

    fn report(
        &self,
        args: &cli::Bench,
        figures: Figures,
        batches: Vec<Figures>,
        queues: Vec<Figures>,
    ) -> Report {
        let model = self.probe.describe();
        Report {
            model: args.model.model.clone(),
            family: model.family.clone(),
            parameters: model.parameters,
            dtype: model.dtype.to_owned(),
            kernels: model.kernels.clone(),
            kv: model.kv_dtype,
            threads: model.threads,
            speculation: args.speculate,
            peak_multiply_adds_per_s: self.machine.multiply_adds_per_s,
            read_bytes_per_s: self.machine.bytes_per_s,
            figures,
            batches,
            queues,
        }
    }
}
