//! Checkpoints as one GGUF file, read by candle.
//!
//! Its metadata becomes a [`Config`], its tensors answer to their Hugging Face names. Q8_0,
//! Q4_0, Q4_K and Q6_K are computed with as they are stored; every other type that candle knows
//! (Q4_1, Q5, the other K-quants, F16, BF16) is widened to f32 exactly, unless a smaller type was
//! asked for.

mod content;
mod ends;
mod keys;
mod sample;
mod text;
mod types;

use std::{borrow::Cow, cell::RefCell, fs::File, io::BufReader, path::Path};

use aligner_checkpoint::{
    ATTENTION_SOFTCAP, Activation, CheckpointError, Config, FINAL_SOFTCAP, Layer, Norms, QkNorm,
    Rope, SIZES, WINDOW, Yarn,
};
use candle_core::{
    Device,
    quantized::{
        GgmlDType,
        gguf_file::{Content, Value},
    },
};

pub(crate) use self::sample::Sample;
use self::{content::content, ends::ends, text::integer};
use crate::{
    LoadError,
    error::told,
    rows::{Rows, Stored},
};

/// An open GGUF file.
pub(crate) struct GgufFile {
    /// Its path, as errors call it.
    origin: String,
    content: Content,
    reader: RefCell<BufReader<File>>,
    architecture: String,
}

const ARCHITECTURES: [&str; 6] = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3"];
const SUPPORTED: &str = "llama, qwen2, qwen3, gemma, gemma2, gemma3; of phi3, granite, \
    smollm3 and olmo2 take the checkpoint in Hugging Face layout; serve others elsewhere, and set aligner.model: remote";

impl GgufFile {
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let origin = path.display().to_string();
        let file = File::open(path).map_err(|source| LoadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut reader = BufReader::new(file);
        let content = content(&mut reader, &origin)?;
        let mut file = Self {
            origin,
            content,
            reader: RefCell::new(reader),
            architecture: String::new(),
        };
        file.refuse_parts()?;
        file.architecture = file.text("general.architecture")?;
        Ok(file)
    }

    /// Refuses one of several files that a model was split into.
    fn refuse_parts(&self) -> Result<(), LoadError> {
        let key = "split.count";
        let count = self.content.metadata.get(key).and_then(integer);
        let Some(count) = count.filter(|&count| count > 1) else {
            return Ok(());
        };
        let problem = format!(
            "is {count}: this is one of {count} files that a model was split into; put them together \
             with `llama-gguf-split --merge <the first of them> <the whole>`"
        );
        Err(self.problem(key.to_owned(), problem))
    }

    /// How errors call the file.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// `tokenizer.json` made from the metadata, if the file has a tokenizer.
    pub(crate) fn tokenizer(&self) -> Result<Option<Vec<u8>>, LoadError> {
        text::tokenizer_json(&self.content.metadata)
            .map_err(|(key, problem)| self.problem(key, problem))
    }

    /// Tokens by which a `tokenizer.json` beside the file is known, if the file has any.
    pub(crate) fn sample(&self) -> Result<Option<Sample>, LoadError> {
        Sample::of(&self.origin, &self.content.metadata)
            .map_err(|(key, problem)| self.problem(key, problem))
    }

    /// What the metadata says about the decoder.
    pub(crate) fn config(&self) -> Result<Config, LoadError> {
        let family = self.architecture.clone();
        if !ARCHITECTURES.contains(&family.as_str()) {
            return Err(CheckpointError::Unsupported {
                file: self.origin.clone(),
                key: "general.architecture".to_owned(),
                value: family,
                supported: SUPPORTED,
            }
            .into());
        }
        let experts = self.count("expert_count", 0..=*SIZES.end())?;
        if let Some(experts) = experts.filter(|&experts| experts > 0) {
            return Err(CheckpointError::Unsupported {
                file: self.origin.clone(),
                key: self.key("expert_count"),
                value: experts.to_string(),
                supported: "0, a model without experts",
            }
            .into());
        }
        let causal = self.key("attention.causal");
        let flag = self.content.metadata.get(&causal);
        if flag.is_some_and(|flag| matches!(flag.to_bool(), Ok(false))) {
            return Err(CheckpointError::Unsupported {
                file: self.origin.clone(),
                key: causal,
                value: "false".to_owned(),
                supported: "true: a text is written from left to right",
            }
            .into());
        }
        let gemma = family.starts_with("gemma");
        let (gemma2, gemma3) = (family == "gemma2", family == "gemma3");
        let hidden = self.size("embedding_length")?;
        let heads = self.size("attention.head_count")?;
        let kv_heads = self.optional_size("attention.head_count_kv")?;
        let kv_heads = kv_heads.unwrap_or(heads);
        let head = self.head()?;
        Config::check_heads(
            [heads, kv_heads, head],
            [
                "attention.head_count",
                "attention.head_count_kv",
                "attention.key_length",
            ],
            |key, problem| self.problem(self.key(key), problem),
        )?;
        let count = self.size("block_count")?;
        let vocab = self.vocab(hidden)?;
        // As llama.cpp has it: the largest Gemma 2 and 3 scale by their width over heads.
        let per_head = match (gemma2, gemma3, count) {
            (true, _, 46) | (_, true, 62) => hidden / heads,
            _ => head,
        };
        // What a file of Gemma 2 leaves out is what config.json may leave out, as llama.cpp has it
        // too; 0 switches it off.
        let window = self
            .count("attention.sliding_window", 0..=*SIZES.end())?
            .or(gemma2.then_some(WINDOW))
            .filter(|&window| window > 0);
        // Without a window the layers of Gemma 3 are all global, in their rotation too.
        let sliding = match window {
            Some(_) if gemma2 => self.sliding(count, 2)?,
            Some(_) if gemma3 => self.sliding(count, 6)?,
            _ => vec![false; count],
        };
        let key = "rope.freq_base_swa";
        let global = self.rope(head, "rope.freq_base", if gemma3 { 1e6 } else { 1e4 })?;
        // As llama.cpp has it, Gemma 3 scales the rotation of the global layers only, and Gemma 2
        // tells one from the other where the file does.
        let ropes = if gemma3 {
            let theta = self.positive(key)?.unwrap_or(1e4);
            vec![global, Rope::plain(theta, head)]
        } else if gemma2 && self.positive(key)?.is_some() {
            vec![global, self.rope(head, key, 1e4)?]
        } else {
            vec![global]
        };
        let local = ropes.len() - 1;
        let layers = sliding.into_iter().map(|sliding| Layer {
            window: window.filter(|_| sliding),
            rope: if sliding { local } else { 0 },
        });
        let softcap = |key: &str, default: f64| -> Result<Option<f32>, LoadError> {
            let cap = self.number(key)?.or(gemma2.then_some(default));
            Ok(cap.filter(|&cap| cap > 0.0).map(|cap| cap as f32))
        };
        let eos = ends(&self.content.metadata, &family, vocab)
            .map_err(|(key, problem)| self.problem(key, problem))?;
        Ok(Config {
            hidden,
            ffn: self.size("feed_forward_length")?,
            heads,
            kv_heads,
            head,
            vocab,
            context: self.size("context_length")?,
            epsilon: self
                .number("attention.layer_norm_rms_epsilon")?
                .unwrap_or(1e-6),
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
            layers: layers.collect(),
            ropes,
            tied: !self.has("output.weight"),
            qkv_bias: self.has("blk.0.attn_q.bias"),
            out_bias: self.has("blk.0.attn_output.bias"),
            mlp_bias: self.has("blk.0.ffn_down.bias"),
            fused: false,
            qk_norm: self.has("blk.0.attn_q_norm.weight").then_some(QkNorm::Head),
            // The conversion has added the one already.
            norm_offset: false,
            norms: if gemma2 || gemma3 {
                Norms::Around
            } else {
                Norms::Before
            },
            attention_softcap: softcap("attn_logit_softcapping", ATTENTION_SOFTCAP)?,
            final_softcap: softcap("final_logit_softcapping", FINAL_SOFTCAP)?,
            query_scale: (per_head as f64).powf(-0.5) as f32,
            embed_scale: if gemma {
                (hidden as f64).sqrt() as f32
            } else {
                1.0
            },
            residual_scale: 1.0,
            logits_divisor: 1.0,
            eos,
            family,
        })
    }

    /// Which layers look through a window, as llama.cpp reads the pattern: a list says it of each
    /// layer, and a number counts them up to one that sees everything, which 0 never reaches.
    fn sliding(&self, count: usize, default: usize) -> Result<Vec<bool>, LoadError> {
        let pattern = "attention.sliding_window_pattern";
        let key = self.key(pattern);
        if let Some(Value::Array(list)) = self.content.metadata.get(&key) {
            let sliding = list.iter().map(|value| match value {
                Value::Bool(sliding) => Some(*sliding),
                number => integer(number).map(|number| number != 0),
            });
            let sliding: Option<Vec<bool>> = sliding.collect();
            return sliding
                .filter(|sliding| sliding.len() == count)
                .ok_or_else(|| {
                    let problem = format!("must be true or false for each of {count} layers");
                    self.problem(key, problem)
                });
        }
        let period = self.count(pattern, 0..=*SIZES.end())?.unwrap_or(default);
        let global = |layer: usize| period > 0 && (layer + 1).is_multiple_of(period);
        Ok((0..count).map(|layer| !global(layer)).collect())
    }

    /// The rotation whose theta is under a key.
    fn rope(&self, head: usize, theta_key: &str, default: f64) -> Result<Rope, LoadError> {
        let key = "rope.dimension_count";
        let rotated = self.optional_size(key)?.unwrap_or(head);
        if rotated != head {
            let problem = format!(
                "is {rotated}, and a head has {head} components (attention.key_length); rotating a \
                 part of them is not supported"
            );
            return Err(self.problem(self.key(key), problem));
        }
        let theta = self.positive(theta_key)?.unwrap_or(default);
        let mut rope = Rope::plain(theta, head);
        let key = self.key("rope.scaling.type");
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
                if theta <= 1.0 {
                    let problem = format!(
                        "is {theta}; it must be a number above 1, since YaRN divides by its logarithm"
                    );
                    return Err(self.problem(self.key(theta_key), problem));
                }
                let original = self.optional_size("rope.scaling.original_context_length")?;
                let original = original.map_or_else(|| self.size("context_length"), Ok)?;
                let factor = self.scaling_factor()?;
                let given = |key: &str| self.number(&format!("rope.scaling.{key}"));
                for (key, plain) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
                    if let Some(value) = given(key)?.filter(|value| *value != plain) {
                        return Err(CheckpointError::Unsupported {
                            file: self.origin.clone(),
                            key: self.key(&format!("rope.scaling.{key}")),
                            value: value.to_string(),
                            supported: "no value of its own",
                        }
                        .into());
                    }
                }
                // The first is the whole of it, as transformers' attention_factor; the second comes on
                // top of the temperature.
                let magnitude = given("yarn_attn_factor")?
                    .unwrap_or_else(|| Yarn::magnitude(1.0, factor))
                    * given("attn_factor")?.unwrap_or(1.0);
                rope = rope.yarn(&Yarn {
                    theta,
                    factor,
                    original: original as f64,
                    magnitude,
                    fast: given("yarn_beta_fast")?.unwrap_or(32.0),
                    slow: given("yarn_beta_slow")?.unwrap_or(1.0),
                    truncate: true,
                });
            }
            other => {
                return Err(CheckpointError::Unsupported {
                    file: self.origin.clone(),
                    key,
                    value: other.and_then(Result::ok).unwrap_or_default(),
                    supported: "none, linear, yarn",
                }
                .into());
            }
        }
        // Llama 3's scaling comes as a tensor of divisors.
        if self.has("rope_freqs.weight") {
            let divisors = self.tensor("rope_freqs.weight", &[rope.frequencies.len()])?;
            let mut values = vec![1.0; rope.frequencies.len()];
            divisors.row(0, &mut values);
            rope = rope.divided(&values);
        }
        Ok(rope)
    }

    /// How many times the context was stretched; 1 where nothing is said.
    fn scaling_factor(&self) -> Result<f64, LoadError> {
        let factor = match self.positive("rope.scaling.factor")? {
            None => self.positive("rope.scale_linear")?,
            factor => factor,
        };
        Ok(factor.unwrap_or(1.0))
    }

    /// Components of a head.
    fn head(&self) -> Result<usize, LoadError> {
        let hidden = self.size("embedding_length")?;
        let heads = self.size("attention.head_count")?;
        let head = self.optional_size("attention.key_length")?;
        Ok(head.unwrap_or(hidden / heads))
    }

    /// Tokens that have an embedding.
    fn vocab(&self, hidden: usize) -> Result<usize, LoadError> {
        let name = "token_embd.weight";
        let found = self.tensor_shape(name)?;
        match found[..] {
            [vocab, width] if width == hidden && SIZES.contains(&vocab) => Ok(vocab),
            _ => Err(self.tensor_problem(
                name,
                format!("has shape {found:?}; the metadata says {hidden} for each token"),
            )),
        }
    }

    /// That nothing in the file is known to end an output.
    pub(crate) fn endless(&self) -> LoadError {
        let problem = "names no token, and none of the vocabulary is known to end an output, so \
                       that every correction would run to its limit; convert the model again, with \
                       its tokenizer";
        self.problem("tokenizer.ggml.eos_token_id".to_owned(), problem.to_owned())
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
        let read = |error: candle_core::Error| self.tensor_problem(&own, told(&error));
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
            let head = self.head()?;
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

    fn tensor_problem(&self, name: &str, problem: String) -> LoadError {
        LoadError::Tensor {
            origin: self.origin.clone(),
            name: name.to_owned(),
            problem,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{
        DType, Tensor,
        quantized::{QTensor, gguf_file},
    };

    use super::*;

    /// What a file of embeddings alone says, with these metadata besides its sizes.
    fn config(family: &str, more: &[(&str, Value)]) -> Config {
        read(family, more).expect("valid")
    }

    fn read(family: &str, more: &[(&str, Value)]) -> Result<Config, LoadError> {
        let sizes = [
            ("embedding_length", 64),
            ("block_count", 6),
            ("feed_forward_length", 96),
            ("attention.head_count", 4),
            ("context_length", 8192),
        ];
        let mut metadata: Vec<(String, Value)> = sizes
            .map(|(key, size)| (key, Value::U32(size)))
            .into_iter()
            .chain(more.iter().cloned())
            .map(|(key, value)| (format!("{family}.{key}"), value))
            .collect();
        let architecture = Value::String(family.to_owned());
        metadata.push(("general.architecture".to_owned(), architecture));
        let metadata: Vec<(&str, &Value)> = metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value))
            .collect();
        let embeddings = Tensor::zeros((8, 64), DType::F32, &Device::Cpu)
            .and_then(|zeros| QTensor::quantize(&zeros, GgmlDType::F32))
            .expect("stored");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tiny.gguf");
        let mut file = File::create(&path).expect("created");
        let tensors = [("token_embd.weight", &embeddings)];
        gguf_file::write(&mut file, &metadata, &tensors).expect("written");
        let file = GgufFile::open(&path).expect("opens");
        file.config()
    }

    fn windows(config: &Config) -> Vec<Option<usize>> {
        config.layers.iter().map(|layer| layer.window).collect()
    }

    #[test]
    fn a_model_that_sees_what_comes_after_is_refused() {
        let causal = |flag| read("llama", &[("attention.causal", Value::Bool(flag))]);
        assert!(causal(true).is_ok());
        let error = causal(false).expect_err("refused").to_string();
        assert!(error.contains("llama.attention.causal = false"), "{error}");
    }

    #[test]
    fn what_a_file_of_gemma_2_leaves_out_is_what_its_class_takes() {
        let gemma = config("gemma2", &[]);
        assert_eq!(
            (gemma.attention_softcap, gemma.final_softcap),
            (Some(50.0), Some(30.0))
        );
        assert_eq!(windows(&gemma), [Some(4096), None].repeat(3));
        let gemma = config(
            "gemma2",
            &[
                ("attn_logit_softcapping", Value::F32(20.0)),
                ("final_logit_softcapping", Value::F32(0.0)),
                ("attention.sliding_window", Value::U32(24)),
            ],
        );
        assert_eq!(
            (gemma.attention_softcap, gemma.final_softcap),
            (Some(20.0), None)
        );
        assert_eq!(windows(&gemma), [Some(24), None].repeat(3));
    }

    #[test]
    fn layers_of_gemma_3_without_a_window_are_global() {
        let layers = |more: &[(&str, Value)]| config("gemma3", more).layers;
        let (local, global) = (
            Layer {
                window: Some(24),
                rope: 1,
            },
            Layer {
                window: None,
                rope: 0,
            },
        );
        assert_eq!(layers(&[]), [global; 6]);
        let window = [("attention.sliding_window", Value::U32(24))];
        assert_eq!(layers(&window), [local, local, local, local, local, global]);
    }

    #[test]
    fn windows_and_local_rotations_of_gemma_are_those_that_the_file_says() {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let window = ("attention.sliding_window", Value::U32(24));
        let list = |layers: [bool; 6]| Value::Array(layers.map(Value::Bool).to_vec());
        let uneven = [true, false, false, true, true, false];
        let numbers = Value::Array(uneven.map(|local| Value::U32(local.into())).to_vec());
        for (family, pattern, local) in [
            ("gemma3", Value::U32(2), [true, false].repeat(3)),
            ("gemma3", Value::U32(1), vec![false; 6]),
            ("gemma3", Value::U32(0), vec![true; 6]),
            ("gemma3", list(uneven), uneven.to_vec()),
            ("gemma3", numbers, uneven.to_vec()),
            ("gemma2", list(uneven), uneven.to_vec()),
        ] {
            let said = format!("{family} {pattern:?}");
            let theta = ("rope.freq_base_swa", Value::F32(500.0));
            let gemma = config(family, &[window.clone(), (PATTERN, pattern), theta]);
            let windows = windows(&gemma);
            let sees: Vec<bool> = windows.iter().map(Option::is_some).collect();
            assert_eq!(sees, local, "{said}");
            for layer in &gemma.layers {
                let global = if family == "gemma3" { 1e6 } else { 1e4 };
                let expected = if layer.window.is_some() {
                    500.0
                } else {
                    global
                };
                assert_eq!(gemma.ropes[layer.rope].theta, expected, "{said}");
            }
        }
        let plain = config("gemma3", std::slice::from_ref(&window));
        assert_eq!(plain.ropes[1].theta, 1e4);
        assert_eq!(
            config("gemma2", std::slice::from_ref(&window)).ropes.len(),
            1
        );
        for (pattern, problem) in [
            (
                Value::Array(vec![Value::Bool(true); 5]),
                "must be true or false for each of 6 layers",
            ),
            (
                Value::Bool(true),
                "is true; expected a whole number of 0 to 16777216",
            ),
        ] {
            let error = read("gemma3", &[window.clone(), (PATTERN, pattern)]);
            let error = error.expect_err(problem).to_string();
            let expected = format!("gemma3.{PATTERN} {problem}");
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    #[test]
    fn a_theta_that_yarn_cannot_divide_by_is_refused() {
        let yarn = |theta: f32| {
            let kind = Value::String("yarn".to_owned());
            let more = [
                ("rope.scaling.type", kind),
                ("rope.freq_base", Value::F32(theta)),
            ];
            read("llama", &more)
        };
        let error = yarn(1.0).expect_err("it is refused").to_string();
        assert!(
            error.contains("llama.rope.freq_base is 1; it must"),
            "{error}"
        );
        yarn(2.0).expect("it has a logarithm");
    }

    #[test]
    fn numbers_count_in_whichever_type_they_are_stored() {
        let ropes = |more: &[(&str, Value)]| config("llama", more).ropes;
        let theta = ropes(&[("rope.freq_base", Value::F32(5e5))]);
        assert_ne!(theta, ropes(&[]));
        for value in [Value::F64(5e5), Value::U32(500_000), Value::I64(500_000)] {
            assert_eq!(theta, ropes(&[("rope.freq_base", value)]));
        }
        let heads = config("llama", &[("attention.head_count_kv", Value::I8(2))]);
        assert_eq!(heads.kv_heads, 2);
    }
}
