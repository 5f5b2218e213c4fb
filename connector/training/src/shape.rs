//! The decoder's shape, from `config.json`: Llama, and nothing that this crate's model does not
//! compute. What it cannot train it refuses by name, never ignores.

use aligner_checkpoint::{Config, Json};
use serde_json::{Value, json};

use crate::error::TrainError;

/// Sizes of a Llama decoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub vocabulary: usize,
    pub hidden: usize,
    pub ffn: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head: usize,
    pub context: usize,
    pub norm_epsilon: f64,
    pub rope_theta: f64,
    pub tied: bool,
}

/// Keys without which a model would have the sizes of Llama 2 7B.
const NEEDED: [&str; 5] = [
    "hidden_size",
    "num_attention_heads",
    "vocab_size",
    "intermediate_size",
    "num_hidden_layers",
];

impl Shape {
    /// Reads `config.json`; `file` names it in errors.
    pub fn from_config(config: &Value, file: &str) -> Result<Self, TrainError> {
        let json = Json::of(file, config)?;
        let refuse = |key: &str, problem: String| {
            Err(TrainError::Checkpoint {
                file: format!("{file}: {key}"),
                problem,
            })
        };
        if !json.has("model_type") {
            let problem = "is missing; write \"llama\", the only one that can be trained";
            return refuse("model_type", problem.to_owned());
        }
        for (key, allowed) in [
            ("model_type", &["llama"][..]),
            ("hidden_act", &["silu", "swish"][..]),
        ] {
            let word = json.get(key).map(|value| value.as_str().unwrap_or(""));
            if let Some(word) = word.filter(|word| !allowed.contains(word)) {
                let allowed = allowed.join(", ");
                let problem = format!("is {word:?}, and only {allowed} can be trained");
                return refuse(key, problem);
            }
        }
        if json.has("quantization_config") {
            let problem = "is there, and only weights in f32, f16 or bf16 can be trained";
            return refuse("quantization_config", problem.to_owned());
        }
        if let Some(key) = NEEDED.into_iter().find(|key| !json.has(key)) {
            return refuse(key, "is missing; expected a number".to_owned());
        }
        let config = Config::read(&json)?;
        for (key, biased) in [
            ("attention_bias", config.qkv_bias || config.out_bias),
            ("mlp_bias", config.mlp_bias),
        ] {
            if biased {
                return refuse(key, "is true, and only false can be trained".to_owned());
            }
        }
        let rope = config.ropes.first().expect("a Llama has one rotation");
        if let Some(kind) = rope.scaling {
            // Where a file has both, the first counts, unless it is empty.
            let keys = ["rope_scaling", "rope_parameters"];
            let says = |key: &&str| {
                let object = json.get(key).and_then(Value::as_object);
                object.is_some_and(|object| !object.is_empty())
            };
            let key = keys.into_iter().find(says).unwrap_or(keys[0]);
            let problem = format!("is of type {kind}, and only default can be trained");
            return refuse(key, problem);
        }
        Ok(Self {
            vocabulary: config.vocab,
            hidden: config.hidden,
            ffn: config.ffn,
            layers: config.layers.len(),
            heads: config.heads,
            kv_heads: config.kv_heads,
            head: config.head,
            context: config.context,
            norm_epsilon: config.epsilon,
            rope_theta: rope.theta,
            tied: config.tied,
        })
    }
}

/// The `config.json` of a small model of its own: sizes are multiples of 256, which quantised
/// kernels need.
pub(crate) fn small_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "vocab_size": 4096,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "attention_bias": false,
        "mlp_bias": false,
        "initializer_range": 0.02,
        "tie_word_embeddings": true,
        "bos_token_id": null,
        "eos_token_id": null,
        "pad_token_id": null,
        "torch_dtype": "float32",
        "use_cache": true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_small_config_is_one_that_can_be_trained() {
        let shape = Shape::from_config(&small_config(), "config.json").expect("valid");
        assert_eq!((shape.hidden, shape.head, shape.tied), (256, 64, true));
    }

    fn rope_theta(changes: Value) -> Result<f64, String> {
        let mut config = small_config();
        for (key, value) in changes.as_object().expect("an object") {
            config[key] = value.clone();
        }
        Shape::from_config(&config, "config.json")
            .map(|shape| shape.rope_theta)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_rotary_base_stands_where_the_engine_finds_it() {
        let both = json!({"rope_theta": 3.0, "rope_scaling": {"rope_theta": 4.0},
            "rope_parameters": {"rope_theta": 5.0}});
        let outside = json!({"rope_theta": 3.0, "rope_scaling": {"type": "default"},
            "rope_parameters": {"rope_type": "llama3", "rope_theta": 5.0}});
        let within = json!({"rope_theta": null, "rope_scaling": null,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}});
        for (changes, theta) in [
            (both, 4.0),
            (outside, 3.0),
            (within, 5.0),
            (json!({"rope_theta": null}), 10_000.0),
            (
                json!({"rope_scaling": {"rope_type": null, "type": "default"}}),
                10_000.0,
            ),
        ] {
            assert_eq!(rope_theta(changes.clone()), Ok(theta), "{changes}");
        }
    }

    #[test]
    fn a_rotation_that_the_engine_would_scale_or_refuse_is_not_trained_as_a_plain_one() {
        let factors = vec![2.0; 32];
        for (changes, message) in [
            (
                json!({"rope_parameters": {"rope_type": "default"},
                    "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
                "config.json: rope_scaling: is of type linear, and only default can be trained",
            ),
            (
                json!({"rope_parameters": {"rope_type": "linear", "factor": 2.0},
                    "rope_scaling": {}}),
                "config.json: rope_parameters: is of type linear, and only default can be trained",
            ),
            (
                json!({"rope_scaling": {"rope_type": null, "type": "linear", "factor": 2.0}}),
                "config.json: rope_scaling: is of type linear, and only default can be trained",
            ),
            (
                json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
                "config.json: rope_scaling: is of type dynamic, and only default can be trained",
            ),
            (
                json!({"rope_scaling": {"rope_type": "longrope", "short_factor": factors,
                    "long_factor": factors}}),
                "config.json: rope_scaling: is of type longrope, and only default can be trained",
            ),
            (
                json!({"rope_parameters": {"rope_type": 7}}),
                "config.json: rope_parameters.rope_type must be a string",
            ),
            (
                json!({"rope_scaling": "linear"}),
                "config.json: rope_scaling must be an object",
            ),
            (
                json!({"rope_scaling": {"rope_theta": "1e4"}}),
                "config.json: rope_scaling.rope_theta is \"1e4\"; it must be a number from 0 on",
            ),
        ] {
            assert_eq!(rope_theta(changes).expect_err(message), message);
        }
    }

    #[test]
    fn what_cannot_be_trained_is_refused_by_key() {
        let cases = [
            (
                "model_type",
                json!(null),
                "config.json: model_type: is missing; write \"llama\", the only one that can be \
                 trained",
            ),
            (
                "use_bidirectional_attention",
                json!(true),
                "config.json: use_bidirectional_attention = true is not supported; supported: false",
            ),
            (
                "quantization_config",
                json!({"bits": 4}),
                "config.json: quantization_config: is there, and only weights in f32, f16 or bf16 \
                 can be trained",
            ),
            (
                "rms_norm_eps",
                json!(-1.0),
                "config.json: rms_norm_eps is -1.0; it must be a number from 0 on",
            ),
            (
                "max_position_embeddings",
                json!(16_777_217),
                "config.json: max_position_embeddings is 16777217; expected a whole number of 1 to \
                 16777216",
            ),
            (
                "model_type",
                json!("gemma"),
                "config.json: model_type: is \"gemma\", and only llama can be trained",
            ),
            (
                "model_type",
                json!("phi3"),
                "config.json: model_type: is \"phi3\", and only llama can be trained",
            ),
            (
                "model_type",
                json!("granite"),
                "config.json: model_type: is \"granite\", and only llama can be trained",
            ),
            (
                "attention_bias",
                json!(true),
                "config.json: attention_bias: is true, and only false can be trained",
            ),
            (
                "rope_scaling",
                json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0}),
                "config.json: rope_scaling: is of type llama3, and only default can be trained",
            ),
            (
                "hidden_size",
                json!(null),
                "config.json: hidden_size: is missing; expected a number",
            ),
            (
                "num_key_value_heads",
                json!(3),
                "config.json: num_key_value_heads is 3, which does not divide num_attention_heads = 4",
            ),
            (
                "head_dim",
                json!(3),
                "config.json: head_dim is 3; it must be even and above 0",
            ),
        ];
        for (key, value, message) in cases {
            let mut config = small_config();
            config[key] = value;
            let error = Shape::from_config(&config, "config.json").expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
    }
}
