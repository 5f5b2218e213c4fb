//! Weights of a product, packed once at load.
//!
//! Columns are packed sixteen to a *panel*, so that one vector holds sixteen outputs and a sum
//! over `k` runs within a lane, in order.

use super::{
    Aligned, Isa, LANES,
    matmul_q4::{CHUNK, CHUNK_SCALES, SUPER},
    quantize::{self, BLOCK},
    sums,
};
use crate::blocks::Q4K;

/// How a matrix is held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Precision {
    /// As it is stored, computed with in f32.
    F32,
    /// Blocks of 32 int8 with one scale; the inputs are quantised alike, row by row.
    Q8,
    /// The same with a scale for each sixteen.
    Q6,
    /// Blocks of 32 four-bit weights with a scale and a minimum.
    Q4,
}

/// Floats of sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Narrow {
    F16,
    Bf16,
}

impl Narrow {
    fn widen(self, bits: u16) -> f32 {
        match self {
            Self::F16 => half::f16::from_bits(bits).to_f32(),
            Self::Bf16 => half::bf16::from_bits(bits).to_f32(),
        }
    }
}

/// Packed weights of one product, with an optional bias.
pub(crate) struct Matrix {
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(super) packed: Packed,
    pub(super) bias: Option<Aligned<f32>>,
    pub(super) isa: Isa,
}

pub(super) enum Packed {
    /// `[panel][k][16]`
    F32(Aligned<f32>),
    /// The same in half of the memory, of what is stored so; widened where it is multiplied.
    Narrow { bits: Aligned<u16>, kind: Narrow },
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
            _ => Packed::F32(Aligned::zeroed(columns * k)),
        };
        Self {
            n,
            k,
            packed,
            bias: None,
            isa,
        }
    }

    /// An empty matrix of [`Precision::F32`], whose every row must be set by
    /// [`Self::set_row_narrow`].
    pub(crate) fn empty_narrow(n: usize, k: usize, kind: Narrow, isa: Isa) -> Self {
        let bits = Aligned::zeroed(n.next_multiple_of(LANES) * k);
        Self {
            n,
            k,
            packed: Packed::Narrow { bits, kind },
            bias: None,
            isa,
        }
    }

    pub(crate) fn precision(&self) -> Precision {
        match self.packed {
            Packed::F32(_) | Packed::Narrow { .. } => Precision::F32,
            Packed::Q8 { parts: 1, .. } => Precision::Q8,
            Packed::Q8 { .. } => Precision::Q6,
            Packed::Q4 { .. } => Precision::Q4,
        }
    }

    /// How floats of sixteen bits are held, if it holds such.
    pub(crate) fn narrow(&self) -> Option<Narrow> {
        match self.packed {
            Packed::Narrow { kind, .. } => Some(kind),
            _ => None,
        }
    }

    /// The weights of output column `n` as they were set.
    ///
    /// # Panics
    /// If they are quantised.
    pub(crate) fn row(&self, n: usize, to: &mut [f32]) {
        let start = n / LANES * LANES * self.k + n % LANES;
        for (k, to) in to[..self.k].iter_mut().enumerate() {
            let at = start + k * LANES;
            *to = match &self.packed {
                Packed::F32(values) => values[at],
                Packed::Narrow { bits, kind } => kind.widen(bits[at]),
                Packed::Q8 { .. } | Packed::Q4 { .. } => {
                    panic!("only what is computed with in f32 is read back")
                }
            };
        }
    }

    /// What is added to the product.
    #[cfg(any(test, feature = "cuda"))]
    pub(crate) fn bias(&self) -> Option<&[f32]> {
        self.bias.as_ref().map(|bias| &bias[..self.n])
    }

    /// Bytes that a product with one row reads.
    pub(crate) fn bytes(&self) -> usize {
        match &self.packed {
            Packed::F32(values) => values.len() * 4,
            Packed::Narrow { bits, .. } => bits.len() * 2,
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
            Packed::Narrow { .. } => unreachable!("rows of these matrices come as they are held"),
            Packed::Q8 { .. } => {
                let (mut bytes, mut scales) = (vec![0; self.k], vec![0.0; self.k / BLOCK]);
                for (block, values) in row.chunks_exact(BLOCK).enumerate() {
                    scales[block] =
                        quantize::quantize_weights(values, &mut bytes[block * BLOCK..][..BLOCK]);
                }
                self.set_row_q8(n, &bytes, &scales);
            }
        }
    }

    /// Sets the weights of output column `n` from floats of the kind that [`Self::narrow`] says.
    pub(crate) fn set_row_narrow(&mut self, n: usize, row: impl ExactSizeIterator<Item = u16>) {
        assert_eq!(
            row.len(),
            self.k,
            "a row has as many weights as the input has values"
        );
        let Packed::Narrow { bits, .. } = &mut self.packed else {
            unreachable!("only floats of sixteen bits are set so")
        };
        let panel = &mut bits[n / LANES * LANES * self.k..];
        for (k, weight) in row.enumerate() {
            panel[k * LANES + n % LANES] = weight;
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
                let unsigned = sums::weights_are_unsigned(self.isa.bytes);
                let step = sums::step(self.isa.bytes);
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
