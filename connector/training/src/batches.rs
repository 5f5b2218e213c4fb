//! Batches: which examples share one, in which order, and how they lie in it.
//!
//! The order of an epoch depends on seed and epoch alone, so a resumed run is at the right
//! place by counting. Examples are shuffled, cut into pools, sorted by length within a pool, cut
//! into batches, and the batches of a pool shuffled: rows of similar length waste no padding,
//! and what shares a batch still changes from epoch to epoch.

use candle_core::{Device, Result, Tensor};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::examples::Example;

/// Batches that share a pool.
const POOL: usize = 32;

/// An endless stream of batches over the same examples.
pub(crate) struct Stream<'a> {
    examples: &'a [Example],
    batch_tokens: usize,
    seed: u64,
    epoch: u64,
    plan: Vec<Vec<usize>>,
    next: usize,
}

impl<'a> Stream<'a> {
    /// The stream of a seed, from its `skip`-th batch on; none without examples, since no epoch of
    /// it would ever have a batch.
    pub fn new(examples: &'a [Example], batch_tokens: usize, seed: u64, skip: u64) -> Option<Self> {
        if examples.is_empty() {
            return None;
        }
        let mut stream = Self {
            examples,
            batch_tokens,
            seed,
            epoch: 0,
            plan: plan(examples, batch_tokens, seed, 0),
            next: 0,
        };
        let mut left = skip;
        while left >= stream.plan.len() as u64 {
            left -= stream.plan.len() as u64;
            stream.turn();
        }
        stream.next = left as usize;
        Some(stream)
    }

    /// Batches of the first epoch; the others' numbers hardly differ.
    pub fn batches_per_epoch(&self) -> usize {
        plan(self.examples, self.batch_tokens, self.seed, 0).len()
    }

    pub fn next(&mut self) -> Vec<&'a Example> {
        if self.next == self.plan.len() {
            self.turn();
        }
        self.next += 1;
        self.plan[self.next - 1]
            .iter()
            .map(|&at| &self.examples[at])
            .collect()
    }

    fn turn(&mut self) {
        self.epoch += 1;
        self.plan = plan(self.examples, self.batch_tokens, self.seed, self.epoch);
        self.next = 0;
    }
}

fn plan(examples: &[Example], batch_tokens: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.shuffle(&mut random);
    let mut plan = Vec::new();
    let mut pool = Vec::new();
    let mut positions = 0;
    for at in order {
        positions += examples[at].positions();
        pool.push(at);
        if positions >= POOL * batch_tokens {
            plan.extend(cut(examples, &mut pool, batch_tokens, &mut random));
            positions = 0;
        }
    }
    plan.extend(cut(examples, &mut pool, batch_tokens, &mut random));
    plan
}

fn cut(
    examples: &[Example],
    pool: &mut Vec<usize>,
    batch_tokens: usize,
    random: &mut ChaCha8Rng,
) -> Vec<Vec<usize>> {
    let mut pool = std::mem::take(pool);
    // Stable, so that equals keep their shuffled order.
    pool.sort_by_key(|&at| examples[at].positions());
    let mut batches = bucket(pool, batch_tokens, |&at| examples[at].positions());
    batches.shuffle(random);
    batches
}

/// Cuts what is sorted by length into batches of at most `batch_tokens`, padding included; an
/// item that is longer alone is a batch of its own.
pub(crate) fn bucket<T>(
    sorted: Vec<T>,
    batch_tokens: usize,
    length: impl Fn(&T) -> usize,
) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let mut batch: Vec<T> = Vec::new();
    for item in sorted {
        if !batch.is_empty() && length(&item) * (batch.len() + 1) > batch_tokens {
            batches.push(std::mem::take(&mut batch));
        }
        batch.push(item);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// A batch as tensors: only targets have a label, so only they count in the loss.
pub(crate) struct Batch {
    /// Token ids, rows padded at their end.
    pub ids: Tensor,
    /// Flat positions that predict a target.
    pub at: Tensor,
    /// The targets.
    pub labels: Tensor,
    /// Their weights in the loss.
    pub weights: Tensor,
    /// Sum of the weights.
    pub weight: f64,
    /// Targets of each row.
    pub targets: Vec<usize>,
    /// Tokens without padding.
    pub tokens: usize,
}

impl Batch {
    pub fn new(examples: &[&Example], first_weight: f32, device: &Device) -> Result<Self> {
        let width = examples.iter().map(|e| e.positions()).max().unwrap_or(1);
        let mut ids = vec![0u32; examples.len() * width];
        let (mut at, mut labels, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for (row, example) in examples.iter().enumerate() {
            let read = example.target.len() - 1;
            let (start, prompt) = (row * width, example.prompt.len());
            ids[start..start + prompt].copy_from_slice(&example.prompt);
            ids[start + prompt..start + prompt + read].copy_from_slice(&example.target[..read]);
            for (n, &label) in example.target.iter().enumerate() {
                at.push((start + prompt - 1 + n) as u32);
                labels.push(label);
                weights.push(if n == 0 { first_weight } else { 1.0 });
            }
        }
        let weight = weights.iter().map(|w| f64::from(*w)).sum();
        let targets = examples.iter().map(|e| e.target.len()).collect();
        let count = labels.len();
        Ok(Self {
            ids: Tensor::from_vec(ids, (examples.len(), width), device)?,
            at: Tensor::from_vec(at, count, device)?,
            labels: Tensor::from_vec(labels, count, device)?,
            weights: Tensor::from_vec(weights, count, device)?,
            weight,
            targets,
            tokens: examples.iter().map(|e| e.positions()).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(prompt: &[u32], target: &[u32]) -> Example {
        Example {
            prompt: prompt.to_vec(),
            target: target.to_vec(),
        }
    }

    #[test]
    fn only_targets_count_in_the_loss() -> Result<()> {
        let (a, b) = (example(&[7, 8, 9], &[5, 6]), example(&[7], &[1, 2, 3]));
        let batch = Batch::new(&[&a, &b], 4.0, &Device::Cpu)?;
        assert_eq!(batch.ids.to_vec2::<u32>()?, [[7, 8, 9, 5], [7, 1, 2, 0]]);
        // The last token of the prompt predicts the first target; the last target is not read.
        assert_eq!(batch.at.to_vec1::<u32>()?, [2, 3, 4, 5, 6]);
        assert_eq!(batch.labels.to_vec1::<u32>()?, [5, 6, 1, 2, 3]);
        assert_eq!(batch.weights.to_vec1::<f32>()?, [4.0, 1.0, 4.0, 1.0, 1.0]);
        assert_eq!((batch.weight, batch.tokens), (11.0, 7));
        Ok(())
    }

    #[test]
    fn an_epoch_holds_every_example_once_within_the_budget() {
        let examples: Vec<Example> = (0..97u32)
            .map(|n| example(&vec![n; 1 + n as usize % 13], &[n, 0]))
            .collect();
        for epoch in 0..3 {
            let plan = plan(&examples, 40, 5, epoch);
            let mut seen: Vec<usize> = plan.iter().flatten().copied().collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..97).collect::<Vec<_>>());
            for batch in &plan {
                let width = batch.iter().map(|&at| examples[at].positions()).max();
                assert!(width.expect("not empty") * batch.len() <= 40);
            }
        }
        assert_ne!(plan(&examples, 40, 5, 0), plan(&examples, 40, 5, 1));
        assert_ne!(plan(&examples, 40, 5, 0), plan(&examples, 40, 6, 0));
    }

    #[test]
    fn a_stream_goes_on_anywhere_as_if_it_had_been_read() {
        let examples: Vec<Example> = (0..30u32).map(|n| example(&[n], &[n, 0])).collect();
        let mut read = Stream::new(&examples, 8, 3, 0).expect("examples");
        let all: Vec<Vec<&Example>> = (0..25).map(|_| read.next()).collect();
        for skip in [0, 1, 7, 8, 20] {
            let mut later = Stream::new(&examples, 8, 3, skip).expect("examples");
            assert_eq!(later.next(), all[skip as usize]);
        }
    }

    #[test]
    fn of_no_examples_there_is_no_stream_wherever_it_would_begin() {
        for skip in [0, 1, 20] {
            assert!(Stream::new(&[], 8, 3, skip).is_none());
        }
    }

    #[test]
    fn an_example_longer_than_the_budget_is_a_batch_alone() {
        let batches = bucket(vec![1, 2, 3, 9], 6, |&n| n);
        assert_eq!(batches, [vec![1, 2], vec![3], vec![9]]);
    }
}
