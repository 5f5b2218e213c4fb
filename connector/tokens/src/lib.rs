//! Texts to tokens and back, as `tokenizer.json` says: in one place, so that a model is trained
//! on the tokens that it will be asked with.
//!
//! A template's markers are structure; the same characters in a question are text. So a prompt is
//! cut at the special tokens of its *literal* pieces only, and what lies between two cuts is
//! encoded in one go with special tokens switched off: no typed marker breaks out of its field,
//! and merges across the seam of literal and field come out as if one hand had written both. What
//! a tokenizer does at the beginning of a text, it does there alone, and not behind each cut. A
//! marker takes the white space beside it along where `tokenizer.json` says so (`lstrip`, `rstrip`),
//! a field's too.
//!
//! Absent: `tokenizer_config.json`. Where there is a `tokenizer.json`, transformers 5 drops its
//! `add_bos_token` and `add_eos_token`, whatever the class, and adds what the post-processor says.

use aligner::prompt::{Piece, Template};
use tokenizers::{
    AddedToken, PreTokenizerWrapper, Tokenizer, pre_tokenizers::metaspace::PrependScheme,
};

/// The file of a checkpoint that says how.
pub const FILE: &str = "tokenizer.json";

/// Encodes prompts and decodes outputs of one checkpoint.
pub struct Texts {
    /// Parses special tokens wherever they stand.
    parsing: Tokenizer,
    /// Takes special tokens for text.
    literal: Tokenizer,
    /// The same for what stands behind a special token, if that is encoded otherwise than what
    /// begins a text.
    behind: Option<Tokenizer>,
    /// Special tokens, the longest first.
    specials: Vec<(AddedToken, u32)>,
}

/// A text that the tokenizer refuses; the message never holds the text.
#[derive(Debug, thiserror::Error)]
#[error("{FILE} cannot encode this text: its model failed")]
pub struct EncodeError;

/// A `tokenizer.json` that is none; the message is the parser's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TokenizerError(String);

impl Texts {
    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// If they are none.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        Tokenizer::from_bytes(json)
            .map(Self::new)
            .map_err(|error| TokenizerError(error.to_string()))
    }

    fn new(mut parsing: Tokenizer) -> Self {
        // Truncation and padding belong to training; a prompt is whole or refused.
        parsing.with_padding(None);
        parsing
            .with_truncation(None)
            .expect("no truncation is always possible");
        let mut literal = parsing.clone();
        literal.set_encode_special_tokens(true);
        let behind = behind_a_marker(&literal);
        let mut specials: Vec<_> = parsing
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token, id))
            .collect();
        specials.sort_by_key(|(token, id)| (std::cmp::Reverse(token.content.len()), *id));
        Self {
            parsing,
            literal,
            behind,
            specials,
        }
    }

    /// Entries of the vocabulary, special tokens included.
    pub fn vocabulary(&self) -> usize {
        self.parsing.get_vocab_size(true)
    }

    /// The id of a special token.
    pub fn special(&self, token: &str) -> Option<u32> {
        self.specials
            .iter()
            .find(|(special, _)| special.content == token)
            .map(|(_, id)| *id)
    }

    /// The first marker of a template that counts only as a word of its own, if there is one.
    ///
    /// Whether it is a token would depend on the field beside it: no prompt can be cut there.
    pub fn single_word_marker(&self, template: &Template) -> Option<&str> {
        template.pieces("", "").into_iter().find_map(|piece| {
            let Piece::Literal(mut rest) = piece else {
                return None;
            };
            while let Some((at, token, _)) = self.first_special(rest) {
                if token.single_word {
                    return Some(token.content.as_str());
                }
                rest = &rest[at + token.content.len()..];
            }
            None
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
    /// A template that has special tokens says itself where a sequence begins. One without is
    /// encoded as a whole, with the beginning that the tokenizer's post-processor adds.
    ///
    /// # Errors
    /// If the tokenizer's model refuses a text.
    pub fn encode_pieces(&self, pieces: &[Piece<'_>]) -> Result<Vec<u32>, EncodeError> {
        let mut ids = Vec::new();
        let mut text = String::new();
        let mut marked = false;
        // Whether the marker before takes the white space behind it along.
        let mut strips = false;
        for piece in pieces {
            let mut rest = match piece {
                Piece::Field(field) => {
                    push(&mut text, field, strips);
                    continue;
                }
                Piece::Literal(literal) => *literal,
            };
            while let Some((at, token, id)) = self.first_special(rest) {
                push(&mut text, &rest[..at], strips);
                let before = if token.lstrip {
                    text.trim_end()
                } else {
                    text.as_str()
                };
                self.encode_into(before, &mut ids)?;
                text.clear();
                ids.push(id);
                marked = true;
                strips = token.rstrip;
                rest = &rest[at + token.content.len()..];
            }
            push(&mut text, rest, strips);
        }
        if marked {
            self.encode_into(&text, &mut ids)?;
            return Ok(ids);
        }
        let encoding = self
            .literal
            .encode_fast(text, true)
            .map_err(|_| EncodeError)?;
        Ok(encoding.get_ids().to_vec())
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
        self.encode_into(text, &mut ids)?;
        Ok(ids)
    }

    /// The text of tokens, special ones left out.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, EncodeError> {
        self.parsing.decode(ids, true).map_err(|_| EncodeError)
    }

    /// Adds the tokens of a text at the beginning, or behind a special token.
    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        if !text.is_empty() {
            let behind = self.behind.as_ref().filter(|_| !ids.is_empty());
            let encoding = behind
                .unwrap_or(&self.literal)
                .encode_fast(text, false)
                .map_err(|_| EncodeError)?;
            ids.extend_from_slice(encoding.get_ids());
        }
        Ok(())
    }

    /// The first special token of a literal: where, and which.
    fn first_special(&self, literal: &str) -> Option<(usize, &AddedToken, u32)> {
        self.specials
            .iter()
            .filter_map(|(token, id)| literal.find(&token.content).map(|at| (at, token, *id)))
            // The longest of those at the same place: they come first, and `min_by_key` keeps it.
            .min_by_key(|(at, ..)| *at)
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

/// The tokenizer for what stands behind a special token, if it makes a difference.
fn behind_a_marker(literal: &Tokenizer) -> Option<Tokenizer> {
    let mut pre_tokenizer = literal.get_pre_tokenizer()?.clone();
    never_first(&mut pre_tokenizer).then(|| {
        let mut behind = literal.clone();
        behind.with_pre_tokenizer(Some(pre_tokenizer));
        behind
    })
}

/// Stops what puts a space before the first word of a text; says whether there was any.
fn never_first(pre_tokenizer: &mut PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::Metaspace(metaspace) => {
            let first = metaspace.get_prepend_scheme() == PrependScheme::First;
            if first {
                metaspace.set_prepend_scheme(PrependScheme::Never);
            }
            first
        }
        PreTokenizerWrapper::Sequence(sequence) => {
            let parts: &mut [PreTokenizerWrapper] = sequence.as_mut();
            let mut found = false;
            for part in parts {
                found |= never_first(part);
            }
            found
        }
        _ => false,
    }
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

    /// A tokenizer of single letters, in which `▁` is 3.
    fn letters(pre_tokenizer: &str) -> Texts {
        flagged(pre_tokenizer, &[])
    }

    /// The same with flags that its special tokens have.
    fn flagged(pre_tokenizer: &str, flags: &[&str]) -> Texts {
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
        let mut json = json.replace("PRE_TOKENIZER", pre_tokenizer);
        for flag in flags {
            let quoted = format!(r#""{flag}": "#);
            json = json.replace(&format!("{quoted}false"), &format!("{quoted}true"));
        }
        Texts::from_json(json.as_bytes()).expect("valid")
    }

    const NO_SPACE: &str =
        r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"}"#;

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
    fn a_token_is_spelt_as_in_the_vocabulary() {
        let texts = texts();
        assert_eq!(texts.token(3).as_deref(), Some("<q>"));
        assert_eq!(texts.token(290).as_deref(), Some("Ġwhat"));
        assert_eq!(texts.token(293), None);
        assert!(texts.is_added(3) && !texts.is_added(290));
    }
}
