//! Word diffs for people: what was taken out, what was put in.

use std::{
    env,
    ffi::OsStr,
    io::{self, IsTerminal},
};

pub use aligner_evaluation::render::harmless;
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
    /// For stdout: colours on a terminal that has them, unless its user wants none.
    pub fn of_stdout() -> Self {
        Self::of(
            io::stdout().is_terminal(),
            env::var_os("NO_COLOR").as_deref(),
            env::var_os("TERM").as_deref(),
        )
    }

    /// By <https://no-color.org>, an empty `NO_COLOR` asks for nothing. `TERM` is `dumb`, or is not set,
    /// where nobody obeys escapes.
    fn of(is_terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let is_unwanted = no_color.is_some_and(|value| !value.is_empty());
        let is_dumb = term.is_none_or(|term| term == "dumb");
        if is_terminal && !is_unwanted && !is_dumb {
            Self::Colour
        } else {
            Self::Plain
        }
    }

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

/// The word diff of two texts. Characters of the texts that a terminal would obey are shown as `�`.
pub fn words(before: &str, after: &str, paint: Paint) -> String {
    let (before, after) = (harmless(before), harmless(after));
    let diff = TextDiff::from_words(&before, &after);
    let mut marked = Marked::new(paint);
    for change in diff.iter_all_changes() {
        marked.push(change.tag(), change.value());
    }
    marked.finish()
}

/// Writes runs of changes as one mark each: white space between two changed words is changed
/// with them, or every word would have marks of its own.
struct Marked {
    paint: Paint,
    out: String,
    deleted: String,
    inserted: String,
    /// White space after changes, as long as it is open whether more of them follow.
    gap: String,
}

impl Marked {
    fn new(paint: Paint) -> Self {
        Self {
            paint,
            out: String::new(),
            deleted: String::new(),
            inserted: String::new(),
            gap: String::new(),
        }
    }

    fn push(&mut self, tag: ChangeTag, text: &str) {
        let changes = !self.deleted.is_empty() || !self.inserted.is_empty();
        match tag {
            ChangeTag::Equal if changes && text.trim().is_empty() => self.gap.push_str(text),
            ChangeTag::Equal => {
                self.flush();
                self.out.push_str(text);
            }
            ChangeTag::Delete | ChangeTag::Insert => {
                let gap = std::mem::take(&mut self.gap);
                for side in [&mut self.deleted, &mut self.inserted] {
                    // At the side's own edge it would only be padding.
                    if !side.is_empty() {
                        side.push_str(&gap);
                    }
                }
                if tag == ChangeTag::Delete {
                    self.deleted.push_str(text);
                } else {
                    self.inserted.push_str(text);
                }
            }
        }
    }

    fn flush(&mut self) {
        let same = same_end(&self.deleted, &self.inserted);
        let end = self.deleted.split_off(self.deleted.len() - same);
        self.inserted.truncate(self.inserted.len() - same);
        for (tag, text) in [
            (ChangeTag::Delete, std::mem::take(&mut self.deleted)),
            (ChangeTag::Insert, std::mem::take(&mut self.inserted)),
        ] {
            if !text.is_empty() {
                self.paint.wrap(tag, &text, &mut self.out);
            }
        }
        self.out.push_str(&end);
        self.out.push_str(&std::mem::take(&mut self.gap));
    }

    fn finish(mut self) -> String {
        self.flush();
        self.out
    }
}

/// How much punctuation ends both: a word and what follows it are one piece of a diff, and where one is put for
/// another, the mark behind it is not changed.
fn same_end(deleted: &str, inserted: &str) -> usize {
    let ends = deleted.bytes().rev().zip(inserted.bytes().rev());
    let same = ends
        .take_while(|(one, other)| one == other && b".,;:!?".contains(one))
        .count();
    // One that is nothing else was put in or taken out.
    if same < deleted.len().min(inserted.len()) {
        same
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_both_of_two_words_is_no_change() {
        for (before, after, shown) in [
            ("to a@b.c.", "to [email].", "to [-a@b.c-]{+[email]+}."),
            ("ask A, now", "ask B, now", "ask [-A-]{+B+}, now"),
            ("well?!", "ill?!", "[-well-]{+ill+}?!"),
            ("so. Not", "so, Not", "[-so.-]{+so,+} Not"),
            ("a ...", "a .", "a [-...-]{+.+}"),
            ("keep. Gone.", "keep.", "keep.[- Gone.-]"),
        ] {
            assert_eq!(words(before, after, Paint::Plain), shown);
        }
    }

    #[test]
    fn neighbouring_changes_are_one_mark() {
        assert_eq!(
            words(
                "call me at 555 0100 now",
                "call me at [phone removed] now",
                Paint::Plain
            ),
            "call me at [-555 0100-]{+[phone removed]+} now"
        );
    }

    #[test]
    fn colours_are_for_terminals_that_have_them_and_people_who_want_them() {
        for (is_terminal, no_color, term, paint) in [
            (true, None, Some("xterm"), Paint::Colour),
            (true, Some(""), Some("xterm"), Paint::Colour),
            (true, Some("0"), Some("xterm"), Paint::Plain),
            (true, None, Some("dumb"), Paint::Plain),
            (true, None, None, Paint::Plain),
            (false, None, Some("xterm"), Paint::Plain),
        ] {
            let chosen = Paint::of(is_terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(chosen, paint, "{is_terminal} {no_color:?} {term:?}");
        }
    }

    #[test]
    fn line_breaks_of_windows_are_no_marks() {
        assert_eq!(
            words("a\r\nb c\r\n", "a\r\nb d\r\n", Paint::Plain),
            "a\nb [-c-]{+d+}\n"
        );
    }

    #[test]
    fn equal_texts_have_no_marks() {
        assert_eq!(words("a b", "a b", Paint::Plain), "a b");
    }

    #[test]
    fn a_text_can_neither_drive_the_terminal_nor_turn_its_order() {
        assert_eq!(
            words("\u{1b}[2Jx", "\u{1b}[2Jx", Paint::Plain),
            "\u{fffd}[2Jx"
        );
        assert_eq!(
            words("to \u{202e}x", "to \u{2067}x", Paint::Plain),
            "to \u{fffd}x"
        );
    }
}
