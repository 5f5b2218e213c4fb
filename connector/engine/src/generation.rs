//! What a checkpoint's `generation_config.json` says about decoding.
//!
//! transformers goes by it in `generate(do_sample=False)` too: outputs end at its `eos_token_id`,
//! and some of its keys change which token is the best. Of these, the repetition penalty is
//! computed ([`crate::penalty`]), and the others are refused by name where they would change an
//! output. Where there is no such file, transformers reads the same keys in `config.json`.
//!
//! Left alone is what greedy decoding does not depend on: what only sampling or beams read,
//! lengths, which the options' `max_new_tokens` replaces, `forced_bos_token_id`, which acts behind a
//! prompt of one token alone, and `remove_invalid_values`, since logits that are no numbers end an
//! output here.

use aligner_checkpoint::{CheckpointError, Json, NOT_COMPUTED};
use serde_json::Value;

/// Name of the file.
pub(crate) const FILE: &str = "generation_config.json";

/// The checkpoint's say in how outputs are decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Generation {
    /// End-of-sequence ids, if it has any; they override those of
    /// [`Config`](aligner_checkpoint::Config).
    pub(crate) eos: Vec<u32>,
    /// What the logits of tokens that were there before are divided by, if not by 1.
    pub(crate) repetition_penalty: Option<f32>,
}

impl Generation {
    /// Reads `generation_config.json`; `file` is what errors call it.
    pub(crate) fn from_json(file: &str, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let json = Json::parse(file, bytes)?;
        Self::read(|_| &json)
    }

    /// Reads the same keys in `config.json`, for a checkpoint without `generation_config.json`.
    /// What a multimodal file leaves out is what the description of its text says.
    pub(crate) fn from_config(file: &str, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let json = Json::parse(file, bytes)?;
        let text = json.object("text_config")?;
        Self::read(|key| match &text {
            Some(text) if !json.has(key) => text,
            _ => &json,
        })
    }

    /// Reads each key in the object that `of` gives for it.
    fn read<'a>(of: impl Fn(&str) -> &'a Json) -> Result<Self, CheckpointError> {
        for (key, idle) in NOT_COMPUTED {
            let json = of(key);
            if json.get(key).is_some_and(|value| !idle.has(value)) {
                return Err(json.unsupported(key, idle.supported()));
            }
        }
        let key = "repetition_penalty";
        let said = of(key).get(key).and_then(Value::as_f64);
        if let Some(penalty) = said.filter(|&penalty| penalty <= 0.0) {
            let problem = format!("is {penalty}; it must be above 0, and 1 is no penalty");
            return Err(of(key).problem(key, problem));
        }
        let penalty = of(key).number_or(key, 1.0)?;
        let key = "eos_token_id";
        Ok(Self {
            eos: of(key).ids(key)?,
            repetition_penalty: (penalty != 1.0).then_some(penalty as f32),
        })
    }
}

#[cfg(test)]
mod tests {
    use aligner_checkpoint::CONFIG;
    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Result<Generation, String> {
        Generation::from_json(FILE, json.to_string().as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn ends_and_penalty_are_read_and_what_greedy_decoding_ignores_is_left_alone() {
        // As Qwen2.5-Instruct has it, and what transformers writes beside.
        let generation = read(&json!({
            "bos_token_id": 1, "eos_token_id": [2, 5], "pad_token_id": 1, "do_sample": true,
            "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
            "max_length": 20, "max_new_tokens": 512, "num_beams": 1, "length_penalty": 2.0,
            "min_length": 0, "no_repeat_ngram_size": 0, "bad_words_ids": null,
            "suppress_tokens": [], "transformers_version": "5.23.0"
        }));
        let expected = Generation {
            eos: vec![2, 5],
            repetition_penalty: Some(1.05),
        };
        assert_eq!(generation, Ok(expected));
        for nothing in [json!({}), json!({"repetition_penalty": 1})] {
            assert_eq!(read(&nothing), Ok(Generation::default()), "{nothing}");
        }
        let one = read(&json!({"eos_token_id": 7, "repetition_penalty": null}));
        assert_eq!(one.expect("valid").eos, [7]);
    }

    fn read_config(json: &Value) -> Result<Generation, String> {
        Generation::from_config(CONFIG, json.to_string().as_bytes())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_file_of_its_own_config_json_counts_and_its_text_where_it_says_nothing() {
        // As transformers 4 wrote a multimodal file: with every key of decoding, at its default.
        let plain = json!({
            "model_type": "gemma3", "vocab_size": 32, "max_position_embeddings": 2048,
            "text_config": {
                "min_length": 0, "max_length": 20, "num_beams": 1, "no_repeat_ngram_size": 0,
                "encoder_no_repeat_ngram_size": 0, "bad_words_ids": null, "suppress_tokens": null,
                "begin_suppress_tokens": null, "forced_eos_token_id": null, "temperature": 1.0,
                "exponential_decay_length_penalty": null, "repetition_penalty": 1.0
            }
        });
        assert_eq!(read_config(&plain), Ok(Generation::default()));
        let mut said = plain;
        said["text_config"]["repetition_penalty"] = 1.4.into();
        said["text_config"]["eos_token_id"] = 9.into();
        let of = |eos: &[u32], penalty| {
            Ok(Generation {
                eos: eos.to_vec(),
                repetition_penalty: Some(penalty),
            })
        };
        assert_eq!(read_config(&said), of(&[9], 1.4));
        said["repetition_penalty"] = 1.3.into();
        said["eos_token_id"] = json!([2, 7]);
        assert_eq!(read_config(&said), of(&[2, 7], 1.3));
        let refused = |config: &Value| read_config(config).expect_err("it is refused");
        said["text_config"]["num_beams"] = 4.into();
        let end = "is not supported; supported: 1; remove the key to decode without it";
        assert_eq!(
            refused(&said),
            format!("config.json: text_config.num_beams = 4 {end}")
        );
        let llama = json!({"model_type": "llama", "num_beams": 4});
        assert_eq!(refused(&llama), format!("config.json: num_beams = 4 {end}"));
        let none = json!({"repetition_penalty": 0});
        assert!(refused(&none).starts_with("config.json: repetition_penalty is 0; "));
    }

    #[test]
    fn what_changes_a_greedy_output_and_is_not_computed_is_refused_by_name() {
        for (key, value) in [
            ("num_beams", json!(4)),
            ("min_length", json!(2)),
            ("min_new_tokens", json!(1)),
            ("no_repeat_ngram_size", json!(3)),
            ("encoder_no_repeat_ngram_size", json!(3)),
            ("encoder_repetition_penalty", json!(1.5)),
            ("guidance_scale", json!(1.5)),
            ("penalty_alpha", json!(0.6)),
            ("token_healing", json!(true)),
            ("bad_words_ids", json!([[3]])),
            ("force_words_ids", json!([[3]])),
            ("constraints", json!([{}])),
            ("sequence_bias", json!([[[3], 1.0]])),
            ("suppress_tokens", json!([3])),
            ("begin_suppress_tokens", json!([3])),
            ("forced_eos_token_id", json!(3)),
            ("exponential_decay_length_penalty", json!([20, 1.1])),
            ("watermarking_config", json!({"bias": 2.0})),
            ("dola_layers", json!("high")),
            ("stop_strings", json!("stop")),
            ("max_time", json!(2.5)),
        ] {
            let error = read(&json!({ key: value })).expect_err("it is refused");
            let start = format!("generation_config.json: {key} = {value} is not supported");
            assert!(error.starts_with(&start), "{error}");
            assert!(error.contains("remove the key"), "{error}");
        }
        for penalty in ["0", "-1", "-0.5"] {
            let value: Value = serde_json::from_str(penalty).expect("a number");
            let refused = read(&json!({"repetition_penalty": value}));
            let problem = format!(
                "generation_config.json: repetition_penalty is {penalty}; it must be above 0, and \
                 1 is no penalty"
            );
            assert_eq!(refused, Err(problem));
        }
    }
}
