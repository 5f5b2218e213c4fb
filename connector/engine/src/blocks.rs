//! llama.cpp's blocks of quantised weights, as their files hold them.
//!
//! Each becomes integers and scales that the kernels compute with exactly: what Q4_K and Q6_K
//! hold is not rounded a second time.

/// Weights of a block of Q8_0 and Q4_0.
pub(crate) const BLOCK: usize = 32;
/// Weights of a block of Q4_K and Q6_K.
pub(crate) const SUPER: usize = 256;

/// Bytes of the blocks.
pub(crate) const Q8_0_BYTES: usize = 34;
pub(crate) const Q4_0_BYTES: usize = 18;
pub(crate) const Q4_K_BYTES: usize = 144;
pub(crate) const Q6_K_BYTES: usize = 210;

/// Integers and the scale of a block of Q8_0.
pub(crate) fn q8_0(block: &[u8], integers: &mut [i8]) -> f32 {
    let (scale, values) = block.split_at(2);
    integers
        .iter_mut()
        .zip(values)
        .for_each(|(to, &byte)| *to = byte as i8);
    half(scale)
}

/// Integers and the scale of a block of Q4_0.
pub(crate) fn q4_0(block: &[u8], integers: &mut [i8]) -> f32 {
    let (scale, values) = block.split_at(2);
    for (i, &byte) in values.iter().enumerate() {
        integers[i] = (byte & 15) as i8 - 8;
        integers[i + BLOCK / 2] = (byte >> 4) as i8 - 8;
    }
    half(scale)
}

/// A block of Q4_K: weight `i` is `scale · scales[i / 32] · quants[i] − least · minima[i / 32]`.
pub(crate) struct Q4K {
    pub(crate) scale: f32,
    pub(crate) least: f32,
    pub(crate) scales: [u8; 8],
    pub(crate) minima: [u8; 8],
    pub(crate) quants: [u8; SUPER],
}

impl Q4K {
    pub(crate) fn read(block: &[u8]) -> Self {
        let packed = &block[4..16];
        let mut read = Self {
            scale: half(&block[..2]),
            least: half(&block[2..4]),
            scales: [0; 8],
            minima: [0; 8],
            quants: [0; SUPER],
        };
        for i in 0..8 {
            // Six bits each; of the last four, two are with the first four.
            (read.scales[i], read.minima[i]) = if i < 4 {
                (packed[i] & 63, packed[i + 4] & 63)
            } else {
                (
                    packed[i + 4] & 15 | packed[i - 4] >> 6 << 4,
                    packed[i + 4] >> 4 | packed[i] >> 6 << 4,
                )
            };
        }
        for (index, &byte) in block[16..].iter().enumerate() {
            let at = index / 32 * 64 + index % 32;
            read.quants[at] = byte & 15;
            read.quants[at + 32] = byte >> 4;
        }
        read
    }

    pub(crate) fn widen(&self, to: &mut [f32]) {
        for (i, value) in to.iter_mut().enumerate() {
            let scale = self.scale * f32::from(self.scales[i / 32]);
            let least = self.least * f32::from(self.minima[i / 32]);
            *value = scale * f32::from(self.quants[i]) - least;
        }
    }
}

/// Integers of a block of Q6_K, and the scales of each sixteen of them.
pub(crate) fn q6_k(block: &[u8], integers: &mut [i8], scales: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let (own, shared) = rest.split_at(16);
    let shared = half(shared);
    for (scale, &own) in scales.iter_mut().zip(own) {
        *scale = shared * f32::from(own as i8);
    }
    for part in 0..2 {
        let (low, high) = (&low[64 * part..], &high[32 * part..][..32]);
        let to = &mut integers[128 * part..];
        for (i, &high) in high.iter().enumerate() {
            let six = |four: u8, shift: u8| ((four & 15) | (high >> shift & 3) << 4) as i8 - 32;
            to[i] = six(low[i], 0);
            to[i + 32] = six(low[i + 32], 2);
            to[i + 64] = six(low[i] >> 4, 4);
            to[i + 96] = six(low[i + 32] >> 4, 6);
        }
    }
}

/// The f16 in two bytes.
pub(crate) fn half(bytes: &[u8]) -> f32 {
    half::f16::from_bits(u16::from_le_bytes([bytes[0], bytes[1]])).to_f32()
}

#[cfg(test)]
mod tests {
    use candle_core::{
        Device, Tensor,
        quantized::{GgmlDType, QTensor},
    };

    use super::*;

    /// Bytes of a quantised row, and what candle widens them to.
    fn quantized(kind: GgmlDType) -> (Vec<u8>, Vec<f32>) {
        let values: Vec<f32> = (0..SUPER * 3)
            .map(|i| ((i * i) as f32 * 0.37).sin() + (i % 40) as f32 * 0.02)
            .collect();
        let tensor = Tensor::from_slice(&values, (1, values.len()), &Device::Cpu);
        let quantized = QTensor::quantize(&tensor.expect("a row"), kind).expect("quantised");
        let widened = quantized.dequantize(&Device::Cpu).expect("widened");
        (
            quantized.data().expect("bytes").into_owned(),
            widened
                .flatten_all()
                .and_then(|row| row.to_vec1())
                .expect("a row"),
        )
    }

    #[test]
    fn blocks_are_read_as_candle_reads_them() {
        let (bytes, wanted) = quantized(GgmlDType::Q4K);
        let mut got = vec![0.0; wanted.len()];
        for (block, to) in bytes
            .chunks_exact(Q4_K_BYTES)
            .zip(got.chunks_exact_mut(SUPER))
        {
            Q4K::read(block).widen(to);
        }
        assert_eq!(got, wanted);

        let (bytes, wanted) = quantized(GgmlDType::Q6K);
        for (block, wanted) in bytes
            .chunks_exact(Q6_K_BYTES)
            .zip(wanted.chunks_exact(SUPER))
        {
            let (mut integers, mut scales) = ([0; SUPER], [0.0; 16]);
            q6_k(block, &mut integers, &mut scales);
            for (i, &wanted) in wanted.iter().enumerate() {
                assert_eq!(
                    scales[i / 16] * f32::from(integers[i]),
                    wanted,
                    "weight {i}"
                );
            }
        }
    }
}
