//! The f32 product of a few rows with a few panels.
//!
//! Sixteen-bit weights are widened in registers: reading them is what takes long where rows are
//! few, and where they are many the multiplications hide it.

use super::{
    LANES,
    element::{Brain, Element, Full, Half},
    for_each_isa,
    lanes::Lanes,
    matmul::Output,
};

/// Packed panels, `[panel][k][16]`.
#[derive(Clone, Copy)]
pub(super) enum Panels {
    Full(*const f32),
    Half(*const u16),
    Brain(*const u16),
}

for_each_isa! {
    /// All `rows` rows times `panels` panels.
    ///
    /// # Safety
    /// `x` holds `rows × k` values, `weights` `panels × k × 16` of them, and `output` takes the result.
    pub(super) unsafe fn columns(
        x: *const f32,
        rows: usize,
        k: usize,
        weights: Panels,
        panels: usize,
        output: Output,
    ) = columns_on
}

#[inline(always)]
unsafe fn columns_on<L: Lanes>(
    x: *const f32,
    rows: usize,
    k: usize,
    weights: Panels,
    panels: usize,
    output: Output,
) {
    unsafe {
        match weights {
            Panels::Full(weights) => columns_of::<L, Full>(x, rows, k, weights, panels, output),
            Panels::Half(weights) => columns_of::<L, Half>(x, rows, k, weights, panels, output),
            Panels::Brain(weights) => columns_of::<L, Brain>(x, rows, k, weights, panels, output),
        }
    }
}

#[inline(always)]
unsafe fn columns_of<L: Lanes, E: Element>(
    x: *const f32,
    rows: usize,
    k: usize,
    weights: *const E::Stored,
    panels: usize,
    output: Output,
) {
    let mut panel = 0;
    while panel < panels {
        let left = panels - panel;
        // A sum is one chain of additions: a few rows need more panels to fill the pipeline.
        let many_registers = L::TILE_PANELS > 1;
        let take = match rows {
            1 if left >= 8 && many_registers => 8,
            1 if left >= 4 => 4,
            2 | 3 if left >= 4 && many_registers => 4,
            2 | 3 if left >= 2 => 2,
            _ => L::TILE_PANELS.min(left),
        };
        unsafe {
            let weights = weights.add(panel * LANES * k);
            let output = output.moved(0, panel);
            match take {
                8 => tile::<L, E, 1, 8>(x, k, weights, output),
                4 => match rows {
                    1 => tile::<L, E, 1, 4>(x, k, weights, output),
                    2 => tile::<L, E, 2, 4>(x, k, weights, output),
                    _ => tile::<L, E, 3, 4>(x, k, weights, output),
                },
                2 => tiles::<L, E, 2>(x, rows, k, weights, output),
                _ => tiles::<L, E, 1>(x, rows, k, weights, output),
            }
        }
        panel += take;
    }
}

/// All rows, in tiles of nearly equal height.
#[inline(always)]
unsafe fn tiles<L: Lanes, E: Element, const PANELS: usize>(
    x: *const f32,
    rows: usize,
    k: usize,
    weights: *const E::Stored,
    output: Output,
) {
    let count = rows.div_ceil(L::TILE_ROWS);
    let mut row = 0;
    for index in 0..count {
        let height = (rows - row).div_ceil(count - index);
        unsafe {
            let (x, output) = (x.add(row * k), output.moved(row, 0));
            macro_rules! of_height {
                ($($rows:literal)*) => {
                    match height {
                        $($rows if $rows <= L::TILE_ROWS => {
                            tile::<L, E, $rows, PANELS>(x, k, weights, output);
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
unsafe fn tile<L: Lanes, E: Element, const ROWS: usize, const PANELS: usize>(
    x: *const f32,
    k: usize,
    weights: *const E::Stored,
    output: Output,
) {
    unsafe {
        let mut sums = [[L::splat(0.0); PANELS]; ROWS];
        for i in 0..k {
            let mut columns = [L::splat(0.0); PANELS];
            for (panel, column) in columns.iter_mut().enumerate() {
                *column = E::load(weights.add((panel * k + i) * LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = L::splat(*x.add(row * k + i));
                for (sum, &column) in sums.iter_mut().zip(&columns) {
                    *sum = value.mul_add(column, *sum);
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (panel, &sums) in sums.iter().enumerate() {
                output.write(row, panel, sums);
            }
        }
    }
}
