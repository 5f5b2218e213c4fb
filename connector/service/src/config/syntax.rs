//! What a parser says of a file, in words for those who wrote it.
//!
//! Nothing of the file is repeated but names of keys: a line may hold a secret.

const ONCE: &str = "write each key once, with all that belongs under it";

/// What is wrong with a file, and what to do about it.
pub(super) fn fault(said: &str, text: &str, toml: bool) -> (String, &'static str) {
    if let Some(message) = twice(said, text) {
        return (message, ONCE);
    }
    let message = unquoted(said);
    let fix = if message.contains("duplicate") {
        ONCE
    } else if message.contains("floating") {
        // Of these no parser names the place.
        "write what is no number in quotes, and numbers that are finite"
    } else if toml {
        "write TOML there, like config/connector.toml"
    } else {
        "write YAML there, like config/connector.yaml, or name the file .toml"
    };
    (message, fix)
}

/// What YAML's parser says of a key that stands twice: it writes the key as Rust does, and the place
/// where the value ends.
fn twice(said: &str, text: &str) -> Option<String> {
    let (key, place) = said.split_once(": duplicated key in mapping")?;
    let key = key.split_once('(').map_or(key, |(_, key)| key);
    let key = key.trim_end_matches(')').trim_matches('"');
    let (_, line) = place.split_once(" line ")?;
    let last: usize = line.split(' ').next()?.parse().ok()?;
    let begins = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(key)
            .map(|rest| rest.trim_start_matches(['"', '\'']).trim_start())
            .is_some_and(|rest| rest.starts_with(':'))
    };
    // A section ends where something else begins, and a value within brackets on its own line.
    let on_last = text.lines().nth(last.checked_sub(1)?);
    let is_there = on_last.is_some_and(|line| line.contains(&format!("{key}:")));
    let line = if is_there {
        last
    } else {
        let lines = (1..).zip(text.lines()).take(last);
        let beginnings = lines.filter(|(_, line)| begins(line));
        beginnings.map(|(number, _)| number).last().unwrap_or(last)
    };
    Some(format!("{key} is there twice (line {line})"))
}

/// The place and the reason. Between them TOML's parser quotes the line, which may hold a secret.
fn unquoted(message: &str) -> String {
    let mut lines = message.trim_end().lines();
    let place = lines.next().unwrap_or_default();
    match lines.next_back() {
        Some(reason) => format!("{place}: {reason}"),
        None => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_is_named_with_the_line_of_the_second() {
        let text = "kafka:\n  a: 1\n'kafka':\n  a: 2\n5: x\n5: y\nb: {c: 1, c: 2}\n";
        for (key, line, told) in [
            ("String(\"kafka\")", 5, "kafka is there twice (line 3)"),
            ("Integer(5)", 6, "5 is there twice (line 6)"),
            ("String(\"c\")", 7, "c is there twice (line 7)"),
            (
                "String(\"elsewhere\")",
                4,
                "elsewhere is there twice (line 4)",
            ),
        ] {
            let said = format!("{key}: duplicated key in mapping at byte 9 line {line} column 1");
            assert_eq!(fault(&said, text, false), (told.to_owned(), ONCE));
        }
    }
}
