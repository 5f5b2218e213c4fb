//! The product of a few rows with a few panels of 4-bit weights (llama.cpp's Q4_K).
//!
//! Weights are unsigned: `w = d · s · q − m · t · 1`, with `q` of 0 to 15, six-bit `s` and `t` for
//! each 32 of them, and `d`, `m` for each 256. Inputs are quantised row by row as for int8. So a
//! block of 32 is one exact integer sum of products, times a scale, less the sum of its inputs,
//! times another; in that order on every instruction set.
//!
//! Two blocks share their bytes, the first in the low halves.

#[cfg(target_arch = "x86_64")]
use super::sums::{Halves, Vnni};
use super::{
    Bytes, LANES,
    lanes::Lanes,
    matmul::Output,
    quantize::{BLOCK, Rows},
    sums::{Plain, Sums},
};

/// Weights that share `d` and `m`.
pub(super) const SUPER: usize = 256;
/// Weights that share bytes: two blocks.
pub(super) const CHUNK: usize = 2 * BLOCK;
/// Bytes of four consecutive `k` of both blocks for sixteen columns.
const GROUP: usize = 4 * LANES;
/// Bytes of a chunk's scales and minima for sixteen columns: `s`, `s`, `t`, `t`.
pub(super) const CHUNK_SCALES: usize = 4 * LANES;

/// Packed panels, from some panel on.
#[derive(Clone, Copy)]
pub(super) struct Panels {
    /// `[panel][chunk][8][16][4]`
    pub(super) nibbles: *const u8,
    /// `[panel][chunk][4][16]`
    pub(super) scales: *const u8,
    /// `[panel][super][2][16]`: `d` and `m`
    pub(super) supers: *const f32,
    pub(super) count: usize,
}

impl Panels {
    /// Those from `panel` on, of rows of `k` weights.
    #[inline(always)]
    pub(super) unsafe fn from(self, panel: usize, k: usize) -> Self {
        unsafe {
            Self {
                nibbles: self.nibbles.add(panel * LANES * k / 2),
                scales: self.scales.add(panel * (k / CHUNK) * CHUNK_SCALES),
                supers: self.supers.add(panel * (k / SUPER) * 2 * LANES),
                count: self.count - panel,
            }
        }
    }
}

/// All `rows` rows times all panels.
///
/// # Safety
/// The instruction set is present; `x` holds `rows` rows of `k` values, a multiple of [`SUPER`],
/// `w` as many panels as it says, and `output` takes the result.
pub(super) unsafe fn columns(
    isa: Bytes,
    x: Rows,
    rows: usize,
    k: usize,
    w: Panels,
    output: Output,
) {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    unsafe fn vnni(x: Rows, rows: usize, k: usize, w: Panels, output: Output) {
        unsafe { columns_on::<Vnni>(x, rows, k, w, output) }
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(x: Rows, rows: usize, k: usize, w: Panels, output: Output) {
        unsafe { columns_on::<Halves>(x, rows, k, w, output) }
    }
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Bytes::Avx512Vnni => vnni(x, rows, k, w, output),
            #[cfg(target_arch = "x86_64")]
            Bytes::Avx2 => avx2(x, rows, k, w, output),
            Bytes::Portable => columns_on::<Plain>(x, rows, k, w, output),
        }
    }
}

#[inline(always)]
unsafe fn columns_on<S: Sums>(x: Rows, rows: usize, k: usize, w: Panels, output: Output) {
    let mut panel = 0;
    while panel < w.count {
        unsafe {
            let (part, output) = (w.from(panel, k), output.moved(0, panel));
            // One row: more panels, to have more independent sums.
            if rows == 1 && part.count >= 4 && S::SEVERAL_PANELS {
                tile::<S, 1, 4>(x, k, part, output);
                panel += 4;
                continue;
            }
            let mut row = 0;
            while row < rows {
                let (x, output) = (x.from(row, k), output.moved(row, 0));
                row += match rows - row {
                    8.. if S::NIBBLE_ROWS >= 8 => tile::<S, 8, 1>(x, k, part, output),
                    4.. if S::NIBBLE_ROWS >= 4 => tile::<S, 4, 1>(x, k, part, output),
                    2.. => tile::<S, 2, 1>(x, k, part, output),
                    _ => tile::<S, 1, 1>(x, k, part, output),
                };
            }
        }
        panel += 1;
    }
}

/// `ROWS` rows times `PANELS` panels; returns the rows.
#[inline(always)]
unsafe fn tile<S: Sums, const ROWS: usize, const PANELS: usize>(
    x: Rows,
    k: usize,
    w: Panels,
    output: Output,
) -> usize {
    let (chunks, blocks) = (k / CHUNK, k / BLOCK);
    unsafe {
        let mut totals = [[S::Floats::splat(0.0); PANELS]; ROWS];
        for chunk in 0..chunks {
            let mut sums = [[[S::no_nibbles(); 2]; PANELS]; ROWS];
            for group in 0..BLOCK / 4 {
                let mut columns = [S::nibbles(w.nibbles); PANELS];
                for (panel, column) in columns.iter_mut().enumerate() {
                    let index = (panel * chunks + chunk) * (BLOCK / 4) + group;
                    *column = S::nibbles(w.nibbles.add(index * GROUP));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let at = row * k + chunk * CHUNK + 4 * group;
                    let inputs =
                        [at, at + BLOCK].map(|at| x.bytes.add(at).cast::<i32>().read_unaligned());
                    for (sums, column) in sums.iter_mut().zip(&columns) {
                        let [low, high] = *sums;
                        *sums = [
                            S::add_nibbles(low, column[0], inputs[0]),
                            S::add_nibbles(high, column[1], inputs[1]),
                        ];
                    }
                }
            }
            for panel in 0..PANELS {
                let shared = panel * (k / SUPER) + chunk * CHUNK / SUPER;
                let shared = w.supers.add(shared * 2 * LANES);
                let (d, m) = (S::Floats::load(shared), S::Floats::load(shared.add(LANES)));
                let own = w.scales.add((panel * chunks + chunk) * CHUNK_SCALES);
                for half in 0..2 {
                    let scale = d.mul(S::Floats::load_bytes(own.add(half * LANES)));
                    let least = m.mul(S::Floats::load_bytes(own.add((2 + half) * LANES)));
                    for row in 0..ROWS {
                        let block = row * blocks + 2 * chunk + half;
                        let input_scale = *x.scales.add(block);
                        let inputs = (*x.sums.add(2 * block) + *x.sums.add(2 * block + 1)) as f32;
                        let scale = scale.mul(S::Floats::splat(input_scale));
                        let lift = S::Floats::splat(-(inputs * input_scale));
                        let total = totals[row][panel];
                        let sums = S::nibble_floats(sums[row][panel][half]);
                        let total = sums.mul_add(scale, total);
                        totals[row][panel] = least.mul_add(lift, total);
                    }
                }
            }
        }
        for (row, totals) in totals.iter().enumerate() {
            for (panel, &total) in totals.iter().enumerate() {
                output.write(row, panel, total);
            }
        }
    }
    ROWS
}
