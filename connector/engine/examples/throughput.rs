//! Tokens per second of a checkpoint on this machine, by batch size.
//!
//! ```text
//! cargo run --release -p aligner-engine --example throughput -- MODEL [f32|q8_0] [THREADS] [QUEUE]
//! ```
//!
//! `MODEL` is a folder in Hugging Face layout or a GGUF file; `QUEUE` a JSON file of
//! `{"requests": [{"prompt_len", "out_len"}]}`, all of which are present at the start.

use std::{env, num::NonZeroUsize, path::PathBuf};

use aligner_engine::{
    Dtype, EngineOptions, Limits, ModelSource, Speculation,
    probe::{Output, Probe, TokenRequest},
};

const PROMPT: usize = 256;
const NEW: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("give a folder or a GGUF file")?);
    let model = if path.is_dir() {
        ModelSource::Folder(path)
    } else {
        ModelSource::Gguf(path)
    };
    let dtype = match arguments.next().as_deref() {
        None => Dtype::Auto,
        Some("f32") => Dtype::F32,
        Some("q8_0") => Dtype::Q8_0,
        Some(other) => return Err(format!("dtype {other}: use f32 or q8_0").into()),
    };
    let threads = arguments
        .next()
        .map(|threads| threads.parse::<NonZeroUsize>())
        .transpose()?;
    let queue_limits = Limits {
        max_running: 16,
        kv_tokens: Some(16 * 1536),
        ..Limits::default()
    };
    let options = EngineOptions {
        dtype,
        threads,
        speculation: Speculation::Off,
        limits: if arguments.len() > 0 {
            queue_limits
        } else {
            Limits {
                kv_tokens: Some(32 * (PROMPT + NEW + 16)),
                ..Limits::default()
            }
        },
        ..EngineOptions::new(model)
    };
    let probe = Probe::load(&options)?;
    let model = probe.describe();
    println!(
        "{} {:.1} M parameters, {}, {} on {} threads",
        model.family,
        model.parameters as f64 / 1e6,
        model.dtype,
        model.kernels,
        model.threads
    );
    let vocab = u32::try_from(model.vocab)?;
    if let Some(path) = arguments.next() {
        let queue: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
        let length = |request: &serde_json::Value, key: &str| request[key].as_u64().unwrap_or(1);
        let requests: Vec<TokenRequest> = queue["requests"]
            .as_array()
            .ok_or("the queue has no requests")?
            .iter()
            .enumerate()
            .map(|(index, request)| TokenRequest {
                prompt: tokens(index as u64, 0, length(request, "prompt_len"), vocab),
                output: Output::Forced(tokens(
                    index as u64,
                    length(request, "prompt_len"),
                    length(request, "out_len"),
                    vocab,
                )),
            })
            .collect();
        let run = probe.run(&requests)?;
        let seconds = run.elapsed.as_secs_f64();
        println!(
            "{:.3} requests/s, {:.0} output tokens/s, {:?}",
            requests.len() as f64 / seconds,
            run.tokens.iter().map(Vec::len).sum::<usize>() as f64 / seconds,
            run.work,
        );
        return Ok(());
    }
    for batch in [1, 8, 32_u32] {
        let requests: Vec<TokenRequest> = (0..batch)
            .map(|request| TokenRequest {
                prompt: (0..PROMPT as u32)
                    .map(|i| 3 + (request * 7919 + i * 31) % (vocab - 3))
                    .collect(),
                output: Output::Exactly(NEW),
            })
            .collect();
        let run = probe.run(&requests)?;
        let work = run.work;
        println!(
            "batch {batch:2}: prefill {:7.0} tokens/s, decode {:7.0} tokens/s",
            work.prompt_rows as f64 / work.prompt_time.as_secs_f64(),
            work.decode_rows as f64 / run.elapsed.saturating_sub(work.prompt_time).as_secs_f64(),
        );
    }
    Ok(())
}

/// Ids of request `request` from position `start` on, by a fixed formula.
fn tokens(request: u64, start: u64, count: u64, vocab: u32) -> Vec<u32> {
    (start..start + count)
        .map(|position| {
            let mut x = request
                .wrapping_mul(1_000_003)
                .wrapping_add(position)
                .wrapping_add(12_345);
            x ^= x >> 12;
            x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            x ^= x >> 29;
            3 + (x % u64::from(vocab - 3)) as u32
        })
        .collect()
}
