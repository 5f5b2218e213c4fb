//! Texts to tokens and back, as `tokenizer.json` says: in one place, so that a model is trained
//! on the tokens that it will be asked with.
//!
//! A template's markers are structure; the same characters in a question are text. So a prompt is
//! cut at the markers of its *literal* pieces only, and what lies between two cuts is encoded in one
//! go with markers switched off: no typed marker breaks out of its field, and merges across the
//! seam of literal and field come out as if one hand had written both. Markers are the special
//! tokens, and of the other added tokens those that the template has, white space and words apart:
//! some checkpoints do not flag their `<|im_start|>` as special. What a tokenizer does at the
//! beginning of a text, it does there alone, and not behind each cut. A marker takes the white space
//! beside it along where `tokenizer.json` says so (`lstrip`, `rstrip`), a field's too.
//!
//! Absent: `tokenizer_config.json`. Where there is a `tokenizer.json`, transformers 5 drops its
//! `add_bos_token` and `add_eos_token`, whatever the class, and adds what the post-processor says.
//! It does take added tokens and flags from there that `tokenizer.json` lacks, and, without
//! `added_tokens_decoder`, from `added_tokens.json` and `special_tokens_map.json`; here they are none.
//!
//! Its class makes a difference in two cases. Some classes build their own normalizer and
//! pre-tokenizer and take the vocabulary and the merges alone from `tokenizer.json`: for every family
//! but `mistral`, `ministral`, `phi3`, `granite` and OLMo's, where the class is `GPT2Tokenizer`, `Qwen2Tokenizer`,
//! `GemmaTokenizer`, `LlamaTokenizer`, `CodeLlamaTokenizer`, `GPTNeoXTokenizer` or `CohereTokenizer` (with `Fast` or
//! without); where none is named, for `qwen3` and
//! Gemma; always for `qwen2`. So `GPT2Tokenizer` cuts as GPT-2 does, even where the file has digits
//! stand alone first, and `GPTNeoXTokenizer` adds no beginning that the file's post-processor adds. Those of GPT-2,
//! GPT-NeoX, Qwen2 and Cohere follow `add_prefix_space` of `tokenizer_config.json`. Here `tokenizer.json` counts, with
//! which the weights were trained.
//!
//! The other case is that of SentencePiece: where it (or `config.json`) names `LlamaTokenizer` or
//! `LlamaTokenizerFast` as the class and `model_type` is `llama` (or `qwen3`, `smollm3`, `gemma3_text`), transformers replaces the
//! normalizer and the pre-tokenizer of a SentencePiece vocabulary. `▁` then stands before the first
//! word only, or with `legacy: true` before each piece between special tokens, and never before a
//! piece that begins with white space already. Here, as with every other class, it stands where
//! `tokenizer.json` says: with `Prepend`, as files of Llama 2 and TinyLlama have it, before each
//! piece, whatever that begins with. So the ids differ for text right behind a marker, and for
//! pieces that begin with white space. In a `tokenizer.json` that transformers has saved again
//! stands what the class does.

mod charsmap;
mod layout;
mod pieces;

use std::{
    panic::catch_unwind,
    sync::{Arc, Mutex, PoisonError},
};

use aligner::prompt::{Piece, Template};
use tokenizers::{Encoding, ModelWrapper, Token, Tokenizer};

use crate::layout::{Layout, Marker, Plain, cuts, markers};

/// The file of a checkpoint that says how.
pub const FILE: &str = "tokenizer.json";

/// Encodes prompts and decodes outputs of one checkpoint.
pub struct Texts {
    /// Parses special tokens wherever they stand.
    parsing: Tokenizer,
    /// Takes special tokens for text.
    plain: Arc<Plain>,
    /// Added tokens that are structure where a template has them, the longest first.
    markers: Vec<Marker>,
    /// That of the template that was encoded last; there is but one as a rule.
    layout: Mutex<Option<Arc<Layout>>>,
}

/// A text that the tokenizer refuses; the message never holds the text.
#[derive(Debug, thiserror::Error)]
#[error("{FILE} cannot encode this text: its model failed")]
pub struct EncodeError;

/// A `tokenizer.json` that is none; the message says why, as a rule in the parser's words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(String);

impl Texts {
    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// If they are none.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        if let Some(problem) = charsmap::problem(json) {
            return Err(TokenizerError(problem));
        }
        // The library indexes and subtracts by what the file says.
        match catch_unwind(|| Tokenizer::from_bytes(json).map(Self::new)) {
            Ok(read) => read.map_err(|error| TokenizerError(error.to_string())),
            Err(_) => Err(TokenizerError("its parser panicked".to_owned())),
        }
    }

    fn new(mut parsing: Tokenizer) -> Self {
        // Truncation and padding belong to training; a prompt is whole or refused.
        parsing.with_padding(None);
        parsing
            .with_truncation(None)
            .expect("no truncation is always possible");
        // Dropout of merges, which some leave in the file, is for training: by it, the same text would be
        // other tokens each time.
        if let ModelWrapper::BPE(bpe) = parsing.get_model()
            && bpe.dropout.is_some()
        {
            let mut bpe = bpe.clone();
            bpe.dropout = None;
            parsing.with_model(bpe);
        }
        let markers = markers(&parsing);
        Self {
            plain: Arc::new(Plain::new(parsing.clone(), &markers)),
            markers,
            layout: Mutex::default(),
            parsing,
        }
    }

    /// Entries of the vocabulary, special tokens included.
    pub fn vocabulary(&self) -> usize {
        self.parsing.get_vocab_size(true)
    }

    /// The id of a special token.
    pub fn special(&self, token: &str) -> Option<u32> {
        self.markers
            .iter()
            .find(|(marker, _)| marker.special && marker.content == token)
            .map(|(_, id)| *id)
    }

    /// The first marker of a template that counts only as a word of its own, if there is one.
    ///
    /// Whether it is a token would depend on the field beside it: no prompt can be cut there.
    pub fn single_word_marker(&self, template: &Template) -> Option<&str> {
        self.marker(template, |(token, _)| token.single_word)
            .map(|(token, _)| token.content.as_str())
    }

    /// The first marker of a template that is none of the first `vocab` tokens, and its id, if
    /// there is one.
    ///
    /// A model of so many tokens cannot read it.
    pub fn marker_beyond(&self, template: &Template, vocab: usize) -> Option<(&str, u32)> {
        self.marker(template, |(_, id)| *id as usize >= vocab)
            .map(|(token, id)| (token.content.as_str(), *id))
    }

    /// The first marker of a template that is as asked.
    fn marker(&self, template: &Template, asked: impl Fn(&Marker) -> bool) -> Option<&Marker> {
        template.pieces("", "").into_iter().find_map(|piece| {
            let Piece::Literal(literal) = piece else {
                return None;
            };
            cuts(&self.markers, literal)
                .map(|(_, marker)| marker)
                .find(|&marker| asked(marker))
        })
    }

    /// The text of a token, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        let added = self.parsing.get_added_vocabulary();
        match added.get_added_tokens_decoder().get(&id) {
            Some(token) => Some(token.content.clone()),
            None => self.parsing.id_to_token(id),
        }
    }

    /// Whether a token, special or not, is found in a text before the model cuts the rest.
    pub fn is_added(&self, id: u32) -> bool {
        let added = self.parsing.get_added_vocabulary();
        added.get_added_tokens_decoder().contains_key(&id)
    }

    /// Tokens of a prompt in pieces.
    ///
    /// A template that has special tokens says itself where a sequence begins. Any other gets the
    /// beginning that the tokenizer's post-processor adds.
    ///
    /// # Errors
    /// If the tokenizer's model refuses a text.
    pub fn encode_pieces(&self, pieces: &[Piece<'_>]) -> Result<Vec<u32>, EncodeError> {
        let layout = self.layout(pieces)?;
        let mut ids = Vec::new();
        let mut text = String::new();
        // Whether the marker before takes the white space behind it along.
        let mut strips = false;
        for piece in pieces {
            let literal = match piece {
                Piece::Field(field) => {
                    push(&mut text, field, strips);
                    continue;
                }
                Piece::Literal(literal) => *literal,
            };
            let mut done = 0;
            for (place, (token, id)) in cuts(&layout.markers, literal) {
                push(&mut text, &literal[done..place.start], strips);
                let before = if token.lstrip {
                    text.trim_end()
                } else {
                    text.as_str()
                };
                layout.plain.encode_into(before, &mut ids)?;
                text.clear();
                ids.push(*id);
                strips = token.rstrip;
                done = place.end;
            }
            push(&mut text, &literal[done..], strips);
        }
        layout.plain.encode_into(&text, &mut ids)?;
        if layout.says_where_it_begins() {
            return Ok(ids);
        }
        self.begun(ids)
    }

    /// Tokens of a text as `tokenizer.json` alone says, special tokens parsed.
    ///
    /// # Errors
    /// If the tokenizer's model refuses it.
    pub fn encode_raw(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let encoding = self
            .parsing
            .encode_fast(text, true)
            .map_err(|_| EncodeError)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of a text on its own: nothing in it is special, and nothing is added.
    ///
    /// # Errors
    /// If the tokenizer's model refuses it.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut ids = Vec::new();
        self.plain.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// The text of tokens, special ones left out.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        self.parsing.decode(ids, true).map_err(|_| EncodeError)
    }

    /// How prompts of the template with these pieces are encoded.
    fn layout(&self, pieces: &[Piece<'_>]) -> Result<Arc<Layout>, EncodeError> {
        // A layout is whole or absent: a poisoned lock is no obstacle.
        let mut last = self.layout.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = last.as_ref().filter(|layout| layout.is_of(pieces)) {
            return Ok(Arc::clone(layout));
        }
        let layout = Arc::new(Layout::of(pieces, &self.markers, &self.plain)?);
        *last = Some(Arc::clone(&layout));
        Ok(layout)
    }

    /// Adds what the post-processor adds to a sequence.
    fn begun(&self, ids: Vec<u32>) -> Result<Vec<u32>, EncodeError> {
        let tokens = ids
            .into_iter()
            .map(|id| Token::new(id, String::new(), (0, 0)))
            .collect();
        let encoding = self
            .parsing
            .post_process(Encoding::from_tokens(tokens, 0), None, true)
            .map_err(|_| EncodeError)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Adds to the text behind a marker, which may take the white space that begins it along.
fn push(text: &mut String, more: &str, strips: bool) {
    let begins = text.is_empty();
    text.push_str(if strips && begins {
        more.trim_start()
    } else {
        more
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        const JSON: &[u8] = include_bytes!("../../engine/tests/fixtures/llama2/tokenizer.json");
        Texts::from_json(JSON).expect("valid")
    }

    #[test]
    fn a_marker_in_a_field_is_text_and_one_in_the_template_is_a_token() {
        let texts = texts();
        let template = Template::new("<q>{question}<a>{answer}<c>").expect("valid");
        let ids = texts
            .encode_pieces(&template.pieces("What is <c>?", "<eos><q>"))
            .expect("encodes");
        let special = |token| texts.special(token).expect("known");
        let (q, a, c) = (special("<q>"), special("<a>"), special("<c>"));
        let markers: Vec<u32> = ids.iter().copied().filter(|&id| id <= 6).collect();
        assert_eq!(markers, [q, a, c]);
        assert_eq!((ids[0], ids[ids.len() - 1]), (q, c));
        assert_eq!(texts.decode(&ids).expect("decodes"), "What is <c>?<eos><q>");
    }

    #[test]
    fn text_between_markers_is_encoded_in_one_go() {
        let texts = texts();
        let template = Template::new("<q>the {question}<a>{answer}<c>").expect("valid");
        let ids = texts
            .encode_pieces(&template.pieces("question", "x"))
            .expect("encodes");
        let whole = texts.encode_raw("<q>the question<a>x<c>").expect("encodes");
        assert_eq!(ids, whole);
    }

    #[test]
    fn a_template_without_markers_is_encoded_as_the_tokenizer_says() {
        let texts = texts();
        let template = Template::new("Q: {question} A: {answer}").expect("valid");
        let ids = texts
            .encode_pieces(&template.pieces("what", "that"))
            .expect("encodes");
        assert_eq!(ids, texts.encode_raw("Q: what A: that").expect("encodes"));
    }

    /// `tokenizer.json` of single letters, in which `▁` is 3.
    fn json(pre_tokenizer: &str) -> String {
        const JSON: &str = r#"{
            "version": "1.0",
            "added_tokens": [
                {"id": 0, "content": "<q>", SPECIAL},
                {"id": 1, "content": "<a>", SPECIAL},
                {"id": 2, "content": "<c>", SPECIAL}
            ],
            "normalizer": null,
            "pre_tokenizer": PRE_TOKENIZER,
            "post_processor": null,
            "decoder": null,
            "model": {
                "type": "BPE", "fuse_unk": false, "byte_fallback": false, "merges": [],
                "vocab": {"<q>": 0, "<a>": 1, "<c>": 2, "▁": 3, "h": 4, "i": 5, "y": 6, "o": 7}
            }
        }"#;
        const SPECIAL: &str = r#""single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true"#;
        let json = JSON.replace("SPECIAL", SPECIAL);
        json.replace("PRE_TOKENIZER", pre_tokenizer)
    }

    /// The same, with texts that are replaced by others.
    fn changed(pre_tokenizer: &str, changes: &[(&str, &str)]) -> Texts {
        let json = changes
            .iter()
            .fold(json(pre_tokenizer), |json, (old, new)| {
                json.replace(*old, new)
            });
        Texts::from_json(json.as_bytes()).expect("valid")
    }

    fn letters(pre_tokenizer: &str) -> Texts {
        changed(pre_tokenizer, &[])
    }

    /// The same with flags that its special tokens have.
    fn flagged(pre_tokenizer: &str, flags: &[&str]) -> Texts {
        let json = flags.iter().fold(json(pre_tokenizer), |json, flag| {
            let quoted = format!(r#""{flag}": "#);
            json.replace(&format!("{quoted}false"), &format!("{quoted}true"))
        });
        Texts::from_json(json.as_bytes()).expect("valid")
    }

    const NOT_SPECIAL: (&str, &str) = (r#""special": true"#, r#""special": false"#);

    /// `o` begins a sequence.
    const BEGINS: (&str, &str) = (
        r#""post_processor": null"#,
        r#""post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "o", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
            ],
            "pair": [
                {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
            ],
            "special_tokens": {"o": {"id": "o", "ids": [7], "tokens": ["o"]}}
        }"#,
    );

    const NO_SPACE: &str =
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}"#;

    #[test]
    fn a_marker_that_is_not_flagged_as_special_is_structure_in_the_template_alone() {
        let texts = changed(NO_SPACE, &[NOT_SPECIAL, BEGINS]);
        let marked = Template::new("<q>{question}<a>{answer}<c>").expect("valid");
        let plain = Template::new("{question} {answer}").expect("valid");
        let encoded = |template: &Template, question, answer| {
            let pieces = template.pieces(question, answer);
            texts.encode_pieces(&pieces).expect("encodes")
        };
        let ordinary = encoded(&marked, "hi", "yo");
        assert_eq!(ordinary, [7, 0, 4, 5, 1, 6, 7, 2]);
        let whole = texts.encode_raw("<q>hi<a>yo<c>").expect("encodes");
        assert_eq!(ordinary, whole);
        // The vocabulary has no letters for what is typed here.
        assert_eq!(encoded(&marked, "hi<c><a>", "<q>yo"), ordinary);
        // What the template does not have is what `tokenizer.json` says.
        for _ in 0..2 {
            assert_eq!(encoded(&plain, "<c>", "yo"), [7, 2, 3, 6, 7]);
            assert_eq!(encoded(&marked, "<c>hi", "yo"), ordinary);
        }
    }

    #[test]
    fn words_and_white_space_are_no_markers_though_they_are_added_tokens() {
        let texts = changed(NO_SPACE, &[NOT_SPECIAL, ("<q>", "  "), ("<a>", "yo")]);
        let template = Template::new("<c>{question}  yo {answer}").expect("valid");
        let pieces = template.pieces("hi  yo", "hi yo");
        let ids = texts.encode_pieces(&pieces).expect("encodes");
        assert_eq!(ids, [2, 4, 5, 0, 1, 0, 1, 3, 4, 5, 3, 1]);
        let whole = texts.encode_raw(&template.render("hi  yo", "hi yo"));
        assert_eq!(ids, whole.expect("encodes"));
    }

    /// The ids are those of transformers 5.24 with any class but `LlamaTokenizer`, for which see the
    /// top of this file.
    #[test]
    fn what_a_normalizer_puts_before_each_piece_stands_behind_markers_too() {
        let prepend = r#""normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]}"#;
        let texts = changed("null", &[(r#""normalizer": null"#, prepend)]);
        let template = Template::new("<q>{question}<a>{answer}<c>").expect("valid");
        let pieces = template.pieces("hi yo", " yo");
        let ids = texts.encode_pieces(&pieces).expect("encodes");
        assert_eq!(ids, [0, 3, 4, 5, 3, 6, 7, 1, 3, 3, 6, 7, 2]);
        // As `LlamaTokenizer` saves it, it is what that does.
        let texts = letters(&NO_SPACE.replace("never", "first"));
        let ids = texts.encode_pieces(&pieces).expect("encodes");
        assert_eq!(ids, [0, 4, 5, 3, 6, 7, 1, 3, 6, 7, 2]);
    }

    #[test]
    fn a_marker_takes_along_the_white_space_that_its_flags_say() {
        let template = Template::new("<q> {question} <a> {answer}<c> ").expect("valid");
        let cases: [(&[&str], &[u32]); 4] = [
            (&[], &[0, 3, 4, 5, 3, 3, 1, 3, 3, 6, 7, 2, 3]),
            (&["lstrip"], &[0, 3, 4, 5, 1, 3, 3, 6, 7, 2, 3]),
            (&["rstrip"], &[0, 4, 5, 3, 3, 1, 6, 7, 2]),
            (&["lstrip", "rstrip"], &[0, 4, 5, 1, 6, 7, 2]),
        ];
        for (flags, expected) in cases {
            let texts = flagged(NO_SPACE, flags);
            // White space of the fields is as good as the template's.
            let pieces = template.pieces("hi ", " yo");
            let ids = texts.encode_pieces(&pieces).expect("encodes");
            assert_eq!(ids, expected, "{flags:?}");
            let whole = texts.encode_raw(&template.render("hi ", " yo"));
            assert_eq!(ids, whole.expect("encodes"), "{flags:?}");
        }
    }

    #[test]
    fn a_marker_that_must_be_a_word_of_its_own_is_found_in_the_template() {
        let marked = Template::new("{question}<a>{answer}").expect("valid");
        let plain = Template::new("{question} {answer}").expect("valid");
        let texts = flagged(NO_SPACE, &["single_word"]);
        assert_eq!(texts.single_word_marker(&marked), Some("<a>"));
        assert_eq!(texts.single_word_marker(&plain), None);
        assert_eq!(letters(NO_SPACE).single_word_marker(&marked), None);
    }

    #[test]
    fn a_marker_beyond_the_models_vocabulary_is_found_in_the_template() {
        let marked = Template::new("<q>{question}<a>{answer}<c>").expect("valid");
        let plain = Template::new("{question} {answer}").expect("valid");
        let texts = letters(NO_SPACE);
        assert_eq!(texts.marker_beyond(&marked, 1), Some(("<a>", 1)));
        assert_eq!(texts.marker_beyond(&marked, 3), None);
        assert_eq!(texts.marker_beyond(&plain, 0), None);
    }

    #[test]
    fn what_a_tokenizer_puts_before_the_first_word_stands_there_alone() {
        let metaspace = |scheme: &str| {
            format!(r#"{{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "{scheme}"}}"#)
        };
        let sequence = |part: &str| {
            let digits = r#"{"type": "Digits", "individual_digits": true}"#;
            format!(r#"{{"type": "Sequence", "pretokenizers": [{digits}, {part}]}}"#)
        };
        // The question has one space; behind a marker, only "always" puts another.
        for (pre_tokenizer, spaces) in [
            (metaspace("first"), 1),
            (sequence(&metaspace("first")), 1),
            (metaspace("never"), 1),
            (metaspace("always"), 3),
        ] {
            let texts = letters(&pre_tokenizer);
            let encoded = |template: &str| {
                let template = Template::new(template).expect("valid");
                let pieces = template.pieces("hi yo", "yo");
                let ids = texts.encode_pieces(&pieces).expect("encodes");
                let whole = template.render("hi yo", "yo");
                let whole = texts.encode_raw(&whole).expect("encodes");
                assert_eq!(ids, whole, "{pre_tokenizer}");
                ids
            };
            let ids = encoded("<q>{question}<a>{answer}<c>");
            let found = ids.iter().filter(|&&id| id == 3).count();
            assert_eq!(found, spaces, "{pre_tokenizer}");
            // At the beginning, and behind a marker with a space of its own.
            encoded("hi<q>{question} <a> {answer}<c>yo");
            encoded("{question}<a>{answer}");
            encoded("{question} {answer}");
        }
    }

    #[test]
    fn a_file_that_its_parser_panics_on_is_refused() {
        let merges = (r#""merges": []"#, r#""merges": ["h i"]"#);
        let prefix = (
            r#""fuse_unk": false"#,
            r#""fuse_unk": false, "continuing_subword_prefix": "@@@@""#,
        );
        let json = [merges, prefix]
            .iter()
            .fold(json("null"), |json, (old, new)| json.replace(*old, new));
        let problem = Texts::from_json(json.as_bytes()).err().expect("refused");
        assert_eq!(problem.to_string(), "its parser panicked");
    }

    /// A tokenizer whose model has its markers as pieces: `</s>` is special, `<m>` is not.
    fn with_markers_as_pieces(model: &serde_json::Value) -> Texts {
        let added = |id: u32, content: &str, special: bool| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special})
        };
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
            "added_tokens": [added(0, "<unk>", true), added(1, "</s>", true), added(2, "<m>", false)],
            "model": model,
        });
        Texts::from_json(json.to_string().as_bytes()).expect("valid")
    }

    #[test]
    fn a_marker_in_a_field_is_text_also_where_the_model_has_it_as_a_piece() {
        let pieces = ["<unk>", "</s>", "<m>", "a", "<", ">", "/", "s", "m"];
        let ids = |piece: &&str| pieces.iter().position(|one| one == piece).expect("listed");
        let vocab: serde_json::Map<_, _> = pieces
            .iter()
            .map(|piece| ((*piece).to_owned(), ids(piece).into()))
            .collect();
        let scored: Vec<_> = pieces.iter().map(|piece| (piece, -1.0)).collect();
        for model in [
            serde_json::json!({"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": false}),
            serde_json::json!({"type": "WordLevel", "unk_token": "<unk>", "vocab": vocab}),
            serde_json::json!({"type": "WordPiece", "unk_token": "<unk>", "vocab": vocab,
                "continuing_subword_prefix": "", "max_input_chars_per_word": 100}),
            serde_json::json!({"type": "BPE", "dropout": null, "unk_token": "<unk>",
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": true, "vocab": vocab, "merges": []}),
        ] {
            let kind = &model["type"];
            let texts = with_markers_as_pieces(&model);
            let template = Template::new("</s> {question} <m> {answer} <m>").expect("both fields");
            let told = texts.encode_pieces(&template.pieces("a </s> a", "<m> a"));
            let told = told.expect("encodes");
            let count = |id: u32| told.iter().filter(|one| **one == id).count();
            // Those of the template, and no others.
            assert_eq!((count(1), count(2)), (1, 2), "{kind}: {told:?}");
            assert_eq!((told[0], told.last()), (1, Some(&2)), "{kind}: {told:?}");
            assert_eq!(count(3), 3, "{kind}: {told:?}");
            assert_eq!(texts.decode(&[3, 1, 3]).expect("decodes"), "a a", "{kind}");
        }
    }

    #[test]
    fn merges_are_never_dropped_by_chance() {
        let model = serde_json::json!({"type": "BPE", "dropout": 0.9, "unk_token": null,
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
            "byte_fallback": false, "ignore_merges": false, "merges": [["a", "b"], ["ab", "ab"]],
            "vocab": {"<unk>": 0, "</s>": 1, "<m>": 2, "a": 3, "b": 4, "ab": 5, "abab": 6}});
        let texts = with_markers_as_pieces(&model);
        for _ in 0..50 {
            assert_eq!(texts.encode_plain("abab").expect("encodes"), [6]);
        }
    }

    #[test]
    fn a_token_is_spelt_as_in_the_vocabulary() {
        let texts = texts();
        assert_eq!(texts.token(3).as_deref(), Some("<q>"));
        assert_eq!(texts.token(290).as_deref(), Some("Ġwhat"));
        assert_eq!(texts.token(293), None);
        assert!(texts.is_added(3) && !texts.is_added(290));
    }
}
