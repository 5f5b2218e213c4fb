//! `correct --raw`: prompts as they are, for comparing the engine with another.

use std::{io::BufRead, process::ExitCode};

use aligner_engine::Engine;
use anyhow::Context;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{Input, Output, lines::event_id};

/// Prompts in flight.
const IN_FLIGHT: usize = 32;

#[derive(Deserialize)]
struct RawRequest {
    #[serde(default)]
    event_id: Option<String>,
    prompt: String,
}

#[derive(Serialize)]
struct RawAnswer {
    event_id: String,
    completion: Option<String>,
    token_ids: Vec<u32>,
    error: Option<String>,
}

/// Completes each line's `prompt`; answers stand in the order of the input.
pub async fn run(engine: &Engine, input: Input, mut output: Output) -> anyhow::Result<ExitCode> {
    let requests = input
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.as_ref().is_ok_and(|line| line.trim().is_empty()));
    let mut answers = stream::iter(requests)
        .map(|(index, line)| async move {
            let line = line.with_context(|| format!("reading line {}", index + 1))?;
            anyhow::Ok(answer(engine, index, &line).await)
        })
        .buffered(IN_FLIGHT);
    let mut code = ExitCode::SUCCESS;
    while let Some(answer) = answers.next().await {
        let answer = answer?;
        if answer.error.is_some() {
            code = ExitCode::FAILURE;
        }
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
    }
    output.flush()?;
    Ok(code)
}

async fn answer(engine: &Engine, index: usize, line: &str) -> RawAnswer {
    let line_id = event_id(i64::try_from(index + 1).unwrap_or(i64::MAX));
    let failed = |event_id, error: String| RawAnswer {
        event_id,
        completion: None,
        token_ids: Vec::new(),
        error: Some(error),
    };
    // Some editors put a byte order mark first.
    let line = line.strip_prefix('\u{feff}').unwrap_or(line);
    let request: RawRequest = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return failed(line_id, format!("not a JSON object with `prompt`: {error}")),
    };
    let event_id = request.event_id.unwrap_or(line_id);
    match engine.raw(request.prompt).await {
        Ok(done) => RawAnswer {
            event_id,
            completion: Some(done.text),
            token_ids: done.token_ids,
            error: None,
        },
        Err(error) => failed(event_id, error.to_string()),
    }
}
