//! `bench`: how fast an Aligner is on this machine, in tokens, without a tokenizer.
//!
//! Either batches of equal sequences, or a queue of requests with given lengths, all present at
//! the start and served first come first served. Prompts are made of ids by a fixed formula, so
//! that another program can replay the same queue on the same weights.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use aligner_engine::{
    Speculation,
    probe::{Output, Probe, Run, TokenRequest},
};
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::{cli, commands, commands::Usage, models, telemetry};

/// Batch sizes without a queue.
const BATCHES: [usize; 3] = [1, 8, 32];

#[derive(Deserialize)]
struct Queue {
    requests: Vec<QueueRequest>,
}

#[derive(Deserialize)]
struct QueueRequest {
    id: serde_json::Value,
    prompt_len: usize,
    out_len: usize,
}

/// What a run came to; `seconds` is from the first admission to the last token.
#[derive(Debug, Clone, Serialize)]
struct Figures {
    requests: usize,
    corrections_per_s: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    tokens_per_step: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    model: String,
    family: String,
    parameters: usize,
    dtype: &'static str,
    kernels: String,
    kv: &'static str,
    threads: usize,
    slots: usize,
    speculation: bool,
    #[serde(flatten)]
    figures: Figures,
    /// Without a queue: each batch size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    batches: Vec<Figures>,
}

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
    options.limits.max_running = args.slots;
    let report = match &args.queue {
        Some(path) => {
            let queue = queue(path)?;
            let probe = Probe::load(&options)?;
            let (figures, run) = replay(&probe, &queue)?;
            if let Some(path) = &args.emit {
                emit(path, &queue, &run)?;
            }
            report(args, &probe, figures, Vec::new())
        }
        None => {
            options.limits.max_running = args.slots.max(BATCHES[BATCHES.len() - 1]);
            let probe = Probe::load(&options)?;
            let batches = BATCHES
                .into_iter()
                .map(|size| batch(&probe, size, args.prompt_tokens, args.new_tokens))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let last = batches.last().expect("there are batch sizes").clone();
            report(args, &probe, last, batches)
        }
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn report(args: &cli::Bench, probe: &Probe, figures: Figures, batches: Vec<Figures>) -> Report {
    let model = probe.describe();
    Report {
        model: args.model.model.clone(),
        family: model.family.clone(),
        parameters: model.parameters,
        dtype: model.dtype,
        kernels: model.kernels.clone(),
        kv: "f32",
        threads: model.threads,
        slots: args.slots,
        speculation: args.speculate,
        figures,
        batches,
    }
}

fn print(report: &Report) {
    println!(
        "{} ({}, {:.1} M parameters, {}, {} kernels, {} threads)",
        report.model,
        report.family,
        report.parameters as f64 / 1e6,
        report.dtype,
        report.kernels,
        report.threads
    );
    println!("requests  corrections/s  prefill tok/s  decode tok/s  tok/step  seconds");
    let rows = if report.batches.is_empty() {
        std::slice::from_ref(&report.figures)
    } else {
        &report.batches
    };
    for figures in rows {
        println!(
            "{:8}  {:13.2}  {:13.0}  {:12.0}  {:8.2}  {:7.2}",
            figures.requests,
            figures.corrections_per_s,
            figures.prefill_tokens_per_s,
            figures.decode_tokens_per_s,
            figures.tokens_per_step,
            figures.seconds
        );
    }
}

fn queue(path: &Path) -> anyhow::Result<Queue> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let queue: Queue = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is not {{\"requests\": [{{\"id\", \"prompt_len\", \"out_len\"}}]}}",
            path.display()
        )
    })?;
    ensure!(
        !queue.requests.is_empty(),
        "{} holds no requests",
        path.display()
    );
    Ok(queue)
}

fn replay(probe: &Probe, queue: &Queue) -> anyhow::Result<(Figures, Run)> {
    let vocab = probe.describe().vocab;
    let requests: Vec<TokenRequest> = queue
        .requests
        .iter()
        .enumerate()
        .map(|(index, request)| TokenRequest {
            prompt: ids(index, 0..request.prompt_len, vocab),
            output: Output::Forced(ids(
                index,
                request.prompt_len..request.prompt_len + request.out_len,
                vocab,
            )),
        })
        .collect();
    warm_up(probe, vocab)?;
    let run = probe.run(&requests)?;
    Ok((figures(&requests, &run), run))
}

fn batch(
    probe: &Probe,
    size: usize,
    prompt_tokens: usize,
    new_tokens: usize,
) -> anyhow::Result<Figures> {
    let vocab = probe.describe().vocab;
    let requests: Vec<TokenRequest> = (0..size)
        .map(|index| TokenRequest {
            prompt: ids(index, 0..prompt_tokens, vocab),
            output: Output::Exactly(new_tokens),
        })
        .collect();
    warm_up(probe, vocab)?;
    let run = probe.run(&requests)?;
    Ok(figures(&requests, &run))
}

fn warm_up(probe: &Probe, vocab: usize) -> anyhow::Result<()> {
    probe.run(&[TokenRequest {
        prompt: ids(0, 0..16, vocab),
        output: Output::Exactly(4),
    }])?;
    Ok(())
}

/// Token ids of request `request` at these positions.
fn ids(request: usize, positions: std::ops::Range<usize>, vocab: usize) -> Vec<u32> {
    positions
        .map(|position| {
            let mut x = (request as u64)
                .wrapping_mul(1_000_003)
                .wrapping_add(position as u64)
                .wrapping_add(12_345);
            x ^= x >> 12;
            x = x.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            x ^= x >> 29;
            // The first three ids are special in most vocabularies.
            u32::try_from(3 + x % (vocab as u64 - 3)).expect("ids fit 32 bits")
        })
        .collect()
}

fn figures(requests: &[TokenRequest], run: &Run) -> Figures {
    let seconds = run.elapsed.as_secs_f64();
    let prompt: usize = requests.iter().map(|request| request.prompt.len()).sum();
    let decoded: usize = run.tokens.iter().map(Vec::len).sum();
    let work = &run.work;
    let rate = |count: f64, seconds: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
    Figures {
        requests: requests.len(),
        corrections_per_s: rate(requests.len() as f64, seconds),
        // Passes that hold prompts and pure decoding passes are timed apart; in a queue they mix,
        // so these are rates of the passes, and corrections_per_s is that of the whole.
        prefill_tokens_per_s: rate(prompt as f64, work.prompt_time.as_secs_f64()),
        decode_tokens_per_s: rate(
            work.decode_rows as f64 + work.accepted_drafts as f64,
            work.decode_time.as_secs_f64(),
        ),
        tokens_per_step: rate(decoded as f64, sequence_steps(requests, run)),
        seconds,
    }
}

/// Passes that each sequence took part in with an output row, summed over the sequences.
fn sequence_steps(requests: &[TokenRequest], run: &Run) -> f64 {
    // Each sequence's first token comes from its prompt's last pass.
    run.work.decode_rows as f64 + requests.len() as f64
}

fn emit(path: &Path, queue: &Queue, run: &Run) -> anyhow::Result<()> {
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    let mut file = BufWriter::new(file);
    for (request, argmax) in queue.requests.iter().zip(&run.tokens) {
        serde_json::to_writer(
            &mut file,
            &serde_json::json!({ "id": request.id, "argmax": argmax }),
        )?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_ids_follow_the_published_formula() {
        // Computed from the formula with arbitrary-precision integers.
        assert_eq!(ids(0, 0..3, 32_000), [20888, 27573, 15749]);
        assert_eq!(ids(5, 100..103, 4_096), [2492, 3926, 2983]);
    }
}
