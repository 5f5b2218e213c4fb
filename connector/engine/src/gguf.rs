//! Checkpoints as one GGUF file, read by candle.
//!
//! Its metadata becomes a [`Config`], its tensors answer to their Hugging Face names. Q8_0,
//! Q4_0, Q4_K and Q6_K are computed with as they are stored; every other type that candle knows
//! (Q4_1, Q5, the other K-quants, F16, BF16) is widened to f32 exactly, unless a smaller type was
//! asked for.

use std::{
    borrow::Cow,
    cell::RefCell,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use candle_core::{
    Device,
    quantized::{
        GgmlDType,
        gguf_file::{Content, Value},
    },
};

use crate::{
    LoadError,
    config::{Config, Layer},
    gguf_sample::Sample,
    gguf_text,
    kernels::Activation,
    rope::{Rope, Yarn},
    rows::{Rows, Stored},
};

/// An open GGUF file.
pub(crate) struct GgufFile {
    name: String,
    path: PathBuf,
    content: Content,
    reader: RefCell<BufReader<File>>,
    architecture: String,
}

const ARCHITECTURES: &str = "llama, qwen2, qwen3, gemma, gemma2, gemma3";

impl GgufFile {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into());
        let file = File::open(path).map_err(|source| LoadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut reader = BufReader::new(file);
        let content = Content::read(&mut reader).map_err(|error| LoadError::Malformed {
            file: name.clone(),
            problem: error.to_string(),
        })?;
        let mut file = Self {
            name,
            path: path.to_owned(),
            content,
            reader: RefCell::new(reader),
            architecture: String::new(),
        };
        file.architecture = file.text("general.architecture")?;
        Ok(file)
    }

    /// The file's name, for errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// `tokenizer.json` made from the metadata, if the file has a tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Option<Vec<u8>>, LoadError> {
        gguf_text::tokenizer_json(&self.content.metadata)
            .map_err(|(key, problem)| self.problem(key, problem))
    }

    /// Tokens by which a `tokenizer.json` beside the file is known, if the file has any.
    pub(crate) fn sample(&self) -> Result<Option<Sample>, LoadError> {
        Sample::of(&self.name, &self.content.metadata)
            .map_err(|(key, problem)| self.problem(key, problem))
    }

    /// What the metadata says about the decoder.
    pub(crate) fn config(&self) -> Result<Config, LoadError> {
        let family = self.architecture.clone();
        if !ARCHITECTURES.split(", ").any(|known| known == family) {
            return Err(LoadError::Unsupported {
                file: self.name.clone(),
                key: "general.architecture".to_owned(),
                value: family,
                supported: ARCHITECTURES,
            });
        }
        let gemma = family.starts_with("gemma");
        let (gemma2, gemma3) = (family == "gemma2", family == "gemma3");
        let hidden = self.size("embedding_length", None)?;
        let heads = self.size("attention.head_count", None)?;
        let kv_heads = self.size("attention.head_count_kv", Some(heads))?;
        let head = self.size("attention.key_length", Some(hidden / heads))?;
        let count = self.size("block_count", None)?;
        let vocab = self.tensor_shape("token_embd.weight")?[0];
        // As llama.cpp has it: the largest Gemma 2 and 3 scale by their width over heads.
        let per_head = match (gemma2, gemma3, count) {
            (true, _, 46) | (_, true, 62) => hidden / heads,
            _ => head,
        };
        let window = match self.size("attention.sliding_window", Some(0))? {
            0 => None,
            window => Some(window),
        };
        let sliding = |layer: usize| {
            (gemma2 && layer.is_multiple_of(2)) || (gemma3 && !(layer + 1).is_multiple_of(6))
        };
        let ropes = if gemma3 {
            vec![self.rope(head, 1e6)?, Rope::plain(1e4, head)]
        } else {
            vec![self.rope(head, 1e4)?]
        };
        let softcap = |key: &str| self.number(key).map(|cap| cap as f32);
        let mut eos = Vec::new();
        for key in ["eos_token_id", "eot_token_id"] {
            let id = self.content.metadata.get(&format!("tokenizer.ggml.{key}"));
            eos.extend(id.and_then(|id| id.to_u32().ok()));
        }
        Ok(Config {
            hidden,
            ffn: self.size("feed_forward_length", None)?,
            heads,
            kv_heads,
            head,
            vocab,
            context: self.size("context_length", None)?,
            epsilon: self
                .number("attention.layer_norm_rms_epsilon")
                .unwrap_or(1e-6) as f32,
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            layers: (0..count)
                .map(|layer| Layer {
                    window: window.filter(|_| sliding(layer)),
                    rope: usize::from(gemma3 && sliding(layer)),
                })
                .collect(),
            ropes,
            tied: !self.has("output.weight"),
            qkv_bias: self.has("blk.0.attn_q.bias"),
            out_bias: self.has("blk.0.attn_output.bias"),
            mlp_bias: self.has("blk.0.ffn_down.bias"),
            qk_norm: self.has("blk.0.attn_q_norm.weight"),
            // The conversion has added the one already.
            norm_offset: false,
            post_norms: gemma2 || gemma3,
            attention_softcap: softcap("attn_logit_softcapping"),
            final_softcap: softcap("final_logit_softcapping"),
            query_scale: (per_head as f64).powf(-0.5) as f32,
            embed_scale: if gemma {
                (hidden as f64).sqrt() as f32
            } else {
                1.0
            },
            eos,
            family,
        })
    }

    fn rope(&self, head: usize, default_theta: f64) -> Result<Rope, LoadError> {
        let theta = self.number("rope.freq_base").unwrap_or(default_theta);
        let mut rope = Rope::plain(theta, head);
        let key = format!("{}.rope.scaling.type", self.architecture);
        match self
            .content
            .metadata
            .get(&key)
            .map(|kind| kind.to_string().cloned())
        {
            Some(Ok(kind)) if kind == "none" => {}
            // A factor without a kind stretches linearly, as llama.cpp has it.
            kind if kind.is_none() || matches!(&kind, Some(Ok(kind)) if kind == "linear") => {
                rope = rope.linear(self.scaling_factor()?);
            }
            Some(Ok(kind)) if kind == "yarn" => {
                let context = self.size("context_length", None)?;
                let original = self.size("rope.scaling.original_context_length", Some(context))?;
                let factor = self.scaling_factor()?;
                let given = |key: &str| self.number(&format!("rope.scaling.{key}"));
                for (key, plain) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
                    if let Some(value) = given(key).filter(|value| *value != plain) {
                        return Err(LoadError::Unsupported {
                            file: self.name.clone(),
                            key: format!("{}.rope.scaling.{key}", self.architecture),
                            value: value.to_string(),
                            supported: "no value of its own",
                        });
                    }
                }
                // The first is the whole of it, as transformers' attention_factor; the second comes on
                // top of the temperature.
                let magnitude = given("yarn_attn_factor")
                    .unwrap_or_else(|| Yarn::magnitude(1.0, factor))
                    * given("attn_factor").unwrap_or(1.0);
                rope = rope.yarn(&Yarn {
                    theta,
                    factor,
                    original: original as f64,
                    magnitude,
                    fast: given("yarn_beta_fast").unwrap_or(32.0),
                    slow: given("yarn_beta_slow").unwrap_or(1.0),
                    truncate: true,
                });
            }
            other => {
                return Err(LoadError::Unsupported {
                    file: self.name.clone(),
                    key,
                    value: other.and_then(Result::ok).unwrap_or_default(),
                    supported: "none, linear, yarn",
                });
            }
        }
        // Llama 3's scaling comes as a tensor of divisors.
        if self.has("rope_freqs.weight") {
            let divisors = self.tensor("rope_freqs.weight", &[rope.frequencies.len()])?;
            let mut values = vec![1.0; rope.frequencies.len()];
            divisors.row(0, &mut values);
            rope.frequencies
                .iter_mut()
                .zip(values)
                .for_each(|(f, divisor)| *f /= divisor);
        }
        Ok(rope)
    }

    /// How many times the context was stretched; 1 where nothing is said.
    fn scaling_factor(&self) -> Result<f64, LoadError> {
        let key = "rope.scaling.factor";
        match self
            .number(key)
            .or_else(|| self.number("rope.scale_linear"))
        {
            None => Ok(1.0),
            Some(factor) if factor > 0.0 => Ok(factor),
            Some(factor) => Err(self.problem(
                format!("{}.{key}", self.architecture),
                format!("is {factor}; it must be a number above 0"),
            )),
        }
    }

    /// A tensor by its Hugging Face name (or its own), of the given shape.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Rows<'_>, LoadError> {
        let own = self.own_name(name);
        let found = self.tensor_shape(&own)?;
        if found != shape {
            return Err(self.tensor_problem(
                &own,
                format!("has shape {found:?}; the metadata says {shape:?}"),
            ));
        }
        let read = |error: candle_core::Error| self.tensor_problem(&own, error.to_string());
        let tensor = self
            .content
            .tensor(&mut *self.reader.borrow_mut(), &own, &Device::Cpu)
            .map_err(read)?;
        let stored = match tensor.dtype() {
            GgmlDType::F32 => Some(Stored::F32),
            GgmlDType::F16 => Some(Stored::F16),
            GgmlDType::BF16 => Some(Stored::Bf16),
            GgmlDType::Q8_0 => Some(Stored::Q8_0),
            GgmlDType::Q4_0 => Some(Stored::Q4_0),
            GgmlDType::Q4K => Some(Stored::Q4K),
            GgmlDType::Q6K => Some(Stored::Q6K),
            _ => None,
        };
        let rows = match stored {
            Some(stored) => Rows::new(
                Cow::Owned(tensor.data().map_err(read)?.into_owned()),
                stored,
                shape,
            ),
            None => {
                let widened = tensor
                    .dequantize(&Device::Cpu)
                    .and_then(|values| values.flatten_all()?.to_vec1::<f32>())
                    .map_err(read)?;
                let bytes = widened.into_iter().flat_map(f32::to_le_bytes).collect();
                Rows::new(Cow::Owned(bytes), Stored::F32, shape)
            }
        };
        let (stem, _) = own.rsplit_once('.').unwrap_or((own.as_str(), ""));
        let rotates = stem.ends_with(".attn_q") || stem.ends_with(".attn_k");
        if self.architecture == "llama" && rotates {
            let heads = self.size("attention.head_count", None)?;
            let hidden = self.size("embedding_length", None)?;
            let head = self.size("attention.key_length", Some(hidden / heads))?;
            // A bias has a component for each row of its weight, and follows them.
            return Ok(match shape {
                [_] => rows.deinterleaved(head),
                _ => rows.interleaved(head),
            });
        }
        Ok(rows)
    }

    /// llama.cpp's name of a tensor.
    fn own_name(&self, name: &str) -> String {
        let (stem, suffix) = name.rsplit_once('.').unwrap_or((name, "weight"));
        let post_norms = matches!(self.architecture.as_str(), "gemma2" | "gemma3");
        let Some((layer, part)) = stem
            .strip_prefix("layers.")
            .and_then(|rest| rest.split_once('.'))
        else {
            let own = match stem {
                "embed_tokens" => "token_embd",
                "norm" => "output_norm",
                "lm_head" => "output",
                other => other,
            };
            return format!("{own}.{suffix}");
        };
        let own = match part {
            "input_layernorm" => "attn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "post_attention_layernorm" if post_norms => "post_attention_norm",
            "post_attention_layernorm" | "pre_feedforward_layernorm" => "ffn_norm",
            "post_feedforward_layernorm" => "post_ffw_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            other => other,
        };
        format!("blk.{layer}.{own}.{suffix}")
    }

    /// Whether it has a tensor of this name of its own.
    pub(crate) fn has(&self, tensor: &str) -> bool {
        self.content.tensor_infos.contains_key(tensor)
    }

    fn tensor_shape(&self, tensor: &str) -> Result<Vec<usize>, LoadError> {
        let found = self.content.tensor_infos.get(tensor);
        let shape = found.map(|found| found.shape.dims().to_vec());
        shape.ok_or_else(|| self.tensor_problem(tensor, "is missing".to_owned()))
    }

    fn number(&self, key: &str) -> Option<f64> {
        let value = self
            .content
            .metadata
            .get(&format!("{}.{key}", self.architecture))?;
        value
            .to_f32()
            .map(f64::from)
            .or_else(|_| value.to_f64())
            .ok()
    }

    fn size(&self, key: &str, default: Option<usize>) -> Result<usize, LoadError> {
        let key = format!("{}.{key}", self.architecture);
        match (self.content.metadata.get(&key), default) {
            (Some(value), _) => value
                .to_u64()
                .ok()
                .and_then(|size| usize::try_from(size).ok())
                .ok_or_else(|| self.problem(key, "is not a size".to_owned())),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.problem(key, "is missing".to_owned())),
        }
    }

    fn text(&self, key: &str) -> Result<String, LoadError> {
        self.content
            .metadata
            .get(key)
            .and_then(|value: &Value| value.to_string().ok().cloned())
            .ok_or_else(|| self.problem(key.to_owned(), "is missing or no text".to_owned()))
    }

    fn problem(&self, key: String, problem: String) -> LoadError {
        LoadError::Key {
            file: self.name.clone(),
            key,
            problem,
        }
    }

    fn tensor_problem(&self, name: &str, problem: String) -> LoadError {
        LoadError::Tensor {
            origin: self.path.display().to_string(),
            name: name.to_owned(),
            problem,
        }
    }
}
