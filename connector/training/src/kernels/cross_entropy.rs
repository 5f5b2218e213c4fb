//! The loss of the next token.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::{floats, out};

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
