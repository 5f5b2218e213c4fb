//! Sixteen f32 lanes, three ways: AVX-512, AVX2 with FMA, and plain arrays.
//!
//! Every kernel of this crate is written once, over [`Lanes`], and compiled for each instruction
//! set. All three compute the *same bytes*: each operation here is a correctly rounded IEEE
//! operation (multiply-add is fused everywhere), lanes never mix except in [`sum`] and
//! [`maximum`], which go through one fixed tree. So a correction does not depend on the machine's
//! vector width.
//!
//! Absent: runtime choice, which is [`Isa`](super::Isa), and integers, see `matmul_q8`.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm_loadl_epi64, _mm_loadu_si128, _mm_packs_epi16, _mm_packs_epi32,
    _mm_storeu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_castsi256_ps, _mm256_castsi256_si128,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32, _mm256_cvtph_ps,
    _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps,
    _mm256_storeu_si256, _mm256_sub_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_castsi512_ps,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_cvtepu16_epi32, _mm512_cvtph_ps,
    _mm512_cvtps_epi32, _mm512_cvtps_ph, _mm512_cvtsepi32_epi8, _mm512_div_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_roundscale_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

/// Lanes of a vector, on every instruction set.
pub(crate) const LANES: usize = 16;

/// The most that [`Lanes::QUERIES`] is.
pub(crate) const MOST_QUERIES: usize = 8;

/// Sixteen f32 and what kernels do with them.
///
/// # Safety
/// Every function may be called only where the instruction set that implements it is present;
/// pointers must be valid for [`LANES`] values, at any alignment.
pub(crate) trait Lanes: Copy {
    /// Rows that a matmul tile keeps in registers beside [`Self::TILE_PANELS`] panels.
    const TILE_ROWS: usize;
    /// Panels of sixteen columns in a matmul tile.
    const TILE_PANELS: usize;
    /// Queries of attention that share a pass over keys and values; at most
    /// [`MOST_QUERIES`].
    const QUERIES: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `other` where either is no number, as x86 does it.
    unsafe fn max(self, other: Self) -> Self;
    /// As [`Self::max`].
    unsafe fn min(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// Two to the power of integers between -126 and 127.
    unsafe fn exp2_of_integer(self) -> Self;
    /// Nearest integers, ties to even, of values within ±127; -128 of what is no number.
    unsafe fn store_i8(self, to: *mut i8);
    /// Widens sixteen unsigned bytes.
    unsafe fn load_bytes(from: *const u8) -> Self;
    /// Widens sixteen f16.
    unsafe fn load_half(from: *const u16) -> Self;
    /// Widens sixteen bf16.
    unsafe fn load_brain(from: *const u16) -> Self;
    /// Rounds to f16, ties to even.
    unsafe fn store_half(self, to: *mut u16);
}

/// AVX-512F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512(pub(super) __m512);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    // 24 accumulators, 2 weights, and broadcasts from memory: 26 of 32 registers.
    const TILE_ROWS: usize = 12;
    const TILE_PANELS: usize = 2;
    const QUERIES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm512_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm512_loadu_ps(from)) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm512_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self(_mm512_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self(_mm512_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Self(_mm512_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Scale 2^0, nearest even, no exceptions.
        unsafe { Self(_mm512_roundscale_ps::<0x08>(self.0)) }
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        unsafe {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(self.0)));
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe {
            let bytes = _mm_loadu_si128(from.cast());
            Self(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_brain(from: *const u16) -> Self {
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
        }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<0>(self.0)) }
    }
}

/// AVX2 with FMA: two halves.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2(pub(super) __m256, pub(super) __m256);

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    // 12 accumulators, 2 weights and a broadcast: 15 of 16 registers.
    const TILE_ROWS: usize = 6;
    const TILE_PANELS: usize = 1;
    const QUERIES: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_add_ps(self.0, other.0),
                _mm256_add_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_sub_ps(self.0, other.0),
                _mm256_sub_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_mul_ps(self.0, other.0),
                _mm256_mul_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_div_ps(self.0, other.0),
                _mm256_div_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_max_ps(self.0, other.0),
                _mm256_max_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe {
            Self(
                _mm256_min_ps(self.0, other.0),
                _mm256_min_ps(self.1, other.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        unsafe {
            Self(
                _mm256_fmadd_ps(self.0, factor.0, addend.0),
                _mm256_fmadd_ps(self.1, factor.1, addend.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe {
            Self(
                _mm256_round_ps::<0x08>(self.0),
                _mm256_round_ps::<0x08>(self.1),
            )
        }
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        unsafe {
            let half = |x| {
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
            };
            Self(half(self.0), half(self.1))
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        unsafe {
            let words = |x| {
                let integers = _mm256_cvtps_epi32(x);
                let (low, high) = (
                    _mm256_castsi256_si128(integers),
                    _mm256_extracti128_si256::<1>(integers),
                );
                _mm_packs_epi32(low, high)
            };
            _mm_storeu_si128(to.cast(), _mm_packs_epi16(words(self.0), words(self.1)));
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        unsafe {
            let half = |offset| {
                let bytes = _mm_loadl_epi64(from.add(offset).cast());
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
            };
            Self(half(0), half(8))
        }
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        unsafe {
            let half = |offset| _mm256_cvtph_ps(_mm_loadu_si128(from.add(offset).cast()));
            Self(half(0), half(8))
        }
    }
    #[inline(always)]
    unsafe fn load_brain(from: *const u16) -> Self {
        unsafe {
            let half = |offset| {
                let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(offset).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
            };
            Self(half(0), half(8))
        }
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        unsafe {
            _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<0>(self.0));
            _mm_storeu_si128(to.add(8).cast(), _mm256_cvtps_ph::<0>(self.1));
        }
    }
}

/// Plain arrays, vectorised by the compiler as far as the target allows.
#[derive(Clone, Copy)]
pub(crate) struct Portable(pub(super) [f32; LANES]);

impl Portable {
    #[inline(always)]
    fn zip(self, other: Self, with: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| {
            with(self.0[lane], other.0[lane])
        }))
    }
}

impl Lanes for Portable {
    const TILE_ROWS: usize = 4;
    const TILE_PANELS: usize = 1;
    const QUERIES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { Self(from.cast::<[f32; LANES]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(std::array::from_fn(|lane| {
            self.0[lane].mul_add(factor.0[lane], addend.0[lane])
        }))
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    unsafe fn exp2_of_integer(self) -> Self {
        Self(
            self.0
                .map(|x| f32::from_bits((((x as i32) + 127) << 23) as u32)),
        )
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8) {
        let bytes = self.0.map(|x| {
            if x.is_nan() {
                i8::MIN
            } else {
                x.round_ties_even() as i8
            }
        });
        unsafe { to.cast::<[i8; LANES]>().write_unaligned(bytes) }
    }
    #[inline(always)]
    unsafe fn load_bytes(from: *const u8) -> Self {
        let bytes = unsafe { from.cast::<[u8; LANES]>().read_unaligned() };
        Self(bytes.map(f32::from))
    }
    #[inline(always)]
    unsafe fn load_half(from: *const u16) -> Self {
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(widened))
    }
    #[inline(always)]
    unsafe fn load_brain(from: *const u16) -> Self {
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        Self(bits.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }
    #[inline(always)]
    unsafe fn store_half(self, to: *mut u16) {
        let bits = self.0.map(|value| half::f16::from_f32(value).to_bits());
        unsafe { to.cast::<[u16; LANES]>().write_unaligned(bits) }
    }
}

/// An f16 by selections alone, so that the compiler makes vectors of it.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    /// What one more in an exponent is.
    const STEP: u32 = 1 << 23;
    let size = u32::from(bits & 0x7fff) << 13;
    let exponent = size & 0x0f80_0000;
    // Exponents of f16 are 112 less, and the highest is that of infinity and of what is no number.
    let normal = size + (if exponent == 0x0f80_0000 { 224 } else { 112 }) * STEP;
    // Without the leading one that a number of exponent 0 has not.
    let tiny = f32::from_bits(size + 113 * STEP) - f32::from_bits(113 * STEP);
    let size = if exponent == 0 {
        tiny.to_bits()
    } else {
        normal
    };
    f32::from_bits(size | u32::from(bits & 0x8000) << 16)
}

/// Sum of all lanes, pairwise in a fixed order.
#[inline(always)]
pub(crate) unsafe fn sum<L: Lanes>(lanes: L) -> f32 {
    unsafe { fold(lanes, |a, b| a + b) }
}

/// Largest lane; not a number may hide in it.
#[inline(always)]
pub(crate) unsafe fn maximum<L: Lanes>(lanes: L) -> f32 {
    unsafe { fold(lanes, |a, b| if a > b { a } else { b }) }
}

#[inline(always)]
unsafe fn fold<L: Lanes>(lanes: L, with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut values = [0.0; LANES];
    unsafe { lanes.store(values.as_mut_ptr()) };
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            values[lane] = with(values[lane], values[lane + width]);
        }
        width /= 2;
    }
    values[0]
}

/// e to the power of each lane, to about one unit in the last place; below -87.3 what it is
/// there, some 1.2e-38, and no number of what is none.
///
/// Cody-Waite reduction and the degree-6 polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L) -> L {
    unsafe {
        let splat = |value| L::splat(value);
        // Both give their second operand where either is no number, so that `x` must stand there.
        let clamped = splat(88.0).min(splat(-87.336_54).max(x));
        let n = clamped.mul(splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(splat(-0.693_359_4), clamped);
        let r = n.mul_add(splat(2.121_944_4e-4), r);
        let mut p = splat(1.987_569_1e-4);
        for coefficient in [
            1.398_199_9e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            1.666_666_5e-1,
            5e-1,
        ] {
            p = p.mul_add(r, splat(coefficient));
        }
        let e = p.mul_add(r.mul(r), r).add(splat(1.0));
        e.mul(n.max(splat(-126.0)).exp2_of_integer())
    }
}

/// Hyperbolic tangent of each lane.
#[inline(always)]
pub(crate) unsafe fn tanh<L: Lanes>(x: L) -> L {
    unsafe {
        // tanh x = 1 - 2 / (1 + e^2x): exact enough near 0 for gates and soft caps, whose
        // arguments enter sums of magnitude one.
        let e = exp(x.add(x));
        let one = L::splat(1.0);
        one.sub(L::splat(2.0).div(one.add(e)))
    }
}

#[cfg(test)]
mod tests;
