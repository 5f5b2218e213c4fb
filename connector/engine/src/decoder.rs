//! The weights of a decoder, for every family: read from a checkpoint, and packed at load for the
//! kernels of this machine.

use std::sync::Arc;

use aligner_checkpoint::{Config, Norms, QkNorm};

use crate::{
    LoadError,
    embeddings::Embeddings,
    kernels::{Isa, KvPrecision, Matrix, Precision},
    rows::{NotFinite, Rows},
    weights::Weights,
};

/// How matrices are to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightPrecision {
    F32,
    Q8,
    Q4,
    /// Without loss: blocks that the kernels compute with as they are, the rest in f32.
    AsStored,
}

/// The weights of a decoder, packed for this machine.
pub(crate) struct Decoder {
    pub(crate) config: Config,
    pub(crate) isa: Isa,
    pub(crate) embeddings: Embeddings,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Arc<Matrix>,
    parameters: usize,
}

pub(crate) struct Layer {
    pub(crate) before_attention: Option<Vec<f32>>,
    /// Side by side; more than one where the file holds them in different types.
    pub(crate) qkv: Vec<Matrix>,
    pub(crate) qk_norms: Option<(Vec<f32>, Vec<f32>)>,
    pub(crate) out: Matrix,
    pub(crate) after_attention: Option<Vec<f32>>,
    pub(crate) before_ffn: Option<Vec<f32>>,
    pub(crate) gate_up: Vec<Matrix>,
    pub(crate) down: Matrix,
    pub(crate) after_ffn: Option<Vec<f32>>,
}

impl Layer {
    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let joined = self.qkv.iter().chain(&self.gate_up);
        joined.chain([&self.out, &self.down])
    }
}

impl Decoder {
    pub(crate) fn load(
        config: Config,
        weights: &Weights<'_>,
        precision: WeightPrecision,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        let Config { hidden, vocab, .. } = config;
        let loader = Loader {
            config: &config,
            weights,
            precision,
            isa,
        };
        let head = weights.head(vocab, hidden)?;
        let embeddings = match weights.matrix("embed_tokens.weight", vocab, hidden) {
            Ok(embeddings) => embeddings,
            // Of two tied matrices a file may hold either.
            Err(error) => match (config.tied, weights.head(vocab, hidden)?) {
                (true, Some(head)) => head,
                _ => return Err(error),
            },
        };
        // A head that stands in the file is used: files that say "tied" and hold two different
        // matrices exist, and transformers reads them so.
        let tied = head.is_none();
        let (rows, name) = match &head {
            Some(head) => (head, "lm_head.weight".to_owned()),
            None if config.tied => (&embeddings, weights.whole_name("embed_tokens.weight")),
            None => return Err(weights.missing("lm_head.weight")),
        };
        let head = loader.packed_rows(std::slice::from_ref(rows), hidden, |_| name.clone())?;
        let layers = (0..config.layers.len())
            .map(|index| loader.layer(index))
            .collect::<Result<Vec<_>, _>>()?;
        let mut norm = loader.norm("norm", hidden)?;
        // What divides the logits may as well divide what they are products of.
        norm.iter_mut()
            .for_each(|weight| *weight /= config.logits_divisor);
        let head = Arc::new(head);
        let embeddings = Embeddings::of(embeddings, &head, tied);
        let count = |matrix: &Matrix| matrix.n * matrix.k;
        let parameters = vocab * hidden
            + if tied { 0 } else { count(&head) }
            + layers
                .iter()
                .flat_map(Layer::matrices)
                .map(count)
                .sum::<usize>()
            + (2 * config.layers.len() + 1) * hidden;
        Ok(Self {
            config,
            isa,
            embeddings,
            layers,
            norm,
            head,
            parameters,
        })
    }

    /// Weights of the matrices and norms.
    pub(crate) fn parameters(&self) -> usize {
        self.parameters
    }

    fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.layers
            .iter()
            .flat_map(Layer::matrices)
            .chain([&*self.head])
    }

    /// How the products run.
    pub(crate) fn dtype(&self) -> &'static str {
        let has = |precision| {
            self.matrices()
                .any(|matrix| matrix.precision() == precision)
        };
        let kinds = [Precision::F32, Precision::Q8, Precision::Q6, Precision::Q4];
        match kinds.map(has) {
            [true, false, false, false] => "f32",
            [false, true, false, false] => "q8_0",
            [false, false, true, false] => "q6_k",
            [false, false, false, true] => "q4_k",
            [true, true, false, false] => "mixed f32 and q8_0",
            [false, true, false, true] => "mixed q4_k and q8_0",
            [false, false, true, true] => "mixed q4_k and q6_k",
            [true, ..] => "mixed, in part f32",
            _ => "mixed",
        }
    }

    /// Of most of its products.
    pub(crate) fn main_precision(&self) -> Precision {
        self.layers[0].gate_up[0].precision()
    }

    /// Multiply-adds of a row in all layers.
    pub(crate) fn row_multiply_adds(&self) -> usize {
        let matrices = self.layers.iter().flat_map(Layer::matrices);
        matrices.map(|matrix| matrix.n * matrix.k).sum()
    }

    /// How keys and values are held.
    pub(crate) fn kv_precision(&self) -> KvPrecision {
        let exact = |matrix: &Matrix| matrix.precision() == Precision::F32;
        if self.matrices().any(exact) {
            KvPrecision::F32
        } else {
            KvPrecision::F16
        }
    }

    /// Bytes that one decoding step reads.
    pub(crate) fn bytes(&self) -> usize {
        self.matrices().map(Matrix::bytes).sum()
    }
}

/// A decoder of the fixtures.
#[cfg(test)]
pub(crate) fn fixture(family: &str, precision: WeightPrecision, isa: Isa) -> Decoder {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(family);
    let files = crate::source::Files::Folder(folder);
    let bytes = files
        .required("config.json", "it is a fixture")
        .expect("readable");
    let json = aligner_checkpoint::Json::parse("config.json", &bytes).expect("an object");
    let config = Config::read(&json).expect("valid");
    let weights = Weights::open(&files).expect("opens");
    Decoder::load(config, &weights, precision, isa).expect("loads")
}

/// A product of a layer.
struct Part {
    name: &'static str,
    /// Its outputs.
    n: usize,
    /// Of outputs that are heads and rotate: how many components of each do, the first ones.
    rotated: Option<usize>,
}

impl Part {
    fn of(name: &'static str, n: usize) -> Self {
        let rotated = None;
        Self { name, n, rotated }
    }
}

struct Loader<'a> {
    config: &'a Config,
    weights: &'a Weights<'a>,
    precision: WeightPrecision,
    isa: Isa,
}

impl Loader<'_> {
    fn layer(&self, index: usize) -> Result<Layer, LoadError> {
        let config = self.config;
        let Config {
            hidden, ffn, head, ..
        } = *config;
        let rope = &config.ropes[config.layers[index].rope];
        let heads = |name, heads: usize| Part::of(name, heads * head);
        let rotating = |name, count| Part {
            rotated: Some(2 * rope.rotated),
            ..heads(name, count)
        };
        let named = |name: &str| format!("layers.{index}.{name}");
        let alone = |part, k, bias| -> Result<Matrix, LoadError> {
            let mut matrices = self.packed(index, None, &[part], k, bias)?;
            Ok(matrices.pop().expect("a matrix for each name"))
        };
        let joined = |fused: &'static str, parts: &[Part], bias| {
            let fused = config.fused.then_some(fused);
            self.packed(index, fused, parts, hidden, bias)
        };
        let qk_norms = match config.qk_norm {
            None => None,
            Some(of) => {
                let (q, k) = match of {
                    QkNorm::Head => (head, head),
                    QkNorm::Projection => (config.heads * head, config.kv_heads * head),
                };
                Some((
                    self.norm(&named("self_attn.q_norm"), q)?,
                    self.norm(&named("self_attn.k_norm"), k)?,
                ))
            }
        };
        // With norms of what comes out, "post_attention" is what it says; without, it stands before the
        // FFN.
        let [before_attention, after_attention, before_ffn, after_ffn] = match config.norms {
            Norms::Before => [
                Some("input_layernorm"),
                None,
                Some("post_attention_layernorm"),
                None,
            ],
            Norms::After => [
                None,
                Some("post_attention_layernorm"),
                None,
                Some("post_feedforward_layernorm"),
            ],
            Norms::Around => [
                Some("input_layernorm"),
                Some("post_attention_layernorm"),
                Some("pre_feedforward_layernorm"),
                Some("post_feedforward_layernorm"),
            ],
        };
        let norm =
            |name: Option<&str>| name.map(|name| self.norm(&named(name), hidden)).transpose();
        Ok(Layer {
            before_attention: norm(before_attention)?,
            qkv: joined(
                "self_attn.qkv_proj",
                &[
                    rotating("self_attn.q_proj", config.heads),
                    rotating("self_attn.k_proj", config.kv_heads),
                    heads("self_attn.v_proj", config.kv_heads),
                ],
                config.qkv_bias,
            )?,
            qk_norms,
            out: alone(
                Part::of("self_attn.o_proj", hidden),
                config.heads * head,
                config.out_bias,
            )?,
            after_attention: norm(after_attention)?,
            before_ffn: norm(before_ffn)?,
            gate_up: joined(
                "mlp.gate_up_proj",
                &[Part::of("mlp.gate_proj", ffn), Part::of("mlp.up_proj", ffn)],
                config.mlp_bias,
            )?,
            down: alone(Part::of("mlp.down_proj", hidden), ffn, config.mlp_bias)?,
            after_ffn: norm(after_ffn)?,
        })
    }

    /// Several matrices of the same input, joined as far as they are held alike; `fused` is what the
    /// file calls them where they are one tensor.
    fn packed(
        &self,
        index: usize,
        fused: Option<&str>,
        parts: &[Part],
        k: usize,
        bias: bool,
    ) -> Result<Vec<Matrix>, LoadError> {
        let named = |name: &str, suffix| format!("layers.{index}.{name}.{suffix}");
        let stored = |name, n| self.weights.matrix(&named(name, "weight"), n, k);
        let whole;
        let rows = match fused {
            None => parts
                .iter()
                .map(|part| stored(part.name, part.n))
                .collect::<Result<Vec<_>, _>>()?,
            Some(name) => {
                let counts: Vec<usize> = parts.iter().map(|part| part.n).collect();
                whole = stored(name, counts.iter().sum())?;
                whole.parts(&counts)
            }
        };
        let in_part = |part: &Part| part.rotated.is_some_and(|n| n > 0 && n < self.config.head);
        let plain = fused.is_none() && !parts.iter().any(in_part);
        assert!(
            plain || !bias && self.config.qk_norm.is_none(),
            "no family that fuses products or rotates parts of heads has biases or norms of them"
        );
        let rows: Vec<Rows<'_>> = rows
            .into_iter()
            .zip(parts)
            .map(|(rows, part)| match part.rotated {
                Some(rotated) => rows.rotated_first(self.config.head, rotated),
                None => rows,
            })
            .collect();
        let mut parts = parts;
        rows.chunk_by(|a, b| self.precision(a) == self.precision(b))
            .map(|alike| {
                let (held, rest) = parts.split_at(alike.len());
                parts = rest;
                let name = |part: usize| {
                    let name = fused.unwrap_or(held[part].name);
                    self.weights.whole_name(&named(name, "weight"))
                };
                let mut matrix = self.packed_rows(alike, k, name)?;
                let mut first = 0;
                for part in held {
                    if bias {
                        let values = self.weights.vector(&named(part.name, "bias"), part.n)?;
                        matrix.set_bias(first, &values);
                    }
                    first += part.n;
                }
                Ok(matrix)
            })
            .collect()
    }

    fn precision(&self, rows: &Rows<'_>) -> Precision {
        match self.precision {
            WeightPrecision::F32 => Precision::F32,
            WeightPrecision::Q8 => Precision::Q8,
            WeightPrecision::Q4 => Precision::Q4,
            WeightPrecision::AsStored => rows.exact(),
        }
    }

    /// Parts that are held alike, as one; `name` is the whole name of each.
    fn packed_rows(
        &self,
        parts: &[Rows<'_>],
        k: usize,
        name: impl Fn(usize) -> String,
    ) -> Result<Matrix, LoadError> {
        let n = parts.iter().map(Rows::count).sum();
        let precision = self.precision(&parts[0]);
        let narrow = parts[0].narrow().filter(|&kind| {
            precision == Precision::F32
                && self.isa.floats.widens(kind)
                && parts.iter().all(|rows| rows.narrow() == Some(kind))
        });
        let mut matrix = match narrow {
            Some(kind) => Matrix::empty_narrow(n, k, kind, self.isa),
            None => Matrix::empty(n, k, precision, self.isa),
        };
        let mut first = 0;
        for (index, rows) in parts.iter().enumerate() {
            rows.pack(&mut matrix, first).map_err(|NotFinite| {
                let problem = "holds values that are not finite, which integers cannot say: the weights are \
                               broken, or overflowed when they were stored in fewer bits";
                self.weights.problem(&name(index), problem.to_owned())
            })?;
            first += rows.count();
        }
        Ok(matrix)
    }

    fn norm(&self, name: &str, n: usize) -> Result<Vec<f32>, LoadError> {
        let mut weight = self.weights.vector(&format!("{name}.weight"), n)?;
        if self.config.norm_offset {
            weight.iter_mut().for_each(|weight| *weight += 1.0);
        }
        Ok(weight)
    }
}
