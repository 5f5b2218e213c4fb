//! Finds personal data by its form: e-mail addresses, telephone and card numbers, keys.
//!
//! It serves where no faults were planted, and to notice faults that an Aligner *added*. Forms
//! only, no word lists: insults, unsafe steps and street addresses are measured by planted
//! faults. Used for measuring, never to edit an output.

/// Everything in `text` that has the form of personal data: addresses and keys, then numbers, each
/// in order.
pub(crate) fn detect(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || "<>()[]\"“”,;".contains(c)) {
        let word = word.trim_matches(|c: char| ".:!?'`*".contains(c));
        if let Some(address) = email(word) {
            found.push(address);
        } else if is_key(word) {
            found.push(word);
        }
    }
    for number in numbers(text) {
        let digits: Vec<u8> = number
            .bytes()
            .filter(u8::is_ascii_digit)
            .map(|digit| digit - b'0')
            .collect();
        let is_card = (13..=19).contains(&digits.len()) && luhn(&digits);
        if is_card || is_phone(number, digits.len()) {
            found.push(number);
        }
    }
    found
}

fn email(word: &str) -> Option<&str> {
    let word = word.strip_prefix("mailto:").unwrap_or(word);
    let (local, host) = word.split_once('@')?;
    let tail = host.rsplit_once('.')?.1;
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || ".-_+%".contains(c))
    };
    (plain(local) && plain(host) && tail.len() >= 2 && tail.chars().all(char::is_alphabetic))
        .then_some(word)
}

/// At least 16 letters, digits, `_` and `-`, with both letters and digits well mixed in one run.
fn is_key(word: &str) -> bool {
    let plain = word
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let letters = word.bytes().filter(u8::is_ascii_alphabetic).count();
    let longest_run = word.split(['-', '_']).map(str::len).max().unwrap_or(0);
    plain && word.len() >= 16 && longest_run >= 10 && digits >= 3 && letters >= 3
}

/// Runs of digits and of what people write between them, cut where two separators meet that
/// never stand inside one number.
fn numbers(text: &str) -> Vec<&str> {
    let inside = |c: char| c.is_ascii_digit() || " -.()+/".contains(c);
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), '\n')]) {
        match (inside(c), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                let glued = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
                let run = &text[from..at];
                let starts_glued = run.starts_with(|c: char| c.is_ascii_digit())
                    && glued(text[..from].chars().next_back());
                let ends_glued = run.ends_with(|c: char| c.is_ascii_digit()) && c.is_alphanumeric();
                if !starts_glued && !ends_glued {
                    found.extend(
                        run.split(". ")
                            .map(|part| part.trim_matches(|c: char| " -./)".contains(c)))
                            .filter(|part| part.bytes().any(|c| c.is_ascii_digit())),
                    );
                }
                start = None;
            }
            _ => {}
        }
    }
    found
}

/// 7 to 15 digits in groups, or with a leading plus; a plain run of digits may be any number,
/// and a group of one or two digits first is rather a date.
fn is_phone(number: &str, digits: usize) -> bool {
    let groups: Vec<usize> = number
        .split(|c: char| !c.is_ascii_digit())
        .filter(|group| !group.is_empty())
        .map(str::len)
        .collect();
    let international = number.starts_with('+');
    let last = groups.last().copied().unwrap_or(0);
    let decimal = groups.len() == 2 && number.contains('.') && !international;
    (7..=15).contains(&digits)
        && last >= 2
        && !decimal
        && (international || (groups.len() >= 2 && groups[0] >= 3 && last >= 4))
        && !(groups.len() == 2 && groups == [4, 4])
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_data_is_found_by_its_form() {
        let cases = [
            (
                "Write to jo.doe+x@mail.example.org.",
                "jo.doe+x@mail.example.org",
            ),
            ("call +49 170 1234567 now", "+49 170 1234567"),
            ("call (555) 010-4477, please", "(555) 010-4477"),
            ("ring 555-0104 2231", "555-0104 2231"),
            ("card 4111 1111 1111 1111.", "4111 1111 1111 1111"),
            ("card 4111111111111111", "4111111111111111"),
            ("use sk-a1b2c3d4e5f6g7h8i9 here", "sk-a1b2c3d4e5f6g7h8i9"),
        ];
        for (text, found) in cases {
            assert_eq!(detect(text), [found], "{text}");
        }
    }

    #[test]
    fn ordinary_text_and_numbers_are_left_alone() {
        for text in [
            "Take 3.5 grams of 1,200 on 2024-05-17, or in 1914-1918.",
            "It costs 1000000 in 2023. 45 people came.",
            "state-of-the-art, well-established, internationalisation",
            "card 4111 1111 1111 1112",
            "a@b, @home, see x@y",
            "",
        ] {
            assert_eq!(detect(text), Vec::<&str>::new(), "{text}");
        }
    }
}
