//! What a trained model takes over of its base's `generation_config.json`, and what that leaves behind.

use aligner_checkpoint::{Idle, NOT_COMPUTED};
use serde_json::{Value, json};

/// What the `generation_config.json` of a base says about a model trained from it, and the keys
/// that are left behind and would change its outputs.
///
/// Training measures what greedy decoding gives by the weights alone, and fits the guard to it: a
/// penalty or a beam of the base's would decode something else.
pub(crate) fn as_trained(base: &Value) -> (Value, Vec<String>) {
    const KEPT: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];
    let mut kept = json!({"do_sample": false});
    for key in KEPT {
        if let Some(value) = base.get(key).filter(|value| !value.is_null()) {
            kept[key] = value.clone();
        }
    }
    // The engine computes this one, and refuses the others.
    let dropped = [("repetition_penalty", Idle::One)]
        .into_iter()
        .chain(NOT_COMPUTED)
        .filter(|(key, idle)| base.get(key).is_some_and(|value| !idle.has(value)))
        .map(|(key, _)| key.to_owned())
        .collect();
    (kept, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_base_says_about_decoding_beyond_its_ids_is_dropped_and_named() {
        let base = json!({
            "bos_token_id": 1, "eos_token_id": [2, 5], "pad_token_id": null, "do_sample": true,
            "temperature": 0.7, "max_new_tokens": 512, "num_beams": 4, "repetition_penalty": 1.05,
            "suppress_tokens": null,
        });
        let (kept, dropped) = as_trained(&base);
        let expected = json!({"bos_token_id": 1, "eos_token_id": [2, 5], "do_sample": false});
        assert_eq!(kept, expected);
        assert_eq!(dropped, ["repetition_penalty", "num_beams"]);
    }

    #[test]
    fn keys_that_change_no_output_are_not_named() {
        // As transformers 5 saves a model that was only loaded, and defaults of earlier versions.
        let idle = json!({
            "_from_model_config": true, "bos_token_id": 1, "eos_token_id": 2,
            "output_attentions": false, "output_hidden_states": false, "output_scores": true,
            "output_logits": true, "return_dict_in_generate": true, "use_cache": true,
            "transformers_version": "5.0.0", "cache_implementation": "static", "min_p": 0.1,
            "length_penalty": 2.0, "early_stopping": true, "num_beams": 1, "min_length": 0,
            "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": [],
            "sequence_bias": {}, "token_healing": false, "guidance_scale": null,
        });
        let (kept, dropped) = as_trained(&idle);
        let expected = json!({"bos_token_id": 1, "eos_token_id": 2, "do_sample": false});
        assert_eq!((kept, dropped), (expected, Vec::new()));
        let telling = json!({
            "no_repeat_ngram_size": 1, "guidance_scale": 0, "token_healing": true,
            "suppress_tokens": [7], "dola_layers": "high",
        });
        let (_, dropped) = as_trained(&telling);
        let expected = [
            "no_repeat_ngram_size",
            "guidance_scale",
            "token_healing",
            "suppress_tokens",
            "dola_layers",
        ];
        assert_eq!(dropped, expected);
    }
}
