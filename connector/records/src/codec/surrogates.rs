//! Halves of surrogate pairs in JSON.
//!
//! JSON escapes a character beyond U+FFFF as two halves, `\ud83d\ude00`, and its grammar (RFC 8259,
//! section 8.2) allows one without the other: loggers in languages whose strings are UTF-16 write
//! it when they cut a text in the middle of an emoji. No Rust string holds half a character, so
//! [`serde_json`] refuses the document.

use std::ops::RangeInclusive;

/// Bytes of an escape such as `\ud83d`.
const LEN: usize = 6;

/// U+FFFD, the replacement character, in as many bytes as what it replaces.
const REPLACEMENT: &[u8; LEN] = b"\\ufffd";

const HIGH: RangeInclusive<u16> = 0xd800..=0xdbff;
const LOW: RangeInclusive<u16> = 0xdc00..=0xdfff;

/// The text with U+FFFD for each escape that is half a pair; none if every pair is whole. In one
/// pass, whether the text is JSON or not.
pub fn mended(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut mended: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(backslash) = next_backslash(bytes, at) {
        let next = backslash + LEN;
        at = match code_unit(bytes, backslash) {
            Some(high) if HIGH.contains(&high) && is_low(bytes, next) => next + LEN,
            Some(half) if HIGH.contains(&half) || LOW.contains(&half) => {
                let mended = mended.get_or_insert_with(|| bytes.to_vec());
                mended[backslash..next].copy_from_slice(REPLACEMENT);
                next
            }
            // Whatever it escapes, the character behind it begins no escape.
            _ => backslash + 2,
        };
    }
    mended.map(|bytes| String::from_utf8(bytes).expect("ASCII took the place of ASCII"))
}

fn next_backslash(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    Some(from + rest.iter().position(|byte| *byte == b'\\')?)
}

fn is_low(bytes: &[u8], at: usize) -> bool {
    code_unit(bytes, at).is_some_and(|unit| LOW.contains(&unit))
}

/// What the escape at this place stands for, if it is one of four hexadecimal digits.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + LEN)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit: u16, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some((unit << 4) | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_pairs_are_replaced_and_nothing_else() {
        for (text, expected) in [
            (r#""so \ud83d""#, Some(r#""so \ufffd""#)),
            (r#""\uDE00 so""#, Some(r#""\ufffd so""#)),
            (r"\ud83d\n\udbff\udfff", Some(r"\ufffd\n\udbff\udfff")),
            (r"\ud83d\ud83d\ude00", Some(r"\ufffd\ud83d\ude00")),
            (r"\ude00\ud83d", Some(r"\ufffd\ufffd")),
            (r"\ud83d\u0041", Some(r"\ufffd\u0041")),
            (r"\ud800é\udc00", Some(r"\ufffdé\ufffd")),
            // Pairs, and what merely looks like half of one.
            (r"\ud83d\ude00\uD83D\uDE00", None),
            (r"\\ud83d", None),
            (r"\\\ud83d", Some(r"\\\ufffd")),
            (r"\\\\ud83d", None),
            (r"\ud83d\\ude00", Some(r"\ufffd\\ude00")),
            (r"\ud7ff\ue000\u0000", None),
            ("ud83d é 😀", None),
            // No JSON, and no reason to fail.
            ("", None),
            (r"\", None),
            (r"\u", None),
            (r"\ud83", None),
            (r"\ud83x", None),
            (r"\u+d83", None),
            (r"\ud83d\", Some(r"\ufffd\")),
            (r"\ud83d\ude0", Some(r"\ufffd\ude0")),
            (r"\ud83é", None),
        ] {
            assert_eq!(mended(text).as_deref(), expected, "{text}");
        }
    }
}
