//! One ragged forward pass on a CUDA device.
//!
//! The same steps as on the CPU ([`crate::cpu`]), which is the reference: products by cuBLAS, the
//! rest by the kernels of `kernels.cu`. Weights, products' inputs, keys and values are bf16 or f32,
//! sums and the residual stream f32. Tokens are embedded on the host, in f32.
//!
//! Unlike on the CPU, a row's value may depend on what else is in the batch: cuBLAS chooses its
//! order of summation by the number of rows.
//!
//! Compiled for tests too, where an emulator runs the kernels on the CPU.

#[cfg(feature = "cuda")]
mod driver;
#[cfg(test)]
mod emulated;
mod gpu;

use aligner_checkpoint::{Activation, CheckpointError, Config, QkNorm};
use half::bf16;

#[cfg(feature = "cuda")]
pub(crate) use driver::Driver;
pub(crate) use gpu::Element;
use gpu::{Address, Argument, Gpu, GpuError, Product, Typed};

use crate::{
    LoadError,
    backend::{Backend, DeviceLost, Outcome, PAGE_TOKENS, Reading, Step},
    decoder::{Decoder, Layer},
    embeddings::Embeddings,
    kernels::Matrix,
    rope::RopeTable,
    scheduler::Budget,
};

/// Components of a head that the kernels have room for.
const MOST_HEAD: usize = 256;

const _: () = assert!(PAGE_TOKENS == 16, "kernels.cu has pages of as many tokens");

/// A product's weights on the device.
struct Weights {
    address: Address,
    bias: Option<Address>,
    n: usize,
    k: usize,
}

struct DeviceLayer {
    before_attention: Option<Address>,
    qkv: Vec<Weights>,
    qk_norms: Option<(Address, Address)>,
    out: Weights,
    after_attention: Option<Address>,
    before_ffn: Option<Address>,
    gate_up: Vec<Weights>,
    down: Weights,
    after_ffn: Option<Address>,
    keys: Address,
    values: Address,
}

/// Memory that grows to the largest step.
struct Buffer {
    address: Address,
    bytes: usize,
}

impl Buffer {
    const EMPTY: Self = Self {
        address: Address::NULL,
        bytes: 0,
    };

    /// Room for so many bytes; what it held is gone if it has to grow.
    fn of(&mut self, gpu: &mut impl Gpu, bytes: usize) -> Result<Address, GpuError> {
        if bytes > self.bytes {
            if self.bytes > 0 {
                gpu.free(self.address)?;
                *self = Self::EMPTY;
            }
            let bytes = bytes.next_power_of_two();
            self.address = gpu.allocate(bytes)?;
            self.bytes = bytes;
        }
        Ok(self.address)
    }
}

/// Runs a decoder on a device.
pub(crate) struct Cuda<G> {
    gpu: G,
    element: Element,
    kernels: Typed,
    config: Config,
    /// On the host; the other weights need not stay there.
    embeddings: Embeddings,
    layers: Vec<DeviceLayer>,
    norm: Address,
    head: Weights,
    ropes: Vec<(RopeTable, Buffer)>,
    pages: usize,
    /// The residual stream, and room for the rows of it that are kept in the last layer.
    x: [Buffer; 2],
    normed: Buffer,
    qkv: Buffer,
    queries: Buffer,
    attended: Buffer,
    gate_up: Buffer,
    gated: Buffer,
    branch: Buffer,
    logits: Buffer,
    indices: Buffer,
    readings: Buffer,
    /// On the host, to be uploaded or just downloaded.
    embedded: Vec<f32>,
    numbers: Vec<u32>,
}

impl<G: Gpu> Cuda<G> {
    /// A worker on device `number` with room for `pages` pages; uploads the weights, which must be
    /// f32, and takes one step of `step_tokens` rows and `running` sequences, so that what does not
    /// fit or work is found at start. `origin` is what errors call the checkpoint.
    pub(crate) fn new(
        mut gpu: G,
        number: usize,
        decoder: &Decoder,
        origin: &str,
        element: Element,
        budget: Budget,
    ) -> Result<Self, LoadError> {
        let config = &decoder.config;
        if config.head > MOST_HEAD || config.head % 2 == 1 {
            return Err(CheckpointError::Unsupported {
                file: origin.to_owned(),
                key: "head_dim".to_owned(),
                value: config.head.to_string(),
                supported: "even sizes up to 256 on CUDA",
            }
            .into());
        }
        let lost = |error: GpuError| LoadError::Setting {
            setting: "device",
            value: format!("cuda:{number}"),
            problem: format!("cannot take the model: {error}"),
        };
        let cache = budget.pages * config.kv_heads * PAGE_TOKENS * config.head * element.bytes();
        gpu.enter().map_err(lost)?;
        let layers = decoder
            .layers
            .iter()
            .map(|layer| upload_layer(&mut gpu, layer, element, cache))
            .collect::<Result<_, _>>()
            .map_err(lost)?;
        let norm = upload(&mut gpu, &decoder.norm).map_err(lost)?;
        let head = upload_matrix(&mut gpu, &decoder.head, element).map_err(lost)?;
        let ropes = config.ropes.iter().cloned();
        let mut cuda = Self {
            gpu,
            element,
            kernels: Typed::of(element),
            layers,
            norm,
            head,
            ropes: ropes
                .map(|rope| (RopeTable::new(rope), Buffer::EMPTY))
                .collect(),
            pages: budget.pages,
            config: config.clone(),
            embeddings: decoder.embeddings.clone(),
            x: [Buffer::EMPTY, Buffer::EMPTY],
            normed: Buffer::EMPTY,
            qkv: Buffer::EMPTY,
            queries: Buffer::EMPTY,
            attended: Buffer::EMPTY,
            gate_up: Buffer::EMPTY,
            gated: Buffer::EMPTY,
            branch: Buffer::EMPTY,
            logits: Buffer::EMPTY,
            indices: Buffer::EMPTY,
            readings: Buffer::EMPTY,
            embedded: Vec::new(),
            numbers: Vec::new(),
        };
        cuda.rehearse(budget).map_err(lost)?;
        Ok(cuda)
    }

    /// A step as large as any, of which nothing is kept: it makes room for all others.
    fn rehearse(&mut self, budget: Budget) -> Result<(), GpuError> {
        let rows = budget.step_tokens.min(budget.pages * PAGE_TOKENS);
        let pages: Vec<u32> = (0..budget.pages as u32).collect();
        let mut step = Step::default();
        step.push(&vec![0; rows], 0, rows.min(budget.running), &pages);
        step.wants_logits = true;
        self.step(&step, &mut Outcome::default())
    }

    /// Uploads where every row stands, and embeds the tokens.
    fn place(&mut self, step: &Step) -> Result<Places, GpuError> {
        let Config {
            hidden,
            embed_scale,
            ..
        } = self.config;
        let rows = step.tokens.len();
        assert!(
            step.pages.iter().all(|&page| (page as usize) < self.pages),
            "pages come from this worker's pool"
        );
        self.embedded.resize(rows * hidden, 0.0);
        for (row, &token) in step.tokens.iter().enumerate() {
            let to = &mut self.embedded[row * hidden..][..hidden];
            self.embeddings.row(token, to);
            to.iter_mut().for_each(|value| *value *= embed_scale);
        }
        let x = self.x[0].of(&mut self.gpu, rows * hidden * 4)?;
        self.gpu.upload(bytemuck::cast_slice(&self.embedded), x)?;

        // Positions, first page of each row's sequence, all rows, rows that need logits, pages.
        self.numbers.clear();
        let spans = || step.spans.iter();
        let each_row = |of: fn(&crate::backend::Span, usize) -> usize| {
            spans().flat_map(move |span| (0..span.rows).map(move |row| of(span, row) as u32))
        };
        self.numbers.extend(each_row(|span, row| span.start + row));
        self.numbers.extend(each_row(|span, _| span.first_page));
        self.numbers.extend(0..rows as u32);
        let mut first = 0;
        for span in &step.spans {
            first += span.rows;
            self.numbers
                .extend((first - span.outputs) as u32..first as u32);
        }
        self.numbers.extend_from_slice(&step.pages);
        let at = self.indices.of(&mut self.gpu, self.numbers.len() * 4)?;
        self.gpu.upload(bytemuck::cast_slice(&self.numbers), at)?;

        let positions = spans().map(|span| span.start + span.rows).max();
        for (rope, buffer) in &mut self.ropes {
            if rope.extend(positions.unwrap_or(0)) || buffer.bytes == 0 {
                let values = bytemuck::cast_slice(rope.values());
                let at = buffer.of(&mut self.gpu, values.len())?;
                self.gpu.upload(values, at)?;
            }
        }
        let index = |count: usize| at.offset(4 * count);
        Ok(Places {
            positions: at,
            tables: index(rows),
            all: index(2 * rows),
            outputs: index(3 * rows),
            pages: index(3 * rows + step.outputs()),
        })
    }

    fn step(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), GpuError> {
        self.gpu.enter()?;
        let places = self.place(step)?;
        let config = &self.config;
        let Config {
            hidden,
            ffn,
            heads,
            kv_heads,
            head,
            vocab,
            epsilon,
            ..
        } = *config;
        let epsilon = epsilon as f32;
        let (size, outputs) = (self.element.bytes(), step.outputs());
        let mut rows = step.tokens.len();
        let width = (heads + 2 * kv_heads) * head;
        let gpu = &mut self.gpu;
        let mut x = self.x[0].address;
        let normed = self.normed.of(gpu, rows * hidden * size)?;
        let qkv = self.qkv.of(gpu, rows * width * 4)?;
        let queries = self.queries.of(gpu, rows * heads * head * 4)?;
        let attended = self.attended.of(gpu, rows * heads * head * size)?;
        let gate_up = self.gate_up.of(gpu, rows * 2 * ffn * 4)?;
        let gated = self.gated.of(gpu, rows * ffn * size)?;
        let branch = self.branch.of(gpu, rows * hidden * 4)?;
        let norm = |gpu: &mut G, x: Address, rows, weight: Option<Address>| {
            let arguments = [
                x.into(),
                weight.unwrap_or(Address::NULL).into(),
                normed.into(),
                hidden.into(),
                epsilon.into(),
            ];
            gpu.launch(self.kernels.norm, [rows, 1], &arguments)
        };

        for (index, layer) in self.layers.iter().enumerate() {
            let kind = config.layers[index];
            let last = index + 1 == self.layers.len();
            norm(gpu, x, rows, layer.before_attention)?;
            side_by_side(gpu, self.element, normed, rows, &layer.qkv, qkv)?;
            let mut head_norms = layer.qk_norms;
            if config.qk_norm == Some(QkNorm::Projection)
                && let Some((q, k)) = head_norms.take()
            {
                let of_queries = heads * head;
                let keys = qkv.offset(4 * of_queries);
                for (at, weight, n) in [(qkv, q, of_queries), (keys, k, kv_heads * head)] {
                    let arguments = [
                        at.into(),
                        weight.into(),
                        n.into(),
                        width.into(),
                        epsilon.into(),
                    ];
                    gpu.launch("norm_within", [rows, 1], &arguments)?;
                }
            }
            let (q_norm, k_norm) = head_norms.unwrap_or((Address::NULL, Address::NULL));
            gpu.launch(
                self.kernels.split,
                [rows, heads + 2 * kv_heads],
                &[
                    qkv.into(),
                    q_norm.into(),
                    k_norm.into(),
                    self.ropes[kind.rope].1.address.into(),
                    places.positions.into(),
                    places.tables.into(),
                    places.pages.into(),
                    queries.into(),
                    layer.keys.into(),
                    layer.values.into(),
                    heads.into(),
                    kv_heads.into(),
                    head.into(),
                    epsilon.into(),
                ],
            )?;
            // In the last layer, only rows that need logits go on.
            let which = if last { places.outputs } else { places.all };
            if last {
                rows = outputs;
                if rows == 0 {
                    break;
                }
                let kept = self.x[1].of(gpu, rows * hidden * 4)?;
                let arguments = [x.into(), which.into(), kept.into(), hidden.into()];
                gpu.launch("gather", [rows, 1], &arguments)?;
                x = kept;
            }
            gpu.launch(
                self.kernels.attend,
                [rows, heads],
                &[
                    queries.into(),
                    layer.keys.into(),
                    layer.values.into(),
                    which.into(),
                    places.positions.into(),
                    places.tables.into(),
                    places.pages.into(),
                    attended.into(),
                    heads.into(),
                    kv_heads.into(),
                    head.into(),
                    kind.window.unwrap_or(0).into(),
                    config.query_scale.into(),
                    config.attention_softcap.unwrap_or(0.0).into(),
                ],
            )?;
            let add_branch = |gpu: &mut G, input, weights: &Weights, after: Option<Address>| {
                if after.is_none() && config.residual_scale == 1.0 {
                    return product(gpu, self.element, input, rows, weights, x, hidden, true);
                }
                product(
                    gpu,
                    self.element,
                    input,
                    rows,
                    weights,
                    branch,
                    hidden,
                    false,
                )?;
                let arguments = [
                    x.into(),
                    branch.into(),
                    after.unwrap_or(Address::NULL).into(),
                    hidden.into(),
                    epsilon.into(),
                    config.residual_scale.into(),
                ];
                gpu.launch("add_branch", [rows, 1], &arguments)
            };
            add_branch(gpu, attended, &layer.out, layer.after_attention)?;
            norm(gpu, x, rows, layer.before_ffn)?;
            side_by_side(gpu, self.element, normed, rows, &layer.gate_up, gate_up)?;
            let activation = match config.activation {
                Activation::Silu => 0_usize,
                Activation::GeluTanh => 1,
                Activation::Gelu => 2,
            };
            gpu.launch(
                self.kernels.glu,
                [rows, ffn.div_ceil(1024)],
                &[gate_up.into(), gated.into(), ffn.into(), activation.into()],
            )?;
            add_branch(gpu, gated, &layer.down, layer.after_ffn)?;
        }

        outcome.readings.clear();
        outcome.watched.clear();
        let wanted = if step.wants_logits {
            outputs * vocab
        } else {
            0
        };
        outcome.logits.resize(wanted, 0.0);
        if outputs == 0 {
            // So that its time is its own, and its failure too.
            return gpu.finish();
        }
        norm(gpu, x, rows, Some(self.norm))?;
        let logits = self.logits.of(gpu, outputs * vocab * 4)?;
        product(
            gpu,
            self.element,
            normed,
            rows,
            &self.head,
            logits,
            vocab,
            false,
        )?;
        let readings = self.readings.of(gpu, outputs * 12)?;
        gpu.launch(
            "read_out",
            [rows, 1],
            &[
                logits.into(),
                vocab.into(),
                config.final_softcap.unwrap_or(0.0).into(),
                readings.into(),
                readings.offset(outputs * 4).into(),
                readings.offset(outputs * 8).into(),
            ],
        )?;
        self.numbers.resize(3 * outputs, 0);
        gpu.download(readings, bytemuck::cast_slice_mut(&mut self.numbers))?;
        if step.wants_logits {
            gpu.download(logits, bytemuck::cast_slice_mut(&mut outcome.logits))?;
        }
        let (tokens, rest) = self.numbers.split_at(outputs);
        let (logprobs, finite) = rest.split_at(outputs);
        let rows = tokens.iter().zip(logprobs).zip(finite);
        outcome
            .readings
            .extend(rows.map(|((&token, &logprob), &finite)| Reading {
                token,
                logprob: f32::from_bits(logprob),
                finite: finite != 0,
            }));
        for watched in &step.watched {
            let reading = outcome.readings[watched.row];
            let mut logit = |token: u32| {
                let mut value = 0.0_f32;
                let at = logits.offset((watched.row * vocab + token as usize) * 4);
                gpu.download(at, bytemuck::bytes_of_mut(&mut value))?;
                Ok::<_, GpuError>(value)
            };
            let behind = logit(watched.token)? - logit(reading.token)?;
            outcome.watched.push(behind + reading.logprob);
        }
        Ok(())
    }
}

impl<G: Gpu> Backend for Cuda<G> {
    fn vocab(&self) -> usize {
        self.config.vocab
    }

    fn forward(&mut self, step: &Step, outcome: &mut Outcome) -> Result<(), DeviceLost> {
        self.step(step, outcome)
            .map_err(|error| DeviceLost(error.to_string()))
    }
}

/// Multiply-adds per second of a product of 1,024 × 4,096 × 4,096, and bytes per second of one with
/// a single row, which is as fast as its weights are read.
#[cfg(feature = "cuda")]
pub(crate) fn measure(mut gpu: impl Gpu, element: Element) -> Result<(f64, f64), GpuError> {
    use std::time::Instant;
    const ROWS: usize = 1_024;
    const SIZE: usize = 4_096;
    // A gigabyte and more: what no cache holds.
    const MATRICES: usize = 40;
    gpu.enter()?;
    // Numbers as inputs are, for multiplying zeros takes less power.
    let noise = |len: usize| -> Vec<f32> {
        (0..len as u32)
            .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 23) as f32 - 1.0)
            .collect()
    };
    let x = upload_as(&mut gpu, &noise(ROWS * SIZE), element)?;
    let values = noise(SIZE * SIZE);
    let weights = (0..MATRICES)
        .map(|_| upload_as(&mut gpu, &values, element))
        .collect::<Result<Vec<_>, _>>()?;
    let out = gpu.allocate(ROWS * SIZE * 4)?;
    let mut per_second = |rows: usize| {
        let mut run = || {
            let started = Instant::now();
            for &weights in &weights {
                gpu.multiply(&Product {
                    element,
                    x,
                    weights,
                    out,
                    rows,
                    n: SIZE,
                    k: SIZE,
                    stride: SIZE,
                    add: false,
                })?;
            }
            gpu.finish()?;
            Ok(started.elapsed().as_secs_f64())
        };
        run()?;
        Ok(MATRICES as f64 / run()?)
    };
    let multiply_adds = per_second(ROWS)? * (ROWS * SIZE * SIZE) as f64;
    Ok((
        multiply_adds,
        per_second(1)? * (SIZE * SIZE * element.bytes()) as f64,
    ))
}

/// Where the numbers of a step lie on the device.
struct Places {
    positions: Address,
    tables: Address,
    all: Address,
    outputs: Address,
    pages: Address,
}

fn upload(gpu: &mut impl Gpu, values: &[f32]) -> Result<Address, GpuError> {
    let address = gpu.allocate(size_of_val(values))?;
    gpu.upload(bytemuck::cast_slice(values), address)?;
    Ok(address)
}

/// Values as the element has them.
#[cfg(feature = "cuda")]
fn upload_as(gpu: &mut impl Gpu, values: &[f32], element: Element) -> Result<Address, GpuError> {
    if element == Element::F32 {
        return upload(gpu, values);
    }
    let narrow: Vec<bf16> = values.iter().map(|&value| bf16::from_f32(value)).collect();
    let address = gpu.allocate(size_of_val(narrow.as_slice()))?;
    gpu.upload(bytemuck::cast_slice(&narrow), address)?;
    Ok(address)
}

fn upload_matrix(
    gpu: &mut impl Gpu,
    matrix: &Matrix,
    element: Element,
) -> Result<Weights, GpuError> {
    let (n, k) = (matrix.n, matrix.k);
    let address = gpu.allocate(n * k * element.bytes())?;
    // A few megabytes at a time.
    let together = (1_usize << 20).div_ceil(k);
    let (mut rows, mut narrow) = (Vec::new(), Vec::new());
    for first in (0..n).step_by(together) {
        rows.resize(together.min(n - first) * k, 0.0);
        for (index, row) in rows.chunks_exact_mut(k).enumerate() {
            matrix.row(first + index, row);
        }
        let bytes = match element {
            Element::F32 => bytemuck::cast_slice(&rows),
            Element::Bf16 => {
                narrow.clear();
                narrow.extend(rows.iter().map(|&value| bf16::from_f32(value)));
                bytemuck::cast_slice(&narrow)
            }
        };
        gpu.upload(bytes, address.offset(first * k * element.bytes()))?;
    }
    let bias = matrix.bias().map(|bias| upload(gpu, bias)).transpose()?;
    Ok(Weights {
        address,
        bias,
        n,
        k,
    })
}

fn upload_layer(
    gpu: &mut impl Gpu,
    layer: &Layer,
    element: Element,
    cache: usize,
) -> Result<DeviceLayer, GpuError> {
    let matrices = |gpu: &mut _, matrices: &[Matrix]| {
        let matrices = matrices.iter();
        matrices
            .map(|matrix| upload_matrix(gpu, matrix, element))
            .collect::<Result<Vec<_>, _>>()
    };
    let optional = |gpu: &mut _, norm: &Option<Vec<f32>>| {
        norm.as_ref().map(|norm| upload(gpu, norm)).transpose()
    };
    Ok(DeviceLayer {
        before_attention: optional(gpu, &layer.before_attention)?,
        qkv: matrices(gpu, &layer.qkv)?,
        qk_norms: match &layer.qk_norms {
            Some((q, k)) => Some((upload(gpu, q)?, upload(gpu, k)?)),
            None => None,
        },
        out: upload_matrix(gpu, &layer.out, element)?,
        after_attention: optional(gpu, &layer.after_attention)?,
        before_ffn: optional(gpu, &layer.before_ffn)?,
        gate_up: matrices(gpu, &layer.gate_up)?,
        down: upload_matrix(gpu, &layer.down, element)?,
        after_ffn: optional(gpu, &layer.after_ffn)?,
        keys: gpu.allocate(cache)?,
        values: gpu.allocate(cache)?,
    })
}

/// A product, and its bias.
#[expect(
    clippy::too_many_arguments,
    reason = "a product's operands, none of them optional"
)]
fn product(
    gpu: &mut impl Gpu,
    element: Element,
    x: Address,
    rows: usize,
    weights: &Weights,
    out: Address,
    stride: usize,
    add: bool,
) -> Result<(), GpuError> {
    gpu.multiply(&Product {
        element,
        x,
        weights: weights.address,
        out,
        rows,
        n: weights.n,
        k: weights.k,
        stride,
        add,
    })?;
    if let Some(bias) = weights.bias {
        let arguments: [Argument; 4] = [out.into(), bias.into(), weights.n.into(), stride.into()];
        gpu.launch("add_bias", [rows, 1], &arguments)?;
    }
    Ok(())
}

/// Products of the same input, whose results stand side by side.
fn side_by_side(
    gpu: &mut impl Gpu,
    element: Element,
    x: Address,
    rows: usize,
    matrices: &[Weights],
    out: Address,
) -> Result<(), GpuError> {
    let stride = matrices.iter().map(|weights| weights.n).sum();
    let mut first = 0;
    for weights in matrices {
        let out = out.offset(4 * first);
        product(gpu, element, x, rows, weights, out, stride, false)?;
        first += weights.n;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
