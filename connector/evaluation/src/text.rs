//! Text as the measures see it: words, sentences, and what two texts have in common.

use std::{collections::HashSet, ops::Range};

/// Whether the pipeline takes one text for the other.
pub(crate) use aligner::is_same_text as same;
use similar::{Algorithm, DiffOp, capture_diff_slices};

/// Words between white space, punctuation included.
pub(crate) fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// A word without case and surrounding punctuation; empty for bare punctuation.
pub(crate) fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric())
        .to_lowercase()
}

/// The bare words of a text, bare punctuation left out.
pub(crate) fn bare_words(text: &str) -> impl Iterator<Item = String> {
    text.split_whitespace()
        .map(bare)
        .filter(|word| !word.is_empty())
}

/// The set of bare words of several texts.
pub(crate) fn vocabulary<'a>(texts: impl IntoIterator<Item = &'a str>) -> HashSet<String> {
    texts.into_iter().flat_map(bare_words).collect()
}

/// Sentences: cut at line breaks and after `.`, `!` or `?` before white space. An abbreviation
/// is cut too, which does no harm where sentences are only looked for again.
pub(crate) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let ends = match c {
            '\n' => true,
            '.' | '!' | '?' => chars.peek().is_none_or(|(_, next)| next.is_whitespace()),
            _ => false,
        };
        if ends {
            let end = at + c.len_utf8();
            found.push(text[start..end].trim());
            start = end;
        }
    }
    found.push(text[start..].trim());
    found.retain(|sentence| !sentence.is_empty());
    found
}

/// Those of `sentences` that stand in `text`, byte for byte and in order.
pub(crate) fn in_order<'a>(sentences: Vec<&'a str>, text: &str) -> Vec<&'a str> {
    let mut rest = text;
    sentences
        .into_iter()
        .filter(|sentence| match rest.find(*sentence) {
            Some(at) => {
                rest = &rest[at + sentence.len()..];
                true
            }
            None => false,
        })
        .collect()
}

/// Words that two texts have in common, in order.
pub(crate) fn common_words(a: &[&str], b: &[&str]) -> usize {
    capture_diff_slices(Algorithm::Myers, a, b)
        .iter()
        .map(|op| match op {
            DiffOp::Equal { len, .. } => *len,
            _ => 0,
        })
        .sum()
}

/// Share of words that two texts have in common, 0 to 1: twice the common words over all words.
/// Unlike the `similarity` of corrections and pairs, it counts no white space.
pub(crate) fn word_overlap(a: &str, b: &str) -> f64 {
    let (a, b) = (words(a), words(b));
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    2.0 * common_words(&a, &b) as f64 / (a.len() + b.len()) as f64
}

/// Letters and digits alone, without case.
pub(crate) fn letters(text: &str) -> Vec<char> {
    text.chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect()
}

/// Whether `needle` stands in `text` as whole words, whatever its case.
pub(crate) fn contains_phrase(text: &str, needle: &str) -> bool {
    let (text, needle) = (text.to_lowercase(), needle.trim().to_lowercase());
    places(&text, &needle).next().is_some()
}

/// How often `needle` stands in `text` as whole words, byte for byte.
pub(crate) fn times(text: &str, needle: &str) -> usize {
    places(text, needle).count()
}

/// Where `needle` stands in `text` as whole words; nowhere if it is empty.
fn places(text: &str, needle: &str) -> impl Iterator<Item = usize> {
    let first = needle.chars().next();
    let mut from = 0;
    std::iter::from_fn(move || {
        let step = first?.len_utf8();
        while let Some(found) = text[from..].find(needle) {
            let at = from + found;
            // Not `match_indices`: whole words may begin within a match that is none.
            from = at + step;
            if is_whole(text, at..at + needle.len()) {
                return Some(at);
            }
        }
        None
    })
}

/// Whether no word of `text` goes on beyond an end of this part of it.
pub(crate) fn is_whole(text: &str, part: Range<usize>) -> bool {
    let joined = |inside: Option<char>, outside: Option<char>| {
        inside.is_some_and(char::is_alphanumeric) && outside.is_some_and(char::is_alphanumeric)
    };
    let (before, after) = (&text[..part.start], &text[part.end..]);
    let mut inside = text[part].chars();
    let (first, last) = (inside.clone().next(), inside.next_back());
    !joined(first, before.chars().next_back()) && !joined(last, after.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cut_at_stops_and_lines() {
        assert_eq!(
            sentences("One is 3.5. Two?\nThree\n\n four! "),
            ["One is 3.5.", "Two?", "Three", "four!"]
        );
        assert!(sentences(" \n").is_empty());
    }

    #[test]
    fn sentences_are_found_only_in_order() {
        assert_eq!(in_order(vec!["A.", "B."], "A. x B."), ["A.", "B."]);
        assert_eq!(in_order(vec!["A.", "B."], "B. A."), ["A."]);
        assert_eq!(in_order(vec!["A.", "A."], "A."), ["A."]);
    }

    #[test]
    fn word_overlap_is_twice_the_common_words_over_all_words() {
        // "a b" is common: 2 * 2 / (3 + 4).
        assert!((word_overlap("a b c", "a x b d") - 4.0 / 7.0).abs() < 1e-12);
        assert_eq!(word_overlap("", ""), 1.0);
        assert_eq!(word_overlap("a", ""), 0.0);
    }

    #[test]
    fn phrases_are_found_as_whole_words_in_any_case() {
        assert!(contains_phrase("You FOOL!", "fool"));
        assert!(!contains_phrase("foolproof", "fool"));
        assert!(contains_phrase("mail a@b.c.", "a@b.c"));
        assert!(contains_phrase("call 512 12 12", "12 12"));
        assert!(!contains_phrase("call 512 123", "12 12"));
        assert!(!contains_phrase("anything", " "));
    }

    #[test]
    fn whole_words_are_counted_byte_for_byte() {
        assert_eq!(times("No. Nothing, no. No", "No"), 2);
        assert_eq!(times("2 of 12, or 2", "2"), 2);
        assert_eq!(times("aaa a", "a"), 1);
        assert_eq!(times("anything", ""), 0);
    }

    #[test]
    fn texts_are_the_same_but_for_white_space_at_their_ends() {
        assert!(same("a b", "\n a b\t"));
        assert!(!same("a b", "a  b"));
        assert!(!same("a b", "a b."));
    }

    #[test]
    fn bare_words_lose_case_and_punctuation() {
        assert_eq!(
            bare_words("“Hello,” — it's").collect::<Vec<_>>(),
            ["hello", "it's"]
        );
    }
}
