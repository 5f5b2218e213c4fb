//! What this machine can do at best, for benchmarks: the yardstick of everything else here.

use std::{num::NonZeroUsize, time::Instant};

use super::{Aligned, Epilogue, Isa, Matrix, Pool, Precision, QuantizedRows, Shared, matmul};

const ROWS: usize = 1_024;
const SIZE: usize = 4_096;
/// Far more than any cache.
const BYTES: usize = 256 << 20;
const REPEATS: usize = 3;

/// Multiply-adds per second of a large product in this precision, and bytes read per second.
pub(crate) fn measure(threads: NonZeroUsize, precision: Precision, isa: Isa) -> (f64, f64) {
    let mut pool = Pool::new(threads);
    (products(&mut pool, precision, isa), reads(&mut pool))
}

fn fastest(mut operation: impl FnMut()) -> f64 {
    operation();
    let time = |_| {
        let started = Instant::now();
        operation();
        started.elapsed().as_secs_f64()
    };
    (0..REPEATS).map(time).fold(f64::INFINITY, f64::min)
}

fn products(pool: &mut Pool, precision: Precision, isa: Isa) -> f64 {
    let mut matrix = Matrix::empty(SIZE, SIZE, precision, isa);
    let row: Vec<f32> = (0..SIZE).map(|i| (i % 251) as f32 - 125.0).collect();
    (0..SIZE).for_each(|n| matrix.set_row(n, &row));
    let input = Aligned::zeroed(ROWS * SIZE);
    let mut output = Aligned::zeroed(ROWS * SIZE);
    let mut quantized = QuantizedRows::default();
    let seconds = fastest(|| {
        matmul(
            pool,
            &mut quantized,
            &input,
            ROWS,
            &matrix,
            Epilogue::Store,
            &mut output,
        );
    });
    (ROWS * SIZE * SIZE) as f64 / seconds
}

fn reads(pool: &mut Pool) -> f64 {
    let values: Vec<u64> = (0..BYTES as u64 / 8).collect();
    let chunks = 4 * pool.threads();
    let mut sums = vec![0; chunks];
    let to = Shared::of(&mut sums);
    let length = values.len() / chunks;
    let seconds = fastest(|| {
        pool.run(chunks, &|chunk, _| {
            let sum = values[chunk * length..][..length]
                .iter()
                .fold(0_u64, |sum, value| sum.wrapping_add(*value));
            // SAFETY: each chunk writes its own element.
            unsafe { *to.at(chunk) = sum };
        });
    });
    std::hint::black_box(&sums);
    (chunks * length * 8) as f64 / seconds
}
