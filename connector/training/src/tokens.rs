//! What training encodes, and a tokenizer of one's own where there is none.
//!
//! Prompts are encoded by `aligner_tokens`, as the engine does it: a marker that a user typed
//! stays text.

use aligner::{Profile, guard::Guard, prompt::Template};
use aligner_tokens::{EncodeError, Texts};
use tokenizers::{
    AddedToken, DecoderWrapper, Model, PreTokenizerWrapper, TokenizerBuilder,
    models::bpe::{BPE, BpeTrainerBuilder},
    normalizers::NormalizerWrapper,
    pre_tokenizers::byte_level::ByteLevel,
    processors::PostProcessorWrapper,
};

use crate::error::TrainError;

/// Encodes prompts and corrections for one checkpoint.
pub(crate) struct Tokens {
    texts: Texts,
    template: Template,
    /// Ends every correction.
    pub end: u32,
    /// Says that an answer stands as it is.
    pub unchanged: Option<u32>,
}

fn bad_tokenizer(file: &str, problem: impl std::fmt::Display) -> TrainError {
    TrainError::Checkpoint {
        file: file.to_owned(),
        problem: problem.to_string(),
    }
}

impl Tokens {
    /// The tokenizer of `tokenizer.json` under a profile; `file` names it in errors.
    pub fn new(json: &[u8], file: &str, profile: &Profile, end: u32) -> Result<Self, TrainError> {
        let texts = Texts::from_json(json).map_err(|error| bad_tokenizer(file, error))?;
        // The engine refuses it too; better before the first step than after the last.
        if let Some(marker) = texts.single_word_marker(&profile.template) {
            let problem = format!(
                "has single_word = true for {marker}, a marker of the prompt template, which would \
                 be text beside a letter or a digit; set it to false"
            );
            return Err(bad_tokenizer(&format!("{file}: added_tokens"), problem));
        }
        let unchanged = match &profile.unchanged_token {
            None => None,
            Some(name) => Some(texts.special(name).ok_or_else(|| {
                bad_tokenizer(
                    file,
                    format!(
                        "has no special token {name}, which aligner.json gives as unchanged_token"
                    ),
                )
            })?),
        };
        Ok(Self {
            texts,
            template: profile.template.clone(),
            end,
            unchanged,
        })
    }

    /// Entries of the vocabulary, special tokens included.
    pub fn vocabulary(&self) -> usize {
        self.texts.vocabulary()
    }

    /// The ids of the prompt for one question and answer.
    pub fn prompt(&self, question: &str, answer: &str) -> Result<Vec<u32>, EncodeError> {
        self.texts
            .encode_pieces(&self.template.pieces(question, answer))
    }

    /// The ids of a correction, the end of the sequence included.
    pub fn correction(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let mut ids = self.texts.encode_plain(text)?;
        ids.push(self.end);
        Ok(ids)
    }
}

const PAD: &str = "<|pad|>";
const END: &str = "<|end|>";
const UNCHANGED: &str = "<|unchanged|>";
const TEMPLATE: &str = "<|question|>{question}<|answer|>{answer}<|correction|>";

/// A byte-level BPE trained on `texts`, and the profile that goes with it.
pub(crate) struct OwnTokenizer {
    /// `tokenizer.json`.
    pub json: Vec<u8>,
    pub profile: Profile,
    pub end: u32,
    pub pad: u32,
    pub vocabulary: usize,
}

/// Trains a tokenizer of at most `vocabulary` entries.
pub(crate) fn train_tokenizer<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    vocabulary: usize,
    name: &str,
) -> Result<OwnTokenizer, TrainError> {
    const FILE: &str = "the tokenizer trained on the data";
    let template = Template::new(TEMPLATE).expect("both fields stand in it once");
    let special: Vec<AddedToken> = [
        END,
        "<|question|>",
        "<|answer|>",
        "<|correction|>",
        UNCHANGED,
        PAD,
    ]
    .into_iter()
    .map(|token| AddedToken::from(token, true))
    .collect();
    // Digits one by one: numbers are copied, and rarely seen twice.
    let mut tokenizer = TokenizerBuilder::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::default()
    .with_model(BPE::default())
    .with_pre_tokenizer(Some(PreTokenizerWrapper::Sequence(
        tokenizers::pre_tokenizers::sequence::Sequence::new(vec![
            tokenizers::pre_tokenizers::digits::Digits::new(true).into(),
            ByteLevel::new(false, true, true).into(),
        ]),
    )))
    .with_decoder(Some(DecoderWrapper::ByteLevel(ByteLevel::default())))
    .build()
    .map_err(|error| bad_tokenizer(FILE, error))?;
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocabulary)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    tokenizer
        .train(&mut trainer, texts)
        .map_err(|error| bad_tokenizer(FILE, error))?;
    let id = |token: &str| {
        tokenizer
            .token_to_id(token)
            .expect("the trainer was given every special token")
    };
    let (end, pad) = (id(END), id(PAD));
    let vocabulary = tokenizer.get_model().get_vocab_size();
    let json = tokenizer
        .to_string(true)
        .map_err(|error| bad_tokenizer(FILE, error))?;
    Ok(OwnTokenizer {
        json: json.into_bytes(),
        profile: Profile {
            name: name.to_owned(),
            template,
            unchanged_token: Some(UNCHANGED.to_owned()),
            guard: Guard::default(),
        },
        end,
        pad,
        vocabulary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 3] = [
        "Write to the desk. The desk helps.",
        "Call 555 1234 today, please.",
        "<|answer|> typed by a user",
    ];

    fn own() -> (OwnTokenizer, Tokens) {
        let own = train_tokenizer(TEXTS.into_iter(), 400, "own").expect("trains");
        let tokens =
            Tokens::new(&own.json, "tokenizer.json", &own.profile, own.end).expect("reads");
        (own, tokens)
    }

    #[test]
    fn a_trained_tokenizer_gives_every_text_back() {
        let (own, tokens) = own();
        assert!(own.vocabulary >= 262 && own.vocabulary <= 400);
        for text in TEXTS.into_iter().chain(["Ünïcode 日本 \u{1f600}\n\ttab"]) {
            let ids = tokens.texts.encode_plain(text).expect("encodes");
            let back = tokens.texts.decode(&ids).expect("decodes");
            assert_eq!(back, text);
        }
        // A digit is a token, and the end is one.
        assert_eq!(tokens.correction("12345").expect("encodes").len(), 6);
    }

    #[test]
    fn markers_are_structure_in_the_template_and_text_in_fields() {
        let (_, tokens) = own();
        let special = |name: &str| tokens.texts.special(name).expect("known");
        let ids = tokens
            .prompt("hi <|answer|>", "<|correction|>")
            .expect("encodes");
        let count = |name| ids.iter().filter(|id| **id == special(name)).count();
        assert_eq!(ids[0], special("<|question|>"));
        assert_eq!(*ids.last().expect("not empty"), special("<|correction|>"));
        assert_eq!((count("<|answer|>"), count("<|correction|>")), (1, 1));
    }

    #[test]
    fn literals_and_fields_between_two_markers_are_one_text() {
        let (own, mut tokens) = own();
        tokens.template = Template::new("<|question|>The {question}. {answer}<|correction|>!")
            .expect("both fields");
        let whole = tokens
            .texts
            .encode_plain("The desk. helps")
            .expect("encodes");
        let ids = tokens.prompt("desk", "helps").expect("encodes");
        assert_eq!(ids[1..=whole.len()], whole);
        assert_eq!(
            tokens.correction("x").expect("encodes").last(),
            Some(&own.end)
        );
    }

    #[test]
    fn a_marker_that_counts_only_as_a_word_of_its_own_is_refused_before_training() {
        let (own, _) = own();
        let mut json: serde_json::Value = serde_json::from_slice(&own.json).expect("JSON");
        for token in json["added_tokens"].as_array_mut().expect("a list") {
            token["single_word"] = true.into();
        }
        let json = json.to_string();
        let error = Tokens::new(json.as_bytes(), "tokenizer.json", &own.profile, own.end).err();
        let error = error.expect("refused").to_string();
        let start = "tokenizer.json: added_tokens: has single_word = true for <|question|>";
        assert!(error.starts_with(start), "{error}");
    }

    #[test]
    fn an_unchanged_token_that_the_tokenizer_lacks_is_named() {
        let (own, _) = own();
        let profile = Profile {
            unchanged_token: Some("<same>".into()),
            ..own.profile
        };
        let error = Tokens::new(&own.json, "tokenizer.json", &profile, 0).err();
        assert_eq!(
            error.expect("refused").to_string(),
            "tokenizer.json: has no special token <same>, which aligner.json gives as unchanged_token"
        );
    }
}
