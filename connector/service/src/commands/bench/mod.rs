//! `bench`: how fast an Aligner is on this machine, in tokens, without a tokenizer.
//!
//! Either batches of equal sequences and a ragged queue at several numbers of slots, or a queue
//! of one's own: requests with given lengths, all present at the start and served first come
//! first served. Prompts are made of ids by a fixed formula, so that another program can replay
//! the same queue on the same weights.

mod figures;
mod queue;

use std::process::ExitCode;

use aligner_engine::{
    EngineOptions, Speculation,
    probe::{Machine, Output, Probe, Run, TokenRequest, measure_machine},
};

use self::{
    figures::{Figures, Report},
    queue::{Queue, ids},
};
use crate::{cli, commands, commands::Usage, models, telemetry};

/// Batch sizes without a queue of one's own.
const BATCHES: [usize; 3] = [1, 8, 32];

/// Slots for the ragged queue, and its requests.
const SLOTS: [usize; 3] = [1, 4, 16];
const RAGGED: usize = 16;

/// Runs the command.
pub fn run(args: &cli::Bench) -> anyhow::Result<ExitCode> {
    telemetry::install_quiet();
    let settings = commands::model(&args.model)?;
    if matches!(
        settings.model.as_str(),
        "identity" | "marker" | "marker-all" | "remote"
    ) {
        let message = "bench measures weights in this process: give --model bundled or a folder";
        return Err(Usage(message.to_owned()).into());
    }
    let mut options = models::engine_options(&settings, &settings.model)?;
    options.speculation = if args.speculate {
        Speculation::Auto
    } else {
        Speculation::Off
    };
    options.kernels.clone_from(&args.kernels);
    let mut bench = Bench::load(options)?;
    let (figures, batches, queues) = match &args.queue {
        Some(path) => {
            let queue = Queue::read(path)?;
            let (figures, run) = bench.queue(&queue, args.slots)?;
            if let Some(path) = &args.emit {
                queue.emit(path, &run)?;
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
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        report.print();
    }
    Ok(ExitCode::SUCCESS)
}

/// A loaded model on a measured machine.
struct Bench {
    probe: Probe,
    machine: Machine,
}

impl Bench {
    fn load(options: EngineOptions) -> anyhow::Result<Self> {
        let probe = Probe::load(&options)?;
        let machine = measure_machine(&probe);
        Ok(Self { probe, machine })
    }

    /// All of these at once, at most `slots` at a time.
    fn serve(&mut self, requests: &[TokenRequest], slots: usize) -> anyhow::Result<(Figures, Run)> {
        let warm_up = TokenRequest {
            prompt: ids(0, 0..16, self.probe.describe().vocab),
            output: Output::Exactly(4),
        };
        self.probe.run_in(&[warm_up], slots)?;
        let run = self.probe.run_in(requests, slots)?;
        let model = self.probe.describe();
        let figures = Figures::new(requests, &run, slots, model, &self.machine);
        Ok((figures, run))
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
