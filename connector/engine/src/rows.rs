//! Rows of a stored tensor, widened or packed one at a time.

use std::borrow::Cow;

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};

use crate::{
    blocks::{self, BLOCK, Q4_0_BYTES, Q4_K_BYTES, Q4K, Q6_K_BYTES, Q8_0_BYTES, SUPER, half},
    kernels::{Matrix, Narrow, Precision},
};

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    /// llama.cpp's blocks.
    Q8_0,
    Q4_0,
    Q4K,
    Q6K,
}

impl Stored {
    /// Bytes of a row.
    fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::F32 => 4 * columns,
            Self::F16 | Self::Bf16 => 2 * columns,
            Self::Q8_0 => columns / BLOCK * Q8_0_BYTES,
            Self::Q4_0 => columns / BLOCK * Q4_0_BYTES,
            Self::Q4K => columns / SUPER * Q4_K_BYTES,
            Self::Q6K => columns / SUPER * Q6_K_BYTES,
        }
    }
}

/// Values that are not finite: as integers they would be numbers like any others, and nobody would learn that the
/// weights are broken.
#[derive(Debug)]
pub(crate) struct NotFinite;

/// A matrix of stored values, row after row.
pub(crate) struct Rows<'a> {
    bytes: Cow<'a, [u8]>,
    stored: Stored,
    columns: usize,
    count: usize,
    order: Order,
}

/// In which order the rows of each head stand, where that is not the order of those who read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    AsRead,
    /// See [`Rows::interleaved`].
    Interleaved {
        head: usize,
    },
    /// See [`Rows::rotated_first`].
    RotatedFirst {
        head: usize,
        rotated: usize,
    },
}

impl Order {
    /// Where row `index` stands.
    fn place(self, index: usize) -> usize {
        match self {
            Self::AsRead => index,
            Self::Interleaved { head } => {
                let (first, within) = (index / head * head, index % head);
                first + within % (head / 2) * 2 + within / (head / 2)
            }
            Self::RotatedFirst { head, rotated } => {
                let (first, within) = (index / head * head, index % head);
                let (half, pair) = (within / (head / 2), within % (head / 2));
                let (pairs, rotating) = (head / 2, rotated / 2);
                first
                    + if pair < rotating {
                        half * rotating + pair
                    } else {
                        rotated + half * (pairs - rotating) + pair - rotating
                    }
            }
        }
    }
}

impl<'a> Rows<'a> {
    /// The bytes of a tensor of this shape; a vector is one row.
    pub(crate) fn new(bytes: Cow<'a, [u8]>, stored: Stored, shape: &[usize]) -> Self {
        let columns = shape.last().copied().unwrap_or(0);
        let count = shape.iter().rev().skip(1).product();
        debug_assert_eq!(bytes.len(), count * stored.row_bytes(columns));
        Self {
            bytes,
            stored,
            columns,
            count,
            order: Order::AsRead,
        }
    }

    /// Query and key rows as llama.cpp stores them for the Llama architecture: components that
    /// rotate together stand side by side, where Hugging Face has them half a head apart.
    pub(crate) fn interleaved(self, head: usize) -> Self {
        Self {
            order: Order::Interleaved { head },
            ..self
        }
    }

    /// Query and key rows of heads whose first `rotated` components rotate, in two halves of those:
    /// read in such an order that component `i` rotates with the one half a head behind it, as if all
    /// did. What a query and a key amount to together does not depend on it.
    pub(crate) fn rotated_first(self, head: usize, rotated: usize) -> Self {
        if rotated == 0 || rotated == head {
            return self;
        }
        assert_eq!(self.order, Order::AsRead, "no file has both orders");
        Self {
            order: Order::RotatedFirst { head, rotated },
            ..self
        }
    }

    /// Rows that stand in one tensor, in parts of so many.
    pub(crate) fn parts(&self, counts: &[usize]) -> Vec<Rows<'_>> {
        assert_eq!(
            (self.order, counts.iter().sum::<usize>()),
            (Order::AsRead, self.count),
            "all rows are in a part, as they stand"
        );
        let width = self.stored.row_bytes(self.columns);
        let mut bytes = &self.bytes[..];
        let parts = counts.iter().map(|&count| {
            let (part, rest) = bytes.split_at(count * width);
            bytes = rest;
            Rows::new(Cow::Borrowed(part), self.stored, &[count, self.columns])
        });
        parts.collect()
    }

    /// A vector with a component for each of such rows, in the order of Hugging Face.
    pub(crate) fn deinterleaved(&self, head: usize) -> Rows<'static> {
        let mut stored = vec![0.0; self.columns];
        self.row(0, &mut stored);
        let order = Order::Interleaved { head };
        let values = (0..self.columns).map(|index| stored[order.place(index)]);
        let bytes = values.flat_map(f32::to_le_bytes).collect();
        Rows::new(Cow::Owned(bytes), Stored::F32, &[self.columns])
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The precision of a matrix that holds the values exactly.
    pub(crate) fn exact(&self) -> Precision {
        match self.stored {
            Stored::F32 | Stored::F16 | Stored::Bf16 => Precision::F32,
            Stored::Q8_0 | Stored::Q4_0 => Precision::Q8,
            Stored::Q4K => Precision::Q4,
            Stored::Q6K => Precision::Q6,
        }
    }

    /// Which floats of sixteen bits it holds, if it holds such.
    pub(crate) fn narrow(&self) -> Option<Narrow> {
        match self.stored {
            Stored::F16 => Some(Narrow::F16),
            Stored::Bf16 => Some(Narrow::Bf16),
            _ => None,
        }
    }

    fn row_bytes(&self, index: usize) -> &[u8] {
        let index = self.order.place(index);
        let width = self.stored.row_bytes(self.columns);
        &self.bytes[index * width..][..width]
    }

    /// Widens row `index` to f32.
    pub(crate) fn row(&self, index: usize, to: &mut [f32]) {
        let bytes = self.row_bytes(index);
        match self.stored {
            Stored::F32 => {
                for (value, bytes) in to.iter_mut().zip(bytes.chunks_exact(4)) {
                    *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
            }
            Stored::Bf16 => {
                for (value, bytes) in to.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = f32::from_bits(u32::from(pair(bytes)) << 16);
                }
            }
            Stored::F16 => {
                for (value, bytes) in to.iter_mut().zip(bytes.chunks_exact(2)) {
                    *value = half(bytes);
                }
            }
            Stored::Q4K => {
                for (to, block) in to.chunks_exact_mut(SUPER).zip(q4(bytes)) {
                    block.widen(to);
                }
            }
            Stored::Q8_0 | Stored::Q4_0 | Stored::Q6K => {
                let (mut integers, mut scales) = (vec![0; self.columns], Vec::new());
                self.int8(index, &mut integers, &mut scales);
                let width = self.columns / scales.len();
                for (i, (value, integer)) in to.iter_mut().zip(integers).enumerate() {
                    *value = f32::from(integer) * scales[i / width];
                }
            }
        }
    }

    /// Integers and scales of row `index`, of a type that has them.
    fn int8(&self, index: usize, integers: &mut [i8], scales: &mut Vec<f32>) {
        let bytes = self.row_bytes(index);
        scales.clear();
        match self.stored {
            Stored::Q6K => {
                scales.resize(self.columns / 16, 0.0);
                let blocks = bytes.chunks_exact(Q6_K_BYTES);
                let parts = integers
                    .chunks_exact_mut(SUPER)
                    .zip(scales.chunks_exact_mut(16));
                for (block, (integers, scales)) in blocks.zip(parts) {
                    blocks::q6_k(block, integers, scales);
                }
            }
            Stored::Q8_0 => {
                let blocks = bytes.chunks_exact(Q8_0_BYTES);
                let parts = blocks.zip(integers.chunks_exact_mut(BLOCK));
                scales.extend(parts.map(|(block, integers)| blocks::q8_0(block, integers)));
            }
            _ => {
                let blocks = bytes.chunks_exact(Q4_0_BYTES);
                let parts = blocks.zip(integers.chunks_exact_mut(BLOCK));
                scales.extend(parts.map(|(block, integers)| blocks::q4_0(block, integers)));
            }
        }
    }

    /// Copies all rows into a packed matrix, from its column `first` on.
    ///
    /// # Errors
    /// If floats that are not finite are to become integers.
    pub(crate) fn pack(&self, matrix: &mut Matrix, first: usize) -> Result<(), NotFinite> {
        let mut row = vec![0.0; self.columns];
        let (mut integers, mut scales) = (vec![0; self.columns], Vec::new());
        for index in 0..self.count {
            match self.stored {
                Stored::Q4K => {
                    let blocks: Vec<Q4K> = q4(self.row_bytes(index)).collect();
                    matrix.set_row_q4(first + index, &blocks);
                }
                Stored::F16 | Stored::Bf16 if matrix.narrow().is_some() => {
                    debug_assert_eq!(matrix.narrow(), self.narrow());
                    let bits = self.row_bytes(index).chunks_exact(2).map(pair);
                    matrix.set_row_narrow(first + index, bits);
                }
                // What holds them exactly, or less exactly in f32.
                Stored::Q8_0 | Stored::Q4_0 | Stored::Q6K
                    if matrix.precision() != Precision::Q4 =>
                {
                    self.int8(index, &mut integers, &mut scales);
                    matrix.set_row_q8(first + index, &integers, &scales);
                }
                _ => {
                    self.row(index, &mut row);
                    match matrix.precision() {
                        Precision::F32 => matrix.set_row(first + index, &row),
                        _ if row.iter().any(|value| !value.is_finite()) => return Err(NotFinite),
                        Precision::Q4 => matrix.set_row_q4(first + index, &quantized(&row)),
                        Precision::Q8 | Precision::Q6 => matrix.set_row(first + index, &row),
                    }
                }
            }
        }
        Ok(())
    }

    /// The same rows, held apart from the file.
    pub(crate) fn into_owned(self) -> Rows<'static> {
        Rows {
            bytes: Cow::Owned(self.bytes.into_owned()),
            stored: self.stored,
            columns: self.columns,
            count: self.count,
            order: self.order,
        }
    }
}

fn q4(row: &[u8]) -> impl Iterator<Item = Q4K> {
    row.chunks_exact(Q4_K_BYTES).map(Q4K::read)
}

/// Four-bit blocks of a row, by candle's quantisation.
fn quantized(row: &[f32]) -> Vec<Q4K> {
    let row = Tensor::from_slice(row, (1, row.len()), &Device::Cpu);
    let quantized = row.and_then(|row| QTensor::quantize(&row, GgmlDType::Q4K));
    let quantized = quantized.expect("a row of whole blocks on the CPU");
    q4(&quantized.data().expect("its bytes lie in memory")).collect()
}

fn pair(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}
