//! Matrix products `out[m, n] = x[m, k] · w[n, k]ᵀ` on weights packed once at load.
//!
//! Columns are packed sixteen to a *panel*, so that one vector holds sixteen outputs and a sum
//! over `k` runs within a lane, in order. Work is split by panels (and, for many rows, by rows)
//! among the threads of the [`Pool`].

use super::{
    Aligned, Bytes, Isa, LANES, Pool, Shared, matmul_f32,
    matmul_q4::{self, CHUNK, CHUNK_SCALES, SUPER},
    matmul_q8::{self, BLOCK},
};
use crate::blocks::Q4K;

pub(crate) use super::matmul_q8::QuantizedRows;

/// How a matrix is held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// As it is stored, widened to f32.
    F32,
    /// Blocks of 32 int8 with one scale; the inputs are quantised alike, row by row.
    Q8,
    /// The same with a scale for each sixteen.
    Q6,
    /// Blocks of 32 four-bit weights with a scale and a minimum.
    Q4,
}

/// Packed weights of one product, with an optional bias.
pub(crate) struct Matrix {
    pub(crate) n: usize,
    pub(crate) k: usize,
    packed: Packed,
    bias: Option<Aligned<f32>>,
    isa: Isa,
}

enum Packed {
    /// `[panel][k][16]`
    F32(Aligned<f32>),
    /// `[panel][k / step][16][step]` and scales `[panel][block][parts][16]`
    Q8 {
        bytes: Aligned<u8>,
        scales: Aligned<f32>,
        parts: usize,
    },
    /// See [`matmul_q4::Panels`].
    Q4 {
        nibbles: Aligned<u8>,
        scales: Aligned<u8>,
        supers: Aligned<f32>,
    },
}

/// What becomes of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Epilogue {
    /// It replaces the output.
    Store,
    /// It is added to the output: a residual connection.
    Add,
}

/// Where a tile's results go.
#[derive(Clone, Copy)]
pub(super) struct Output {
    /// First row, first column of the tile.
    pub(super) to: *mut f32,
    pub(super) stride: usize,
    /// Columns from here on that exist; the last panel may be padded.
    pub(super) columns: usize,
    /// Bias of the first column, or null.
    pub(super) bias: *const f32,
    pub(super) add: bool,
}

impl Matrix {
    /// An empty matrix; every row must be set, in the form of its [`Self::precision`] or in f32.
    /// Q4 needs `k` to be a multiple of 256 and is Q8 otherwise, which needs a multiple of 32 and
    /// is f32 otherwise.
    pub(crate) fn empty(n: usize, k: usize, precision: Precision, isa: Isa) -> Self {
        let panels = n.div_ceil(LANES);
        let columns = panels * LANES;
        let packed = match precision {
            Precision::Q4 if k.is_multiple_of(SUPER) => Packed::Q4 {
                nibbles: Aligned::zeroed(columns * k / 2),
                scales: Aligned::zeroed(panels * (k / CHUNK) * CHUNK_SCALES),
                supers: Aligned::zeroed(columns * (k / SUPER) * 2),
            },
            Precision::Q8 | Precision::Q6 | Precision::Q4 if k.is_multiple_of(BLOCK) => {
                let parts = if precision == Precision::Q6 { 2 } else { 1 };
                Packed::Q8 {
                    bytes: Aligned::zeroed(columns * k),
                    scales: Aligned::zeroed(columns * (k / BLOCK) * parts),
                    parts,
                }
            }
            _ => Packed::F32(Aligned::zeroed(panels * LANES * k)),
        };
        Self {
            n,
            k,
            packed,
            bias: None,
            isa,
        }
    }

    pub(crate) fn precision(&self) -> Precision {
        match self.packed {
            Packed::F32(_) => Precision::F32,
            Packed::Q8 { parts: 1, .. } => Precision::Q8,
            Packed::Q8 { .. } => Precision::Q6,
            Packed::Q4 { .. } => Precision::Q4,
        }
    }

    /// Bytes that a product with one row reads.
    pub(crate) fn bytes(&self) -> usize {
        match &self.packed {
            Packed::F32(values) => values.len() * 4,
            Packed::Q8 { bytes, scales, .. } => bytes.len() + scales.len() * 4,
            Packed::Q4 {
                nibbles,
                scales,
                supers,
            } => nibbles.len() + scales.len() + supers.len() * 4,
        }
    }

    pub(crate) fn set_bias(&mut self, first: usize, values: &[f32]) {
        let padded = self.n.next_multiple_of(LANES);
        let bias = self.bias.get_or_insert_with(|| Aligned::zeroed(padded));
        bias[first..first + values.len()].copy_from_slice(values);
    }

    /// Sets the weights of output column `n`.
    pub(crate) fn set_row(&mut self, n: usize, row: &[f32]) {
        assert_eq!(
            row.len(),
            self.k,
            "a row has as many weights as the input has values"
        );
        match &mut self.packed {
            Packed::F32(values) => {
                let panel = &mut values[n / LANES * LANES * self.k..];
                for (k, &weight) in row.iter().enumerate() {
                    panel[k * LANES + n % LANES] = weight;
                }
            }
            Packed::Q4 { .. } | Packed::Q8 { parts: 2.., .. } => {
                unreachable!("rows of these matrices come quantised")
            }
            Packed::Q8 { .. } => {
                let (mut bytes, mut scales) = (vec![0; self.k], vec![0.0; self.k / BLOCK]);
                for (block, values) in row.chunks_exact(BLOCK).enumerate() {
                    scales[block] =
                        matmul_q8::quantize_weights(values, &mut bytes[block * BLOCK..][..BLOCK]);
                }
                self.set_row_q8(n, &bytes, &scales);
            }
        }
    }

    /// Sets the weights of output column `n` from int8 blocks as they are stored.
    pub(crate) fn set_row_q8(&mut self, n: usize, row: &[i8], row_scales: &[f32]) {
        assert_eq!(
            row.len(),
            self.k,
            "a row has as many weights as the input has values"
        );
        match &mut self.packed {
            Packed::Q8 {
                bytes,
                scales,
                parts,
            } if row_scales.len() == self.k / BLOCK * *parts => {
                let unsigned = matmul_q8::weights_are_unsigned(self.isa.bytes);
                let step = matmul_q8::step(self.isa.bytes);
                let panel = n / LANES;
                for (k, &weight) in row.iter().enumerate() {
                    let at =
                        panel * LANES * self.k + (k / step * LANES + n % LANES) * step + k % step;
                    bytes[at] = if unsigned {
                        (weight as u8) ^ 0x80
                    } else {
                        weight as u8
                    };
                }
                for (part, &scale) in row_scales.iter().enumerate() {
                    let at = panel * row_scales.len() + part;
                    scales[at * LANES + n % LANES] = scale;
                }
            }
            _ => {
                let width = self.k / row_scales.len();
                let widened: Vec<f32> = row
                    .iter()
                    .enumerate()
                    .map(|(k, &weight)| f32::from(weight) * row_scales[k / width])
                    .collect();
                self.set_row(n, &widened);
            }
        }
    }

    /// Sets the weights of output column `n` from four-bit blocks as they are stored.
    pub(crate) fn set_row_q4(&mut self, n: usize, row: &[Q4K]) {
        let Packed::Q4 {
            nibbles,
            scales,
            supers,
        } = &mut self.packed
        else {
            let mut widened = vec![0.0; self.k];
            for (block, to) in row.iter().zip(widened.chunks_exact_mut(SUPER)) {
                block.widen(to);
            }
            return self.set_row(n, &widened);
        };
        let (panel, lane) = (n / LANES, n % LANES);
        for (index, block) in row.iter().enumerate() {
            let shared = (panel * row.len() + index) * 2 * LANES + lane;
            (supers[shared], supers[shared + LANES]) = (block.scale, block.least);
            for (part, quants) in block.quants.chunks_exact(CHUNK).enumerate() {
                let chunk = (panel * row.len() + index) * (SUPER / CHUNK) + part;
                let (low, high) = quants.split_at(BLOCK);
                for (k, (&low, &high)) in low.iter().zip(high).enumerate() {
                    let at = (chunk * BLOCK / 4 + k / 4) * 4 * LANES + lane * 4 + k % 4;
                    nibbles[at] = low | high << 4;
                }
                for half in 0..2 {
                    let at = chunk * CHUNK_SCALES + half * LANES + lane;
                    scales[at] = block.scales[2 * part + half];
                    scales[at + 2 * LANES] = block.minima[2 * part + half];
                }
            }
        }
    }
}

/// Products below this many multiply-adds are not worth waking a second thread for.
const ALONE: usize = 40_000;

/// Rows that are multiplied before the next panel: their inputs stay in the second-level cache.
const ROWS_IN_CACHE: usize = 384 * 1024;

/// `out (+)= x · wᵀ + bias` for `m` rows.
pub(crate) fn matmul(
    pool: &mut Pool,
    quantized: &mut QuantizedRows,
    x: &[f32],
    m: usize,
    matrix: &Matrix,
    epilogue: Epilogue,
    out: &mut [f32],
) {
    matmul_columns(pool, quantized, x, m, matrix, epilogue, out, matrix.n);
}

/// The same where a row of `out` has `stride` columns, and those of this product come first.
#[expect(
    clippy::too_many_arguments,
    reason = "a product's operands, none of them optional"
)]
pub(crate) fn matmul_columns(
    pool: &mut Pool,
    quantized: &mut QuantizedRows,
    x: &[f32],
    m: usize,
    matrix: &Matrix,
    epilogue: Epilogue,
    out: &mut [f32],
    stride: usize,
) {
    let (n, k, isa) = (matrix.n, matrix.k, matrix.isa);
    if m == 0 {
        return;
    }
    assert!(
        x.len() >= m * k && stride >= n && out.len() >= (m - 1) * stride + n,
        "input and output hold all rows"
    );
    let input_width = match &matrix.packed {
        Packed::F32(_) => size_of::<f32>(),
        Packed::Q4 { .. } => 1,
        Packed::Q8 { .. } => matmul_q8::input_width(isa.bytes),
    };
    if matrix.precision() != Precision::F32 {
        quantized.quantize(pool, isa, x, m, k, input_width);
    }
    let panels = n.div_ceil(LANES);
    // One row is computed eight panels at a time, more rows by smaller tiles.
    let unit = if m == 1 { 8 } else { 2 };
    let units = panels.div_ceil(unit);
    let chunks = if m * n * k < ALONE {
        1
    } else {
        units.min(4 * pool.threads())
    };
    let rows_at_once = (ROWS_IN_CACHE / (input_width * k)).max(24) / 12 * 12;
    let to = Shared::of(out);
    let quantized = &*quantized;
    pool.run(chunks, &|chunk, _| {
        let first = chunk * units / chunks * unit;
        let last = ((chunk + 1) * units / chunks * unit).min(panels);
        for row in (0..m).step_by(rows_at_once) {
            let rows = rows_at_once.min(m - row);
            let output = Output {
                // SAFETY: in bounds by the assertion above; chunks own disjoint columns.
                to: unsafe { to.at(row * stride + first * LANES) },
                stride,
                columns: n - first * LANES,
                bias: match &matrix.bias {
                    Some(bias) => bias[first * LANES..].as_ptr(),
                    None => std::ptr::null(),
                },
                add: epilogue == Epilogue::Add,
            };
            // SAFETY: packed arrays hold `panels` whole panels, and `x` holds `m` rows.
            unsafe {
                match &matrix.packed {
                    Packed::F32(weights) => matmul_f32::columns(
                        isa.floats,
                        x.as_ptr().add(row * k),
                        rows,
                        k,
                        weights.as_ptr().add(first * LANES * k),
                        last - first,
                        output,
                    ),
                    Packed::Q4 {
                        nibbles,
                        scales,
                        supers,
                    } => {
                        let panels = matmul_q4::Panels {
                            nibbles: nibbles.as_ptr(),
                            scales: scales.as_ptr(),
                            supers: supers.as_ptr(),
                            count: last,
                        };
                        matmul_q4::columns(
                            isa.bytes,
                            quantized.rows_from(row),
                            rows,
                            k,
                            panels.from(first, k),
                            output,
                        );
                    }
                    Packed::Q8 {
                        bytes,
                        scales,
                        parts,
                    } => matmul_q8::columns(
                        isa.bytes,
                        quantized.rows_from(row),
                        rows,
                        k,
                        bytes.as_ptr().add(first * LANES * k),
                        scales.as_ptr().add(first * LANES * (k / BLOCK) * parts),
                        *parts,
                        last - first,
                        output,
                    ),
                }
            }
        }
    });
}

/// Whether a byte kernel wants its weights shifted to unsigned.
pub(super) fn is_vnni(bytes: Bytes) -> bool {
    #[cfg(target_arch = "x86_64")]
    return bytes == Bytes::Avx512Vnni;
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = bytes;
        false
    }
}

impl Output {
    /// The output `rows` rows and `panels` panels further on.
    #[inline(always)]
    pub(super) unsafe fn moved(self, rows: usize, panels: usize) -> Self {
        let columns = panels * LANES;
        unsafe {
            Self {
                to: self.to.add(rows * self.stride + columns),
                columns: self.columns - columns,
                bias: if self.bias.is_null() {
                    self.bias
                } else {
                    self.bias.add(columns)
                },
                ..self
            }
        }
    }

    /// Writes sixteen sums of row `row`, panel `panel` of the tile.
    #[inline(always)]
    pub(super) unsafe fn write<L: super::lanes::Lanes>(self, row: usize, panel: usize, sums: L) {
        unsafe {
            let column = panel * LANES;
            let mut sums = sums;
            if !self.bias.is_null() {
                sums = sums.add(L::load(self.bias.add(column)));
            }
            let to = self.to.add(row * self.stride + column);
            if column + LANES <= self.columns {
                let sums = if self.add {
                    L::load(to).add(sums)
                } else {
                    sums
                };
                sums.store(to);
            } else {
                let mut values = [0.0; LANES];
                sums.store(values.as_mut_ptr());
                for (lane, &value) in values[..self.columns - column].iter().enumerate() {
                    let to = to.add(lane);
                    *to = if self.add { *to + value } else { value };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, num::NonZeroUsize};

    use candle_core::{
        Device, Tensor,
        quantized::{GgmlDType, QTensor},
    };
    use proptest::prelude::*;

    use super::*;
    use crate::rows::{Rows, Stored};

    /// The rows of `w` as a file would hold them.
    fn stored(kind: GgmlDType, w: &[f32], k: usize) -> Rows<'static> {
        let tensor = Tensor::from_slice(w, (w.len() / k, k), &Device::Cpu).expect("a matrix");
        let quantized = QTensor::quantize(&tensor, kind).expect("quantised");
        let bytes = quantized.data().expect("bytes").into_owned();
        let stored = match kind {
            GgmlDType::Q4K => Stored::Q4K,
            _ => Stored::Q6K,
        };
        Rows::new(Cow::Owned(bytes), stored, &[w.len() / k, k])
    }

    fn noise(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    fn product(
        isa: Isa,
        precision: Precision,
        threads: usize,
        x: &[f32],
        w: &[f32],
        (m, n, k): (usize, usize, usize),
        bias: bool,
    ) -> Vec<f32> {
        let mut matrix = Matrix::empty(n, k, precision, isa);
        // As a file holds them: the weights are rounded by whoever made the file.
        let kind = match matrix.precision() {
            Precision::Q4 => Some(GgmlDType::Q4K),
            Precision::Q6 => Some(GgmlDType::Q6K),
            Precision::Q8 | Precision::F32 => None,
        };
        match kind {
            Some(kind) => stored(kind, w, k).pack(&mut matrix, 0),
            None => (0..n).for_each(|row| matrix.set_row(row, &w[row * k..][..k])),
        }
        if bias {
            matrix.set_bias(0, &noise(n, 7));
        }
        let mut pool = Pool::new(NonZeroUsize::new(threads).expect("threads"));
        let mut out = vec![0.5; m * n];
        let mut quantized = QuantizedRows::default();
        matmul(
            &mut pool,
            &mut quantized,
            x,
            m,
            &matrix,
            Epilogue::Add,
            &mut out,
        );
        out
    }

    fn reference(x: &[f32], w: &[f32], (m, n, k): (usize, usize, usize), bias: bool) -> Vec<f64> {
        let bias_values = noise(n, 7);
        let mut out = Vec::new();
        for row in 0..m {
            for column in 0..n {
                let sum: f64 = (0..k)
                    .map(|i| f64::from(x[row * k + i]) * f64::from(w[column * k + i]))
                    .sum();
                out.push(
                    sum + 0.5
                        + if bias {
                            f64::from(bias_values[column])
                        } else {
                            0.0
                        },
                );
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn products_are_right_and_alike_on_every_instruction_set_and_batch(
            m in 1_usize..30, n in 1_usize..150, blocks in 1_usize..9, odd in 0_usize..2,
            bias: bool, threads in 1_usize..4, seed: u64,
        ) {
            let k = blocks * BLOCK + odd * 5;
            check(m, n, k, bias, threads, seed, &[Precision::F32, Precision::Q8])?;
        }

        #[test]
        fn products_of_k_quants_are_too(
            m in 1_usize..30, n in 1_usize..150, supers in 1_usize..4,
            bias: bool, threads in 1_usize..4, seed: u64,
        ) {
            let k = supers * SUPER;
            check(m, n, k, bias, threads, seed, &[Precision::Q6, Precision::Q4])?;
        }
    }

    /// What a precision computes is right, and alike everywhere.
    fn check(
        m: usize,
        n: usize,
        k: usize,
        bias: bool,
        threads: usize,
        seed: u64,
        precisions: &[Precision],
    ) -> Result<(), TestCaseError> {
        let (x, w) = (noise(m * k, seed), noise(n * k, seed ^ 99));
        let expected = reference(&x, &w, (m, n, k), bias);
        for &precision in precisions {
            let isas = Isa::available();
            let first = product(isas[0], precision, threads, &x, &w, (m, n, k), bias);
            // Int8 rounds each factor to one part in 254 of its block's largest.
            let tolerance = match precision {
                Precision::F32 => 1e-5 * k as f64,
                Precision::Q8 => 0.016 * (k as f64).sqrt(),
                // Weights rounded to one part in 31 and 15 of their block's range.
                Precision::Q6 => 0.06 * (k as f64).sqrt(),
                Precision::Q4 => 0.25 * (k as f64).sqrt(),
            };
            for (got, want) in first.iter().zip(&expected) {
                prop_assert!((f64::from(*got) - want).abs() < tolerance, "{got} {want}");
            }
            for &isa in &isas[1..] {
                let again = product(isa, precision, 1, &x, &w, (m, n, k), bias);
                prop_assert_eq!(&first, &again, "{} differs", isa);
            }
            for row in [0, m / 2, m - 1] {
                let alone = product(
                    isas[0],
                    precision,
                    1,
                    &x[row * k..][..k],
                    &w,
                    (1, n, k),
                    bias,
                );
                prop_assert_eq!(&first[row * n..][..n], &alone[..], "row {} alone", row);
            }
        }
        Ok(())
    }
}
