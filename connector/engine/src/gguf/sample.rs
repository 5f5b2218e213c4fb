//! Whether the `tokenizer.json` beside a GGUF file is of the same model.
//!
//! One of another model makes noise of every prompt, and nothing else would say so. Therefore a
//! sample of the file's tokens is looked up in it by their ids. Both spell a token alike, as
//! byte-level or SentencePiece vocabularies do, but for the spaces of added ones. What merely
//! fills the vocabulary up to the rows of the embeddings is not looked up.

use std::collections::{BTreeMap, HashMap};

use aligner_tokens::Texts;
use candle_core::quantized::gguf_file::Value;

use super::text::{Problem, UNUSED, Vocabulary, integer};
use crate::LoadError;

/// Tokens of a sample, evenly spread over the vocabulary, besides those that begin and end a
/// sequence.
const SPREAD: usize = 64;

/// Tokens of a GGUF file.
pub(crate) struct Sample {
    /// How errors call it.
    file: String,
    /// By id, so that the first that differs is named.
    tokens: BTreeMap<u32, String>,
    /// The first id beyond its vocabulary.
    end: u32,
}

impl Sample {
    /// A sample of a file with these metadata, which errors call `file`; `None` if it holds no
    /// tokens.
    pub(crate) fn of(
        file: &str,
        metadata: &HashMap<String, Value>,
    ) -> Result<Option<Self>, Problem> {
        if !metadata.contains_key("tokenizer.ggml.tokens") {
            return Ok(None);
        }
        let vocabulary = Vocabulary::read(metadata)?;
        let kinds = vocabulary.kinds.iter();
        let used: Vec<(u32, &str)> = (0..)
            .zip(vocabulary.tokens.iter().copied())
            .zip(kinds)
            .filter(|((id, text), kind)| **kind != UNUSED && !is_padding(*id, text))
            .map(|(token, _)| token)
            .collect();
        let last = used.len().saturating_sub(1);
        let spread = (0..SPREAD).filter_map(|step| used.get(step * last / (SPREAD - 1)));
        let ends = ["bos", "eos", "eot", "eom"].into_iter().filter_map(|end| {
            let id = metadata.get(&format!("tokenizer.ggml.{end}_token_id"));
            let id = id.and_then(integer)?;
            used.iter().find(|(used, _)| i64::from(*used) == id)
        });
        let tokens = spread.chain(ends).map(|&(id, text)| (id, text.to_owned()));
        Ok(Some(Self {
            file: file.to_owned(),
            tokens: tokens.collect(),
            end: u32::try_from(vocabulary.tokens.len()).unwrap_or(u32::MAX),
        }))
    }

    /// Whether the tokens of `texts` are those of the file.
    ///
    /// # Errors
    /// With the first that differs.
    pub(crate) fn check(&self, texts: &Texts) -> Result<(), LoadError> {
        for (&id, within) in &self.tokens {
            let beside = texts.token(id);
            let beside = beside.as_deref();
            if beside.is_none_or(|beside| !alike(beside, within)) {
                return Err(self.foreign(id, beside, Some(within)));
            }
        }
        // An added token may lie beyond the rows of the model, as that for images does in Gemma 3:
        // no text has it. Any other would be met.
        let beyond = self.end..u32::try_from(texts.vocabulary()).unwrap_or(u32::MAX);
        for id in beyond.filter(|&id| !texts.is_added(id)) {
            if let Some(beside) = texts.token(id) {
                return Err(self.foreign(id, Some(&beside), None));
            }
        }
        Ok(())
    }

    fn foreign(&self, id: u32, beside: Option<&str>, within: Option<&str>) -> LoadError {
        let shown = |text: Option<&str>| match text {
            Some(text) => format!("{text:?}"),
            None => "missing".to_owned(),
        };
        LoadError::ForeignTokenizer {
            file: self.file.clone(),
            id,
            beside: shown(beside),
            within: shown(within),
        }
    }
}

/// Whether two files mean the same token. Conversions write added tokens as they are decoded: with
/// spaces instead of SentencePiece's sign, and without those around them.
fn alike(beside: &str, within: &str) -> bool {
    let spaced = |text: &str| text.replace('▁', " ");
    spaced(beside).trim() == spaced(within).trim()
}

/// What conversions write where `tokenizer.json` has nothing: `[PAD7]` at 7, `<dummy00001>`, or no
/// text.
fn is_padding(id: u32, text: &str) -> bool {
    let number = text
        .strip_prefix("[PAD")
        .and_then(|rest| rest.strip_suffix(']'));
    text.is_empty()
        || text.starts_with("<dummy")
        || number.is_some_and(|number| number == id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::text::tokenizer_json;

    /// Texts and kinds: 1 is ordinary, 3 and 4 are added, 5 is unused.
    const TOKENS: [(&str, i32); 4] = [("<s>", 3), ("a", 1), ("b", 1), ("ab", 1)];

    const SAME: &str = "the same";

    fn metadata<T: AsRef<str>>(tokens: &[(T, i32)]) -> HashMap<String, Value> {
        let text = |text: &str| Value::String(text.to_owned());
        let texts = tokens.iter().map(|(token, _)| text(token.as_ref()));
        let kinds = tokens.iter().map(|(_, kind)| Value::I32(*kind));
        let values = [
            ("model", text("gpt2")),
            ("pre", text("gpt-2")),
            ("tokens", Value::Array(texts.collect())),
            ("token_type", Value::Array(kinds.collect())),
            ("merges", Value::Array(Vec::new())),
        ];
        HashMap::from(values.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)))
    }

    fn more(tokens: &[(&str, i32)]) -> HashMap<String, Value> {
        metadata(&[&TOKENS[..], tokens].concat())
    }

    fn verdict(file: &HashMap<String, Value>, beside: &HashMap<String, Value>) -> String {
        let sample = Sample::of("tiny.gguf", file).expect("well-formed");
        let json = tokenizer_json(beside).expect("well-formed");
        let texts = Texts::from_json(&json.expect("a tokenizer")).expect("valid");
        match sample.expect("tokens").check(&texts) {
            Ok(()) => SAME.to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn differs(id: u32, beside: &str, within: &str) -> String {
        format!(
            "tokenizer.json beside tiny.gguf is of another model: token {id} is {beside} there and \
             {within} in the file; move the file into a folder of its own, or remove tokenizer.json"
        )
    }

    #[test]
    fn the_first_token_that_differs_is_named_with_both_texts() {
        let file = metadata(&TOKENS);
        assert_eq!(verdict(&file, &file), SAME);
        let beside = metadata(&[("<s>", 3), ("a", 1), ("ab", 1), ("b", 1)]);
        assert_eq!(verdict(&file, &beside), differs(2, "\"ab\"", "\"b\""));
        let longer = more(&[("ba", 1)]);
        assert_eq!(verdict(&longer, &file), differs(4, "missing", "\"ba\""));
        assert_eq!(verdict(&file, &longer), differs(4, "\"ba\"", "missing"));
    }

    #[test]
    fn padding_and_added_tokens_beyond_the_file_are_no_difference() {
        let beside = metadata(&TOKENS);
        for padding in [("[PAD4]", 5), ("[PAD4]", 4), ("<dummy00001>", 4), ("", 1)] {
            assert_eq!(verdict(&more(&[padding]), &beside), SAME, "{padding:?}");
        }
        assert_eq!(
            verdict(&more(&[("[PAD5]", 4)]), &beside),
            differs(4, "missing", "\"[PAD5]\"")
        );
        assert_eq!(verdict(&beside, &more(&[("<image>", 3)])), SAME);
        // What was padding there may be in use here.
        let added = more(&[("<image>", 3)]);
        assert_eq!(verdict(&more(&[("[PAD4]", 5)]), &added), SAME);
    }

    #[test]
    fn added_tokens_are_compared_as_conversions_write_them() {
        let beside = more(&[("▁▁x", 4), ("<|end|>", 3)]);
        assert_eq!(verdict(&more(&[("  x", 4), ("<|end|>", 3)]), &beside), SAME);
        assert_eq!(
            verdict(&more(&[("  x", 4), ("<|fin|>", 3)]), &beside),
            differs(5, "\"<|end|>\"", "\"<|fin|>\"")
        );
    }

    #[test]
    fn the_end_of_a_sequence_is_compared_wherever_it_lies() {
        let tokens: Vec<(String, i32)> = (0..200).map(|id| (format!("t{id}"), 1)).collect();
        let mut others = tokens.clone();
        others[100].0 = "x".to_owned();
        let (mut file, beside) = (metadata(&tokens), metadata(&others));
        // 64 of 200 tokens do not show everything.
        assert_eq!(verdict(&file, &beside), SAME);
        file.insert("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(100));
        assert_eq!(verdict(&file, &beside), differs(100, "\"x\"", "\"t100\""));
    }

    #[test]
    fn a_file_without_tokens_has_no_sample() {
        let mut file = metadata(&TOKENS);
        file.remove("tokenizer.ggml.tokens");
        assert!(Sample::of("tiny.gguf", &file).is_ok_and(|sample| sample.is_none()));
    }
}
