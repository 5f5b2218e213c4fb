//! The gate of a feed-forward layer.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{floats, out};

/// `silu(gate) · up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.device().is_cpu() {
        return gate.contiguous()?.apply_op2(&up.contiguous()?, SwiGlu);
    }
    gate.silu()?.mul(up)
}

/// Values that one thread takes at a time.
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
