//! The decoder that is trained: Llama, on plain tensors, under Hugging Face's names.
//!
//! Rows are padded at their end. Attention is causal, so nothing that counts ever sees the
//! padding, and no mask for it is needed. The vocabulary head is computed only where a label
//! stands.

use std::collections::{BTreeMap, HashMap};

use candle_core::{D, DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    kernels::{Rotary, causal_softmax, rms_norm, swiglu},
    shape::Shape,
};

pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
const LAST_NORM: &str = "model.norm.weight";

/// Number formats that the engine reads: others are of quantised checkpoints.
const STORED: [DType; 3] = [DType::F32, DType::F16, DType::BF16];

/// A decoder whose weights can be trained.
pub(crate) struct Model {
    shape: Shape,
    weights: BTreeMap<String, Var>,
    rotary: Rotary,
}

/// Every weight's name and size.
pub(crate) fn layout(shape: &Shape) -> BTreeMap<String, Vec<usize>> {
    let Shape {
        vocabulary,
        hidden,
        ffn,
        head,
        ..
    } = *shape;
    let (queries, keys) = (shape.heads * head, shape.kv_heads * head);
    let mut sizes = BTreeMap::from([
        (EMBEDDING.to_owned(), vec![vocabulary, hidden]),
        (LAST_NORM.to_owned(), vec![hidden]),
    ]);
    if !shape.tied {
        sizes.insert(HEAD.to_owned(), vec![vocabulary, hidden]);
    }
    for layer in 0..shape.layers {
        for (name, size) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("mlp.gate_proj", vec![ffn, hidden]),
            ("mlp.up_proj", vec![ffn, hidden]),
            ("mlp.down_proj", vec![hidden, ffn]),
        ] {
            sizes.insert(format!("model.layers.{layer}.{name}.weight"), size);
        }
    }
    sizes
}

impl Model {
    /// A decoder with the given weights, raised to f32; says which is missing, of another size, or
    /// stored as the engine reads none.
    pub fn with_weights(
        shape: Shape,
        mut given: HashMap<String, Tensor>,
        device: &Device,
    ) -> Result<std::result::Result<Self, String>> {
        // The engine and transformers use a head that stands in the file, whatever config.json
        // says of it: training would leave it out, and make another model than they run.
        if shape.tied
            && let (Some(head), Some(embedding)) = (given.get(HEAD), given.get(EMBEDDING))
            && !same(head, embedding)?
        {
            return Ok(Err(format!(
                "weight {HEAD} is not {EMBEDDING}, and config.json says that they are tied; set \
                 tie_word_embeddings to false there"
            )));
        }
        let mut weights = BTreeMap::new();
        for (name, size) in layout(&shape) {
            let Some(tensor) = given.remove(&name) else {
                return Ok(Err(format!("weight {name} is missing")));
            };
            if tensor.dims() != size {
                return Ok(Err(format!(
                    "weight {name} is {:?}, and config.json says {size:?}",
                    tensor.dims()
                )));
            }
            if !STORED.contains(&tensor.dtype()) {
                return Ok(Err(format!(
                    "weight {name} is stored as {:?}, and only F32, F16 and BF16 can be trained",
                    tensor.dtype()
                )));
            }
            let tensor = tensor.to_device(device)?.to_dtype(DType::F32)?;
            weights.insert(name, Var::from_tensor(&tensor.contiguous()?)?);
        }
        Ok(Ok(Self::new(shape, weights)))
    }

    /// A decoder with random weights: the same for a seed on every device.
    pub fn random(shape: Shape, seed: u64, device: &Device) -> Result<Self> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let shrink = 1.0 / (2.0 * shape.layers as f32).sqrt();
        let mut weights = BTreeMap::new();
        for (name, size) in layout(&shape) {
            let count = size.iter().product();
            let values: Vec<f32> = if size.len() == 1 {
                vec![1.0; count]
            } else {
                let wide = name == EMBEDDING || name == HEAD;
                let residual =
                    name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                let spread = match (wide, residual) {
                    (true, _) => 0.02,
                    (_, false) => 0.6 / (size[1] as f32).sqrt(),
                    // The sum over layers keeps the size that one layer has.
                    (_, true) => shrink * 0.6 / (size[1] as f32).sqrt(),
                };
                (0..count).map(|_| spread * normal(&mut random)).collect()
            };
            let tensor = Tensor::from_vec(values, size, device)?;
            weights.insert(name, Var::from_tensor(&tensor)?);
        }
        Ok(Self::new(shape, weights))
    }

    fn new(shape: Shape, weights: BTreeMap<String, Var>) -> Self {
        let rotary = Rotary::new(shape.head, shape.rope_theta, shape.context);
        Self {
            shape,
            weights,
            rotary,
        }
    }

    pub fn weights(&self) -> &BTreeMap<String, Var> {
        &self.weights
    }

    pub fn parameters(&self) -> u64 {
        self.weights
            .values()
            .map(|weight| weight.elem_count() as u64)
            .sum()
    }

    fn weight(&self, name: &str) -> &Tensor {
        self.weights
            .get(name)
            .expect("layout() names every weight that the decoder asks for")
    }

    /// Logits at the flat positions `at` of the padded batch `ids` (rows, positions).
    pub fn logits(&self, ids: &Tensor, at: &Tensor) -> Result<Tensor> {
        let (rows, steps) = ids.dims2()?;
        let embedding = self.weight(EMBEDDING);
        let mut x = embedding.index_select(&ids.flatten_all()?, 0)?;
        for layer in 0..self.shape.layers {
            x = self.block(&x, layer, rows, steps)?;
        }
        let x = x.index_select(at, 0)?;
        let x = rms_norm(&x, self.weight(LAST_NORM), self.shape.norm_epsilon)?;
        let head = if self.shape.tied {
            embedding
        } else {
            self.weight(HEAD)
        };
        x.matmul(&head.t()?)
    }

    fn block(&self, x: &Tensor, layer: usize, rows: usize, steps: usize) -> Result<Tensor> {
        let weight = |name: &str| self.weight(&format!("model.layers.{layer}.{name}.weight"));
        let linear = |x: &Tensor, name: &str| x.matmul(&weight(name).t()?);
        let norm = |x: &Tensor, name: &str| rms_norm(x, weight(name), self.shape.norm_epsilon);
        let Shape {
            heads,
            kv_heads,
            head,
            ..
        } = self.shape;
        let split = |x: Tensor, heads: usize| {
            x.reshape((rows, steps, heads, head))?
                .transpose(1, 2)?
                .contiguous()
        };

        let y = norm(x, "input_layernorm")?;
        let q = self
            .rotary
            .rotate(&split(linear(&y, "self_attn.q_proj")?, heads)?)?;
        let k = self
            .rotary
            .rotate(&split(linear(&y, "self_attn.k_proj")?, kv_heads)?)?;
        let v = split(linear(&y, "self_attn.v_proj")?, kv_heads)?;
        let (k, v) = (self.repeated(k)?, self.repeated(v)?);
        let scores = q.matmul(&k.transpose(D::Minus2, D::Minus1)?)?;
        let shares = causal_softmax(&scores, 1.0 / (head as f64).sqrt())?;
        let y = shares
            .matmul(&v)?
            .transpose(1, 2)?
            .reshape((rows * steps, heads * head))?;
        let x = (x + linear(&y, "self_attn.o_proj")?)?;

        let y = norm(&x, "post_attention_layernorm")?;
        let y = swiglu(&linear(&y, "mlp.gate_proj")?, &linear(&y, "mlp.up_proj")?)?;
        x + linear(&y, "mlp.down_proj")?
    }

    /// Each key head once for every query head that shares it.
    fn repeated(&self, x: Tensor) -> Result<Tensor> {
        let share = self.shape.heads / self.shape.kv_heads;
        if share == 1 {
            return Ok(x);
        }
        let (rows, kv_heads, steps, head) = x.dims4()?;
        x.unsqueeze(2)?
            .expand((rows, kv_heads, share, steps, head))?
            .contiguous()?
            .reshape((rows, kv_heads * share, steps, head))
    }
}

/// Whether two matrices hold the same numbers, in whatever formats.
fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.dims() != b.dims() {
        return Ok(false);
    }
    let (a, b) = (a.to_dtype(DType::F32)?, b.to_dtype(DType::F32)?);
    Ok(a.ne(&b)?.max_all()?.to_scalar::<u8>()? == 0)
}

/// A standard normal number (Box and Muller).
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.random::<f64>()).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn tiny(heads: usize, kv_heads: usize, tied: bool) -> Shape {
        Shape {
            vocabulary: 11,
            hidden: 8,
            ffn: 16,
            layers: 2,
            heads,
            kv_heads,
            head: 4,
            context: 32,
            norm_epsilon: 1e-5,
            rope_theta: 10_000.0,
            tied,
        }
    }

    fn logits(model: &Model, rows: &[&[u32]], at: &[u32]) -> Result<Vec<Vec<f32>>> {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut flat = Vec::new();
        for row in rows {
            flat.extend(row.iter().copied());
            flat.resize(flat.len().next_multiple_of(width), 0);
        }
        let ids = Tensor::from_vec(flat, (rows.len(), width), &Device::Cpu)?;
        model
            .logits(&ids, &Tensor::new(at, &Device::Cpu)?)?
            .to_vec2()
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours_or_its_padding() -> Result<()> {
        for (heads, kv_heads, tied) in [(2, 2, true), (4, 2, false)] {
            let model = Model::random(tiny(heads, kv_heads, tied), 3, &Device::Cpu)?;
            let alone = logits(&model, &[&[1, 2, 3]], &[0, 2])?;
            let among = logits(&model, &[&[1, 2, 3], &[4, 5, 6, 7, 8]], &[0, 2])?;
            for (a, b) in alone.iter().flatten().zip(among.iter().flatten()) {
                assert!((a - b).abs() < 1e-5);
            }
        }
        Ok(())
    }

    #[test]
    fn later_tokens_never_change_earlier_logits() -> Result<()> {
        let model = Model::random(tiny(2, 1, true), 3, &Device::Cpu)?;
        let a = logits(&model, &[&[1, 2, 3, 4]], &[1])?;
        let b = logits(&model, &[&[1, 2, 9, 9]], &[1])?;
        assert_eq!(a, b);
        Ok(())
    }

    /// The weights of a random decoder, as a file has them.
    fn stored(shape: Shape) -> Result<HashMap<String, Tensor>> {
        let model = Model::random(shape, 1, &Device::Cpu)?;
        let weights = model.weights().iter();
        Ok(weights
            .map(|(name, weight)| (name.clone(), weight.as_tensor().clone()))
            .collect())
    }

    #[test]
    fn a_head_beside_tied_embeddings_is_them_or_is_refused() -> Result<()> {
        let read = |weights| Model::with_weights(tiny(2, 2, true), weights, &Device::Cpu);
        let mut weights = stored(tiny(2, 2, false))?;
        assert_eq!(
            read(weights.clone())?.err().expect("refused"),
            "weight lm_head.weight is not model.embed_tokens.weight, and config.json says that \
             they are tied; set tie_word_embeddings to false there"
        );
        let embedding = weights[EMBEDDING].to_dtype(DType::BF16)?;
        weights.insert(HEAD.to_owned(), embedding.to_dtype(DType::F32)?);
        weights.insert(EMBEDDING.to_owned(), embedding.clone());
        let tied = read(weights.clone())?.expect("the same numbers");
        assert!(!tied.weights().contains_key(HEAD));
        // Of another size it would not be the embeddings' either.
        weights.insert(HEAD.to_owned(), embedding.narrow(0, 0, 3)?);
        assert!(read(weights)?.is_err());
        Ok(())
    }

    #[test]
    fn a_weight_in_a_format_of_quantised_files_is_refused() -> Result<()> {
        let mut weights = stored(tiny(2, 2, true))?;
        let norm = weights[LAST_NORM].to_dtype(DType::U8)?;
        weights.insert(LAST_NORM.to_owned(), norm);
        let read = Model::with_weights(tiny(2, 2, true), weights, &Device::Cpu)?;
        assert_eq!(
            read.err().expect("refused"),
            "weight model.norm.weight is stored as U8, and only F32, F16 and BF16 can be trained"
        );
        Ok(())
    }

    #[test]
    fn a_missing_or_misshapen_weight_is_named() -> Result<()> {
        let missing = Model::with_weights(tiny(2, 2, true), HashMap::new(), &Device::Cpu)?;
        assert_eq!(
            missing.err().expect("refused"),
            "weight model.embed_tokens.weight is missing"
        );
        let mut weights = stored(tiny(2, 2, true))?;
        weights.insert(
            "model.norm.weight".into(),
            Tensor::zeros(3, DType::F32, &Device::Cpu)?,
        );
        let misshapen = Model::with_weights(tiny(2, 2, true), weights, &Device::Cpu)?;
        assert_eq!(
            misshapen.err().expect("refused"),
            "weight model.norm.weight is [3], and config.json says [8]"
        );
        Ok(())
    }
}
