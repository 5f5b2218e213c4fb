//! AdamW, with moments that can be stored: a run resumes exactly only with them.
//! (candle's own keeps them to itself.)

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Result, Tensor, Var, backprop::GradStore};

use crate::options::Recipe;

/// Gradients by weight, summed over the batches of a step.
pub(crate) struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    pub fn none() -> Self {
        Self(BTreeMap::new())
    }

    pub fn add(&mut self, weights: &BTreeMap<String, Var>, grads: &GradStore) -> Result<()> {
        for (name, weight) in weights {
            if let Some(grad) = grads.get(weight) {
                let sum = match self.0.remove(name) {
                    Some(sum) => (sum + grad)?,
                    None => grad.clone(),
                };
                self.0.insert(name.clone(), sum);
            }
        }
        Ok(())
    }

    /// Norm over all weights.
    pub fn norm(&self) -> Result<f64> {
        let mut sum = 0.0;
        for grad in self.0.values() {
            sum += f64::from(grad.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(sum.sqrt())
    }
}

/// Decoupled weight decay after Loshchilov and Hutter (2019), algorithm 2.
pub(crate) struct AdamW {
    mean: BTreeMap<String, Tensor>,
    square: BTreeMap<String, Tensor>,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    decay: f64,
    clip_norm: f64,
}

impl AdamW {
    pub fn new(weights: &BTreeMap<String, Var>, recipe: &Recipe) -> Result<Self> {
        let zeros = || -> Result<BTreeMap<String, Tensor>> {
            weights
                .iter()
                .map(|(name, weight)| Ok((name.clone(), weight.zeros_like()?)))
                .collect()
        };
        Ok(Self {
            mean: zeros()?,
            square: zeros()?,
            beta1: recipe.beta1,
            beta2: recipe.beta2,
            epsilon: recipe.epsilon,
            decay: recipe.weight_decay,
            clip_norm: recipe.clip_norm,
        })
    }

    /// One step, counted from 0; returns the norm of the gradient before it was clipped.
    pub fn step(
        &mut self,
        weights: &BTreeMap<String, Var>,
        gradients: Gradients,
        rate: f64,
        step: u64,
    ) -> Result<f64> {
        let norm = gradients.norm()?;
        let shorten = if norm > self.clip_norm {
            self.clip_norm / norm
        } else {
            1.0
        };
        let steps = i32::try_from(step + 1).unwrap_or(i32::MAX);
        let correct_mean = 1.0 / (1.0 - self.beta1.powi(steps));
        let correct_square = 1.0 / (1.0 - self.beta2.powi(steps));
        for (name, grad) in gradients.0 {
            let grad = (grad * shorten)?;
            let weight = &weights[&name];
            let mean = ((&self.mean[&name] * self.beta1)? + (&grad * (1.0 - self.beta1))?)?;
            let square =
                ((&self.square[&name] * self.beta2)? + (grad.sqr()? * (1.0 - self.beta2))?)?;
            let spread = ((&square * correct_square)?.sqrt()? + self.epsilon)?;
            let change = ((&mean * (correct_mean * rate))? / spread)?;
            let kept = if decays(&name, weight) {
                (weight.as_tensor() * (1.0 - rate * self.decay))?
            } else {
                weight.as_tensor().clone()
            };
            weight.set(&(kept - change)?)?;
            self.mean.insert(name.clone(), mean.detach());
            self.square.insert(name, square.detach());
        }
        Ok(norm)
    }

    /// Both moments, by name.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        let named = |prefix: &'static str, moments: &BTreeMap<String, Tensor>| {
            moments
                .iter()
                .map(|(name, moment)| (format!("{prefix}.{name}"), moment.clone()))
                .collect::<Vec<_>>()
        };
        named("mean", &self.mean)
            .into_iter()
            .chain(named("square", &self.square))
            .collect()
    }

    /// Takes the moments back; says which is missing.
    pub fn restore(
        &mut self,
        mut tensors: HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<std::result::Result<(), String>> {
        for (prefix, moments) in [("mean", &mut self.mean), ("square", &mut self.square)] {
            for (name, moment) in moments {
                let key = format!("{prefix}.{name}");
                match tensors.remove(&key) {
                    Some(stored) if stored.dims() == moment.dims() => {
                        *moment = stored.to_device(device)?.to_dtype(DType::F32)?;
                    }
                    _ => return Ok(Err(format!("moment {key} is missing or of another size"))),
                }
            }
        }
        Ok(Ok(()))
    }
}

/// Matrices decay; norms and embeddings do not.
fn decays(name: &str, weight: &Var) -> bool {
    weight.dims().len() > 1 && !name.contains("embed_tokens") && !name.starts_with("lm_head")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_agree_with_numbers_computed_by_hand() -> Result<()> {
        let device = Device::Cpu;
        let weight = Var::from_tensor(&Tensor::new(&[[1.0f32, -2.0]], &device)?)?;
        let weights = BTreeMap::from([("w".to_owned(), weight.clone())]);
        let recipe = Recipe {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-8,
            weight_decay: 0.1,
            clip_norm: 100.0,
            ..Recipe::default()
        };
        let mut optimiser = AdamW::new(&weights, &recipe)?;
        // The gradient of sum(w²) is 2w = (2, -4), of norm sqrt(20).
        let mut gradients = Gradients::none();
        gradients.add(&weights, &weight.sqr()?.sum_all()?.backward()?)?;
        let norm = optimiser.step(&weights, gradients, 0.5, 0)?;
        assert!((norm - 20f64.sqrt()).abs() < 1e-5);
        // First step: both moments corrected to the gradient, so the change is the rate times
        // its sign, beside the decay by 0.5 · 0.1.
        let after = weight.to_vec2::<f32>()?;
        assert!((after[0][0] - (0.95 - 0.5)).abs() < 1e-5);
        assert!((after[0][1] - (-1.9 + 0.5)).abs() < 1e-5);
        Ok(())
    }

    #[test]
    fn long_gradients_are_clipped_to_the_norm() -> Result<()> {
        let weight = Var::from_tensor(&Tensor::new(&[3.0f32, 4.0], &Device::Cpu)?)?;
        let weights = BTreeMap::from([("w".to_owned(), weight.clone())]);
        let recipe = Recipe {
            clip_norm: 1.0,
            beta1: 0.0,
            ..Recipe::default()
        };
        let mut optimiser = AdamW::new(&weights, &recipe)?;
        let mut gradients = Gradients::none();
        gradients.add(&weights, &(weight.sqr()? * 0.5)?.sum_all()?.backward()?)?;
        assert!((optimiser.step(&weights, gradients, 0.1, 0)? - 5.0).abs() < 1e-6);
        let mean = optimiser.tensors()["mean.w"].to_vec1::<f32>()?;
        assert!((mean[0] - 0.6).abs() < 1e-6 && (mean[1] - 0.8).abs() < 1e-6);
        Ok(())
    }
}
