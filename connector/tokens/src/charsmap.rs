//! A `precompiled_charsmap`, looked at before the library believes it.
//!
//! The normalizer of a SentencePiece model comes as bytes in base64: the length of a trie, the trie,
//! and texts. The library makes room for a trie as long as the first four bytes say, eight bytes for
//! four, before it looks for one: for a file that lies, up to 8 GiB, without which the process is
//! aborted. And it begins every search in the first unit of the trie, whether there is one or not.

use std::collections::HashMap;

use serde_json::{Value, value::RawValue};

/// Bytes that say how long the trie is, and bytes of one of its units.
const WORD: usize = 4;

/// What is wrong with a map in a `tokenizer.json`, if it has any. What else is wrong with the file
/// is found by who reads it.
pub(crate) fn problem(json: &[u8]) -> Option<String> {
    // Of a vocabulary of megabytes nothing is kept.
    let parts: HashMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
    let normalizer: Value = serde_json::from_str(parts.get("normalizer")?.get()).ok()?;
    of_normalizer(&normalizer)
}

fn of_normalizer(normalizer: &Value) -> Option<String> {
    let map = normalizer.get("precompiled_charsmap");
    let parts = normalizer.get("normalizers").and_then(Value::as_array);
    map.and_then(Value::as_str).and_then(of_map).or_else(|| {
        let mut parts = parts.into_iter().flatten();
        parts.find_map(of_normalizer)
    })
}

fn of_map(base64: &str) -> Option<String> {
    let digits = base64.trim_end_matches('=').as_bytes();
    let bytes = digits.len() * 3 / 4;
    if bytes < WORD {
        return Some(format!(
            "its precompiled_charsmap has {bytes} bytes, too few for any"
        ));
    }
    // Six digits have four bytes and four bits.
    let first = digits[..6].iter().try_fold(0_u64, |number, &digit| {
        Some(number << 6 | u64::from(value(digit)?))
    })?;
    let trie = u32::try_from(first >> 4).ok()?.swap_bytes() as usize;
    let behind = bytes - WORD;
    if trie > behind {
        return Some(format!(
            "its precompiled_charsmap says that it has a trie of {trie} bytes, and has {behind}"
        ));
    }
    (trie < WORD).then(|| "its precompiled_charsmap has an empty trie".to_owned())
}

/// What a digit of base64 stands for; what is none is a matter of the parser.
fn value(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_whose_trie_is_longer_than_its_bytes_is_refused_before_anybody_makes_room_for_it() {
        let said = |map: &str| {
            let json = format!(
                r#"{{"model": {{}}, "normalizer": {{"type": "Sequence", "normalizers": [
                    {{"type": "NFC"}}, {{"type": "Precompiled", "precompiled_charsmap": "{map}"}}
                ]}}}}"#
            );
            problem(json.as_bytes())
        };
        let too_long = |said: usize, has: usize| {
            Some(format!(
                "its precompiled_charsmap says that it has a trie of {said} bytes, and has {has}"
            ))
        };
        assert_eq!(said("/////wAA"), too_long(u32::MAX as usize, 2));
        assert_eq!(said("CAAAAAAAAAA="), too_long(8, 4));
        // A trie of two units, and texts of four bytes or none behind it.
        assert_eq!(said("CAAAAP////8AAAAAAAAAAA=="), None);
        assert_eq!(said("CAAAAP////8AAAAA"), None);
        for few in ["", "AAAA", "////", "AA=="] {
            let problem = said(few).expect(few);
            assert!(problem.ends_with("bytes, too few for any"), "{problem}");
        }
        let empty = "its precompiled_charsmap has an empty trie";
        assert_eq!(said("AAAAAA==").as_deref(), Some(empty));
        assert_eq!(said("no base64!"), None);
    }

    #[test]
    fn what_is_no_tokenizer_or_has_no_map_is_left_to_who_reads_it() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"normalizer": null}"#,
            r#"{"normalizer": {"precompiled_charsmap": 7, "normalizers": {}}}"#,
        ] {
            assert_eq!(problem(json.as_bytes()), None, "{json}");
        }
    }
}
