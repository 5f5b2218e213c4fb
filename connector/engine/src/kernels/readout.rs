//! What is read off a row of logits: the best token, its log probability, and whether the row is
//! made of numbers at all.

use super::{
    Floats, LANES, Pool, Shared, for_each_isa,
    lanes::{Lanes, exp, maximum, sum},
};

/// What one row of logits says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    /// The token with the largest logit; the first of equals.
    pub(crate) token: u32,
    /// Its natural log probability at temperature 1.
    pub(crate) logprob: f32,
    /// Whether every logit is finite.
    pub(crate) finite: bool,
}

/// Reads `rows` rows of `vocab` logits.
pub(crate) fn read(
    pool: &mut Pool,
    isa: Floats,
    logits: &[f32],
    vocab: usize,
    readings: &mut [Reading],
) {
    let rows = readings.len();
    assert!(
        logits.len() >= rows * vocab,
        "there are logits for every row"
    );
    let chunks = if rows * vocab < 8_192 {
        1
    } else {
        rows.min(2 * pool.threads())
    };
    let readings = Shared::of(readings);
    pool.run(chunks, &|chunk, _| {
        for row in chunk * rows / chunks..(chunk + 1) * rows / chunks {
            // SAFETY: in bounds by the assertion; chunks own disjoint rows.
            unsafe {
                read_row(
                    isa,
                    logits.as_ptr().add(row * vocab),
                    vocab,
                    readings.at(row),
                );
            }
        }
    });
}

/// Reads a row on the thread that asks, to the same bytes.
pub(crate) fn read_one(isa: Floats, logits: &[f32]) -> Reading {
    let mut reading = Reading {
        token: 0,
        logprob: 0.0,
        finite: false,
    };
    // SAFETY: the row has so many logits, and the reading is nobody else's.
    unsafe { read_row(isa, logits.as_ptr(), logits.len(), &raw mut reading) };
    reading
}

for_each_isa! {
    unsafe fn read_row(logits: *const f32, vocab: usize, reading: *mut Reading) = read_row_on
}

#[inline(always)]
unsafe fn read_row_on<L: Lanes>(logits: *const f32, vocab: usize, reading: *mut Reading) {
    unsafe {
        let whole = vocab / LANES * LANES;
        let rest = std::slice::from_raw_parts(logits.add(whole), vocab - whole);
        let mut largest = L::splat(f32::NEG_INFINITY);
        // Zero times anything that is not a number, or infinite, is not a number.
        let mut zeros = L::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let values = L::load(logits.add(i));
            largest = largest.max(values);
            zeros = values.mul_add(L::splat(0.0), zeros);
        }
        let mut largest = maximum(largest);
        let mut zero = sum(zeros);
        for &value in rest {
            largest = if value > largest { value } else { largest };
            zero += value * 0.0;
        }
        let finite = zero == 0.0;
        let all = std::slice::from_raw_parts(logits, vocab);
        let token = all.iter().position(|&value| value == largest).unwrap_or(0);
        let mut total = L::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            total = total.add(exp(L::load(logits.add(i)).sub(L::splat(largest))));
        }
        let mut total = sum(total);
        for &value in rest {
            let mut one = [0.0; LANES];
            exp(L::splat(value - largest)).store(one.as_mut_ptr());
            total += one[0];
        }
        *reading = Reading {
            token: token as u32,
            logprob: -total.ln(),
            finite,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::kernels::Isa;

    fn read_alone(isa: Isa, logits: &[f32]) -> Reading {
        let mut readings = [Reading {
            token: 0,
            logprob: 0.0,
            finite: false,
        }];
        let mut pool = Pool::new(NonZeroUsize::MIN);
        read(&mut pool, isa.floats, logits, logits.len(), &mut readings);
        readings[0]
    }

    #[test]
    fn the_first_of_the_largest_logits_is_read_with_its_probability() {
        let mut logits: Vec<f32> = (0..101).map(|i| (i as f32 * 0.7).sin()).collect();
        logits[40] = 3.0;
        logits[100] = 3.0;
        let total: f64 = logits.iter().map(|&x| (f64::from(x) - 3.0).exp()).sum();
        for isa in Isa::available() {
            let reading = read_alone(isa, &logits);
            assert_eq!((reading.token, reading.finite), (40, true));
            assert!((f64::from(reading.logprob) + total.ln()).abs() < 1e-5);
            assert_eq!(reading, read_alone(Isa::available()[0], &logits), "{isa}");
        }
    }

    #[test]
    fn a_logit_that_is_no_number_is_noticed_wherever_it_stands() {
        for isa in Isa::available() {
            for at in [0, 17, 95, 100] {
                for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut logits = vec![0.5; 101];
                    logits[at] = value;
                    assert!(!read_alone(isa, &logits).finite, "{value} at {at} on {isa}");
                }
            }
        }
    }
}
