//! The operations between matrix products: RMS norm, gated activations, soft caps.

use aligner_checkpoint::Activation;

use super::{
    Floats, LANES, Pool, Shared, for_each_isa,
    lanes::{Lanes, exp, sum, tanh},
};

/// Values below which an operation is not worth a second thread.
const ALONE: usize = 16_384;

/// `out = x / rms(x) · weight` for rows of `weight.len()` values.
pub(crate) fn rms_norm(
    pool: &mut Pool,
    isa: Floats,
    x: &[f32],
    rows: usize,
    weight: &[f32],
    epsilon: f32,
    out: &mut [f32],
) {
    let n = weight.len();
    assert!(
        x.len() >= rows * n && out.len() >= rows * n,
        "input and output hold all rows"
    );
    let chunks = if rows * n < ALONE {
        1
    } else {
        rows.min(pool.threads())
    };
    let out = Shared::of(out);
    pool.run(chunks, &|chunk, _| {
        for row in chunk * rows / chunks..(chunk + 1) * rows / chunks {
            // SAFETY: in bounds by the assertion; chunks own disjoint rows.
            unsafe {
                norm_row(
                    isa,
                    x.as_ptr().add(row * n),
                    n,
                    weight.as_ptr(),
                    epsilon,
                    out.at(row * n),
                );
            }
        }
    });
}

/// The same in place, where rows begin `stride` values apart and the first values are normalised.
pub(crate) fn rms_norm_within(
    pool: &mut Pool,
    isa: Floats,
    x: &mut [f32],
    rows: usize,
    stride: usize,
    weight: &[f32],
    epsilon: f32,
) {
    let n = weight.len();
    assert!(
        rows == 0 || n <= stride && x.len() >= (rows - 1) * stride + n,
        "there are values for every row"
    );
    let chunks = if rows * n < ALONE {
        1
    } else {
        rows.min(pool.threads())
    };
    let x = Shared::of(x);
    pool.run(chunks, &|chunk, _| {
        for row in chunk * rows / chunks..(chunk + 1) * rows / chunks {
            // SAFETY: in bounds by the assertion; chunks own disjoint rows, and a row's values are read
            // before they are written.
            unsafe {
                let row = x.at(row * stride);
                norm_row(isa, row, n, weight.as_ptr(), epsilon, row);
            }
        }
    });
}

for_each_isa! {
    unsafe fn norm_row(
        x: *const f32,
        n: usize,
        weight: *const f32,
        epsilon: f32,
        out: *mut f32,
    ) = norm_row_on
}

#[inline(always)]
pub(super) unsafe fn norm_row_on<L: Lanes>(
    x: *const f32,
    n: usize,
    weight: *const f32,
    epsilon: f32,
    out: *mut f32,
) {
    unsafe {
        let whole = n / LANES * LANES;
        let mut squares = L::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let x = L::load(x.add(i));
            squares = x.mul_add(x, squares);
        }
        let mut total = sum(squares);
        for i in whole..n {
            total = (*x.add(i)).mul_add(*x.add(i), total);
        }
        let factor = 1.0 / (total / n as f32 + epsilon).sqrt();
        let factors = L::splat(factor);
        for i in (0..whole).step_by(LANES) {
            L::load(x.add(i))
                .mul(factors)
                .mul(L::load(weight.add(i)))
                .store(out.add(i));
        }
        for i in whole..n {
            *out.add(i) = *x.add(i) * factor * *weight.add(i);
        }
    }
}

/// `out[row] = act(gate) · up`, where a row of `gate_up` is gate then up, `n` values each.
pub(crate) fn glu(
    pool: &mut Pool,
    isa: Floats,
    activation: Activation,
    gate_up: &[f32],
    rows: usize,
    n: usize,
    out: &mut [f32],
) {
    assert!(
        gate_up.len() >= 2 * rows * n && out.len() >= rows * n,
        "both hold all rows"
    );
    let chunks = if rows * n < ALONE {
        1
    } else {
        rows.min(2 * pool.threads())
    };
    let out = Shared::of(out);
    pool.run(chunks, &|chunk, _| {
        for row in chunk * rows / chunks..(chunk + 1) * rows / chunks {
            // SAFETY: in bounds by the assertion; chunks own disjoint rows.
            unsafe {
                let gate = gate_up.as_ptr().add(2 * row * n);
                glu_row(isa, activation, gate, gate.add(n), n, out.at(row * n));
            }
        }
    });
}

for_each_isa! {
    unsafe fn glu_row(
        activation: Activation,
        gate: *const f32,
        up: *const f32,
        n: usize,
        out: *mut f32,
    ) = glu_row_on
}

#[inline(always)]
unsafe fn glu_row_on<L: Lanes>(
    activation: Activation,
    gate: *const f32,
    up: *const f32,
    n: usize,
    out: *mut f32,
) {
    let whole = n / LANES * LANES;
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let gated = activate(activation, L::load(gate.add(i)));
            gated.mul(L::load(up.add(i))).store(out.add(i));
        }
        if whole < n {
            let (mut gates, mut ups) = ([0.0; LANES], [0.0; LANES]);
            gates[..n - whole]
                .copy_from_slice(std::slice::from_raw_parts(gate.add(whole), n - whole));
            ups[..n - whole].copy_from_slice(std::slice::from_raw_parts(up.add(whole), n - whole));
            let gated = activate(activation, L::load(gates.as_ptr()));
            gated.mul(L::load(ups.as_ptr())).store(gates.as_mut_ptr());
            out.add(whole)
                .copy_from_nonoverlapping(gates.as_ptr(), n - whole);
        }
    }
}

#[inline(always)]
unsafe fn activate<L: Lanes>(activation: Activation, x: L) -> L {
    unsafe {
        match activation {
            Activation::Silu => {
                let one = L::splat(1.0);
                x.div(one.add(exp(L::splat(0.0).sub(x))))
            }
            Activation::GeluTanh => {
                // sqrt(2 / pi)
                let cubic = x.mul(x).mul(x).mul_add(L::splat(0.044_715), x);
                half_of_one_plus(x, tanh(cubic.mul(L::splat(0.797_884_6))))
            }
            Activation::Gelu => {
                half_of_one_plus(x, erf(x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2))))
            }
        }
    }
}

#[inline(always)]
unsafe fn half_of_one_plus<L: Lanes>(x: L, gate: L) -> L {
    unsafe { x.mul(L::splat(0.5)).mul(gate.add(L::splat(1.0))) }
}

/// Error function, Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
#[inline(always)]
unsafe fn erf<L: Lanes>(x: L) -> L {
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        let size = zero.sub(x).max(x);
        let t = one.div(size.mul_add(L::splat(0.327_591_1), one));
        let mut p = L::splat(1.061_405_4);
        for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = p.mul_add(t, L::splat(coefficient));
        }
        let decay = exp(zero.sub(x.mul(x)));
        let magnitude = one.sub(p.mul(t).mul(decay));
        // The sign of x, without a branch: clamp(x · huge, -1, 1).
        let sign = x.mul(L::splat(f32::MAX)).max(L::splat(-1.0)).min(one);
        magnitude.mul(sign)
    }
}

/// `x = cap · tanh(x / cap)`.
pub(crate) fn softcap(isa: Floats, cap: f32, x: &mut [f32]) {
    let whole = x.len() / LANES * LANES;
    let mut rest = [0.0; LANES];
    let left = x.len() - whole;
    rest[..left].copy_from_slice(&x[whole..]);
    // SAFETY: whole vectors within `x`, and the padded rest.
    unsafe {
        cap_vectors(isa, cap, x.as_mut_ptr(), whole);
        cap_vectors(isa, cap, rest.as_mut_ptr(), LANES);
    }
    x[whole..].copy_from_slice(&rest[..left]);
}

for_each_isa! {
    unsafe fn cap_vectors(cap: f32, x: *mut f32, len: usize) = cap_vectors_on
}

#[inline(always)]
unsafe fn cap_vectors_on<L: Lanes>(cap: f32, x: *mut f32, len: usize) {
    for i in (0..len).step_by(LANES) {
        unsafe {
            let value = L::load(x.add(i)).div(L::splat(cap));
            tanh(value).mul(L::splat(cap)).store(x.add(i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    fn grid() -> Vec<f32> {
        (-4_000..4_001)
            .map(|i| i as f32 / 400.0)
            .chain([-80.0, 80.0, 1e-6, -1e-6])
            .collect()
    }

    #[test]
    fn activations_agree_with_double_precision_and_on_every_instruction_set() {
        let gate = grid();
        let n = gate.len();
        let gate_up: Vec<f32> = gate.iter().copied().chain(vec![1.0; n]).collect();
        let exact = |activation, x: f64| match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                0.5 * x * (1.0 + inner.tanh())
            }
            // Simpson's rule on the normal density, fine enough for 1e-9.
            Activation::Gelu => {
                let density = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let (steps, h) = (2_000, x / 2_000.0);
                let area: f64 = (0..steps)
                    .map(|i| {
                        let a = f64::from(i) * h;
                        h / 6.0 * (density(a) + 4.0 * density(a + h / 2.0) + density(a + h))
                    })
                    .sum();
                x * (0.5 + area)
            }
        };
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let mut pool = Pool::new(std::num::NonZeroUsize::MIN);
                let mut out = vec![0.0; n];
                glu(&mut pool, isa.floats, activation, &gate_up, 1, n, &mut out);
                for (&x, &got) in gate.iter().zip(&out) {
                    let want = exact(activation, f64::from(x));
                    assert!(
                        (f64::from(got) - want).abs() < 2e-6 + 4e-7 * want.abs(),
                        "{activation:?}({x}) is {want}, got {got} on {isa}"
                    );
                }
                let expected = first.get_or_insert_with(|| out.clone());
                assert_eq!(expected, &out, "{activation:?} differs on {isa}");
            }
        }
    }

    #[test]
    fn rms_norm_and_softcap_agree_on_every_instruction_set() {
        let x = grid();
        let weight: Vec<f32> = x.iter().map(|x| x.sin()).collect();
        let mean: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / x.len() as f64;
        let mut first: Option<(Vec<f32>, Vec<f32>)> = None;
        for isa in Isa::available() {
            let mut pool = Pool::new(std::num::NonZeroUsize::MIN);
            let mut normed = vec![0.0; x.len()];
            rms_norm(&mut pool, isa.floats, &x, 1, &weight, 1e-6, &mut normed);
            let mut capped = x.clone();
            softcap(isa.floats, 5.0, &mut capped);
            for (i, &x) in x.iter().enumerate() {
                let want = f64::from(x) / (mean + 1e-6).sqrt() * f64::from(weight[i]);
                assert!((f64::from(normed[i]) - want).abs() < 1e-4 * (1.0 + want.abs()));
                let want = 5.0 * (f64::from(x) / 5.0).tanh();
                assert!((f64::from(capped[i]) - want).abs() < 2e-6);
            }
            let result = (normed, capped);
            let expected = first.get_or_insert_with(|| result.clone());
            assert_eq!(expected, &result, "{isa}");
        }
    }

    #[test]
    fn a_soft_cap_makes_no_number_of_what_is_none() {
        for isa in Isa::available() {
            for at in [0, 15, 16, 36] {
                let mut x = vec![0.5; 37];
                x[at] = f32::NAN;
                softcap(isa.floats, 5.0, &mut x);
                let none: Vec<usize> = (0..x.len()).filter(|&i| x[i].is_nan()).collect();
                assert_eq!(none, [at], "{isa}");
            }
        }
    }
}
