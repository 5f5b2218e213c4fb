//! Matrix products `out[m, n] = x[m, k] · w[n, k]ᵀ`, split by panels (and, for many rows, by rows)
//! among the threads of the [`Pool`].

use super::{
    LANES, Matrix, Narrow, Pool, Precision, QuantizedRows, Shared, matmul_f32, matmul_q4,
    matmul_q8, matrix::Packed, quantize::BLOCK, sums,
};

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
        Packed::F32(_) | Packed::Narrow { .. } => size_of::<f32>(),
        Packed::Q4 { .. } => 1,
        Packed::Q8 { .. } => sums::input_width(isa.bytes),
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
                    Packed::F32(_) | Packed::Narrow { .. } => matmul_f32::columns(
                        isa.floats,
                        x.as_ptr().add(row * k),
                        rows,
                        k,
                        float_panels(&matrix.packed, first * LANES * k),
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

/// The panels of an f32 product from that weight on.
fn float_panels(packed: &Packed, from: usize) -> matmul_f32::Panels {
    match packed {
        Packed::F32(weights) => matmul_f32::Panels::Full(weights[from..].as_ptr()),
        Packed::Narrow { bits, kind } => {
            let bits = bits[from..].as_ptr();
            match kind {
                Narrow::F16 => matmul_f32::Panels::Half(bits),
                Narrow::Bf16 => matmul_f32::Panels::Brain(bits),
            }
        }
        Packed::Q8 { .. } | Packed::Q4 { .. } => unreachable!("their products are int8"),
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
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::{
        super::{Isa, matmul_q4::SUPER},
        *,
    };
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
            Some(kind) => stored(kind, w, k).pack(&mut matrix, 0).expect("finite"),
            None => (0..n).for_each(|row| matrix.set_row(row, &w[row * k..][..k])),
        }
        product_with(matrix, threads, x, m, bias)
    }

    fn product_with(
        mut matrix: Matrix,
        threads: usize,
        x: &[f32],
        m: usize,
        bias: bool,
    ) -> Vec<f32> {
        let n = matrix.n;
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn products_of_narrow_floats_are_those_of_the_same_floats_widened(
            m in 1_usize..30, n in 1_usize..150, k in 1_usize..200,
            bias: bool, threads in 1_usize..4, seed: u64,
        ) {
            let (x, w) = (noise(m * k, seed), noise(n * k, seed ^ 99));
            for kind in [Narrow::F16, Narrow::Bf16] {
                let (bits, w): (Vec<u16>, Vec<f32>) = w
                    .iter()
                    .map(|&weight| match kind {
                        Narrow::F16 => {
                            let value = f16::from_f32(weight);
                            (value.to_bits(), value.to_f32())
                        }
                        Narrow::Bf16 => {
                            let value = bf16::from_f32(weight);
                            (value.to_bits(), value.to_f32())
                        }
                    })
                    .unzip();
                for isa in Isa::available() {
                    let mut matrix = Matrix::empty_narrow(n, k, kind, isa);
                    let mut back = vec![0.0; k];
                    for row in 0..n {
                        matrix.set_row_narrow(row, bits[row * k..][..k].iter().copied());
                        matrix.row(row, &mut back);
                        prop_assert_eq!(&back, &w[row * k..][..k]);
                    }
                    let got = product_with(matrix, threads, &x, m, bias);
                    let wide = product(isa, Precision::F32, 1, &x, &w, (m, n, k), bias);
                    prop_assert_eq!(got, wide, "{:?} on {}", kind, isa);
                }
            }
        }
    }

    #[test]
    fn an_input_that_is_no_number_leaves_its_row_without_numbers_and_the_others_alone() {
        let (m, n, k) = (3, 20, 256);
        let w = noise(n * k, 5);
        let precisions = [Precision::F32, Precision::Q8, Precision::Q6, Precision::Q4];
        for (isa, precision) in Isa::available()
            .into_iter()
            .flat_map(|isa| precisions.map(|precision| (isa, precision)))
        {
            let clean = product(isa, precision, 1, &noise(m * k, 3), &w, (m, n, k), false);
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in [0, 17, 31, 100] {
                    let mut x = noise(m * k, 3);
                    x[k + at] = value;
                    let out = product(isa, precision, 1, &x, &w, (m, n, k), false);
                    let no_numbers = out[n..2 * n].iter().all(|x| !x.is_finite());
                    assert!(no_numbers, "{value} at {at}, {precision:?} on {isa}");
                    assert_eq!(out[..n], clean[..n]);
                    assert_eq!(out[2 * n..], clean[2 * n..]);
                }
            }
        }
    }

    #[test]
    fn inputs_next_to_nothing_count_as_nothing_and_leave_numbers() {
        let (n, k) = (20, 256);
        let w = noise(n * k, 5);
        for (isa, precision) in Isa::available().into_iter().flat_map(|isa| {
            [Precision::F32, Precision::Q8, Precision::Q6, Precision::Q4]
                .map(|precision| (isa, precision))
        }) {
            let with = |value: f32| {
                let mut x = noise(k, 3);
                // Some of a block, and one block as a whole.
                x[3] = value;
                x[64..96].fill(-value);
                product(isa, precision, 1, &x, &w, (1, n, k), false)
            };
            let expected = with(0.0);
            for value in [
                f32::from_bits(1),
                1e-39,
                1e-38,
                3.6e-37,
                3.8e-37,
                8e-37,
                1e-30,
            ] {
                let found = with(value);
                for (&found, &expected) in found.iter().zip(&expected) {
                    let near = (found - expected).abs() < 1e-5;
                    assert!(near, "{value}: {found}, {expected}, {precision:?} on {isa}");
                }
            }
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
