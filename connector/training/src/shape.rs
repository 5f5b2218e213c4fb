//! The decoder's shape, from `config.json`: Llama, and nothing that this crate's model does not
//! compute. What it cannot train it refuses by name, never ignores.

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
                .filter(|size| *size > 0)
                .ok_or_else(|| self.problem(key, "is not a whole number above 0")),
        }
    }

    fn number(&self, key: &str, absent: f64) -> Result<f64, TrainError> {
        self.value(key).map_or(Ok(absent), |value| {
            value
                .as_f64()
                .ok_or_else(|| self.problem(key, "is not a number"))
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
        read.only("model_type", &["llama"])?;
        read.only("hidden_act", &["silu", "swish"])?;
        for key in ["attention_bias", "mlp_bias"] {
            if read.flag(key)? {
                return Err(read.problem(key, "is true, and only false can be trained"));
            }
        }
        let rope = read.value("rope_parameters").or(read.value("rope_scaling"));
        let rope_type = rope
            .and_then(|rope| rope.get("rope_type").or(rope.get("type")))
            .and_then(Value::as_str)
            .unwrap_or("default");
        if rope_type != "default" {
            return Err(read.problem(
                "rope_scaling",
                format!("is of type {rope_type}, and only default can be trained"),
            ));
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
        if head % 2 != 0 {
            return Err(read.problem("head_dim", format!("is {head}, expected an even number")));
        }
        let theta = rope
            .and_then(|rope| rope.get("rope_theta"))
            .and_then(Value::as_f64);
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
            rope_theta: theta.map_or_else(|| read.number("rope_theta", 10_000.0), Ok)?,
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

    #[test]
    fn both_spellings_of_the_rotary_base_are_read() {
        let mut config = small_config();
        config["rope_theta"] = Value::Null;
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
        let shape = Shape::from_config(&config, "config.json").expect("valid");
        assert_eq!(shape.rope_theta, 5e5);
    }

    #[test]
    fn what_cannot_be_trained_is_refused_by_key() {
        let cases = [
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
                "config.json: head_dim: is 3, expected an even number",
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
