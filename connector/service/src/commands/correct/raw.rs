//! `correct --raw`: prompts as they are, for comparing the engine with another.
//!
//! Lines are read and written as without it: in order, each one as soon as it is done, a broken one
//! with its error in its place, until the end or somebody's interrupt.

use std::pin::pin;

use aligner_engine::Engine;
use aligner_pipeline::SourceRecord;
use aligner_records::surrogates;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::lines::{self, LineSource, TOO_LONG};
use crate::commands::{
    self,
    beginning::BYTE_ORDER_MARK,
    line::MAX_LINE_BYTES,
    line_output::{LineOutput, Unwritten},
};

/// Prompts in flight: as many as keep the engine's slots busy while the first ones are decoded.
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

/// How a run ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// Lines whose answers were written.
    pub lines: u64,
    /// Those among them that have an error.
    pub failed: u64,
    /// Whether somebody stopped it.
    pub is_interrupted: bool,
    /// Why writing stopped, if it did.
    pub unwritten: Option<Unwritten>,
}

/// Completes each line's `prompt` until the lines end or `interrupted` is ready; answers stand in the
/// order of the input.
pub async fn run(
    engine: &Engine,
    source: LineSource,
    mut output: LineOutput,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<Ending> {
    let lines = stream::unfold(source, |mut source| async move {
        let lines = source.next_lines().await?;
        Some((stream::iter(lines), source))
    });
    let answers = lines
        .flatten()
        .map(|line| answer(engine, line))
        .buffered(IN_FLIGHT);
    let mut answers = pin!(answers);
    let mut interrupted = pin!(interrupted);
    let mut ending = Ending::default();
    loop {
        let answer = tokio::select! {
            biased;
            () = &mut interrupted => {
                ending.is_interrupted = true;
                break;
            }
            answer = answers.next() => answer,
        };
        let Some(answer) = answer else {
            break;
        };
        let line = serde_json::to_vec(&answer)?;
        if let Err(error) = commands::may_block(|| output.line(&line)) {
            ending.unwritten = Some(error);
            break;
        }
        ending.lines += 1;
        ending.failed += u64::from(answer.error.is_some());
    }
    Ok(ending)
}

async fn answer(engine: &Engine, line: SourceRecord) -> RawAnswer {
    let value = line.value.as_deref().unwrap_or_default();
    let name = || lines::name(value, None, line.offset);
    let failed = |event_id, error: String| RawAnswer {
        event_id,
        completion: None,
        token_ids: Vec::new(),
        error: Some(error),
    };
    let request = match request(value) {
        Ok(request) => request,
        Err(error) => return failed(name(), error),
    };
    let event_id = request.event_id.unwrap_or_else(name);
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

/// What a line asks for. Halves of surrogate pairs are read as U+FFFD, as in answer events.
fn request(line: &[u8]) -> Result<RawRequest, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(TOO_LONG.to_owned());
    }
    // Some editors put a byte order mark first.
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    let text = std::str::from_utf8(line).map_err(|error| {
        format!(
            "byte {} of {} is not UTF-8: write the line in UTF-8",
            error.valid_up_to(),
            line.len()
        )
    })?;
    serde_json::from_str(text)
        .or_else(|error| match surrogates::mended(text) {
            Some(mended) => serde_json::from_str(&mended),
            None => Err(error),
        })
        .map_err(|error| format!("not a JSON object with `prompt`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_read_as_an_answer_is_and_what_is_none_says_why() {
        let prompt = |line: &[u8]| request(line).map(|request| request.prompt);
        assert_eq!(
            prompt("\u{feff}{\"prompt\":\"größer\"}".as_bytes()),
            Ok("größer".to_owned())
        );
        assert_eq!(
            prompt(br#"{"prompt":"half \ud83d"}"#),
            Ok("half \u{fffd}".to_owned())
        );
        let fault = |line: &[u8]| prompt(line).expect_err("no prompt");
        assert_eq!(
            fault(b"{\"prompt\":\"\xff\"}"),
            "byte 11 of 14 is not UTF-8: write the line in UTF-8"
        );
        for line in [&b"{}"[..], b"{\"prompt\":1}", b"prompt", b"{\"prompt\":"] {
            let fault = fault(line);
            assert!(
                fault.starts_with("not a JSON object with `prompt`: "),
                "{fault}"
            );
        }
        assert_eq!(fault(&vec![b' '; MAX_LINE_BYTES + 1]), TOO_LONG);
    }
}
