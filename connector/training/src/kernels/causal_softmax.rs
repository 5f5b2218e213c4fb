//! Shares of attention.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{floats, out};

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
