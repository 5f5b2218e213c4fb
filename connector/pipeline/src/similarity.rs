//! How much of an answer a correction keeps.
//!
//! The measure is `similar`'s ratio over words: twice the words and white space in common, over
//! the words and white space of both texts. Corrections mostly keep an answer's beginning and end,
//! so what both texts begin and end with is counted without a diff, which gives the same ratio.
//! The work is bounded: where what remains is still long, words are compared without their order,
//! a ratio that can only be higher. Nothing depends on the clock: the same texts have the same
//! similarity everywhere.

use std::collections::HashMap;

use similar::{Algorithm, DiffableStr, capture_diff_slices, diff_ratio};

/// Most words and white spaces, of both texts together, that are compared in order.
const MAX_ORDERED: usize = 4_096;
/// Bytes that are looked at together; fewer than a byte can count.
const BLOCK: usize = 64;

/// Share of words and white spaces that two texts have in common, 0 to 1.
pub(crate) fn similarity(old: &str, new: &str) -> f64 {
    if old == new {
        return 1.0;
    }
    let start = common_start(old, new);
    let (old_rest, new_rest) = (&old[start..], &new[start..]);
    let end = common_end(old_rest, new_rest);
    let shared = count(&old[..start]) + count(&old_rest[old_rest.len() - end..]);
    let old_middle = old_rest[..old_rest.len() - end].tokenize_words();
    let new_middle = new_rest[..new_rest.len() - end].tokenize_words();

    let rest = old_middle.len() + new_middle.len();
    let in_common = if old_middle.is_empty() || new_middle.is_empty() {
        0.0
    } else if rest <= MAX_ORDERED {
        let ops = capture_diff_slices(Algorithm::Myers, &old_middle, &new_middle);
        f64::from(diff_ratio(&ops, old_middle.len(), new_middle.len())) * rest as f64
    } else {
        2.0 * unordered(&old_middle, &new_middle) as f64
    };
    let total = (2 * shared + rest) as f64;
    ((2 * shared) as f64 + in_common) / total
}

/// Bytes at the start of both that are whole words and whole white spaces in each.
fn common_start(a: &str, b: &str) -> usize {
    let same = same_bytes(a.as_bytes(), b.as_bytes());
    // The last byte that is the same may lie within a word of either text: back to where a word
    // or a white space begins. A cut between ASCII bytes of the two kinds is one in both texts.
    let bytes = &a.as_bytes()[..same];
    (1..bytes.len())
        .rev()
        .find(|&cut| ascii_boundary(bytes[cut - 1], bytes[cut]))
        .unwrap_or(0)
}

/// Bytes that two texts begin with in common, compared a block at a time.
fn same_bytes(a: &[u8], b: &[u8]) -> usize {
    let blocks = a.chunks_exact(BLOCK).zip(b.chunks_exact(BLOCK));
    let same = BLOCK * blocks.take_while(|(a, b)| a == b).count();
    let rest = a[same..].iter().zip(&b[same..]);
    same + rest.take_while(|(a, b)| a == b).count()
}

/// Bytes at the end of both that are whole words and whole white spaces in each.
fn common_end(a: &str, b: &str) -> usize {
    let same = a
        .bytes()
        .rev()
        .zip(b.bytes().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let bytes = &a.as_bytes()[a.len() - same..];
    (1..bytes.len())
        .find(|&cut| ascii_boundary(bytes[cut - 1], bytes[cut]))
        .map_or(0, |cut| same - cut)
}

/// Whether a word ends and white space begins between two bytes, or the other way round. Bytes of
/// longer characters never count, so a boundary is found late rather than wrongly.
fn ascii_boundary(before: u8, after: u8) -> bool {
    before.is_ascii() && after.is_ascii() && is_space(before) != is_space(after)
}

/// The ASCII characters that `char::is_whitespace` takes.
fn is_space(byte: u8) -> bool {
    (byte.wrapping_sub(b'\t') < 5) | (byte == b' ')
}

/// Number of words and white spaces, as `tokenize_words` splits them.
fn count(text: &str) -> usize {
    if !text.is_ascii() {
        return text.tokenize_words().len();
    }
    let bytes = text.as_bytes();
    let next = bytes.get(1..).unwrap_or_default();
    // Without a branch to a byte and summed in bytes, so that the compiler makes many comparisons
    // at once.
    let borders = |(before, after): (&[u8], &[u8])| -> usize {
        let pairs = before.iter().zip(after);
        let changes = pairs.map(|(before, after)| u8::from(is_space(*before) != is_space(*after)));
        usize::from(changes.sum::<u8>())
    };
    let borders: usize = bytes
        .chunks(BLOCK)
        .zip(next.chunks(BLOCK))
        .map(borders)
        .sum();
    borders + usize::from(!bytes.is_empty())
}

/// Words that two texts have in common wherever they stand.
fn unordered(old: &[&str], new: &[&str]) -> usize {
    let mut left: HashMap<&str, usize> = HashMap::with_capacity(old.len());
    for word in old {
        *left.entry(word).or_default() += 1;
    }
    new.iter()
        .filter(|word| match left.get_mut(**word) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        })
        .count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use similar::TextDiff;

    use super::*;

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn it_is_the_share_of_words_in_common() {
        let cases = [
            ("same", "a b c", "a b c", 1.0),
            ("both empty", "", "", 1.0),
            ("nothing left", "a b", "", 0.0),
            ("nothing in common", "a", "b", 0.0),
            // 5 of 5 and of 7 tokens.
            ("appended", "a b c", "a b c [marked]", 10.0 / 12.0),
            ("first word changed", "x b c", "a b c", 8.0 / 10.0),
            ("middle word changed", "a b c", "a x c", 8.0 / 10.0),
            ("a word grew", "a bc d", "a bcd d", 8.0 / 10.0),
            ("white space of another width", "a b", "a  b", 4.0 / 6.0),
            ("no-break space", "a\u{a0}b c", "a\u{a0}b d", 8.0 / 10.0),
        ];
        for (name, old, new, expected) in cases {
            let found = similarity(old, new);
            assert!(close(found, expected), "{name}: {found} is not {expected}");
        }
    }

    #[test]
    fn long_texts_without_a_word_in_place_take_bounded_work() {
        let old: String = (0..200_000).map(|n| format!("{n} ")).collect();
        let new: String = (0..200_000).rev().map(|n| format!("{n} ")).collect();
        assert!(close(similarity(&old, &new), 1.0));
        let other: String = (0..200_000).map(|n| format!("x{n}-")).collect();
        assert!(close(similarity(&old, &other), 0.0));
    }

    proptest! {
        #[test]
        fn short_cuts_do_not_change_the_ratio(
            old in "[abé \n\u{2003}]{0,40}",
            new in "[abé \n\u{2003}]{0,40}",
            start in "[ab é]{0,10}",
            end in "[ab é]{0,10}",
        ) {
            let (old, new) = (format!("{start}{old}{end}"), format!("{start}{new}{end}"));
            let plain = f64::from(TextDiff::from_words(old.as_str(), new.as_str()).ratio());
            prop_assert!(close(similarity(&old, &new), plain), "{} {}", similarity(&old, &new), plain);
        }

        #[test]
        fn short_cuts_do_not_change_the_ratio_of_longer_plain_texts(
            old in "[ab \n]{0,20}",
            new in "[ab \n]{0,20}",
            start in "[ab \n]{0,200}",
            end in "[ab \n]{0,200}",
        ) {
            let (old, new) = (format!("{start}{old}{end}"), format!("{start}{new}{end}"));
            let plain = f64::from(TextDiff::from_words(old.as_str(), new.as_str()).ratio());
            prop_assert!(close(similarity(&old, &new), plain), "{} {}", similarity(&old, &new), plain);
        }
    }
}
