//! Word diffs for people: what was taken out, what was put in.

use similar::{ChangeTag, TextDiff};

/// Whether a diff may use terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Red and struck through, green and underlined.
    Colour,
    /// `[-removed-]` and `{+added+}`, as `git diff --word-diff` writes.
    Plain,
}

impl Paint {
    fn wrap(self, tag: ChangeTag, text: &str, out: &mut String) {
        let (open, close) = match (self, tag) {
            (_, ChangeTag::Equal) => ("", ""),
            (Self::Colour, ChangeTag::Delete) => ("\x1b[31;9m", "\x1b[0m"),
            (Self::Colour, ChangeTag::Insert) => ("\x1b[32;4m", "\x1b[0m"),
            (Self::Plain, ChangeTag::Delete) => ("[-", "-]"),
            (Self::Plain, ChangeTag::Insert) => ("{+", "+}"),
        };
        out.push_str(open);
        out.push_str(text);
        out.push_str(close);
    }
}

/// The word diff of two texts. Control characters of the texts, which a terminal would obey,
/// are shown as `�`.
pub fn words(before: &str, after: &str, paint: Paint) -> String {
    let (before, after) = (harmless(before), harmless(after));
    let diff = TextDiff::from_words(&before, &after);
    let mut out = String::with_capacity(before.len() + 64);
    let mut run = String::new();
    let mut tag = ChangeTag::Equal;
    for change in diff.iter_all_changes() {
        if change.tag() != tag {
            if !run.is_empty() {
                paint.wrap(tag, &run, &mut out);
                run.clear();
            }
            tag = change.tag();
        }
        run.push_str(change.value());
    }
    if !run.is_empty() {
        paint.wrap(tag, &run, &mut out);
    }
    out
}

/// The text without characters that move a terminal's cursor or change its state.
pub fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_changes_are_one_mark() {
        assert_eq!(
            words("call me at 555 0100 now", "call me at [phone removed] now", Paint::Plain),
            "call me at [-555 0100-]{+[phone removed]+} now"
        );
    }

    #[test]
    fn equal_texts_have_no_marks() {
        assert_eq!(words("a b", "a b", Paint::Plain), "a b");
    }

    #[test]
    fn a_text_cannot_drive_the_terminal() {
        assert_eq!(words("\u{1b}[2Jx", "\u{1b}[2Jx", Paint::Plain), "\u{fffd}[2Jx");
    }
}
