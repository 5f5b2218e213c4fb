//! Rotary positions.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{floats, out};

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
