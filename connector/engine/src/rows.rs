//! Rows of a stored tensor, widened or packed one at a time.

use std::borrow::Cow;

use crate::kernels::Matrix;

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    /// llama.cpp's blocks of an f16 scale and 32 bytes.
    Q8_0,
    /// llama.cpp's blocks of an f16 scale and 32 half bytes, 8 too large.
    Q4_0,
}

const BLOCK: usize = 32;

impl Stored {
    /// Bytes of a row.
    fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::F32 => 4 * columns,
            Self::F16 | Self::Bf16 => 2 * columns,
            Self::Q8_0 => columns / BLOCK * 34,
            Self::Q4_0 => columns / BLOCK * 18,
        }
    }
}

/// A matrix of stored values, row after row.
pub(crate) struct Rows<'a> {
    bytes: Cow<'a, [u8]>,
    stored: Stored,
    columns: usize,
    count: usize,
    /// Rows of a head, if each head's rows are interleaved: see [`Self::interleaved`].
    head: Option<usize>,
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
            head: None,
        }
    }

    /// Query and key rows as llama.cpp stores them for the Llama architecture: components that
    /// rotate together stand side by side, where Hugging Face has them half a head apart.
    pub(crate) fn interleaved(self, head: usize) -> Self {
        Self {
            head: Some(head),
            ..self
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether blocks of int8 hold the values exactly.
    pub(crate) fn is_int8(&self) -> bool {
        matches!(self.stored, Stored::Q8_0 | Stored::Q4_0)
    }

    fn row_bytes(&self, index: usize) -> &[u8] {
        let index = match self.head {
            None => index,
            Some(head) => {
                let (first, within) = (index / head * head, index % head);
                first + within % (head / 2) * 2 + within / (head / 2)
            }
        };
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
            Stored::Q8_0 | Stored::Q4_0 => {
                let blocks = bytes.chunks_exact(self.stored.row_bytes(BLOCK));
                for (to, block) in to.chunks_exact_mut(BLOCK).zip(blocks) {
                    let mut integers = [0; BLOCK];
                    let scale = self.block(block, &mut integers);
                    for (value, integer) in to.iter_mut().zip(integers) {
                        *value = f32::from(integer) * scale;
                    }
                }
            }
        }
    }

    /// Integers and scale of a block.
    fn block(&self, block: &[u8], integers: &mut [i8]) -> f32 {
        let (scale, values) = block.split_at(2);
        if self.stored == Stored::Q8_0 {
            integers
                .iter_mut()
                .zip(values)
                .for_each(|(to, &byte)| *to = byte as i8);
        } else {
            for (i, &byte) in values.iter().enumerate() {
                integers[i] = (byte & 15) as i8 - 8;
                integers[i + BLOCK / 2] = (byte >> 4) as i8 - 8;
            }
        }
        half(scale)
    }

    /// Copies all rows into a packed matrix, from its column `first` on.
    pub(crate) fn pack(&self, matrix: &mut Matrix, first: usize) {
        if self.is_int8() {
            let mut integers = vec![0; self.columns];
            let mut scales = vec![0.0; self.columns / BLOCK];
            for index in 0..self.count {
                let blocks = self
                    .row_bytes(index)
                    .chunks_exact(self.stored.row_bytes(BLOCK));
                let parts = integers.chunks_exact_mut(BLOCK).zip(&mut scales);
                for ((integers, scale), block) in parts.zip(blocks) {
                    *scale = self.block(block, integers);
                }
                matrix.set_row_q8(first + index, &integers, &scales);
            }
            return;
        }
        let mut row = vec![0.0; self.columns];
        for index in 0..self.count {
            self.row(index, &mut row);
            matrix.set_row(first + index, &row);
        }
    }

    /// The same rows, held apart from the file.
    pub(crate) fn into_owned(self) -> Rows<'static> {
        Rows {
            bytes: Cow::Owned(self.bytes.into_owned()),
            stored: self.stored,
            columns: self.columns,
            count: self.count,
            head: self.head,
        }
    }
}

fn pair(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn half(bytes: &[u8]) -> f32 {
    half::f16::from_bits(pair(bytes)).to_f32()
}
