//! Queues of requests by their lengths, with token ids that any other program can make too.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
};

use aligner_engine::probe::{Output, Run, TokenRequest};
use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::commands::{
    Usage,
    files::{self, Named},
};

/// Requests that are all present at the start.
#[derive(Deserialize)]
pub(super) struct Queue {
    requests: Vec<Request>,
}

#[derive(Deserialize)]
struct Request {
    id: serde_json::Value,
    prompt_len: usize,
    out_len: usize,
}

impl Queue {
    pub(super) fn read(file: Named<'_>) -> anyhow::Result<Self> {
        let text = file.read()?;
        let queue: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{file} is not {{\"requests\": [{{\"id\", \"prompt_len\", \"out_len\"}}]}}")
        })?;
        ensure!(
            !queue.requests.is_empty(),
            "{file} holds no requests: give it one at least"
        );
        Ok(queue)
    }

    /// Refuses a request that a model with room for `context` tokens cannot serve.
    pub(super) fn fit(&self, file: Named<'_>, context: usize) -> Result<(), Usage> {
        let fits = |request: &&Request| {
            let (prompt, output) = (request.prompt_len, request.out_len);
            prompt > 0 && output > 0 && prompt.saturating_add(output) <= context
        };
        match self.requests.iter().find(|request| !fits(request)) {
            None => Ok(()),
            Some(Request {
                id,
                prompt_len,
                out_len,
            }) => Err(Usage(format!(
                "{file}: request {id} has prompt_len {prompt_len} and out_len {out_len}: give 1 or \
                 more of each, and {context} or less together, for this model has no more room"
            ))),
        }
    }

    /// Lengths as ragged as those of genuine corrections, and shorter.
    pub(super) fn ragged(count: usize) -> Self {
        let spread = |index: usize, salt: usize| (index * 7_919 + salt) % 17;
        let requests = (0..count)
            .map(|index| Request {
                id: index.into(),
                prompt_len: 60 + 25 * spread(index, 3) + spread(index, 11).pow(2),
                out_len: 20 + 12 * spread(index, 5),
            })
            .collect();
        Self { requests }
    }

    pub(super) fn requests(&self, vocab: usize) -> Vec<TokenRequest> {
        let request = |(index, request): (usize, &Request)| TokenRequest {
            prompt: ids(index, 0..request.prompt_len, vocab),
            output: Output::Forced(ids(
                index,
                request.prompt_len..request.prompt_len + request.out_len,
                vocab,
            )),
        };
        self.requests.iter().enumerate().map(request).collect()
    }

    /// Writes the greedy id of every output row, one request a line.
    pub(super) fn emit(&self, file: File, run: &Run) -> io::Result<()> {
        let mut file = BufWriter::new(files::emptied(file)?);
        for (request, argmax) in self.requests.iter().zip(&run.tokens) {
            serde_json::to_writer(
                &mut file,
                &serde_json::json!({ "id": request.id, "argmax": argmax }),
            )?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

/// Token ids of request `request` at these positions.
pub(super) fn ids(request: usize, positions: Range<usize>, vocab: usize) -> Vec<u32> {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn prompt_ids_follow_the_published_formula() {
        // Computed from the formula with arbitrary-precision integers.
        assert_eq!(ids(0, 0..3, 32_000), [20888, 27573, 15749]);
        assert_eq!(ids(5, 100..103, 4_096), [2492, 3926, 2983]);
    }

    #[test]
    fn a_request_that_cannot_be_served_is_named_with_what_would_fit() {
        let file = Named::new("--queue", Path::new("q.json"));
        let fit = |prompt_len, out_len| {
            let id = "a".into();
            let requests = vec![Request {
                id,
                prompt_len,
                out_len,
            }];
            Queue { requests }.fit(file, 100)
        };
        fit(1, 99).expect("fits");
        for (prompt_len, out_len) in [(0, 1), (1, 0), (1, 100), (usize::MAX, 1)] {
            let error = fit(prompt_len, out_len).expect_err("refused").to_string();
            let request = format!(
                "--queue q.json: request \"a\" has prompt_len {prompt_len} and out_len {out_len}:"
            );
            assert!(error.starts_with(&request), "{error}");
            assert!(error.contains("100 or less together"), "{error}");
        }
    }

    #[test]
    fn a_ragged_queue_has_few_equal_lengths() {
        let queue = Queue::ragged(16);
        let mut lengths: Vec<_> = queue
            .requests
            .iter()
            .map(|request| (request.prompt_len, request.out_len))
            .collect();
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 12, "{lengths:?}");
    }
}
