//! What is structure in the prompts of one template, and the encoder that takes it for text.

use std::{cmp::Reverse, ops::Range, sync::Arc};

use aligner::prompt::Piece;
use tokenizers::{
    AddedToken, PreTokenizerWrapper, Tokenizer, pre_tokenizers::metaspace::PrependScheme,
};

use crate::{EncodeError, pieces};

/// An added token and its id.
pub(crate) type Marker = (AddedToken, u32);

/// Added tokens that are structure where a template has them, the longest first.
pub(crate) fn markers(tokenizer: &Tokenizer) -> Vec<Marker> {
    let mut markers: Vec<Marker> = tokenizer
        .get_added_tokens_decoder()
        .into_iter()
        .filter(|(_, token)| !token.content.is_empty() && (token.special || is_markup(token)))
        .map(|(id, token)| (token, id))
        .collect();
    longest_first(&mut markers);
    markers
}

fn longest_first(markers: &mut [Marker]) {
    markers.sort_by_key(|(token, id)| (Reverse(token.content.len()), *id));
}

/// Whether an added token that is not flagged as special is more than a piece of text.
///
/// Vocabularies have white space and words among their added tokens too, as Gemma's has line ends.
/// A template holds those as any text does, and a field's stay tokens.
fn is_markup(token: &AddedToken) -> bool {
    let textual = |c: char| c.is_alphanumeric() || c.is_whitespace() || c == '▁';
    !token.single_word && !token.content.chars().all(textual)
}

/// The markers of a literal, in order, and where each stands.
pub(crate) fn cuts<'m>(
    markers: &'m [Marker],
    literal: &str,
) -> impl Iterator<Item = (Range<usize>, &'m Marker)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = &literal[from..];
        let (at, marker) = markers
            .iter()
            .filter_map(|marker| rest.find(&marker.0.content).map(|at| (at, marker)))
            // The longest of those at the same place: they come first, and `min_by_key` keeps it.
            .min_by_key(|(at, _)| *at)?;
        let start = from + at;
        from = start + marker.0.content.len();
        Some((start..from, marker))
    })
}

/// How the prompts of one template are encoded.
pub(crate) struct Layout {
    literals: Vec<String>,
    /// The markers in them, the longest first.
    pub(crate) markers: Vec<Marker>,
    pub(crate) plain: Arc<Plain>,
}

impl Layout {
    /// That of a template with these pieces; `markers` are all that there are, and `plain` takes
    /// the special ones for text.
    pub(crate) fn of(
        pieces: &[Piece<'_>],
        markers: &[Marker],
        plain: &Arc<Plain>,
    ) -> Result<Self, EncodeError> {
        let mut found: Vec<Marker> = Vec::new();
        for literal in literals(pieces) {
            for (_, marker) in cuts(markers, literal) {
                if !found.contains(marker) {
                    found.push(marker.clone());
                }
            }
        }
        longest_first(&mut found);
        let unflagged: Vec<Marker> = found
            .iter()
            .filter(|(token, _)| !token.special)
            .cloned()
            .collect();
        let plain = if unflagged.is_empty() {
            Arc::clone(plain)
        } else {
            Arc::new(plain.hiding(&unflagged)?)
        };
        Ok(Self {
            literals: literals(pieces).map(str::to_owned).collect(),
            markers: found,
            plain,
        })
    }

    /// Whether it is that of a template with these pieces.
    pub(crate) fn is_of(&self, pieces: &[Piece<'_>]) -> bool {
        literals(pieces).eq(self.literals.iter().map(String::as_str))
    }

    /// Whether the template has special tokens, and so says itself where a sequence begins.
    pub(crate) fn says_where_it_begins(&self) -> bool {
        self.markers.iter().any(|(token, _)| token.special)
    }
}

fn literals<'a>(pieces: &[Piece<'a>]) -> impl Iterator<Item = &'a str> {
    pieces.iter().filter_map(|piece| match piece {
        Piece::Literal(literal) => Some(*literal),
        Piece::Field(_) => None,
    })
}

/// Encodes what is no structure.
pub(crate) struct Plain {
    /// What begins a text.
    first: Tokenizer,
    /// What stands behind a marker, if that is encoded otherwise.
    behind: Option<Tokenizer>,
}

impl Plain {
    /// Takes those of the markers for text that are special tokens.
    pub(crate) fn new(first: Tokenizer, markers: &[Marker]) -> Self {
        let special = markers.iter().filter(|(token, _)| token.special);
        Self::without(first, &special.cloned().collect::<Vec<_>>())
    }

    /// The same, taking these markers for text too.
    fn hiding(&self, markers: &[Marker]) -> Result<Self, EncodeError> {
        let mut first = self.first.clone();
        let tokens = markers.iter().map(|(token, _)| token.clone().special(true));
        // Added once more they keep their ids, and nothing but the flag differs.
        first.add_special_tokens(tokens).map_err(|_| EncodeError)?;
        Ok(Self::without(first, markers))
    }

    fn without(mut first: Tokenizer, markers: &[Marker]) -> Self {
        first.set_encode_special_tokens(true);
        if let Some(model) = pieces::without(first.get_model(), markers) {
            first.with_model(model);
        }
        let behind = behind_a_marker(&first);
        Self { first, behind }
    }

    /// Adds the tokens of a text at the beginning, or behind a marker.
    pub(crate) fn encode_into(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), EncodeError> {
        if !text.is_empty() {
            let behind = self.behind.as_ref().filter(|_| !ids.is_empty());
            let encoding = behind
                .unwrap_or(&self.first)
                .encode_fast(text, false)
                .map_err(|_| EncodeError)?;
            ids.extend_from_slice(encoding.get_ids());
        }
        Ok(())
    }
}

/// The tokenizer for what stands behind a marker, if it makes a difference.
fn behind_a_marker(first: &Tokenizer) -> Option<Tokenizer> {
    let mut pre_tokenizer = first.get_pre_tokenizer()?.clone();
    never_first(&mut pre_tokenizer).then(|| {
        let mut behind = first.clone();
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
