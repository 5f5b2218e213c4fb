//! Sixteen integer sums of products of bytes, three ways: AVX-512-VNNI, AVX2, and plain arrays.
//!
//! The counterpart of [`Lanes`](super::lanes::Lanes). Integer sums are exact, so every instruction
//! set agrees to the bit, whatever its order.
//!
//! - AVX-512-VNNI multiplies *unsigned* by signed bytes. Weights are stored with their sign bit
//!   flipped (`w + 128`), and a block's sum starts at `-128 · Σx`, one number for all columns.
//! - AVX2 multiplies pairs of 16-bit numbers: inputs are stored so wide, weights widened once for
//!   all rows of a tile. Its product of bytes would saturate without a sign moved from one to the
//!   other for each row, which costs more than the wider product. Four-bit weights are small enough
//!   for it, and for sums of 16 bits.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_srli_epi16, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_loadu_si512, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_srli_epi16,
};

#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::{
    Bytes, LANES,
    lanes::{Lanes, Portable},
};

/// Whether weights are stored shifted to unsigned.
pub(super) fn weights_are_unsigned(bytes: Bytes) -> bool {
    #[cfg(target_arch = "x86_64")]
    return bytes == Bytes::Avx512Vnni;
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = bytes;
        false
    }
}

/// Consecutive `k` of a column that lie side by side, [`Sums::STEP`] of this instruction set.
pub(super) fn step(bytes: Bytes) -> usize {
    match bytes {
        #[cfg(target_arch = "x86_64")]
        Bytes::Avx512Vnni => Vnni::STEP,
        #[cfg(target_arch = "x86_64")]
        Bytes::Avx2 => Halves::STEP,
        Bytes::Portable => Plain::STEP,
    }
}

/// Bytes of an input: a step of them is four bytes, one lane.
pub(super) fn input_width(bytes: Bytes) -> usize {
    4 / step(bytes)
}

/// Sixteen integer sums.
pub(super) trait Sums: Copy {
    type Floats: Lanes;
    /// A group of weights, ready to multiply.
    type Weights: Copy;
    /// Consecutive `k` of a column that a lane multiplies at once, with four bytes of inputs.
    const STEP: usize;
    /// Rows of a tile, for one and for two panels.
    const TILE_ROWS: [usize; 2];
    /// Whether there are registers for several panels at once.
    const SEVERAL_PANELS: bool = Self::TILE_ROWS[1] > 1;

    /// Four-bit weights of two groups, ready to multiply.
    type Nibbles: Copy;
    /// Their sums over a block.
    type NibbleSums: Copy;
    /// Rows of a tile of four-bit weights.
    const NIBBLE_ROWS: usize;

    /// Sums of nothing, for inputs that add up to `inputs`.
    unsafe fn start(inputs: i32) -> Self;
    unsafe fn weights(from: *const u8) -> Self::Weights;
    /// Adds the products of a step's weights of each column with as many inputs.
    unsafe fn add_products(self, weights: Self::Weights, inputs: i32) -> Self;
    /// A group in the low halves of the bytes, and one in the high halves.
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2];
    unsafe fn no_nibbles() -> Self::NibbleSums;
    /// Adds the products of four weights of each column with four inputs, at most eight times.
    unsafe fn add_nibbles(
        sums: Self::NibbleSums,
        weights: Self::Nibbles,
        inputs: i32,
    ) -> Self::NibbleSums;
    unsafe fn nibble_floats(sums: Self::NibbleSums) -> Self::Floats;
    unsafe fn floats(self) -> Self::Floats;
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Vnni(__m512i);

#[cfg(target_arch = "x86_64")]
impl Sums for Vnni {
    type Floats = Avx512;
    type Weights = __m512i;
    type Nibbles = __m512i;
    type NibbleSums = Self;
    const NIBBLE_ROWS: usize = 8;
    const STEP: usize = 4;
    // 12 integer sums, 12 f32 sums, 2 weights.
    const TILE_ROWS: [usize; 2] = [12, 6];

    #[inline(always)]
    unsafe fn start(inputs: i32) -> Self {
        unsafe { Self(_mm512_set1_epi32(-128 * inputs)) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn add_products(self, weights: __m512i, inputs: i32) -> Self {
        unsafe {
            Self(_mm512_dpbusd_epi32(
                self.0,
                weights,
                _mm512_set1_epi32(inputs),
            ))
        }
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [__m512i; 2] {
        unsafe {
            let (both, low) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(15));
            let high = _mm512_srli_epi16::<4>(both);
            [_mm512_and_si512(both, low), _mm512_and_si512(high, low)]
        }
    }
    #[inline(always)]
    unsafe fn no_nibbles() -> Self {
        unsafe { Self::start(0) }
    }
    #[inline(always)]
    unsafe fn add_nibbles(sums: Self, weights: __m512i, inputs: i32) -> Self {
        unsafe { sums.add_products(weights, inputs) }
    }
    #[inline(always)]
    unsafe fn nibble_floats(sums: Self) -> Avx512 {
        unsafe { sums.floats() }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Avx512 {
        unsafe { Avx512(_mm512_cvtepi32_ps(self.0)) }
    }
}

#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Halves(__m256i, __m256i);

#[cfg(target_arch = "x86_64")]
impl Sums for Halves {
    type Floats = Avx2;
    type Weights = [__m256i; 2];
    type Nibbles = [__m256i; 2];
    /// Pairs of 16-bit sums: a product is at most 15 · 127, and eight pairs of them fit.
    type NibbleSums = [__m256i; 2];
    const NIBBLE_ROWS: usize = 2;
    const STEP: usize = 2;
    // 12 integer sums, 2 weights and a broadcast: 15 of 16 registers. The f32 sums wait in memory.
    const TILE_ROWS: [usize; 2] = [6, 1];

    #[inline(always)]
    unsafe fn start(_: i32) -> Self {
        unsafe { Self(_mm256_set1_epi32(0), _mm256_set1_epi32(0)) }
    }
    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        unsafe {
            [0, 16].map(|offset| _mm256_cvtepi8_epi16(_mm_loadu_si128(from.add(offset).cast())))
        }
    }
    #[inline(always)]
    unsafe fn add_products(self, weights: Self::Weights, inputs: i32) -> Self {
        unsafe {
            let inputs = _mm256_set1_epi32(inputs);
            let add = |sums, weights| _mm256_add_epi32(sums, _mm256_madd_epi16(weights, inputs));
            Self(add(self.0, weights[0]), add(self.1, weights[1]))
        }
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        unsafe {
            let low = _mm256_set1_epi8(15);
            let both = [0, 32].map(|offset| _mm256_loadu_si256(from.add(offset).cast()));
            let high = both.map(|both| _mm256_srli_epi16::<4>(both));
            [both, high].map(|halves| halves.map(|half| _mm256_and_si256(half, low)))
        }
    }
    #[inline(always)]
    unsafe fn no_nibbles() -> Self::NibbleSums {
        unsafe { [_mm256_set1_epi16(0); 2] }
    }
    #[inline(always)]
    unsafe fn add_nibbles(
        sums: Self::NibbleSums,
        weights: Self::Nibbles,
        inputs: i32,
    ) -> Self::NibbleSums {
        unsafe {
            let inputs = _mm256_set1_epi32(inputs);
            let add = |half: usize| {
                _mm256_add_epi16(sums[half], _mm256_maddubs_epi16(weights[half], inputs))
            };
            [add(0), add(1)]
        }
    }
    #[inline(always)]
    unsafe fn nibble_floats(sums: Self::NibbleSums) -> Avx2 {
        unsafe {
            let [low, high] = sums.map(|pairs| _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            Self(low, high).floats()
        }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Avx2 {
        unsafe { Avx2(_mm256_cvtepi32_ps(self.0), _mm256_cvtepi32_ps(self.1)) }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Plain([i32; LANES]);

impl Sums for Plain {
    type Floats = Portable;
    type Weights = [[i8; 4]; LANES];
    type Nibbles = [[i8; 4]; LANES];
    type NibbleSums = Self;
    const NIBBLE_ROWS: usize = 2;
    const STEP: usize = 4;
    const TILE_ROWS: [usize; 2] = [2, 1];

    #[inline(always)]
    unsafe fn start(_: i32) -> Self {
        Self([0; LANES])
    }
    #[inline(always)]
    unsafe fn weights(from: *const u8) -> Self::Weights {
        unsafe { from.cast::<Self::Weights>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn add_products(self, weights: Self::Weights, inputs: i32) -> Self {
        let inputs = inputs.to_le_bytes().map(|byte| i32::from(byte as i8));
        Self(std::array::from_fn(|lane| {
            let products = (0..4).map(|i| i32::from(weights[lane][i]) * inputs[i]);
            self.0[lane] + products.sum::<i32>()
        }))
    }
    #[inline(always)]
    unsafe fn nibbles(from: *const u8) -> [Self::Nibbles; 2] {
        let both = unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() };
        [0, 4].map(|shift| both.map(|four| four.map(|byte| (byte >> shift & 15) as i8)))
    }
    #[inline(always)]
    unsafe fn no_nibbles() -> Self {
        Self([0; LANES])
    }
    #[inline(always)]
    unsafe fn add_nibbles(sums: Self, weights: Self::Nibbles, inputs: i32) -> Self {
        unsafe { sums.add_products(weights, inputs) }
    }
    #[inline(always)]
    unsafe fn nibble_floats(sums: Self) -> Portable {
        unsafe { sums.floats() }
    }
    #[inline(always)]
    unsafe fn floats(self) -> Portable {
        Portable(self.0.map(|sum| sum as f32))
    }
}
