//! What every instruction set makes of numbers and of what is none.

use super::{
    super::{Isa, for_each_isa},
    *,
};

for_each_isa! {
    unsafe fn exp_and_tanh(of: *const f32, exps: *mut f32, tanhs: *mut f32) = exp_and_tanh_on
}

#[inline(always)]
unsafe fn exp_and_tanh_on<L: Lanes>(of: *const f32, exps: *mut f32, tanhs: *mut f32) {
    unsafe {
        exp(L::load(of)).store(exps);
        tanh(L::load(of)).store(tanhs);
    }
}

#[test]
fn what_is_no_number_has_neither_exponential_nor_tangent_and_its_neighbours_have() {
    for isa in Isa::available() {
        for lane in 0..LANES {
            let mut x: [f32; LANES] = std::array::from_fn(|lane| lane as f32 * 40.0 - 300.0);
            x[lane] = f32::NAN;
            let (mut exps, mut tanhs) = ([0.0; LANES], [0.0; LANES]);
            let (to, also) = (exps.as_mut_ptr(), tanhs.as_mut_ptr());
            // SAFETY: each holds a vector.
            unsafe { exp_and_tanh(isa.floats, x.as_ptr(), to, also) };
            for (at, (exp, tanh)) in exps.iter().zip(&tanhs).enumerate() {
                let none = (exp.is_nan(), tanh.is_nan());
                assert_eq!(none, (at == lane, at == lane), "lane {at} on {isa}");
            }
        }
    }
}

for_each_isa! {
    unsafe fn widen(of: *const u16, halves: *mut f32, brains: *mut f32) = widen_on
}

#[inline(always)]
unsafe fn widen_on<L: Lanes>(of: *const u16, halves: *mut f32, brains: *mut f32) {
    unsafe {
        L::load_half(of).store(halves);
        L::load_brain(of).store(brains);
    }
}

#[test]
fn every_f16_and_bf16_is_widened_exactly() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for isa in Isa::available() {
        for bits in all.chunks_exact(LANES) {
            let (mut halves, mut brains) = ([0.0; LANES], [0.0; LANES]);
            let (to, also) = (halves.as_mut_ptr(), brains.as_mut_ptr());
            // SAFETY: each holds a vector.
            unsafe { widen(isa.floats, bits.as_ptr(), to, also) };
            for (lane, &bits) in bits.iter().enumerate() {
                for (got, want) in [
                    (halves[lane], half::f16::from_bits(bits).to_f32()),
                    (brains[lane], half::bf16::from_bits(bits).to_f32()),
                ] {
                    let alike = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
                    assert!(alike, "{bits:#06x} is {want}, got {got} on {isa}");
                }
            }
        }
    }
}
