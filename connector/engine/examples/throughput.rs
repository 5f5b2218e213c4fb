//! Tokens per second of a checkpoint on this machine, by batch size.
//!
//! ```text
//! cargo run --release -p aligner-engine --example throughput -- MODEL [f32|q8_0] [THREADS]
//! ```
//!
//! `MODEL` is a folder in Hugging Face layout or a GGUF file.

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
    let options = EngineOptions {
        dtype,
        threads,
        speculation: Speculation::Off,
        limits: Limits {
            kv_tokens: Some(32 * (PROMPT + NEW + 16)),
            ..Limits::default()
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
