//! What a checkpoint's `generation_config.json` says about decoding.
//!
//! transformers goes by it in `generate(do_sample=False)` too: outputs end at its `eos_token_id`,
//! and some of its keys change which token is the best. Of these, the repetition penalty is
//! computed ([`crate::penalty`]), and the others are refused by name where they would change an
//! output.
//!
//! Left alone is what greedy decoding does not depend on: what only sampling or beams read,
//! lengths, which the options' `max_new_tokens` replaces, `forced_bos_token_id`, which acts behind a
//! prompt of one token alone, and `remove_invalid_values`, since logits that are no numbers end an
//! output here.

use serde_json::Value;

use crate::{LoadError, json::Json};

/// Name of the file, for errors.
pub(crate) const FILE: &str = "generation_config.json";

/// The checkpoint's say in how outputs are decoded.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Generation {
    /// End-of-sequence ids, if it has any; they override those of `config.json`.
    pub(crate) eos: Vec<u32>,
    /// What the logits of tokens that were there before are divided by, if not by 1.
    pub(crate) repetition_penalty: Option<f32>,
}

/// Values, besides null, with which a key changes no output.
#[derive(Debug, Clone, Copy)]
enum Idle {
    Zero,
    One,
    /// Numbers up to 1.
    AtMostOne,
    False,
    /// A list or an object of nothing.
    Empty,
}

/// Keys that change what is decoded greedily, and are not computed.
const NOT_COMPUTED: [(&str, Idle); 21] = [
    ("num_beams", Idle::AtMostOne),
    // It counts the prompt, which has a token at least.
    ("min_length", Idle::AtMostOne),
    ("min_new_tokens", Idle::Zero),
    ("no_repeat_ngram_size", Idle::Zero),
    // The prompt is what a decoder's encoder would have read.
    ("encoder_no_repeat_ngram_size", Idle::Zero),
    ("encoder_repetition_penalty", Idle::One),
    ("guidance_scale", Idle::One),
    ("penalty_alpha", Idle::Zero),
    ("token_healing", Idle::False),
    ("bad_words_ids", Idle::Empty),
    ("force_words_ids", Idle::Empty),
    ("constraints", Idle::Empty),
    ("sequence_bias", Idle::Empty),
    ("suppress_tokens", Idle::Empty),
    ("begin_suppress_tokens", Idle::Empty),
    ("forced_eos_token_id", Idle::Empty),
    ("exponential_decay_length_penalty", Idle::Empty),
    ("watermarking_config", Idle::Empty),
    ("dola_layers", Idle::Empty),
    ("stop_strings", Idle::Empty),
    ("max_time", Idle::Empty),
];

impl Generation {
    /// Reads `generation_config.json`.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, LoadError> {
        let json = Json::parse(FILE, bytes)?;
        for (key, idle) in NOT_COMPUTED {
            if json.get(key).is_some_and(|value| !idle.has(value)) {
                return Err(json.unsupported(key, idle.supported()));
            }
        }
        let penalty = json.number_or("repetition_penalty", 1.0)?;
        if penalty <= 0.0 {
            let problem = format!("is {penalty}; it must be above 0, and 1 is no penalty");
            return Err(json.problem("repetition_penalty", problem));
        }
        Ok(Self {
            eos: json.ids("eos_token_id")?,
            repetition_penalty: (penalty != 1.0).then_some(penalty as f32),
        })
    }
}

impl Idle {
    fn has(self, value: &Value) -> bool {
        match self {
            Self::Zero => value.as_f64() == Some(0.0),
            Self::One => value.as_f64() == Some(1.0),
            Self::AtMostOne => value.as_f64().is_some_and(|number| number <= 1.0),
            Self::False => value.as_bool() == Some(false),
            Self::Empty => match value {
                Value::Array(values) => values.is_empty(),
                Value::Object(values) => values.is_empty(),
                _ => false,
            },
        }
    }

    fn supported(self) -> &'static str {
        match self {
            Self::Zero => "0; remove the key to decode without it",
            Self::One | Self::AtMostOne => "1; remove the key to decode without it",
            Self::False => "false; remove the key to decode without it",
            Self::Empty => "null; remove the key to decode without it",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: &Value) -> Result<Generation, String> {
        Generation::from_json(json.to_string().as_bytes()).map_err(|error| error.to_string())
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
        assert_eq!(
            read(&json!({"repetition_penalty": 0})),
            Err(
                "generation_config.json: repetition_penalty is 0; it must be above 0, and 1 is no \
                 penalty"
                    .to_owned()
            )
        );
    }
}
