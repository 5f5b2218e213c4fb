//! The decoder's shape, from `config.json`: Llama, and nothing that this crate's model does not
//! compute. What it cannot train it refuses by name, never ignores.
//!
//! The engine has a reader of its own, of more families, in a crate that training does without.
//! The rules for what both read are the same, so that no run ends in a folder that the engine
//! refuses, or takes for another model.

use serde_json::{Map, Value, json};

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

/// Largest size that the engine reads.
const MOST: usize = 1 << 24;

struct Reader<'a> {
    file: &'a str,
    config: &'a Map<String, Value>,
}

impl Reader<'_> {
    fn problem(&self, key: &str, problem: impl Into<String>) -> TrainError {
        TrainError::Checkpoint {
            file: format!("{}: {key}", self.file),
            problem: problem.into(),
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    fn size(&self, key: &str, absent: Option<usize>) -> Result<usize, TrainError> {
        match self.value(key) {
            None => absent.ok_or_else(|| self.problem(key, "is missing; expected a number")),
            Some(value) => value
                .as_u64()
                .and_then(|size| usize::try_from(size).ok())
                .filter(|size| (1..=MOST).contains(size))
                .ok_or_else(|| {
                    self.problem(
                        key,
                        format!("is {value}, expected a whole number of 1 to {MOST}"),
                    )
                }),
        }
    }

    fn number(&self, key: &str, absent: f64) -> Result<f64, TrainError> {
        self.value(key).map_or(Ok(absent), |value| {
            value
                .as_f64()
                .filter(|number| *number >= 0.0)
                .ok_or_else(|| self.problem(key, format!("is {value}, expected a number from 0")))
        })
    }

    fn flag(&self, key: &str) -> Result<bool, TrainError> {
        self.value(key).map_or(Ok(false), |value| {
            value
                .as_bool()
                .ok_or_else(|| self.problem(key, "is neither true nor false"))
        })
    }

    fn only(&self, key: &str, allowed: &[&str]) -> Result<(), TrainError> {
        match self.value(key).map(|value| value.as_str().unwrap_or("")) {
            Some(word) if !allowed.contains(&word) => Err(self.problem(
                key,
                format!(
                    "is {word:?}, and only {} can be trained",
                    allowed.join(", ")
                ),
            )),
            _ => Ok(()),
        }
    }

    /// The base of unscaled rotary positions. As transformers 5 has it, `rope_scaling` counts where
    /// a file has both objects, and what the object leaves out stands outside of it.
    fn rope_theta(&self) -> Result<f64, TrainError> {
        let outside = self.number("rope_theta", 10_000.0)?;
        let Some((key, object)) = ["rope_scaling", "rope_parameters"]
            .into_iter()
            .find_map(|key| Some((key, self.value(key)?)))
        else {
            return Ok(outside);
        };
        let Value::Object(config) = object else {
            return Err(self.problem(key, format!("is {object}, expected an object")));
        };
        let file = format!("{}: {key}", self.file);
        let rope = Reader {
            file: &file,
            config,
        };
        match rope.value("rope_type").or(rope.value("type")) {
            Some(kind) if kind != "default" => Err(self.problem(
                key,
                format!(
                    "is of type {}, and only default can be trained",
                    kind.as_str().unwrap_or(&kind.to_string())
                ),
            )),
            _ => rope.number("rope_theta", outside),
        }
    }
}

impl Shape {
    /// Reads `config.json`; `file` names it in errors.
    pub fn from_config(config: &Value, file: &str) -> Result<Self, TrainError> {
        let Value::Object(config) = config else {
            return Err(TrainError::Checkpoint {
                file: file.to_owned(),
                problem: "is not a JSON object".to_owned(),
            });
        };
        let read = Reader { file, config };
        if read.value("model_type").is_none() {
            let problem = "is missing; write \"llama\", the only one that can be trained";
            return Err(read.problem("model_type", problem));
        }
        read.only("model_type", &["llama"])?;
        read.only("hidden_act", &["silu", "swish"])?;
        for key in ["attention_bias", "mlp_bias", "use_bidirectional_attention"] {
            if read.flag(key)? {
                return Err(read.problem(key, "is true, and only false can be trained"));
            }
        }
        if read.value("quantization_config").is_some() {
            let problem = "is there, and only weights in f32, f16 or bf16 can be trained";
            return Err(read.problem("quantization_config", problem));
        }
        let hidden = read.size("hidden_size", None)?;
        let heads = read.size("num_attention_heads", None)?;
        let kv_heads = read.size("num_key_value_heads", Some(heads))?;
        let head = read.size("head_dim", Some(hidden / heads.max(1)))?;
        if heads % kv_heads != 0 {
            return Err(read.problem(
                "num_key_value_heads",
                format!("is {kv_heads}, which does not divide num_attention_heads {heads}"),
            ));
        }
        if head == 0 || head % 2 != 0 {
            let problem = format!("is {head}, expected an even number above 0");
            return Err(read.problem("head_dim", problem));
        }
        Ok(Self {
            vocabulary: read.size("vocab_size", None)?,
            hidden,
            ffn: read.size("intermediate_size", None)?,
            layers: read.size("num_hidden_layers", None)?,
            heads,
            kv_heads,
            head,
            context: read.size("max_position_embeddings", Some(2048))?,
            norm_epsilon: read.number("rms_norm_eps", 1e-6)?,
            rope_theta: read.rope_theta()?,
            tied: read.flag("tie_word_embeddings")?,
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
        for (changes, message) in [
            (
                json!({"rope_parameters": {"rope_type": "default"},
                    "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
                "config.json: rope_scaling: is of type linear, and only default can be trained",
            ),
            (
                json!({"rope_scaling": {"rope_type": null, "type": "linear"}}),
                "config.json: rope_scaling: is of type linear, and only default can be trained",
            ),
            (
                json!({"rope_parameters": {"rope_type": 7}}),
                "config.json: rope_parameters: is of type 7, and only default can be trained",
            ),
            (
                json!({"rope_scaling": "linear"}),
                "config.json: rope_scaling: is \"linear\", expected an object",
            ),
            (
                json!({"rope_scaling": {"rope_theta": "1e4"}}),
                "config.json: rope_scaling: rope_theta: is \"1e4\", expected a number from 0",
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
                "config.json: use_bidirectional_attention: is true, and only false can be trained",
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
                "config.json: rms_norm_eps: is -1.0, expected a number from 0",
            ),
            (
                "max_position_embeddings",
                json!(16_777_217),
                "config.json: max_position_embeddings: is 16777217, expected a whole number of 1 \
                 to 16777216",
            ),
            (
                "model_type",
                json!("gemma"),
                "config.json: model_type: is \"gemma\", and only llama can be trained",
            ),
            (
                "attention_bias",
                json!(true),
                "config.json: attention_bias: is true, and only false can be trained",
            ),
            (
                "rope_scaling",
                json!({"rope_type": "llama3"}),
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
                "config.json: num_key_value_heads: is 3, which does not divide num_attention_heads 4",
            ),
            (
                "head_dim",
                json!(3),
                "config.json: head_dim: is 3, expected an even number above 0",
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
