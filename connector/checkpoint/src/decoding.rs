//! Which keys of a `generation_config.json` change what is decoded greedily, and are not computed:
//! the engine refuses them by name, and training leaves them behind and says so.
//!
//! Absent: `repetition_penalty`, which is computed, and what greedy decoding does not depend on.

use serde_json::Value;

/// Values, besides null, with which a key changes no output.
#[derive(Debug, Clone, Copy)]
pub enum Idle {
    /// The number 0.
    Zero,
    /// The number 1.
    One,
    /// Numbers up to 1.
    AtMostOne,
    /// A switch that is off.
    False,
    /// A list or an object of nothing.
    Empty,
}

/// The keys, each with the values that change nothing.
pub const NOT_COMPUTED: [(&str, Idle); 21] = [
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

impl Idle {
    /// Whether a value is one of these, or null.
    pub fn has(self, value: &Value) -> bool {
        if value.is_null() {
            return true;
        }
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

    /// What an error about another value says.
    pub fn supported(self) -> &'static str {
        match self {
            Self::Zero => "0; remove the key to decode without it",
            Self::One | Self::AtMostOne => "1; remove the key to decode without it",
            Self::False => "false; remove the key to decode without it",
            Self::Empty => "null; remove the key to decode without it",
        }
    }
}
