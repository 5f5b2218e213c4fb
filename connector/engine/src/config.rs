//! What a checkpoint's `config.json` says about the decoder, as plain numbers and switches.
//!
//! One [`Config`] describes every family: Llama 2 and 3, Mistral, Qwen2, Qwen3, Gemma 1, 2 and 3
//! (text). Both spellings are read, that of transformers 4 (`rope_theta`, `rope_scaling`) and
//! that of 5 (`rope_parameters`, per layer type for Gemma 3). A value that would change the
//! output and is not implemented is an error, never ignored.
//!
//! Absent: encoders, mixtures of experts, vision towers.

use serde_json::Value;

use crate::{LoadError, json::Json, kernels::Activation, rope::Rope};

/// Name of the file, for errors.
pub(crate) const FILE: &str = "config.json";

const FAMILIES: &str = "llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3, gemma3_text";

/// The decoder's shape and switches.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) family: String,
    pub(crate) hidden: usize,
    pub(crate) ffn: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    pub(crate) epsilon: f32,
    pub(crate) activation: Activation,
    pub(crate) layers: Vec<Layer>,
    /// Rotary embeddings; each layer names one of them.
    pub(crate) ropes: Vec<Rope>,
    pub(crate) tied: bool,
    pub(crate) qkv_bias: bool,
    pub(crate) out_bias: bool,
    pub(crate) mlp_bias: bool,
    /// Queries and keys are normalised per head before the rotation.
    pub(crate) qk_norm: bool,
    /// Norm weights are stored as their difference from one.
    pub(crate) norm_offset: bool,
    /// Attention and FFN outputs are normalised before they are added.
    pub(crate) post_norms: bool,
    pub(crate) attention_softcap: Option<f32>,
    pub(crate) final_softcap: Option<f32>,
    pub(crate) query_scale: f32,
    pub(crate) embed_scale: f32,
    /// End-of-sequence ids that stand here; `generation_config.json` overrides them.
    pub(crate) eos: Vec<u32>,
}

/// What distinguishes one layer from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Keys that a query sees, its own included; all if `None`.
    pub(crate) window: Option<usize>,
    /// Index into [`Config::ropes`].
    pub(crate) rope: usize,
}

impl Config {
    /// Reads `config.json`.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, LoadError> {
        let root = Json::parse(FILE, bytes)?;
        let family = root.text("model_type")?.to_owned();
        if root.has("quantization_config") {
            return Err(root.unsupported(
                "quantization_config",
                "checkpoints in f32, f16 or bf16, and GGUF files",
            ));
        }
        let nested = root.object("text_config")?;
        let json = match (family.as_str(), &nested) {
            ("gemma3", Some(text)) => text,
            ("llama" | "mistral" | "qwen2" | "qwen3" | "gemma" | "gemma2" | "gemma3_text", _) => {
                &root
            }
            _ => return Err(root.unsupported("model_type", FAMILIES)),
        };
        Reader {
            json,
            family: &family,
            gemma: family.starts_with("gemma"),
        }
        .read()
    }
}

struct Reader<'a> {
    json: &'a Json,
    family: &'a str,
    gemma: bool,
}

impl Reader<'_> {
    fn read(&self) -> Result<Config, LoadError> {
        let json = self.json;
        let gemma3 = self.family.starts_with("gemma3");
        // The text half of a multimodal file leaves out what equals the class's defaults.
        let default = |value: usize| if gemma3 { Some(value) } else { None };
        let hidden = json.size_or("hidden_size", default(2304))?;
        let heads = json.size_or("num_attention_heads", default(8))?;
        let kv_heads = json.size_or("num_key_value_heads", default(4).or(Some(heads)))?;
        let head = match self.family {
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" => json.size_or("head_dim", Some(256))?,
            "qwen3" => json.size_or("head_dim", Some(128))?,
            _ => json.size_or("head_dim", Some(hidden / heads))?,
        };
        if heads % kv_heads != 0 {
            return Err(json.problem(
                "num_key_value_heads",
                format!("is {kv_heads}, which does not divide num_attention_heads = {heads}"),
            ));
        }
        if head % 2 != 0 {
            return Err(json.problem("head_dim", format!("is {head}; it must be even")));
        }
        let count = json.size_or("num_hidden_layers", default(26))?;
        let context = json.size_or("max_position_embeddings", self.default_context())?;
        let (layers, ropes) = self.layers(count, head, context)?;
        let query_scale = match self.family {
            "gemma2" | "gemma3" | "gemma3_text" => {
                json.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5)
            }
            _ => (head as f64).powf(-0.5),
        };
        let gemma2 = self.family == "gemma2";
        let softcap = |key, default| -> Result<Option<f32>, LoadError> {
            Ok(json.optional_number(key)?.or(default).map(|cap| cap as f32))
        };
        let (attention_softcap, final_softcap) =
            if gemma2 && !json.mentions("attn_logit_softcapping") {
                (Some(50.0), softcap("final_logit_softcapping", Some(30.0))?)
            } else if self.gemma {
                (
                    softcap("attn_logit_softcapping", None)?,
                    softcap("final_logit_softcapping", None)?,
                )
            } else {
                (None, None)
            };
        let attention_bias = json.flag_or("attention_bias", false)?;
        Ok(Config {
            family: self.family.to_owned(),
            hidden,
            ffn: json.size_or("intermediate_size", default(9216))?,
            heads,
            kv_heads,
            head,
            vocab: json.size_or("vocab_size", default(262_208))?,
            context,
            epsilon: json.number_or("rms_norm_eps", 1e-6)? as f32,
            activation: self.activation()?,
            layers,
            ropes,
            tied: json.flag_or("tie_word_embeddings", self.gemma)?,
            qkv_bias: attention_bias || self.family == "qwen2",
            out_bias: attention_bias,
            mlp_bias: json.flag_or("mlp_bias", false)?,
            qk_norm: self.family == "qwen3" || gemma3,
            norm_offset: self.gemma,
            post_norms: gemma2 || gemma3,
            attention_softcap,
            final_softcap,
            query_scale: query_scale as f32,
            embed_scale: if self.gemma {
                (hidden as f64).sqrt() as f32
            } else {
                1.0
            },
            eos: json.ids("eos_token_id")?,
        })
    }

    fn default_context(&self) -> Option<usize> {
        Some(match self.family {
            "gemma" | "gemma2" => 8192,
            "gemma3" | "gemma3_text" => 131_072,
            "llama" => 2048,
            _ => 32_768,
        })
    }

    fn activation(&self) -> Result<Activation, LoadError> {
        let json = self.json;
        let key = if self.gemma && json.has("hidden_activation") {
            "hidden_activation"
        } else {
            "hidden_act"
        };
        let default = if self.gemma {
            "gelu_pytorch_tanh"
        } else {
            "silu"
        };
        match json.text_or(key, default)? {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            // Gemma's first config.json said "gelu" and meant the tanh form, as transformers 4
            // reads it; what transformers 5 writes means what it says.
            "gelu" if self.family == "gemma" && !json.has("rope_parameters") => {
                Ok(Activation::GeluTanh)
            }
            "gelu" => Ok(Activation::Gelu),
            _ => Err(json.unsupported(key, "silu, gelu, gelu_new, gelu_pytorch_tanh")),
        }
    }

    /// The window and rotation of each layer.
    fn layers(
        &self,
        count: usize,
        head: usize,
        context: usize,
    ) -> Result<(Vec<Layer>, Vec<Rope>), LoadError> {
        let sliding = self.sliding(count)?;
        let window = match self.json.optional_size("sliding_window")? {
            None if sliding.contains(&true) => match self.family {
                "gemma2" | "gemma3" | "gemma3_text" | "qwen2" | "qwen3" => Some(4096),
                _ => None,
            },
            window => window,
        };
        let gemma3 = self.family.starts_with("gemma3");
        let ropes = if gemma3 {
            vec![
                self.rope(head, context, Some("full_attention"))?,
                self.rope(head, context, Some("sliding_attention"))?,
            ]
        } else {
            vec![self.rope(head, context, None)?]
        };
        let layers = sliding
            .into_iter()
            .map(|sliding| Layer {
                window: window.filter(|_| sliding),
                rope: usize::from(gemma3 && sliding),
            })
            .collect();
        Ok((layers, ropes))
    }

    /// Which layers look through a window.
    fn sliding(&self, count: usize) -> Result<Vec<bool>, LoadError> {
        let json = self.json;
        // Mistral has no layer types: a window, if any, is everywhere.
        if self.family == "mistral" {
            return Ok(vec![json.optional_size("sliding_window")?.is_some(); count]);
        }
        if matches!(self.family, "llama" | "gemma") {
            return Ok(vec![false; count]);
        }
        if matches!(self.family, "qwen2" | "qwen3") && !json.flag_or("use_sliding_window", false)? {
            return Ok(vec![false; count]);
        }
        if let Some(types) = json.get("layer_types") {
            let types = types
                .as_array()
                .filter(|types| types.len() == count)
                .ok_or_else(|| json.problem("layer_types", format!("must list {count} layers")))?;
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    Some("sliding_attention") => Ok(true),
                    Some("full_attention") => Ok(false),
                    _ => Err(json.unsupported("layer_types", "full_attention, sliding_attention")),
                })
                .collect();
        }
        Ok(match self.family {
            "gemma2" => (0..count).map(|layer| layer % 2 == 0).collect(),
            "gemma3" | "gemma3_text" => {
                let pattern = json.size_or("sliding_window_pattern", Some(6))?;
                (0..count).map(|layer| (layer + 1) % pattern != 0).collect()
            }
            _ => {
                let full = json.size_or("max_window_layers", Some(28))?;
                (0..count).map(|layer| layer >= full).collect()
            }
        })
    }

    fn rope(
        &self,
        head: usize,
        context: usize,
        layer_type: Option<&str>,
    ) -> Result<Rope, LoadError> {
        let json = self.json;
        let local = layer_type == Some("sliding_attention");
        let default_theta = match self.family {
            "gemma3" | "gemma3_text" if !local => 1e6,
            _ => 1e4,
        };
        // transformers 5: one object, or one for each layer type.
        if let Some(parameters) = json.object("rope_parameters")? {
            let nested = match layer_type {
                Some(kind) if parameters.has(kind) => parameters.object(kind)?,
                // A file converted from transformers 4 keeps its theta outside.
                _ => None,
            };
            let parameters = nested.unwrap_or(parameters);
            let theta = match parameters.optional_number("rope_theta")? {
                Some(theta) => theta,
                None => json.number_or("rope_theta", default_theta)?,
            };
            return Rope::from_json(&parameters, theta, head, context);
        }
        let theta_key = if local {
            "rope_local_base_freq"
        } else {
            "rope_theta"
        };
        let theta = json.number_or(theta_key, default_theta)?;
        match json.object("rope_scaling")? {
            // Gemma 3 scales its global layers only.
            Some(scaling) if !local => Rope::from_json(&scaling, theta, head, context),
            _ => Ok(Rope::plain(theta, head)),
        }
    }
}

/// End-of-sequence ids of `generation_config.json`, if it has any.
pub(crate) fn generation_eos(bytes: &[u8]) -> Result<Vec<u32>, LoadError> {
    let json = Json::parse("generation_config.json", bytes)?;
    match json.get("eos_token_id") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => json.ids("eos_token_id"),
    }
}
