//! Row-wise operations with their gradients, fused on the CPU.
//!
//! Composed of candle's own operations each of these makes five to ten passes over memory and
//! as many buffers, and more again backwards; fused, one of each. Elsewhere the composed form
//! runs. Sums are made in a fixed order, whatever the number of threads, so that a resumed run
//! repeats an uninterrupted one bit for bit.

mod causal_softmax;
mod cross_entropy;
mod rms_norm;
mod rotary;
mod swiglu;

use candle_core::{CpuStorage, Layout, Result, Shape, bail};

pub(crate) use self::{
    causal_softmax::causal_softmax, cross_entropy::cross_entropy, rms_norm::rms_norm,
    rotary::Rotary, swiglu::swiglu,
};

/// The values of a contiguous f32 tensor on the CPU.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a fused operation got a tensor that is not contiguous");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// What an operation returns: one value for each of its input.
fn out(values: Vec<f32>, layout: &Layout) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), layout.shape().clone())
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use super::*;

    fn values(shape: &[usize], seed: u32) -> Tensor {
        let count: usize = shape.iter().product();
        let numbers: Vec<f32> = (0..count)
            .map(|at| ((at as f32 + seed as f32) * 12.9898).sin() * 1.7)
            .collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).expect("fits")
    }

    /// Checks a function's gradient against differences of its values.
    fn check(inputs: &[Tensor], function: impl Fn(&[Tensor]) -> Result<Tensor>) -> Result<()> {
        let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_>>()?;
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = function(&tensors)?;
        let weight = values(y.dims(), 77);
        let grads = (y * &weight)?.sum_all()?.backward()?;
        for (which, input) in inputs.iter().enumerate() {
            let grad = grads.get(&vars[which]).expect("has a gradient");
            let grad = grad.flatten_all()?.to_vec1::<f32>()?;
            let flat = input.flatten_all()?.to_vec1::<f32>()?;
            for at in (0..flat.len()).step_by(3) {
                let value = |shift: f32| -> Result<f64> {
                    let mut moved = flat.clone();
                    moved[at] += shift;
                    let mut inputs = inputs.to_vec();
                    inputs[which] = Tensor::from_vec(moved, input.shape(), &Device::Cpu)?;
                    let y = (function(&inputs)? * &weight)?;
                    let y = y.flatten_all()?.to_vec1::<f32>()?;
                    Ok(y.into_iter().map(f64::from).sum())
                };
                let slope = (value(1e-2)? - value(-1e-2)?) / 2e-2;
                let got = f64::from(grad[at]);
                assert!(
                    (slope - got).abs() < 2e-3 * (1.0 + slope.abs()),
                    "{which} {at}: {slope} {got}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn fused_gradients_agree_with_differences() -> Result<()> {
        check(&[values(&[3, 8], 1), values(&[8], 5)], |t| {
            rms_norm(&t[0], &t[1], 1e-5)
        })?;
        check(&[values(&[2, 5, 5], 2)], |t| causal_softmax(&t[0], 0.7))?;
        check(&[values(&[4, 6], 3), values(&[4, 6], 9)], |t| {
            swiglu(&t[0], &t[1])
        })?;
        let rotary = Rotary::new(4, 100.0, 8);
        check(&[values(&[2, 3, 4], 4)], |t| rotary.rotate(&t[0]))?;
        let chosen = Tensor::new(&[2u32, 0, 4], &Device::Cpu)?;
        check(&[values(&[3, 5], 6)], |t| cross_entropy(&t[0], &chosen))
    }

    #[test]
    fn a_causal_softmax_sees_no_later_column() -> Result<()> {
        let shares = causal_softmax(&values(&[1, 4, 4], 3), 1.0)?.to_vec3::<f32>()?;
        for (row, shares) in shares[0].iter().enumerate() {
            let sum: f32 = shares.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6);
            assert!(shares[row + 1..].iter().all(|share| *share == 0.0));
        }
        Ok(())
    }
}
