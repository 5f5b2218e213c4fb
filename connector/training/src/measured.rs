//! What the held-out triples show of a model, and the guard that fits it.

use aligner::guard::{Confidence, Guard};
use aligner_evaluation::Triple;
use candle_core::{D, Device};

use crate::{
    batches::{Batch, bucket},
    examples::{self, Example},
    fit,
    kernels::cross_entropy,
    model::Model,
};

/// What the held-out triples showed.
pub(crate) struct Measured {
    /// Mean loss of a target.
    pub loss: f64,
    /// For each, how sure the model was where it is exactly right.
    right: Vec<Option<Confidence>>,
}

impl Measured {
    /// What `model` makes of them.
    pub fn of(
        model: &Model,
        validation: &[Example],
        batch_tokens: usize,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let mut sorted: Vec<(usize, &Example)> = validation.iter().enumerate().collect();
        sorted.sort_by_key(|(_, example)| example.positions());
        let batches = bucket(sorted, batch_tokens, |(_, e)| e.positions());
        let (mut sum, mut count) = (0.0, 0usize);
        let mut right = vec![None; validation.len()];
        for batch in batches {
            let (places, examples): (Vec<usize>, Vec<&Example>) = batch.into_iter().unzip();
            let batch = Batch::new(&examples, 1.0, device)?;
            let logits = model.logits(&batch.ids, &batch.at)?.detach();
            let losses = cross_entropy(&logits, &batch.labels)?.to_vec1::<f32>()?;
            sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
            count += losses.len();
            let likeliest = logits
                .argmax(D::Minus1)?
                .eq(&batch.labels)?
                .to_vec1::<u8>()?;
            let (mut likeliest, mut losses) = (likeliest.as_slice(), losses.as_slice());
            for (place, targets) in places.into_iter().zip(batch.targets) {
                let (row, others) = likeliest.split_at(targets);
                let (lost, rest) = losses.split_at(targets);
                if row.iter().all(|right| *right == 1) {
                    right[place] = Some(Confidence {
                        mean_logprob: -lost.iter().sum::<f32>() / targets as f32,
                        min_logprob: -lost.iter().copied().fold(0.0, f32::max),
                        unchanged_logprob: None,
                    });
                }
                (likeliest, losses) = (others, rest);
            }
        }
        Ok(Self {
            loss: sum / count.max(1) as f64,
            right,
        })
    }

    /// Share of the triples that the model gets exactly right.
    pub fn exact(&self) -> f64 {
        let right = self.right.iter().flatten().count();
        right as f64 / self.right.len().max(1) as f64
    }

    /// Fits the limits of confidence of `guard`, and tells of each triple whether it is right and
    /// let through.
    pub fn fit(&self, guard: &mut Guard, held_out: &[Triple]) -> Vec<bool> {
        let outcomes = || self.right.iter().zip(held_out);
        let corrected: Vec<Confidence> = outcomes()
            .filter(|(_, triple)| !examples::is_clean(triple))
            .filter_map(|(right, _)| *right)
            .collect();
        fit::to_right_outputs(guard, &corrected);
        let delivered = outcomes().map(|(right, triple)| {
            let wanted = examples::wanted(triple);
            right.is_some_and(|sure| {
                // An answer that stands is not judged further.
                let stands = examples::is_clean(triple);
                let (question, answer) = (&triple.question, &triple.answer);
                stands || guard.accept(question, answer, wanted, Some(sure)).is_ok()
            })
        });
        delivered.collect()
    }
}
