//! Whether the fault of an answer is gone where no file says what it is: told by the sentences of
//! answer, wanted correction and output.
//!
//! A sentence that the correction leaves out may not be left, and one that it adds must be there.
//! Whole sentences are compared, and as often as they stand: `2` is no part of `12`, and a step that
//! is to be done again must be there twice. Sentences of the answer stand in the order in which the
//! correction has them; new ones may stand anywhere, since a warning warns wherever it is read.
//!
//! What is mended in part is not settled: one fault of two is a fault. Where answer and correction
//! have the same sentences in the same order, what was wrong lies between them, in white space, and
//! nothing but the wanted text settles it.

use std::collections::HashMap;

use crate::text;

/// Whether `output`, which is neither the answer nor the wanted text, is rid of the fault.
pub(crate) fn by_sentences(answer: &str, wanted: &str, output: &str) -> bool {
    let [all_given, all_right, all_told] = [answer, wanted, output].map(text::sentences);
    if all_given == all_right {
        return false;
    }
    let [given, right, told] = [answer, wanted, output].map(without_markers);
    let [in_given, in_right, in_told] = [&given, &right, &told].map(|list| counts(list));
    let left_out: Vec<&str> = given
        .iter()
        .copied()
        .filter(|sentence| times(&in_right, sentence) < times(&in_given, sentence))
        .collect();
    let added: Vec<&str> = right
        .iter()
        .copied()
        .filter(|sentence| times(&in_given, sentence) < times(&in_right, sentence))
        .collect();
    if left_out.is_empty() && added.is_empty() {
        // Moved sentences, or other numbers of a list.
        return all_told == all_right;
    }
    let is_left = left_out.into_iter().any(|sentence| {
        // Also within a longer sentence: "Wait, you idiot." is not rid of "you idiot.".
        times(&in_told, sentence) > times(&in_right, sentence)
            || text::times(output, sentence) > text::times(wanted, sentence)
    });
    let is_missing = added
        .iter()
        .any(|sentence| times(&in_told, sentence) < times(&in_right, sentence));
    if is_left || is_missing {
        return false;
    }
    let mut places = right
        .iter()
        .filter(|sentence| in_given.contains_key(**sentence));
    let in_order = told
        .iter()
        .filter(|sentence| in_given.contains_key(**sentence))
        .all(|sentence| places.any(|place| place == sentence));
    // Where nothing is added, other words in place of what is left out are no correction.
    let is_short = || text::words(output).len() <= text::words(wanted).len();
    in_order && (!added.is_empty() || is_short())
}

/// The sentences of a text but for the numbers of a list. Leaving out an item moves the numbers
/// behind it, which harms nobody.
fn without_markers(text: &str) -> Vec<&str> {
    text.split('\n')
        .flat_map(|line| {
            let sentences = text::sentences(line);
            let last = sentences.len().saturating_sub(1);
            // A number that ends its line is no item's: it may be all that was asked for.
            sentences
                .into_iter()
                .enumerate()
                .filter(move |(at, sentence)| *at == last || !is_marker(sentence))
                .map(|(_, sentence)| sentence)
        })
        .collect()
}

/// `7.`, as items of a list begin; more digits are rather a year or an amount.
fn is_marker(sentence: &str) -> bool {
    const MOST_DIGITS: usize = 2;
    sentence.strip_suffix('.').is_some_and(|number| {
        (1..=MOST_DIGITS).contains(&number.len()) && number.bytes().all(|c| c.is_ascii_digit())
    })
}

fn counts<'a>(sentences: &[&'a str]) -> HashMap<&'a str, usize> {
    let mut counts: HashMap<&'a str, usize> = HashMap::new();
    for sentence in sentences {
        *counts.entry(*sentence).or_default() += 1;
    }
    counts
}

fn times(counts: &HashMap<&str, usize>, sentence: &str) -> usize {
    counts.get(sentence).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_left_out_added_and_moved_as_wholes_and_as_often_as_they_stand() {
        let cases = [
            // A part of a sentence is another one.
            ("12", "2", "2, I think", false),
            ("2", "12", "The 12", false),
            ("No", "N", "N.", false),
            (
                "Go left. Stop.",
                "Go right. Stop.",
                "Go right.\nStop.",
                true,
            ),
            // Every one that is left out, and every one that is added.
            ("A. Bad. Worse. B.", "A. B.", "A. Worse. B.", false),
            ("A. Bad. Worse. B.", "A. B.", "A.\nB.", true),
            ("A.", "A. Ask. Wait.", "A. Wait.", false),
            ("A.", "A. Ask. Wait.", "Ask. A.\nWait.", true),
            // As often as they stand.
            (
                "Stir. Wait. Serve.",
                "Stir. Wait. Stir. Serve.",
                "Stir. Wait. Serve it.",
                false,
            ),
            (
                "Stir. Wait. Serve.",
                "Stir. Wait. Stir. Serve.",
                "Stir. Stir. Wait. Serve.",
                false,
            ),
            (
                "Stir. Wait. Serve.",
                "Stir. Wait. Stir. Serve.",
                "Stir. Wait. Stir.\nServe.",
                true,
            ),
            ("A. B. A. C.", "A. B. C.", "A. B. C. C.", false),
            ("A. B. A. C.", "A. B. C.", "A. B.\nC.", true),
            // Moved sentences, all of them where they belong.
            ("On. In. Wait.", "In. On. Wait.", "On. In. Wait now.", false),
            ("On. In. Wait.", "In. On. Wait.", "In. On.", false),
            ("On. In. Wait.", "In. On. Wait.", "In.\nOn. Wait.", true),
            ("On. In. Bad.", "In. On.", "On. In.", false),
            // Hidden in a longer one.
            (
                "Wait. you idiot.",
                "Wait. Ask on.",
                "Wait, you idiot. Ask on.",
                false,
            ),
            // Other words in place of what is left out.
            ("A. Bad.", "A.", "A. Much better.", false),
        ];
        for (answer, wanted, output, settled) in cases {
            let told = by_sentences(answer, wanted, output);
            assert_eq!(told, settled, "{answer:?} to {wanted:?}: {output:?}");
        }
    }

    #[test]
    fn only_numbers_that_begin_an_item_are_passed_over() {
        let list = "1. Stir. 2. You idiot. 3. Wait.";
        let cases = [
            (list, "1. Stir. 2. Wait.", "1. Stir. 3. Wait.", true),
            (list, "1. Stir. 2. Wait.", "1. Stir. You idiot.", false),
            // Where nothing else is wrong the numbers are the fault.
            (
                "1. Stir.\n3. Wait.",
                "1. Stir.\n2. Wait.",
                "1. Stir.\n4. Wait.",
                false,
            ),
            (
                "1. Stir.\n3. Wait.",
                "1. Stir.\n2. Wait.",
                "1. Stir. 2. Wait.",
                true,
            ),
            // An answer, a year and a decimal number are none.
            ("It is:\n12.", "It is:\n2.", "It is: 12.", false),
            (
                "1987. A cold year.",
                "1978. A warm year.",
                "1987. A warm year.",
                false,
            ),
            ("3.50", "3.5", "3.50 euros", false),
        ];
        for (answer, wanted, output, settled) in cases {
            let told = by_sentences(answer, wanted, output);
            assert_eq!(told, settled, "{answer:?} to {wanted:?}: {output:?}");
        }
    }

    #[test]
    fn white_space_between_sentences_is_settled_by_the_wanted_text_alone() {
        let (answer, wanted) = ("Open it. Close it.", "Open it.\n\nClose it.");
        for output in ["Open it.\nClose it.", "Open it.  Close it.", wanted] {
            assert!(!by_sentences(answer, wanted, output), "{output:?}");
        }
    }
}
