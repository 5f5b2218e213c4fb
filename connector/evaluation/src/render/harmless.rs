//! Texts of others as they may be shown: a terminal or a page that meets them shows them, and does
//! nothing else.
//!
//! Questions, answers and the names that stand with them are whatever somebody logged. Characters
//! that are obeyed rather than shown come out as U+FFFD, one for one, so that a reader sees that
//! there was something.

/// The character to show for `c`.
fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // They move a terminal's cursor or change its state.
        _ if c.is_control() => char::REPLACEMENT_CHARACTER,
        // Embeddings, overrides and isolates: they show what follows in another order than the one
        // in which it is read ("Trojan Source", arXiv 2111.00169).
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        // They are not seen at all where words are put into a text that models read and people do not, and
        // two of them end a line. The joiners that scripts and emoji need stay.
        '\u{200b}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{2060}'
        | '\u{feff}'
        | '\u{e0001}'..='\u{e007f}' => char::REPLACEMENT_CHARACTER,
        _ => c,
    }
}

/// The text without characters that a terminal or a page obeys; line breaks and tabs stay. A line
/// break as Windows writes it is one, too; any other carriage return would overwrite its line.
pub fn harmless(text: &str) -> String {
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

/// The same on one line.
pub fn harmless_line(text: &str) -> String {
    harmless(text).replace(['\n', '\t'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_obeyed_is_replaced_and_what_is_shown_stays() {
        for obeyed in [
            "\u{0}",
            "\r",
            "\u{1b}",
            "\u{7f}",
            "\u{9b}",
            "\u{202a}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{200b}",
            "\u{2028}",
            "\u{feff}",
            "\u{e0041}",
        ] {
            assert_eq!(harmless(obeyed), "\u{fffd}", "{obeyed:?}");
        }
        // Marks of direction belong to Hebrew and Arabic, and turn nothing round.
        let shown = "a\tb\n größer 日本 😀 שלום\u{200f}!";
        assert_eq!(harmless(shown), shown);
        assert_eq!(harmless_line("a\tb\nc"), "a b c");
    }

    #[test]
    fn line_breaks_of_windows_are_line_breaks_and_a_lone_carriage_return_is_shown() {
        assert_eq!(harmless("a\r\n\r\nb"), "a\n\nb");
        assert_eq!(harmless("a\rb\r\r\nc\r"), "a\u{fffd}b\u{fffd}\nc\u{fffd}");
        assert_eq!(harmless_line("a\r\nb"), "a b");
    }
}
