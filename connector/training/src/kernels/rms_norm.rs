//! The root-mean-square norm.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{floats, out};

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
