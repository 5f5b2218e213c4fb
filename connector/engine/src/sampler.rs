//! Sampling with a temperature, by candle's `LogitsProcessor`.
//!
//! Each request has its own generator, seeded by the configured seed and its prompt: what it
//! draws does not depend on its neighbours in the batch. Greedy decoding does not come here.

use aligner::{AlignError, Decoding};
use candle_core::{Device, Tensor};
use candle_transformers::generation::LogitsProcessor;

/// Draws the tokens of one output.
pub(crate) struct Sampler(LogitsProcessor);

impl Sampler {
    /// `None` where decoding is greedy.
    pub(crate) fn new(decoding: &Decoding, prompt: &[u32]) -> Option<Self> {
        if decoding.temperature <= 0.0 {
            return None;
        }
        // FNV-1a over the prompt.
        let seed = prompt
            .iter()
            .fold(decoding.seed ^ 0xcbf2_9ce4_8422_2325, |hash, &token| {
                (hash ^ u64::from(token)).wrapping_mul(0x0100_0000_01b3)
            });
        Some(Self(LogitsProcessor::new(
            seed,
            Some(decoding.temperature),
            decoding.top_p,
        )))
    }

    pub(crate) fn sample(&mut self, logits: &[f32]) -> Result<u32, AlignError> {
        Tensor::from_slice(logits, logits.len(), &Device::Cpu)
            .and_then(|logits| self.0.sample(&logits))
            .map_err(|error| AlignError::Rejected(format!("sampling failed: {error}")))
    }
}
