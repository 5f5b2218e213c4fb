//! What a checkpoint's `config.json` says about the decoder, as plain numbers and switches.
//!
//! One [`Config`] describes every family: Llama 2 and 3, Mistral, Ministral, Qwen2, Qwen3, Gemma 1,
//! 2 and 3 (text), Phi-3 and 4, Granite, SmolLM3, OLMo 2 and 3. What a file leaves out is what the
//! family's class in transformers takes for it, see [`Defaults`]. A value that would change the output
//! and is not implemented is an error, never ignored.
//!
//! Absent: encoders, mixtures of experts, vision towers.

use crate::{
    CheckpointError, Json, Rope,
    family::{self, Defaults},
};

/// The decoder's shape and switches.
#[derive(Debug, Clone)]
pub struct Config {
    /// Value of `model_type`.
    pub family: String,
    /// Components of a token between the layers.
    pub hidden: usize,
    /// Components within the feed-forward part.
    pub ffn: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Components of a head.
    pub head: usize,
    /// Rows of the embeddings.
    pub vocab: usize,
    /// Most positions of a sequence.
    pub context: usize,
    /// What norms add to the mean square.
    pub epsilon: f64,
    /// The gate's.
    pub activation: Activation,
    /// From first to last.
    pub layers: Vec<Layer>,
    /// Rotary embeddings; each layer names one of them.
    pub ropes: Vec<Rope>,
    /// The output head is the embeddings.
    pub tied: bool,
    /// Queries, keys and values have biases.
    pub qkv_bias: bool,
    /// The product behind attention has one.
    pub out_bias: bool,
    /// The products of the feed-forward part have.
    pub mlp_bias: bool,
    /// Queries, keys and values are one tensor, and so are gate and up.
    pub fused: bool,
    /// Over what queries and keys are normalised before the rotation, if they are.
    pub qk_norm: Option<QkNorm>,
    /// Norm weights are stored as their difference from one.
    pub norm_offset: bool,
    /// Where attention and the feed-forward part have norms.
    pub norms: Norms,
    /// Where the scores of attention are capped.
    pub attention_softcap: Option<f32>,
    /// Where the logits are capped.
    pub final_softcap: Option<f32>,
    /// Multiplies the scores of attention.
    pub query_scale: f32,
    /// Multiplies the embeddings.
    pub embed_scale: f32,
    /// Multiplies what attention and the feed-forward part add.
    pub residual_scale: f32,
    /// Divides the logits.
    pub logits_divisor: f32,
    /// End-of-sequence ids that stand here, or those of the class; `generation_config.json` overrides
    /// them.
    pub eos: Vec<u32>,
}

/// Over what queries and keys are normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// Each head by itself.
    Head,
    /// All heads together.
    Projection,
}

/// Where attention and the feed-forward part have norms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norms {
    /// Of what goes in.
    Before,
    /// Of what comes out, before it is added.
    After,
    /// Of both.
    Around,
}

/// The gate's activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU by its tanh approximation.
    GeluTanh,
    /// GELU with the error function.
    Gelu,
}

/// What distinguishes one layer from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Keys that a query sees, its own included; all if `None`.
    pub window: Option<usize>,
    /// Index into [`Config::ropes`].
    pub rope: usize,
}

impl Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// If a key has a value that cannot be, or one that is not implemented.
    pub fn read(root: &Json) -> Result<Self, CheckpointError> {
        let family = root.text("model_type")?.to_owned();
        if root.has("quantization_config") {
            return Err(root.unsupported(
                "quantization_config",
                "checkpoints in f32, f16 or bf16, and GGUF files; save it dequantised, or use a \
                 GGUF file",
            ));
        }
        let defaults = Defaults::of(&family)
            .ok_or_else(|| root.unsupported("model_type", family::SUPPORTED))?;
        if root.flag_or("is_encoder_decoder", false)? {
            return Err(root.unsupported("is_encoder_decoder", "false"));
        }
        let nested = root.object("text_config")?;
        let json = nested
            .as_ref()
            .filter(|_| family == "gemma3")
            .unwrap_or(root);
        let mut config = Reader {
            json,
            family: &family,
            defaults,
            gemma: family.starts_with("gemma"),
        }
        .read()?;
        // Multimodal files name the end of a text outside of its description.
        if root.has("eos_token_id") {
            config.eos = root.ids("eos_token_id")?;
        }
        Ok(config)
    }

    /// Whether the numbers of heads, of heads of keys and values, and of components of a head fit
    /// together, whichever kind of file they are from; `keys` are its names for them.
    ///
    /// # Errors
    /// What `problem` makes of a key and of what is wrong with it.
    pub fn check_heads<E>(
        [heads, kv_heads, head]: [usize; 3],
        keys: [&str; 3],
        problem: impl Fn(&str, String) -> E,
    ) -> Result<(), E> {
        let [heads_key, kv_heads_key, head_key] = keys;
        if !heads.is_multiple_of(kv_heads) {
            let text = format!("is {kv_heads}, which does not divide {heads_key} = {heads}");
            return Err(problem(kv_heads_key, text));
        }
        if head == 0 || !head.is_multiple_of(2) {
            let text = format!("is {head}; it must be even and above 0");
            return Err(problem(head_key, text));
        }
        Ok(())
    }
}

pub(crate) struct Reader<'a> {
    pub(crate) json: &'a Json,
    pub(crate) family: &'a str,
    pub(crate) defaults: Defaults,
    gemma: bool,
}

impl Reader<'_> {
    fn read(&self) -> Result<Config, CheckpointError> {
        let json = self.json;
        let Defaults {
            hidden, heads, ffn, ..
        } = self.defaults;
        let hidden = json.size_or("hidden_size", hidden)?;
        let heads = json.size_or("num_attention_heads", heads)?;
        let kv_heads = match self.defaults.kv_heads {
            // Null, other than nothing, means as many as heads.
            Some(kv_heads) if !json.mentions("num_key_value_heads") => kv_heads,
            _ => json.size_or("num_key_value_heads", heads)?,
        };
        let head = json.size_or("head_dim", self.defaults.head.unwrap_or(hidden / heads))?;
        Config::check_heads(
            [heads, kv_heads, head],
            ["num_attention_heads", "num_key_value_heads", "head_dim"],
            |key, problem| json.problem(key, problem),
        )?;
        // Null, other than nothing, lets transformers look ahead too.
        if json.mentions("is_causal") && !json.flag_or("is_causal", false)? {
            return Err(json.unsupported("is_causal", "true"));
        }
        if json.flag_or("use_bidirectional_attention", false)? {
            return Err(json.unsupported("use_bidirectional_attention", "false"));
        }
        let count = json.size_or("num_hidden_layers", self.defaults.layers)?;
        let context = json.size_or("max_position_embeddings", self.defaults.context)?;
        let (layers, ropes) = self.layers(count, head, context)?;
        let made_for = ropes.iter().filter_map(|rope| rope.context);
        let context = made_for.fold(context, usize::min);
        let query_scale = match self.family {
            "gemma2" | "gemma3" | "gemma3_text" => {
                json.number_or("query_pre_attn_scalar", 256.0)?.powf(-0.5)
            }
            "granite" => json.number_or("attention_multiplier", 1.0)?,
            _ => (head as f64).powf(-0.5),
        };
        let gemma2 = self.family == "gemma2";
        // Gemma 3 has both keys too, but its attention is given no cap, and its multimodal class
        // leaves its logits as they are.
        let capped = gemma2 || self.family == "gemma3_text";
        // Null, other than nothing, switches a cap off, and so does 0, as other engines read it: a cap is
        // divided by.
        let softcap = |key, default: f64, applied: bool| -> Result<Option<f32>, CheckpointError> {
            let absent = gemma2 && !json.mentions(key);
            let cap = json.optional_number(key)?.or(absent.then_some(default));
            Ok(cap
                .filter(|&cap| applied && cap != 0.0)
                .map(|cap| cap as f32))
        };
        // The classes of the others do not read it.
        let attention_bias = !matches!(self.family, "mistral" | "ministral" | "qwen2" | "phi3")
            && json.flag_or("attention_bias", false)?;
        Ok(Config {
            family: self.family.to_owned(),
            hidden,
            ffn: json.size_or("intermediate_size", ffn)?,
            heads,
            kv_heads,
            head,
            vocab: json.size_or("vocab_size", self.defaults.vocab)?,
            context,
            epsilon: json.number_or("rms_norm_eps", self.defaults.epsilon)?,
            activation: self.activation()?,
            layers,
            ropes,
            tied: json.flag_or("tie_word_embeddings", self.defaults.tied)?,
            qkv_bias: attention_bias || self.family == "qwen2",
            out_bias: attention_bias,
            mlp_bias: matches!(self.family, "llama" | "granite" | "smollm3")
                && json.flag_or("mlp_bias", false)?,
            fused: self.family == "phi3",
            qk_norm: match self.family {
                "qwen3" | "gemma3" | "gemma3_text" => Some(QkNorm::Head),
                "olmo2" | "olmo3" => Some(QkNorm::Projection),
                _ => None,
            },
            norm_offset: self.gemma,
            norms: match self.family {
                "gemma2" | "gemma3" | "gemma3_text" => Norms::Around,
                "olmo2" | "olmo3" => Norms::After,
                _ => Norms::Before,
            },
            attention_softcap: softcap(
                "attn_logit_softcapping",
                family::ATTENTION_SOFTCAP,
                gemma2,
            )?,
            final_softcap: softcap("final_logit_softcapping", family::FINAL_SOFTCAP, capped)?,
            query_scale: query_scale as f32,
            embed_scale: match self.family {
                "granite" => json.number_or("embedding_multiplier", 1.0)? as f32,
                _ if self.gemma => (hidden as f64).sqrt() as f32,
                _ => 1.0,
            },
            residual_scale: match self.family {
                "granite" => json.number_or("residual_multiplier", 1.0)? as f32,
                _ => 1.0,
            },
            logits_divisor: match self.family {
                "granite" => json.optional_positive("logits_scaling")?.unwrap_or(1.0) as f32,
                _ => 1.0,
            },
            eos: if json.mentions("eos_token_id") {
                json.ids("eos_token_id")?
            } else {
                self.defaults.eos.into_iter().collect()
            },
        })
    }

    fn activation(&self) -> Result<Activation, CheckpointError> {
        let json = self.json;
        // The classes of Gemma 2 and 3 do not look at `hidden_act`, that of Gemma 1 at nothing else.
        let key = if self.gemma && self.family != "gemma" {
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
            // Gemma's first config.json said "gelu" and meant the tanh form, as transformers reads
            // it to this day.
            "gelu" if self.family == "gemma" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::Gelu),
            _ => Err(json.unsupported(key, "silu, gelu, gelu_new, gelu_pytorch_tanh")),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a `config.json` says, or why it is refused.
    pub(crate) fn read(json: Value) -> Result<Config, String> {
        Json::of("config.json", &json)
            .and_then(|json| Config::read(&json))
            .map_err(|error| error.to_string())
    }

    /// The window of each layer of one that is valid.
    pub(crate) fn windows(json: Value) -> Vec<Option<usize>> {
        let config = read(json).expect("valid");
        config.layers.iter().map(|layer| layer.window).collect()
    }

    #[test]
    fn what_a_file_leaves_out_is_what_its_class_takes() {
        let mistral = read(json!({"model_type": "mistral"})).expect("valid");
        assert_eq!(
            (mistral.heads, mistral.kv_heads, mistral.head),
            (32, 8, 128)
        );
        assert_eq!(
            (mistral.layers[0].window, &mistral.eos[..]),
            (Some(4096), &[2][..])
        );
        let llama = read(json!({"model_type": "llama", "num_attention_heads": 16}));
        assert_eq!(llama.expect("valid").kv_heads, 16);
        let gemma = read(json!({"model_type": "gemma2"})).expect("valid");
        assert!(gemma.tied && gemma.head == 256 && gemma.layers.len() == 26);
        assert_eq!(
            (gemma.attention_softcap, gemma.final_softcap),
            (Some(50.0), Some(30.0))
        );
    }

    #[test]
    fn each_gemma_looks_at_the_activation_that_its_class_does() {
        for (family, key, other) in [
            ("gemma", "hidden_act", "hidden_activation"),
            ("gemma2", "hidden_activation", "hidden_act"),
            ("gemma3_text", "hidden_activation", "hidden_act"),
        ] {
            let activation = |value: Value| read(value).expect("valid").activation;
            let ignored = activation(json!({"model_type": family, (other): "relu"}));
            assert!(matches!(ignored, Activation::GeluTanh), "{family}");
            let said = activation(json!({"model_type": family, (key): "silu", (other): "relu"}));
            assert!(matches!(said, Activation::Silu), "{family}");
        }
    }

    #[test]
    fn null_is_not_nothing() {
        let gemma = json!({"model_type": "gemma2", "attn_logit_softcapping": null});
        let gemma = read(gemma).expect("valid");
        assert_eq!(
            (gemma.attention_softcap, gemma.final_softcap),
            (None, Some(30.0))
        );
        // It would be divided by.
        let gemma = json!({"model_type": "gemma2", "final_logit_softcapping": 0.0});
        let gemma = read(gemma).expect("valid");
        assert_eq!(
            (gemma.attention_softcap, gemma.final_softcap),
            (Some(50.0), None)
        );
        let mistral = json!({"model_type": "mistral", "num_hidden_layers": 1,
            "sliding_window": null, "num_key_value_heads": null});
        assert_eq!(windows(mistral.clone()), [None]);
        assert_eq!(read(mistral).expect("valid").kv_heads, 32);
    }

    #[test]
    fn caps_are_those_that_the_class_applies() {
        for (family, attention, logits) in [
            ("gemma2", Some(20.0), Some(12.0)),
            ("gemma3_text", None, Some(12.0)),
            ("gemma3", None, None),
        ] {
            let gemma = json!({"model_type": family, "attn_logit_softcapping": 20.0,
                "final_logit_softcapping": 12.0});
            let gemma = read(gemma).expect("valid");
            let caps = (gemma.attention_softcap, gemma.final_softcap);
            assert_eq!(caps, (attention, logits), "{family}");
        }
    }

    #[test]
    fn heads_that_do_not_fit_together_are_refused_with_both_numbers() {
        let of = |key: &str, value: usize| {
            let mut config = json!({"model_type": "llama", "hidden_size": 64,
                "num_attention_heads": 4});
            config[key] = value.into();
            read(config).expect_err("it is refused")
        };
        assert_eq!(
            of("num_key_value_heads", 3),
            "config.json: num_key_value_heads is 3, which does not divide num_attention_heads = 4"
        );
        for (key, value, head) in [("head_dim", 15, 15), ("num_attention_heads", 65, 0)] {
            assert_eq!(
                of(key, value),
                format!("config.json: head_dim is {head}; it must be even and above 0")
            );
        }
    }

    #[test]
    fn what_would_change_the_output_and_is_not_computed_is_refused() {
        for (key, value) in [
            ("is_causal", json!(false)),
            ("is_causal", json!(null)),
            ("is_encoder_decoder", json!(true)),
            ("use_bidirectional_attention", json!(true)),
            ("quantization_config", json!({"bits": 4})),
            ("hidden_act", json!("relu2")),
        ] {
            let mut config = json!({"model_type": "gemma"});
            config[key] = value;
            let error = read(config).expect_err("it is refused");
            assert!(error.contains(key), "{error}");
        }
        let usual = json!({"model_type": "gemma", "is_causal": true, "is_encoder_decoder": false});
        read(usual).expect("nothing of it changes the output");
        let nested = json!({"model_type": "gemma3", "text_config": {"is_causal": false}});
        let error = read(nested).expect_err("it is refused");
        assert!(error.contains("text_config.is_causal = false"), "{error}");
    }
}
