//! One ragged forward pass on the CPU.
//!
//! Rows of all sequences go through the matrix products together; only attention knows which
//! rows belong to which sequence. Everything here is f32 except int8 products, whose inputs are
//! quantised row by row. In the last layer, only rows that need logits go on after their keys
//! and values are stored.

use std::{num::NonZeroUsize, sync::Arc};

use aligner_checkpoint::{Config, QkNorm};

use crate::{
    backend::{Backend, DeviceLost, Outcome, PAGE_TOKENS, Reading, Step, logprob},
    decoder::Decoder,
    kernels::{
        Aligned, Attend, AttentionShape, Epilogue, HeadShape, Isa, KvStore, LANES, Matrix, Place,
        Pool, QuantizedRows, attend, glu, matmul, matmul_columns, read, rms_norm, rms_norm_within,
        softcap, split_heads,
    },
    rope::RopeTable,
};

/// `out = x · wᵀ` for matrices side by side.
fn multiply(
    pool: &mut Pool,
    quantized: &mut QuantizedRows,
    x: &[f32],
    rows: usize,
    matrices: &[Matrix],
    out: &mut [f32],
) {
    let stride = matrices.iter().map(|matrix| matrix.n).sum();
    let mut first = 0;
    for matrix in matrices {
        let out = &mut out[first..];
        matmul_columns(
            pool,
            quantized,
            x,
            rows,
            matrix,
            Epilogue::Store,
            out,
            stride,
        );
        first += matrix.n;
    }
}

/// Rows of `x` as a part of a layer takes them: in `normed`, or themselves if it has no norm.
fn norm_or_as_it_is<'a>(
    pool: &mut Pool,
    isa: Isa,
    x: &'a [f32],
    rows: usize,
    weight: Option<&Vec<f32>>,
    epsilon: f32,
    normed: &'a mut [f32],
) -> &'a [f32] {
    let Some(weight) = weight else {
        return x;
    };
    rms_norm(pool, isa.floats, x, rows, weight, epsilon, normed);
    normed
}

/// Runs a decoder on the CPU: threads, pages, and buffers that grow to the largest step.
pub(crate) struct Cpu {
    decoder: Arc<Decoder>,
    pool: Pool,
    ropes: Vec<RopeTable>,
    store: KvStore,
    places: Vec<Place>,
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    /// The residual stream.
    x: Buffer,
    normed: Buffer,
    qkv: Buffer,
    queries: Buffer,
    attended: Buffer,
    gate_up: Buffer,
    gated: Buffer,
    branch: Buffer,
    scores: Buffer,
    quantized: QuantizedRows,
}

struct Buffer(Aligned<f32>);

impl Default for Buffer {
    fn default() -> Self {
        Self(Aligned::zeroed(0))
    }
}

impl Buffer {
    fn of(&mut self, len: usize) -> &mut [f32] {
        self.0.ensure(len);
        &mut self.0[..len]
    }
}

impl Cpu {
    /// A worker with room for `pages` pages.
    pub(crate) fn new(decoder: Arc<Decoder>, threads: NonZeroUsize, pages: usize) -> Self {
        let config = &decoder.config;
        Self {
            pool: Pool::new(threads),
            ropes: config.ropes.iter().cloned().map(RopeTable::new).collect(),
            store: KvStore::new(
                decoder.kv_precision(),
                config.layers.len(),
                pages,
                config.kv_heads,
                padded(config),
            ),
            places: Vec::new(),
            buffers: Buffers::default(),
            decoder,
        }
    }

    /// Positions, page of each row, and rotation tables long enough for them.
    fn place(&mut self, step: &Step) {
        self.places.clear();
        for span in &step.spans {
            for position in span.start..span.start + span.rows {
                let page = step.pages[span.first_page + position / PAGE_TOKENS];
                assert!(
                    (page as usize) < self.store.pages(),
                    "pages come from this worker's pool"
                );
                self.places.push(Place {
                    position: position as u32,
                    page,
                });
            }
            for rope in &mut self.ropes {
                rope.extend(span.start + span.rows);
            }
        }
    }
}

fn padded(config: &Config) -> usize {
    config.head.next_multiple_of(LANES)
}

impl Backend for Cpu {
    fn vocab(&self) -> usize {
        self.decoder.config.vocab
    }

    fn forward(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), DeviceLost> {
        self.place(step);
        let Self {
            decoder,
            pool,
            ropes,
            store,
            places,
            buffers,
        } = self;
        let decoder = &**decoder;
        let (config, isa) = (&decoder.config, decoder.isa);
        let Config {
            hidden,
            ffn,
            heads,
            kv_heads,
            head,
            epsilon,
            ..
        } = *config;
        let epsilon = epsilon as f32;
        let padded = padded(config);
        let mut rows = step.tokens.len();
        let outputs = step.outputs();

        embed(decoder, &step.tokens, buffers.x.of(rows * hidden));
        for (index, layer) in decoder.layers.iter().enumerate() {
            let kind = config.layers[index];
            let last = index + 1 == decoder.layers.len();
            let normed = buffers.normed.of(rows * hidden);
            let x = buffers.x.of(rows * hidden);
            let before = layer.before_attention.as_ref();
            let input = norm_or_as_it_is(pool, isa, x, rows, before, epsilon, normed);
            let width = (heads + 2 * kv_heads) * head;
            let qkv = buffers.qkv.of(rows * width);
            let quantized = &mut buffers.quantized;
            multiply(pool, quantized, input, rows, &layer.qkv, qkv);
            let mut head_norms = layer
                .qk_norms
                .as_ref()
                .map(|(q, k)| (q.as_slice(), k.as_slice()));
            if config.qk_norm == Some(QkNorm::Projection)
                && let Some((q, k)) = head_norms.take()
            {
                rms_norm_within(pool, isa.floats, qkv, rows, width, q, epsilon);
                let keys = &mut qkv[heads * head..];
                rms_norm_within(pool, isa.floats, keys, rows, width, k, epsilon);
            }
            let queries = buffers.queries.of(rows * heads * padded);
            let store = store.layer(index);
            split_heads(
                pool,
                isa.floats,
                HeadShape {
                    heads,
                    kv_heads,
                    head,
                    padded,
                    epsilon,
                },
                head_norms,
                &ropes[kind.rope],
                places,
                qkv,
                queries,
                store,
            );

            let attended = buffers.attended.of(rows * heads * head);
            let work = attention_work(step, last);
            attend(
                pool,
                isa.floats,
                AttentionShape {
                    heads,
                    kv_heads,
                    head,
                    padded,
                    scale: config.query_scale,
                    softcap: config.attention_softcap,
                },
                kind.window,
                &work,
                queries,
                store,
                &mut buffers.scores.0,
                attended,
            );
            if last {
                keep_outputs(step, hidden, x);
                keep_outputs(step, heads * head, attended);
                rows = outputs;
                if rows == 0 {
                    break;
                }
            }
            let branch = buffers.branch.of(rows * hidden);
            let x = buffers.x.of(rows * hidden);
            let attended = &buffers.attended.0[..];
            let mut add_branch = |pool: &mut Pool,
                                  quantized: &mut QuantizedRows,
                                  input: &[f32],
                                  matrix: &Matrix,
                                  norm: Option<&Vec<f32>>,
                                  x: &mut [f32]| {
                let scale = config.residual_scale;
                if norm.is_none() && scale == 1.0 {
                    return matmul(pool, quantized, input, rows, matrix, Epilogue::Add, x);
                }
                matmul(
                    pool,
                    quantized,
                    input,
                    rows,
                    matrix,
                    Epilogue::Store,
                    branch,
                );
                let branch = match norm {
                    None => &*branch,
                    Some(norm) => {
                        let normed = buffers.normed.of(rows * hidden);
                        rms_norm(pool, isa.floats, branch, rows, norm, epsilon, normed);
                        &*normed
                    }
                };
                x.iter_mut()
                    .zip(branch)
                    .for_each(|(x, branch)| *x += branch * scale);
            };
            let quantized = &mut buffers.quantized;
            let after = layer.after_attention.as_ref();
            add_branch(pool, quantized, attended, &layer.out, after, x);

            let normed = buffers.qkv.of(rows * hidden);
            let before = layer.before_ffn.as_ref();
            let input = norm_or_as_it_is(pool, isa, x, rows, before, epsilon, normed);
            let gate_up = buffers.gate_up.of(rows * 2 * ffn);
            multiply(pool, quantized, input, rows, &layer.gate_up, gate_up);
            let gated = buffers.gated.of(rows * ffn);
            glu(
                pool,
                isa.floats,
                config.activation,
                gate_up,
                rows,
                ffn,
                gated,
            );
            add_branch(
                pool,
                quantized,
                gated,
                &layer.down,
                layer.after_ffn.as_ref(),
                x,
            );
        }

        read_out(decoder, pool, buffers, outputs, outcome);
        let Outcome {
            readings,
            logits,
            watched,
        } = outcome;
        watched.clear();
        watched.extend(step.watched.iter().map(|watched| {
            let logits = &logits[watched.row * config.vocab..][..config.vocab];
            logprob(readings[watched.row], logits, watched.token)
        }));
        Ok(())
    }
}

/// The first rows of the residual stream: those of the tokens' embeddings.
fn embed(decoder: &Decoder, tokens: &[u32], x: &mut [f32]) {
    let Config {
        hidden,
        embed_scale,
        ..
    } = decoder.config;
    for (row, &token) in tokens.iter().enumerate() {
        let to = &mut x[row * hidden..][..hidden];
        decoder.embeddings.row(token, to);
        if embed_scale != 1.0 {
            to.iter_mut().for_each(|value| *value *= embed_scale);
        }
    }
}

/// Logits of the rows that the last layer has left, and what is read in them.
fn read_out(
    decoder: &Decoder,
    pool: &mut Pool,
    buffers: &mut Buffers,
    rows: usize,
    outcome: &mut Outcome,
) {
    let Config {
        hidden,
        vocab,
        epsilon,
        final_softcap,
        ..
    } = decoder.config;
    let floats = decoder.isa.floats;
    outcome.readings.clear();
    outcome.readings.resize(
        rows,
        Reading {
            token: 0,
            logprob: 0.0,
            finite: false,
        },
    );
    outcome.logits.resize(rows * vocab, 0.0);
    if rows == 0 {
        return;
    }
    let normed = buffers.normed.of(rows * hidden);
    let x = buffers.x.of(rows * hidden);
    let norm = &decoder.norm;
    rms_norm(pool, floats, x, rows, norm, epsilon as f32, normed);
    let logits = &mut outcome.logits[..];
    matmul(
        pool,
        &mut buffers.quantized,
        normed,
        rows,
        &decoder.head,
        Epilogue::Store,
        logits,
    );
    let Some(cap) = final_softcap else {
        read(pool, floats, logits, vocab, &mut outcome.readings);
        return;
    };
    // Behind the cap all are finite, whatever they were.
    let finite: Vec<bool> = logits.chunks_exact(vocab).map(are_finite).collect();
    softcap(floats, cap, logits);
    read(pool, floats, logits, vocab, &mut outcome.readings);
    for (reading, finite) in outcome.readings.iter_mut().zip(finite) {
        reading.finite &= finite;
    }
}

/// Without a branch, so that it costs little beside the product that made the numbers.
fn are_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    !values.iter().fold(false, |any, value| {
        any | (value.to_bits() & EXPONENT == EXPONENT)
    })
}

/// What each sequence attends to; in the last layer only rows that need logits do.
fn attention_work<'a>(step: &'a Step, outputs_only: bool) -> Vec<Attend<'a>> {
    let mut row = 0;
    step.spans
        .iter()
        .filter_map(|span| {
            let skipped = if outputs_only {
                span.rows - span.outputs
            } else {
                0
            };
            let part = Attend {
                row: row + skipped,
                rows: span.rows - skipped,
                start: span.start + skipped,
                pages: &step.pages[span.first_page..],
            };
            row += span.rows;
            (part.rows > 0).then_some(part)
        })
        .collect()
}

/// Moves the rows that need logits to the front.
fn keep_outputs(step: &Step, width: usize, rows: &mut [f32]) {
    let (mut row, mut kept) = (0, 0);
    for span in &step.spans {
        let first = row + span.rows - span.outputs;
        let from = first * width..(first + span.outputs) * width;
        rows.copy_within(from, kept * width);
        row += span.rows;
        kept += span.outputs;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{WeightPrecision, fixture};

    /// Logits of a prompt in two chunks beside another sequence.
    fn logits(family: &str, precision: WeightPrecision, isa: Isa, threads: usize) -> Vec<u32> {
        let decoder = fixture(family, precision, isa);
        let threads = NonZeroUsize::new(threads).expect("threads");
        let mut cpu = Cpu::new(Arc::new(decoder), threads, 16);
        let (mut step, mut outcome) = (Step::default(), Outcome::default());
        let prompt: Vec<u32> = (0..60).map(|i| 3 + i * i % 300).collect();
        step.push(&prompt[..41], 0, 0, &[3, 1, 7]);
        step.push(&prompt[5..25], 0, 2, &[0, 9]);
        cpu.forward(&step, &mut outcome)
            .expect("a CPU does not fail");
        let mut bits: Vec<u32> = outcome.logits.iter().map(|value| value.to_bits()).collect();
        step.clear();
        step.push(&prompt[41..], 41, 3, &[3, 1, 7, 2]);
        cpu.forward(&step, &mut outcome)
            .expect("a CPU does not fail");
        bits.extend(outcome.logits.iter().map(|value| value.to_bits()));
        bits
    }

    #[test]
    fn logits_that_are_no_numbers_are_noticed_behind_a_cap_too() {
        for family in ["llama2", "gemma2"] {
            for isa in Isa::available() {
                for (weight, expected) in [(1.0, true), (f32::NAN, false)] {
                    let mut decoder = fixture(family, WeightPrecision::F32, isa);
                    decoder.norm.fill(weight);
                    let mut cpu = Cpu::new(Arc::new(decoder), NonZeroUsize::MIN, 1);
                    let (mut step, mut outcome) = (Step::default(), Outcome::default());
                    step.push(&[3, 4, 5], 0, 2, &[0]);
                    cpu.forward(&step, &mut outcome)
                        .expect("a CPU does not fail");
                    let finite = outcome.readings.iter().map(|reading| reading.finite);
                    let finite: Vec<bool> = finite.collect();
                    assert_eq!(finite, [expected; 2], "{family} on {isa}");
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_computes_the_same_bytes() {
        let precisions = [WeightPrecision::F32, WeightPrecision::Q8];
        for family in [
            "llama2",
            "llama_odd",
            "gemma2",
            "qwen3",
            "phi3",
            "granite",
            "smollm3",
            "olmo2",
        ] {
            for precision in precisions {
                let mut isas = Isa::available().into_iter();
                let best = isas.next().expect("plain arrays at least");
                let expected = logits(family, precision, best, 2);
                for isa in isas {
                    let got = logits(family, precision, isa, 1);
                    assert!(got == expected, "{family} {precision:?} differs on {isa}");
                }
            }
        }
    }
}
