//! `tokenizer.json` from the metadata of a GGUF file that has none beside it.
//!
//! Two models exist: byte-level BPE (`gpt2`), which brings its merges and the name of its
//! pre-tokenizer, and SentencePiece BPE (`llama`), which brings scores, from which the merges
//! follow. A pre-tokenizer is never guessed: another one than the model was trained with gives
//! other tokens, and nothing else would say so.

use std::collections::{HashMap, HashSet};

use candle_core::quantized::gguf_file::Value;
use serde_json::{Value as Json, json};

/// A key and what is wrong with it.
pub(crate) type Problem = (String, String);

/// Kinds of tokens in `tokenizer.ggml.token_type`.
const UNKNOWN: i64 = 2;
pub(crate) const CONTROL: i64 = 3;
pub(crate) const USER_DEFINED: i64 = 4;
pub(crate) const UNUSED: i64 = 5;

/// How Llama 3 and Qwen 2 cut text; they differ in how many digits stay together.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The file's tokenizer as `tokenizer.json`; `None` if it has none.
pub(crate) fn tokenizer_json(
    metadata: &HashMap<String, Value>,
) -> Result<Option<Vec<u8>>, Problem> {
    let Some(model) = text(metadata, "model").filter(|&model| model != "none") else {
        return Ok(None);
    };
    let vocabulary = Vocabulary::read(metadata)?;
    let json = match model {
        "gpt2" => byte_level(metadata, &vocabulary)?,
        "llama" => sentence_piece(metadata, &vocabulary)?,
        other => {
            return Err((
                "tokenizer.ggml.model".to_owned(),
                format!(
                    "= {other} is not supported; put tokenizer.json beside the file, or use \
                         gpt2 or llama"
                ),
            ));
        }
    };
    Ok(Some(json.to_string().into_bytes()))
}

/// Texts and kinds of the file's tokens, by id.
pub(crate) struct Vocabulary<'a> {
    pub(crate) tokens: Vec<&'a str>,
    pub(crate) kinds: Vec<i64>,
}

impl<'a> Vocabulary<'a> {
    pub(crate) fn read(metadata: &'a HashMap<String, Value>) -> Result<Self, Problem> {
        let tokens = strings(metadata, "tokens")?;
        let kinds = match metadata.get("tokenizer.ggml.token_type") {
            None => vec![1; tokens.len()],
            Some(kinds) => kinds
                .to_vec()
                .ok()
                .and_then(|kinds| kinds.iter().map(integer).collect::<Option<Vec<_>>>())
                .filter(|kinds| kinds.len() == tokens.len())
                .ok_or_else(|| problem("token_type", "must be a number for each token"))?,
        };
        Ok(Self { tokens, kinds })
    }

    fn ids(&self) -> HashMap<&'a str, usize> {
        self.tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (*token, id))
            .collect()
    }

    fn vocab(&self) -> Json {
        self.tokens
            .iter()
            .enumerate()
            .map(|(id, token)| ((*token).to_owned(), json!(id)))
            .collect()
    }

    /// Tokens that are found in a text before anything else.
    fn added(&self) -> Vec<Json> {
        let added = |(id, (token, kind)): (usize, (&&str, &i64))| {
            matches!(*kind, CONTROL | USER_DEFINED).then(|| {
                json!({
                    "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": *kind == CONTROL,
                })
            })
        };
        self.tokens
            .iter()
            .zip(&self.kinds)
            .enumerate()
            .filter_map(added)
            .collect()
    }

    /// The post-processor that begins and ends a sequence, as the file asks for; `begins` is what llama.cpp
    /// does at the beginning where the file says nothing.
    fn post_processor(&self, metadata: &HashMap<String, Value>, begins: bool) -> Json {
        let key = |name: &str| metadata.get(&format!("tokenizer.ggml.{name}"));
        let token = |end: &str, default| {
            let asked = key(&format!("add_{end}_token"));
            let asked = asked.map_or(default, |flag| flag.to_bool().unwrap_or(default));
            let id = key(&format!("{end}_token_id")).and_then(integer)?;
            let text = self.tokens.get(usize::try_from(id).ok()?)?;
            asked.then_some((*text, id))
        };
        let (first, last) = (token("bos", begins), token("eos", false));
        if first.is_none() && last.is_none() {
            return Json::Null;
        }
        let special = |(text, _): (&str, i64)| json!({"SpecialToken": {"id": text, "type_id": 0}});
        let around = |sequences: &[&str]| -> Vec<Json> {
            let sequence = |id: &&str| json!({"Sequence": {"id": id, "type_id": 0}});
            let (first, last) = (first.map(special), last.map(special));
            let inner = sequences.iter().map(sequence);
            first.into_iter().chain(inner).chain(last).collect()
        };
        let described = |(text, id): (&str, i64)| {
            let token = json!({"id": text, "ids": [id], "tokens": [text]});
            (text.to_owned(), token)
        };
        let both = first.into_iter().chain(last);
        json!({
            "type": "TemplateProcessing",
            "single": around(&["A"]),
            "pair": around(&["A", "B"]),
            "special_tokens": both.map(described).collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn byte_level(
    metadata: &HashMap<String, Value>,
    vocabulary: &Vocabulary<'_>,
) -> Result<Json, Problem> {
    let bytes = |use_regex: bool| {
        json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let split = |pattern: &str| {
        let split = json!({
            "type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
            "invert": false,
        });
        json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
    };
    let refused = |what: &str| {
        let remedy = "put tokenizer.json beside the file, or use gpt-2, smollm, llama-bpe or qwen2";
        problem("pre", &format!("{what}; {remedy}"))
    };
    let pre = text(metadata, "pre").ok_or_else(|| refused("is missing or no text"))?;
    // Of these, llama.cpp looks whole words up, and begins a sequence unasked, for Llama 3 alone.
    let (pre_tokenizer, normalizer, llama_3) = match pre {
        "gpt-2" | "gpt2" => (bytes(true), Json::Null, false),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            let both = json!({"type": "Sequence", "pretokenizers": [digits, bytes(true)]});
            (both, Json::Null, false)
        }
        "llama-bpe" | "llama3" | "llama-v3" => (split(LLAMA_3), Json::Null, true),
        "qwen2" => (split(QWEN_2), json!({"type": "NFC"}), false),
        // "default" among them, which names none.
        other => return Err(refused(&format!("= {other} is not supported"))),
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": vocabulary.post_processor(metadata, llama_3),
        "decoder": bytes(true),
        "model": {
            "type": "BPE", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": llama_3, "vocab": vocabulary.vocab(),
            "merges": strings(metadata, "merges")?,
        },
    }))
}

fn sentence_piece(
    metadata: &HashMap<String, Value>,
    vocabulary: &Vocabulary<'_>,
) -> Result<Json, Problem> {
    let scores = metadata
        .get("tokenizer.ggml.scores")
        .and_then(|scores| scores.to_vec().ok())
        .and_then(|scores| scores.iter().map(|score| score.to_f32().ok()).collect())
        .filter(|scores: &Vec<f32>| scores.len() == vocabulary.tokens.len())
        .ok_or_else(|| problem("scores", "must be a number for each token"))?;
    let prefix = metadata
        .get("tokenizer.ggml.add_space_prefix")
        .is_none_or(|flag| flag.to_bool().unwrap_or(true));
    let replace = |pattern: &str, content: &str| json!({"type": "Replace", "pattern": {"String": pattern}, "content": content});
    let mut normalizers = vec![replace(" ", "▁")];
    let mut decoders = vec![
        replace("▁", " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let unknown = vocabulary.kinds.iter().position(|&kind| kind == UNKNOWN);
    Ok(json!({
        "version": "1.0",
        "added_tokens": vocabulary.added(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": vocabulary.post_processor(metadata, true),
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "unk_token": unknown.map(|id| vocabulary.tokens[id]),
            "fuse_unk": true, "byte_fallback": true, "vocab": vocabulary.vocab(),
            "merges": merges(vocabulary, &scores),
        },
    }))
}

/// Every way to put a token together from two others, the best scored first.
fn merges<'a>(vocabulary: &Vocabulary<'a>, scores: &[f32]) -> Vec<[&'a str; 2]> {
    let ids = vocabulary.ids();
    // Looked at first: to hash both parts of every split of a very long token takes minutes.
    let lengths: HashSet<usize> = vocabulary.tokens.iter().map(|token| token.len()).collect();
    let mut found: Vec<(f32, usize, usize, [&str; 2])> = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if vocabulary.kinds[id] == CONTROL {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            if !lengths.contains(&at) || !lengths.contains(&(token.len() - at)) {
                continue;
            }
            let (left, right) = token.split_at(at);
            if let (Some(&left_id), Some(&right_id)) = (ids.get(left), ids.get(right)) {
                found.push((scores[id], left_id, right_id, [left, right]));
            }
        }
    }
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    found.into_iter().map(|(.., pair)| pair).collect()
}

fn text<'a>(metadata: &'a HashMap<String, Value>, key: &str) -> Option<&'a str> {
    metadata
        .get(&format!("tokenizer.ggml.{key}"))?
        .to_string()
        .ok()
        .map(String::as_str)
}

fn strings<'a>(metadata: &'a HashMap<String, Value>, key: &str) -> Result<Vec<&'a str>, Problem> {
    metadata
        .get(&format!("tokenizer.ggml.{key}"))
        .and_then(|list| list.to_vec().ok())
        .and_then(|list| {
            list.iter()
                .map(|text| text.to_string().ok().map(String::as_str))
                .collect()
        })
        .ok_or_else(|| problem(key, "must be a list of texts"))
}

/// A whole number, whichever type it is stored as.
pub(crate) fn integer(value: &Value) -> Option<i64> {
    match *value {
        Value::U8(number) => Some(number.into()),
        Value::I8(number) => Some(number.into()),
        Value::U16(number) => Some(number.into()),
        Value::I16(number) => Some(number.into()),
        Value::U32(number) => Some(number.into()),
        Value::I32(number) => Some(number.into()),
        Value::U64(number) => i64::try_from(number).ok(),
        Value::I64(number) => Some(number),
        _ => None,
    }
}

/// A number, whichever type it is stored as.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match *value {
        Value::F32(number) => Some(number.into()),
        Value::F64(number) => Some(number),
        _ => integer(value).map(|number| number as f64),
    }
}

/// A value as errors show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::F32(number) => format!("{number:?}"),
        Value::F64(number) => format!("{number:?}"),
        Value::U64(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(list) => format!("a list of {}", list.len()),
        other => integer(other).map_or_else(String::new, |number| number.to_string()),
    }
}

fn problem(key: &str, problem: &str) -> Problem {
    (format!("tokenizer.ggml.{key}"), problem.to_owned())
}

#[cfg(test)]
mod tests {
    use aligner_tokens::Texts;

    use super::*;

    /// Tokens of "ab", which is 3 among them; 0 begins a sequence, and 4 ends one, each if it is asked for.
    fn prompted(pre: &str, add_bos: Option<bool>, add_eos: Option<bool>) -> Vec<u32> {
        let text = |text: &str| Value::String(text.to_owned());
        let list = |texts: &[&str]| Value::Array(texts.iter().map(|&each| text(each)).collect());
        let mut metadata: HashMap<String, Value> = HashMap::new();
        let mut set = |key: &str, value| metadata.insert(format!("tokenizer.ggml.{key}"), value);
        set("model", text("gpt2"));
        set("pre", text(pre));
        set("tokens", list(&["<bos>", "a", "b", "ab", "<eos>"]));
        set(
            "token_type",
            Value::Array(Vec::from([3, 1, 1, 1, 3].map(Value::I32))),
        );
        set("merges", list(&["a b"]));
        set("bos_token_id", Value::U32(0));
        set("eos_token_id", Value::U32(4));
        for (key, asked) in [("add_bos_token", add_bos), ("add_eos_token", add_eos)] {
            if let Some(flag) = asked {
                set(key, Value::Bool(flag));
            }
        }
        let json = tokenizer_json(&metadata).expect("well-formed");
        let texts = Texts::from_json(&json.expect("a tokenizer")).expect("valid");
        texts.encode_raw("ab").expect("encodes")
    }

    #[test]
    fn a_sequence_is_ended_where_the_file_asks_for_it() {
        for (add_bos, add_eos, tokens) in [
            (None, Some(true), vec![3, 4]),
            (Some(true), Some(true), vec![0, 3, 4]),
            (Some(true), Some(false), vec![0, 3]),
        ] {
            assert_eq!(prompted("gpt-2", add_bos, add_eos), tokens);
        }
    }

    #[test]
    fn llama_3_begins_a_sequence_unless_the_file_says_otherwise() {
        let (begun, plain) = (vec![0, 3], vec![3]);
        for pre in ["llama-bpe", "llama3", "llama-v3"] {
            assert_eq!(prompted(pre, None, None), begun, "{pre}");
        }
        for pre in ["gpt-2", "gpt2", "smollm", "qwen2"] {
            assert_eq!(prompted(pre, None, None), plain, "{pre}");
        }
        for pre in ["llama-bpe", "gpt-2", "smollm", "qwen2"] {
            assert_eq!(prompted(pre, Some(true), None), begun, "{pre}");
            assert_eq!(prompted(pre, Some(false), None), plain, "{pre}");
        }
    }
}
