//! What a run came to, beside what the machine could do at best.

use std::io::{self, Write};

use aligner_engine::{
    Description,
    probe::{Machine, Output, Run, TokenRequest},
};
use serde::Serialize;

/// What a run came to; `seconds` is from the first admission to the last token.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    pub(super) requests: usize,
    /// Sequences that may run at once.
    pub(super) slots: usize,
    corrections_per_s: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    tokens_per_step: f64,
    /// Sequences in a step, of the slots.
    batch_fill: f64,
    /// Least time that this machine needs for the products or for reading the weights, of the
    /// time taken. Attention, keys and values are not counted. Nothing where the weights decide
    /// and the last-level cache holds them: then the speed of memory bounds nothing.
    roofline_share: Option<f64>,
    seconds: f64,
}

impl Figures {
    pub(super) fn new(
        requests: &[TokenRequest],
        run: &Run,
        slots: usize,
        model: &Description,
        machine: &Machine,
        cache_bytes: Option<usize>,
    ) -> Self {
        let seconds = run.elapsed.as_secs_f64();
        let prompt: usize = requests.iter().map(|request| request.prompt.len()).sum();
        let decoded: usize = run.tokens.iter().map(Vec::len).sum();
        let work = &run.work;
        // Each sequence's first token comes from its prompt's last pass.
        let decoding_passes = work.decode_rows as f64 + requests.len() as f64;
        let rows = work.prompt_rows + work.decode_rows + work.draft_rows;
        let outputs = decoding_passes + work.draft_rows as f64;
        let products = model.row_multiply_adds as f64 * rows as f64
            + model.head_multiply_adds as f64 * outputs;
        let arithmetic = products / machine.multiply_adds_per_s;
        let memory = model.step_bytes as f64 * work.steps as f64 / machine.bytes_per_s;
        let held = model.step_bytes + kv_bytes(requests, slots, model);
        let cached = cache_bytes.is_some_and(|bytes| held <= bytes);
        let rate = |count: f64, seconds: f64| if seconds > 0.0 { count / seconds } else { 0.0 };
        Self {
            requests: requests.len(),
            slots,
            corrections_per_s: rate(requests.len() as f64, seconds),
            // Passes that hold prompts and pure decoding passes are timed apart; in a queue they
            // mix, so these are rates of the passes, and corrections_per_s is that of the whole.
            prefill_tokens_per_s: rate(prompt as f64, work.prompt_time.as_secs_f64()),
            decode_tokens_per_s: rate(
                work.decode_rows as f64 + work.accepted_drafts as f64,
                work.decode_time.as_secs_f64(),
            ),
            tokens_per_step: rate(decoded as f64, decoding_passes),
            batch_fill: rate(work.sequences as f64, work.steps as f64 * slots as f64),
            roofline_share: least_seconds(arithmetic, memory, cached)
                .map(|least| rate(least, seconds)),
            seconds,
        }
    }

    fn of_roofline(&self) -> String {
        self.roofline_share
            .map_or_else(|| "-".to_owned(), |share| format!("{:.0}%", 100.0 * share))
    }
}

/// Least time for products that take `arithmetic` seconds and weights that take `memory` seconds to
/// read from there; nothing is known of what is read from a cache.
fn least_seconds(arithmetic: f64, memory: f64, cached: bool) -> Option<f64> {
    if cached && memory > arithmetic {
        return None;
    }
    Some(arithmetic.max(memory))
}

/// Bytes of keys and values when the longest requests run side by side, for a model whose keys are
/// as wide as itself; few are wider, and many narrower.
fn kv_bytes(requests: &[TokenRequest], slots: usize, model: &Description) -> usize {
    let width = model.head_multiply_adds / model.vocab.max(1);
    let element = if model.kv_dtype == "f32" { 4 } else { 2 };
    let length = |request: &TokenRequest| {
        let output = match &request.output {
            Output::Greedy(count) | Output::Exactly(count) => *count,
            Output::Forced(tokens) => tokens.len(),
        };
        request.prompt.len() + output
    };
    let mut lengths: Vec<usize> = requests.iter().map(length).collect();
    lengths.sort_unstable();
    let tokens: usize = lengths.iter().rev().take(slots).sum();
    2 * model.layers * width * element * tokens
}

/// The object that `--json` prints.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) model: String,
    pub(super) family: String,
    pub(super) parameters: usize,
    pub(super) dtype: String,
    pub(super) kernels: String,
    pub(super) kv: &'static str,
    pub(super) threads: usize,
    pub(super) speculation: bool,
    /// The best of the engine's own product of 1,024 × 4,096 × 4,096, in this precision.
    pub(super) peak_multiply_adds_per_s: f64,
    pub(super) read_bytes_per_s: f64,
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// Without a queue of one's own: batches of equal sequences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) batches: Vec<Figures>,
    /// And a ragged queue at several numbers of slots.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) queues: Vec<Figures>,
}

impl Report {
    /// The table for people.
    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{} ({}, {:.1} M parameters, {}, {} kernels, kv {}, {} threads)",
            self.model,
            self.family,
            self.parameters as f64 / 1e6,
            self.dtype,
            self.kernels,
            self.kv,
            self.threads
        )?;
        writeln!(
            out,
            "peak {:.0} G multiply-adds/s, reads {:.1} GB/s",
            self.peak_multiply_adds_per_s / 1e9,
            self.read_bytes_per_s / 1e9
        )?;
        writeln!(
            out,
            "            requests  slots  corrections/s  prefill tok/s  decode tok/s  tok/step  \
             batch fill  of roofline  seconds"
        )?;
        let alone = std::slice::from_ref(&self.figures);
        let own = if self.batches.is_empty() { alone } else { &[] };
        for (name, rows) in [
            ("queue", own),
            ("equal batch", &self.batches),
            ("ragged", &self.queues),
        ] {
            for row in rows {
                writeln!(
                    out,
                    "{name:11} {:8}  {:5}  {:13.2}  {:13.0}  {:12.0}  {:8.2}  {:9.0}%  {:>11}  {:7.2}",
                    row.requests,
                    row.slots,
                    row.corrections_per_s,
                    row.prefill_tokens_per_s,
                    row.decode_tokens_per_s,
                    row.tokens_per_step,
                    100.0 * row.batch_fill,
                    row.of_roofline(),
                    row.seconds
                )?;
            }
        }
        let mut rows = own.iter().chain(&self.batches).chain(&self.queues);
        if rows.any(|row| row.roofline_share.is_none()) {
            writeln!(
                out,
                "- of roofline: weights, keys and values fit the last-level cache, where the speed \
                 of memory bounds nothing"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_of_memory_bounds_nothing_that_a_cache_holds() {
        for (arithmetic, memory, cached, expected) in [
            (1.0, 2.0, false, Some(2.0)),
            (2.0, 1.0, false, Some(2.0)),
            (2.0, 1.0, true, Some(2.0)),
            (1.0, 2.0, true, None),
        ] {
            assert_eq!(least_seconds(arithmetic, memory, cached), expected);
        }
    }

    #[test]
    fn keys_and_values_are_those_of_the_longest_requests_that_run_at_once() {
        let model = Description {
            family: "llama".to_owned(),
            parameters: 0,
            dtype: "f32",
            kv_dtype: "f16",
            kernels: "portable".to_owned(),
            context: 512,
            vocab: 100,
            layers: 3,
            step_bytes: 0,
            row_multiply_adds: 0,
            head_multiply_adds: 100 * 8,
            weights_sha256: String::new(),
            threads: 1,
            kv_bytes: 0,
        };
        let requests: Vec<TokenRequest> = [(5, 5), (20, 10), (1, 1)]
            .map(|(prompt, output)| TokenRequest {
                prompt: vec![7; prompt],
                output: Output::Exactly(output),
            })
            .into();
        let token = 2 * 3 * 8 * 2;
        assert_eq!(kv_bytes(&requests, 1, &model), token * 30);
        assert_eq!(kv_bytes(&requests, 2, &model), token * 40);
        assert_eq!(kv_bytes(&requests, 99, &model), token * 42);
    }
}
