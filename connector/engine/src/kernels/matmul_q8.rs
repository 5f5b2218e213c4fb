//! The int8 product of a few rows with a few panels.
//!
//! Weights come in blocks of 32 along `k` with one scale (llama.cpp's Q8_0); each input row is
//! quantised the same way. A block's sum of products is an exact integer, so every instruction
//! set agrees to the bit: only the order of the f32 sums over blocks matters, and it is fixed.
//!
//! What Q6_K holds is int8 too, with a scale for each sixteen: the same product in two parts.

#[cfg(target_arch = "x86_64")]
use super::sums::{Halves, Vnni};
use super::{
    Bytes, LANES,
    lanes::Lanes,
    matmul::Output,
    quantize::{BLOCK, Rows},
    sums::{Plain, Sums},
};

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
            _ if left >= 2 && S::SEVERAL_PANELS => 2,
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
