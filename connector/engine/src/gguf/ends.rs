//! Tokens of a GGUF file that end an output.
//!
//! Its keys name one of them as a rule, where `generation_config.json` lists all: files of Gemma
//! name `<eos>`, and not the `<end_of_turn>` that an instruct model writes. So those are found by
//! their texts too, as llama.cpp does, but only those that `generation_config.json` has in the
//! family. Base models of a family share its vocabulary and nothing tells them apart, so that they
//! end there too.
//!
//! Absent: what llama.cpp takes for an end and transformers does not. `</s>` ends an output only
//! where a key says so, since Gemma's vocabulary has it as a tag of HTML; tokens of infills and
//! repositories (`<EOT>`, `<|fim_pad|>`) never do.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

use super::text::{CONTROL, Problem, USER_DEFINED, Vocabulary, integer, shown};

/// Ids of the ends, those first that keys name; ids that none of `vocab` tokens has are left out,
/// as llama.cpp has it: some files write -1 where there is no such token.
pub(crate) fn ends(
    metadata: &HashMap<String, Value>,
    architecture: &str,
    vocab: usize,
) -> Result<Vec<u32>, Problem> {
    let mut ids = Vec::new();
    for end in ["eos", "eot", "eom"] {
        let key = format!("tokenizer.ggml.{end}_token_id");
        if let Some(value) = metadata.get(&key) {
            let id = integer(value);
            ids.push(id.ok_or_else(|| (key, format!("is {}, not a token id", shown(value))))?);
        }
    }
    if metadata.contains_key("tokenizer.ggml.tokens") {
        let Vocabulary { tokens, kinds } = Vocabulary::read(metadata)?;
        let known = known(architecture);
        let tokens = (0_i64..).zip(tokens.iter().zip(&kinds));
        // Conversions give Gemma's either of these kinds. What is a piece of text ends nothing.
        let found = tokens.filter(|(_, (text, kind))| {
            known.contains(*text) && matches!(**kind, CONTROL | USER_DEFINED)
        });
        ids.extend(found.map(|(id, _)| id));
    }
    let mut ends = Vec::new();
    for id in ids {
        let id = u32::try_from(id).ok().filter(|&id| (id as usize) < vocab);
        if let Some(id) = id.filter(|id| !ends.contains(id)) {
            ends.push(id);
        }
    }
    Ok(ends)
}

/// What `generation_config.json` of an architecture's checkpoints lists.
fn known(architecture: &str) -> &'static [&'static str] {
    match architecture {
        "gemma" | "gemma2" | "gemma3" => &["<eos>", "<end_of_turn>"],
        "qwen2" | "qwen3" => &["<|im_end|>", "<|endoftext|>"],
        // Those of Llama 3, and of chats that Llamas and Mistrals were taught. `<|endoftext|>` is
        // none of them: SmolLM2 has the token, and its instruct models do not list it.
        _ => &[
            "<|end_of_text|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|im_end|>",
            "<|end|>",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends of a file with these tokens, each with its kind: 1 is ordinary, 3 is for control, 4 is
    /// defined by the user, 5 is unused.
    fn of(
        architecture: &str,
        tokens: &[(&str, i32)],
        keys: &[(&str, Value)],
    ) -> Result<Vec<u32>, Problem> {
        let texts = tokens
            .iter()
            .map(|(token, _)| Value::String((*token).to_owned()));
        let kinds = tokens.iter().map(|(_, kind)| Value::I32(*kind));
        let lists = [
            ("tokens", Value::Array(texts.collect())),
            ("token_type", Value::Array(kinds.collect())),
        ];
        let keys = keys.iter().cloned();
        let metadata = lists
            .into_iter()
            .chain(keys)
            .map(|(key, value)| (format!("tokenizer.ggml.{key}"), value))
            .collect();
        ends(&metadata, architecture, tokens.len())
    }

    fn eos(id: u32) -> [(&'static str, Value); 1] {
        [("eos_token_id", Value::U32(id))]
    }

    #[test]
    fn outputs_end_where_generation_config_json_of_the_family_says() {
        // Beside `<end_of_turn>`, Gemma's files have struck-out text in HTML.
        let gemma = |kind| {
            [
                ("<pad>", 3),
                ("<eos>", 3),
                ("<end_of_turn>", kind),
                ("</s>", 4),
            ]
        };
        for kind in [CONTROL, USER_DEFINED] {
            for family in ["gemma", "gemma2", "gemma3"] {
                let found = of(family, &gemma(kind as i32), &eos(1));
                assert_eq!(found, Ok(vec![1, 2]), "{family}");
            }
        }
        assert_eq!(of("gemma3", &gemma(3), &eos(2)), Ok(vec![2, 1]));
        let llama = [
            ("<|begin_of_text|>", 3),
            ("<|end_of_text|>", 3),
            ("<|eom_id|>", 3),
            ("<|eot_id|>", 3),
        ];
        assert_eq!(of("llama", &llama, &eos(3)), Ok(vec![3, 1, 2]));
        let chat = [("<|endoftext|>", 3), ("<|im_start|>", 3), ("<|im_end|>", 3)];
        assert_eq!(of("qwen2", &chat, &eos(2)), Ok(vec![2, 0]));
        assert_eq!(of("qwen3", &chat, &eos(0)), Ok(vec![0, 2]));
        // SmolLM2.
        assert_eq!(of("llama", &chat, &eos(2)), Ok(vec![2]));
    }

    #[test]
    fn texts_that_merely_look_like_an_end_are_none() {
        let looks = [
            ("<|im_end|>", 1),
            ("<|eot_id|>", 5),
            ("</s>", 3),
            ("<EOT>", 3),
        ];
        assert_eq!(of("llama", &looks, &[]), Ok(vec![]));
        assert_eq!(of("llama", &looks, &eos(2)), Ok(vec![2]));
    }

    #[test]
    fn keys_name_ends_in_any_type_of_integer() {
        let tokens = [("a", 1), ("b", 1), ("c", 1)];
        let keys = |eos, eot, eom| {
            [
                ("eos_token_id", eos),
                ("eot_token_id", eot),
                ("eom_token_id", eom),
            ]
        };
        let small = keys(Value::U8(2), Value::I16(1), Value::I64(0));
        assert_eq!(of("llama", &tokens, &small), Ok(vec![2, 1, 0]));
        let none = keys(Value::U64(1), Value::I32(-1), Value::U32(u32::MAX));
        assert_eq!(of("llama", &tokens, &none), Ok(vec![1]));
        let text = [("eot_token_id", Value::String("</s>".to_owned()))];
        let problem = of("llama", &tokens, &text).expect_err("it is refused");
        assert_eq!(problem.0, "tokenizer.ggml.eot_token_id");
        assert_eq!(problem.1, "is \"</s>\", not a token id");
    }
}
