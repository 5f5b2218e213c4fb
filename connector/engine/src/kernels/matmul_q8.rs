//! The int8 product of a few rows with a few panels.
//!
//! Weights come in blocks of 32 along `k` with one scale (llama.cpp's Q8_0); each input row is
//! quantised the same way. A block's sum of products is an exact integer, so every instruction
//! set agrees to the bit: only the order of the f32 sums over blocks matters, and it is fixed.
//!
//! What Q6_K holds is int8 too, with a scale for each sixteen: the same product in two parts.
//!
//! - AVX-512-VNNI multiplies *unsigned* by signed bytes. Weights are stored with their sign bit
//!   flipped (`w + 128`), and a block's sum starts at `-128 · Σx`, one number for all columns.
//! - AVX2 multiplies pairs of 16-bit numbers: inputs are stored so wide, weights widened once for
//!   all rows of a tile. Its product of bytes would saturate without a sign moved from one to the
//!   other for each row, which costs more than the wider product.

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
    Aligned, Bytes, Isa, LANES, Pool, Shared, for_each_isa,
    lanes::{Lanes, Portable, maximum},
    matmul::{Output, is_vnni},
};

/// Weights that share a scale.
pub(super) const BLOCK: usize = 32;

pub(super) fn weights_are_unsigned(bytes: Bytes) -> bool {
    is_vnni(bytes)
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
            let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
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
            *scales.add(block) = largest / 127.0;
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

/// Sixteen integer sums.
pub(super) trait Sums: Copy {
    type Floats: Lanes;
    /// A group of weights, ready to multiply.
    type Weights: Copy;
    /// Consecutive `k` of a column that a lane multiplies at once, with four bytes of inputs.
    const STEP: usize;
    /// Rows of a tile, for one and for two panels.
    const TILE_ROWS: [usize; 2];

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

/// All `rows` rows times `panels` panels, whose blocks have one scale or two.
///
/// # Safety
/// The instruction set is present; `x` holds `rows` rows, `weights` and `scales` `panels` panels,
/// and `output` takes the result.
#[expect(
    clippy::too_many_arguments,
    reason = "a kernel's operands, none of them optional"
)]
pub(super) unsafe fn columns(
    isa: Bytes,
    x: Rows,
    rows: usize,
    k: usize,
    weights: *const u8,
    scales: *const f32,
    parts: usize,
    panels: usize,
    output: Output,
) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    unsafe fn vnni(x: Rows, rows: usize, k: usize, w: Panels, output: Output) {
        unsafe {
            match w.parts {
                1 => columns_on::<Vnni, 1>(x, rows, k, w, output),
                _ => columns_on::<Vnni, 2>(x, rows, k, w, output),
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(x: Rows, rows: usize, k: usize, w: Panels, output: Output) {
        unsafe {
            match w.parts {
                1 => columns_on::<Halves, 1>(x, rows, k, w, output),
                _ => columns_on::<Halves, 2>(x, rows, k, w, output),
            }
        }
    }
    let w = Panels {
        weights,
        scales,
        parts,
        panels,
    };
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Bytes::Avx512Vnni => vnni(x, rows, k, w, output),
            #[cfg(target_arch = "x86_64")]
            Bytes::Avx2 => avx2(x, rows, k, w, output),
            Bytes::Portable if parts == 1 => columns_on::<Plain, 1>(x, rows, k, w, output),
            Bytes::Portable => columns_on::<Plain, 2>(x, rows, k, w, output),
        }
    }
}

#[derive(Clone, Copy)]
struct Panels {
    weights: *const u8,
    scales: *const f32,
    parts: usize,
    panels: usize,
}

#[inline(always)]
unsafe fn columns_on<S: Sums, const PARTS: usize>(
    x: Rows,
    rows: usize,
    k: usize,
    w: Panels,
    output: Output,
) {
    let blocks = k / BLOCK;
    let mut panel = 0;
    while panel < w.panels {
        let left = w.panels - panel;
        // One row: more panels, to have more independent sums.
        let take = match rows {
            1 if left >= 4 => 4,
            _ if left >= 2 && S::TILE_ROWS[1] > 1 => 2,
            _ => 1,
        };
        unsafe {
            let weights = w.weights.add(panel * LANES * k);
            let scales = w.scales.add(panel * LANES * blocks * PARTS);
            let output = output.moved(0, panel);
            match take {
                4 => tile::<S, 1, 4, PARTS>(x, blocks, weights, scales, output),
                2 => tiles::<S, 2, PARTS>(x, rows, blocks, weights, scales, output),
                _ => tiles::<S, 1, PARTS>(x, rows, blocks, weights, scales, output),
            }
        }
        panel += take;
    }
}

#[inline(always)]
unsafe fn tiles<S: Sums, const PANELS: usize, const PARTS: usize>(
    x: Rows,
    rows: usize,
    blocks: usize,
    weights: *const u8,
    scales: *const f32,
    output: Output,
) {
    let most = S::TILE_ROWS[PANELS - 1];
    let count = rows.div_ceil(most);
    let mut row = 0;
    for index in 0..count {
        let height = (rows - row).div_ceil(count - index);
        unsafe {
            let x = x.from(row, blocks * BLOCK);
            let output = output.moved(row, 0);
            macro_rules! of_height {
                ($($rows:literal)*) => {
                    match height {
                        $($rows if $rows <= most => {
                            tile::<S, $rows, PANELS, PARTS>(x, blocks, weights, scales, output);
                        })*
                        _ => unreachable!("a tile has between one and TILE_ROWS rows"),
                    }
                };
            }
            of_height!(1 2 3 4 5 6 7 8 9 10 11 12);
        }
        row += height;
    }
}

#[inline(always)]
unsafe fn tile<S: Sums, const ROWS: usize, const PANELS: usize, const PARTS: usize>(
    x: Rows,
    blocks: usize,
    weights: *const u8,
    scales: *const f32,
    output: Output,
) {
    unsafe {
        let mut totals = [[S::Floats::splat(0.0); PANELS]; ROWS];
        for part in 0..blocks * PARTS {
            let block = part / PARTS;
            let mut sums = [[S::start(0); PANELS]; ROWS];
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = x.sums.add((row * blocks + block) * 2);
                let inputs = match PARTS {
                    1 => *inputs + *inputs.add(1),
                    _ => *inputs.add(part % PARTS),
                };
                *sums = [S::start(inputs); PANELS];
            }
            let groups = BLOCK / S::STEP;
            for index in 0..groups / PARTS {
                let group = part % PARTS * (groups / PARTS) + index;
                let mut columns = [S::weights(weights); PANELS];
                for (panel, column) in columns.iter_mut().enumerate() {
                    let index = (panel * blocks + block) * groups + group;
                    *column = S::weights(weights.add(index * S::STEP * LANES));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let at = 4 * ((row * blocks + block) * groups + group);
                    let inputs = x.bytes.add(at).cast::<i32>().read_unaligned();
                    for (sum, &column) in sums.iter_mut().zip(&columns) {
                        *sum = sum.add_products(column, inputs);
                    }
                }
            }
            let mut column_scales = [S::Floats::splat(0.0); PANELS];
            for (panel, scale) in column_scales.iter_mut().enumerate() {
                *scale = S::Floats::load(scales.add((panel * blocks * PARTS + part) * LANES));
            }
            for row in 0..ROWS {
                let scale = S::Floats::splat(*x.scales.add(row * blocks + block));
                for panel in 0..PANELS {
                    let scale = scale.mul(column_scales[panel]);
                    totals[row][panel] =
                        sums[row][panel].floats().mul_add(scale, totals[row][panel]);
                }
            }
        }
        for (row, totals) in totals.iter().enumerate() {
            for (panel, &total) in totals.iter().enumerate() {
                output.write(row, panel, total);
            }
        }
    }
}

const _: () = assert!(BLOCK == 2 * LANES, "a block is quantised as two vectors");
