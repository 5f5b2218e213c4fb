//! Weights and inputs as int8 blocks of 32 along `k` with one scale each (llama.cpp's Q8_0).

use super::{
    Aligned, Isa, LANES, Pool, Shared, for_each_isa,
    lanes::{Lanes, maximum},
};

/// Weights that share a scale.
pub(super) const BLOCK: usize = 32;

/// Quantises a block of weights as llama.cpp does, with the scale rounded to f16.
pub(super) fn quantize_weights(values: &[f32], bytes: &mut [i8]) -> f32 {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = largest / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (byte, &value) in bytes.iter_mut().zip(values) {
        *byte = (value * inverse).round() as i8;
    }
    half::f16::from_f32(scale).to_f32()
}

/// Input rows quantised for one product.
pub(crate) struct QuantizedRows {
    /// `[m][k]`, little-endian integers of `width` bytes
    bytes: Aligned<u8>,
    /// `[m][k / 32]`
    scales: Aligned<f32>,
    /// `[m][k / 16]`: sums of each half of a block.
    sums: Aligned<i32>,
    k: usize,
    width: usize,
}

impl Default for QuantizedRows {
    fn default() -> Self {
        Self {
            bytes: Aligned::zeroed(0),
            scales: Aligned::zeroed(0),
            sums: Aligned::zeroed(0),
            k: 0,
            width: 1,
        }
    }
}

/// Quantised rows from some row on.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) bytes: *const u8,
    pub(super) scales: *const f32,
    pub(super) sums: *const i32,
    width: usize,
}

impl Rows {
    /// Those from `row` on, of rows of `k` values.
    #[inline(always)]
    pub(super) unsafe fn from(self, row: usize, k: usize) -> Self {
        unsafe {
            Self {
                bytes: self.bytes.add(row * k * self.width),
                scales: self.scales.add(row * (k / BLOCK)),
                sums: self.sums.add(row * (k / BLOCK) * 2),
                width: self.width,
            }
        }
    }
}

impl QuantizedRows {
    /// To integers of `width` bytes, within ±127 all the same.
    pub(super) fn quantize(
        &mut self,
        pool: &mut Pool,
        isa: Isa,
        x: &[f32],
        m: usize,
        k: usize,
        width: usize,
    ) {
        let blocks = k / BLOCK;
        self.bytes.ensure(m * k * width);
        self.scales.ensure(m * blocks);
        self.sums.ensure(2 * m * blocks);
        (self.k, self.width) = (k, width);
        let (bytes, scales, sums) = (
            Shared::of(&mut self.bytes),
            Shared::of(&mut self.scales),
            Shared::of(&mut self.sums),
        );
        // A few rows cost less than handing them out.
        let chunks = if m * k < 32_768 {
            1
        } else {
            m.min(pool.threads())
        };
        pool.run(chunks, &|chunk, _| {
            let (first, last) = (chunk * m / chunks, (chunk + 1) * m / chunks);
            // SAFETY: chunks own disjoint rows of arrays that were made long enough above.
            unsafe {
                quantize_blocks(
                    isa.floats,
                    x.as_ptr().add(first * k),
                    (last - first) * blocks,
                    width,
                    bytes.at(first * k * width),
                    scales.at(first * blocks),
                    sums.at(2 * first * blocks),
                );
            }
        });
    }

    pub(super) fn rows_from(&self, row: usize) -> Rows {
        let blocks = self.k / BLOCK;
        Rows {
            bytes: self.bytes[row * self.k * self.width..].as_ptr(),
            scales: self.scales[row * blocks..].as_ptr(),
            sums: self.sums[2 * row * blocks..].as_ptr(),
            width: self.width,
        }
    }
}

for_each_isa! {
    unsafe fn quantize_blocks(
        x: *const f32,
        blocks: usize,
        width: usize,
        bytes: *mut u8,
        scales: *mut f32,
        sums: *mut i32,
    ) = quantize_blocks_on
}

#[inline(always)]
unsafe fn quantize_blocks_on<L: Lanes>(
    x: *const f32,
    blocks: usize,
    width: usize,
    bytes: *mut u8,
    scales: *mut f32,
    sums: *mut i32,
) {
    for block in 0..blocks {
        unsafe {
            let x = x.add(block * BLOCK);
            let (low, high) = (L::load(x), L::load(x.add(LANES)));
            let zero = L::splat(0.0);
            let size = |v: L| zero.sub(v).max(v);
            let largest = maximum(size(low).max(size(high)));
            // Of less than that the inverse would be infinite: too small for any product to show.
            let inverse = if largest < LEAST {
                0.0
            } else {
                127.0 / largest
            };
            let mut values = [0_i8; BLOCK];
            low.mul(L::splat(inverse)).store_i8(values.as_mut_ptr());
            high.mul(L::splat(inverse))
                .store_i8(values[LANES..].as_mut_ptr());
            let bytes = bytes.add(block * BLOCK * width);
            match width {
                1 => bytes.cast::<[i8; BLOCK]>().write_unaligned(values),
                _ => bytes
                    .cast::<[i16; BLOCK]>()
                    .write_unaligned(values.map(i16::from)),
            }
            // What is no number became -128, and no number else does: so is what is computed with it.
            let numbers = values.iter().all(|&value| value != i8::MIN);
            *scales.add(block) = if numbers { largest / 127.0 } else { f32::NAN };
            for half in 0..2 {
                let mut sum = 0_i32;
                for i in 0..LANES {
                    sum += i32::from(values[half * LANES + i]);
                }
                *sums.add(2 * block + half) = sum;
            }
        }
    }
}

/// The smallest largest value of a block that has an inverse.
const LEAST: f32 = 2.0 * 127.0 / f32::MAX;

const _: () = assert!(BLOCK == 2 * LANES, "a block is quantised as two vectors");
