//! Row-wise operations with their gradients, fused on the CPU.
//!
//! Composed of candle's own operations each of these makes five to ten passes over memory and
//! as many buffers, and more again backwards; fused, one of each. Elsewhere the composed form
//! runs. Sums are made in a fixed order, whatever the number of threads, so that a resumed run
//! repeats an uninterrupted one bit for bit.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail,
};
use rayon::prelude::*;

/// The values of a contiguous f32 tensor on the CPU.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a fused operation got a tensor that is not contiguous");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

fn out(values: Vec<f32>, layout: &Layout) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), layout.shape().clone())
}

// ------------------------------------------------------------------ RMS norm

/// `x / rms(x) · weight` over the last dimension.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, epsilon: f64) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(weight, RmsNorm(epsilon as f32));
    }
    let size = x.dim(D::Minus1)? as f64;
    let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / size)?;
    x.broadcast_div(&(mean + epsilon)?.sqrt()?)?
        .broadcast_mul(weight)
}

struct RmsNorm(f32);

fn inverse_rms(row: &[f32], epsilon: f32) -> f32 {
    let sum: f32 = row.iter().map(|x| x * x).sum();
    1.0 / (sum / row.len() as f32 + epsilon).sqrt()
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(x, x_layout)?, floats(w, w_layout)?);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(w.len())
            .zip(x.par_chunks(w.len()))
            .for_each(|(y, x)| {
                let inverse = inverse_rms(x, self.0);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * inverse * w;
                }
            });
        Ok(out(y, x_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let x = x.contiguous()?;
        let for_x = x.apply_op3_no_bwd(w, &grad, &RmsNormForX(self.0))?;
        let for_w = x.apply_op2_no_bwd(&grad, &RmsNormForWeight(self.0))?;
        Ok((Some(for_x), Some(for_w)))
    }
}

struct RmsNormForX(f32);

impl CustomOp3 for RmsNormForX {
    fn name(&self) -> &'static str {
        "rms-norm-for-x"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, g) = (
            floats(x, x_layout)?,
            floats(w, w_layout)?,
            floats(g, g_layout)?,
        );
        let size = w.len();
        let mut d = vec![0.0; x.len()];
        d.par_chunks_mut(size)
            .zip(x.par_chunks(size).zip(g.par_chunks(size)))
            .for_each(|(d, (x, g))| {
                let inverse = inverse_rms(x, self.0);
                let dot: f32 = x.iter().zip(g).zip(w).map(|((x, g), w)| x * g * w).sum();
                let pull = dot * inverse * inverse * inverse / size as f32;
                for (((d, x), g), w) in d.iter_mut().zip(x).zip(g).zip(w) {
                    *d = g * w * inverse - x * pull;
                }
            });
        Ok(out(d, x_layout))
    }
}

struct RmsNormForWeight(f32);

impl CustomOp2 for RmsNormForWeight {
    fn name(&self) -> &'static str {
        "rms-norm-for-weight"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        const ROWS: usize = 64;
        let (x, g) = (floats(x, x_layout)?, floats(g, g_layout)?);
        let size = *x_layout.dims().last().unwrap_or(&1);
        let parts: Vec<Vec<f32>> = x
            .par_chunks(size * ROWS)
            .zip(g.par_chunks(size * ROWS))
            .map(|(x, g)| {
                let mut sum = vec![0.0; size];
                for (x, g) in x.chunks(size).zip(g.chunks(size)) {
                    let inverse = inverse_rms(x, self.0);
                    for ((sum, x), g) in sum.iter_mut().zip(x).zip(g) {
                        *sum += x * inverse * g;
                    }
                }
                sum
            })
            .collect();
        let mut sum = vec![0.0; size];
        for part in parts {
            for (sum, part) in sum.iter_mut().zip(part) {
                *sum += part;
            }
        }
        Ok((CpuStorage::F32(sum), Shape::from(size)))
    }
}

// ------------------------------------------------------------------ causal softmax

/// Softmax over the last dimension of `scale · scores`, where row t of the last two dimensions
/// sees columns up to t.
pub(crate) fn causal_softmax(scores: &Tensor, scale: f64) -> Result<Tensor> {
    if scores.device().is_cpu() {
        return scores.contiguous()?.apply_op1(CausalSoftmax(scale as f32));
    }
    let steps = scores.dim(D::Minus1)?;
    let mask: Vec<f32> = (0..steps)
        .flat_map(|row| {
            (0..steps).map(move |column| if column > row { f32::NEG_INFINITY } else { 0.0 })
        })
        .collect();
    let mask = Tensor::from_vec(mask, (steps, steps), scores.device())?;
    let scores = (scores * scale)?.broadcast_add(&mask)?;
    let highest = scores.max_keepdim(D::Minus1)?.detach();
    let raised = scores.broadcast_sub(&highest)?.exp()?;
    raised.broadcast_div(&raised.sum_keepdim(D::Minus1)?)
}

struct CausalSoftmax(f32);

impl CustomOp1 for CausalSoftmax {
    fn name(&self) -> &'static str {
        "causal-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let steps = *layout.dims().last().unwrap_or(&1);
        let scores = floats(scores, layout)?;
        let mut shares = vec![0.0; scores.len()];
        shares
            .par_chunks_mut(steps)
            .zip(scores.par_chunks(steps))
            .enumerate()
            .for_each(|(row, (shares, scores))| {
                let seen = row % steps + 1;
                let highest = scores[..seen].iter().copied().fold(f32::MIN, f32::max);
                let mut sum = 0.0;
                for (share, score) in shares[..seen].iter_mut().zip(scores) {
                    *share = ((score - highest) * self.0).exp();
                    sum += *share;
                }
                for share in &mut shares[..seen] {
                    *share /= sum;
                }
            });
        Ok(out(shares, layout))
    }

    fn bwd(&self, _scores: &Tensor, shares: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        shares
            .apply_op2_no_bwd(&grad, &CausalSoftmaxBack(self.0))
            .map(Some)
    }
}

struct CausalSoftmaxBack(f32);

impl CustomOp2 for CausalSoftmaxBack {
    fn name(&self) -> &'static str {
        "causal-softmax-back"
    }

    fn cpu_fwd(
        &self,
        shares: &CpuStorage,
        layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let steps = *layout.dims().last().unwrap_or(&1);
        let (shares, g) = (floats(shares, layout)?, floats(g, g_layout)?);
        let mut d = vec![0.0; shares.len()];
        d.par_chunks_mut(steps)
            .zip(shares.par_chunks(steps).zip(g.par_chunks(steps)))
            .enumerate()
            .for_each(|(row, (d, (shares, g)))| {
                let seen = row % steps + 1;
                let (shares, g) = (&shares[..seen], &g[..seen]);
                let dot: f32 = shares.iter().zip(g).map(|(share, g)| share * g).sum();
                for ((d, share), g) in d.iter_mut().zip(shares).zip(g) {
                    *d = self.0 * share * (g - dot);
                }
            });
        Ok(out(d, layout))
    }
}

// ------------------------------------------------------------------ SwiGLU

/// `silu(gate) · up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.device().is_cpu() {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu);
    }
    gate.silu()?.mul(up)
}

const CHUNK: usize = 4096;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (floats(gate, layout)?, floats(up, up_layout)?);
        let mut y = vec![0.0; gate.len()];
        y.par_chunks_mut(CHUNK)
            .zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)))
            .for_each(|(y, (gate, up))| {
                for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = gate * sigmoid(*gate) * up;
                }
            });
        Ok(out(y, layout))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let both = gate.apply_op3_no_bwd(up, &grad, &SwiGluBack)?;
        Ok((Some(both.get(0)?), Some(both.get(1)?)))
    }
}

/// Gradients for gate and up, one after the other.
struct SwiGluBack;

impl CustomOp3 for SwiGluBack {
    fn name(&self) -> &'static str {
        "swiglu-back"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        layout: &Layout,
        up: &CpuStorage,
        up_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (gate, up, g) = (
            floats(gate, layout)?,
            floats(up, up_layout)?,
            floats(g, g_layout)?,
        );
        let mut both = vec![0.0; 2 * gate.len()];
        let (for_gate, for_up) = both.split_at_mut(gate.len());
        for_gate
            .par_chunks_mut(CHUNK)
            .zip(for_up.par_chunks_mut(CHUNK))
            .zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)))
            .zip(g.par_chunks(CHUNK))
            .for_each(|(((for_gate, for_up), (gate, up)), g)| {
                for at in 0..gate.len() {
                    let s = sigmoid(gate[at]);
                    for_up[at] = g[at] * gate[at] * s;
                    for_gate[at] = g[at] * up[at] * s * (1.0 + gate[at] * (1.0 - s));
                }
            });
        let dims: Vec<usize> = [2].iter().chain(layout.dims()).copied().collect();
        Ok((CpuStorage::F32(both), Shape::from(dims)))
    }
}

// ------------------------------------------------------------------ rotary positions

/// Cosines and sines of the rotary positions, by position and half of the head.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    cos: Arc<Vec<f32>>,
    sin: Arc<Vec<f32>>,
    half: usize,
}

impl Rotary {
    pub fn new(head: usize, theta: f64, positions: usize) -> Self {
        let half = head / 2;
        let angles = (0..positions * half).map(|at| {
            let (position, pair) = (at / half, at % half);
            // In f32, as transformers computes it.
            let frequency = 1.0 / (theta as f32).powf((2 * pair) as f32 / head as f32);
            position as f32 * frequency
        });
        let (sin, cos) = angles.map(f32::sin_cos).unzip();
        Self {
            cos: Arc::new(cos),
            sin: Arc::new(sin),
            half,
        }
    }

    /// Rotates the halves of the last dimension by the position, the last but one dimension.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() {
            return x.contiguous()?.apply_op1(Rotate {
                tables: self.clone(),
                direction: 1.0,
            });
        }
        let steps = x.dim(D::Minus2)?;
        let table = |values: &[f32]| {
            Tensor::from_slice(&values[..steps * self.half], (steps, self.half), x.device())
        };
        let (cos, sin) = (table(&self.cos)?, table(&self.sin)?);
        let a = x.narrow(D::Minus1, 0, self.half)?;
        let b = x.narrow(D::Minus1, self.half, self.half)?;
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        Tensor::cat(&[first, second], D::Minus1)
    }
}

struct Rotate {
    tables: Rotary,
    direction: f32,
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rotate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let half = self.tables.half;
        let steps = layout.dims()[layout.dims().len() - 2];
        let x = floats(x, layout)?;
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(2 * half)
            .zip(x.par_chunks(2 * half))
            .enumerate()
            .for_each(|(row, (y, x))| {
                let at = row % steps * half;
                let cos = &self.tables.cos[at..at + half];
                let sin = &self.tables.sin[at..at + half];
                for pair in 0..half {
                    let (a, b) = (x[pair], x[pair + half]);
                    let (c, s) = (cos[pair], sin[pair] * self.direction);
                    y[pair] = a * c - b * s;
                    y[pair + half] = b * c + a * s;
                }
            });
        Ok(out(y, layout))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // A rotation's gradient is the rotation back.
        let back = Rotate {
            tables: self.tables.clone(),
            direction: -self.direction,
        };
        grad.contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}

// ------------------------------------------------------------------ cross-entropy

/// `-log softmax(logits)[label]` for every row.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if logits.device().is_cpu() {
        return logits.contiguous()?.apply_op2(labels, CrossEntropy);
    }
    let highest = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&highest)?;
    let total = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let chosen = shifted.gather(&labels.unsqueeze(1)?, 1)?;
    (total - chosen)?.squeeze(1)
}

fn labels<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a fused operation got labels that are not contiguous");
    };
    Ok(&storage.as_slice::<u32>()?[start..end])
}

struct CrossEntropy;

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        layout: &Layout,
        chosen: &CpuStorage,
        chosen_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (logits, chosen) = (floats(logits, layout)?, labels(chosen, chosen_layout)?);
        let losses: Vec<f32> = logits
            .par_chunks(logits.len() / chosen.len())
            .zip(chosen)
            .map(|(row, &label)| {
                let highest = row.iter().copied().fold(f32::MIN, f32::max);
                let sum: f32 = row.iter().map(|x| (x - highest).exp()).sum();
                sum.ln() + highest - row[label as usize]
            })
            .collect();
        Ok((CpuStorage::F32(losses), Shape::from(chosen.len())))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        _losses: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let back = logits.apply_op3_no_bwd(labels, &grad, &CrossEntropyBack)?;
        Ok((Some(back), None))
    }
}

struct CrossEntropyBack;

impl CustomOp3 for CrossEntropyBack {
    fn name(&self) -> &'static str {
        "cross-entropy-back"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        layout: &Layout,
        chosen: &CpuStorage,
        chosen_layout: &Layout,
        g: &CpuStorage,
        g_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (logits, chosen) = (floats(logits, layout)?, labels(chosen, chosen_layout)?);
        let g = floats(g, g_layout)?;
        let size = logits.len() / chosen.len();
        let mut d = vec![0.0; logits.len()];
        d.par_chunks_mut(size)
            .zip(logits.par_chunks(size))
            .zip(chosen.par_iter().zip(g))
            .for_each(|((d, row), (&label, g))| {
                let highest = row.iter().copied().fold(f32::MIN, f32::max);
                let mut sum = 0.0;
                for (d, x) in d.iter_mut().zip(row) {
                    *d = (x - highest).exp();
                    sum += *d;
                }
                for d in d.iter_mut() {
                    *d *= g / sum;
                }
                d[label as usize] -= g;
            });
        Ok(out(d, layout))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

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
