//! Where in the text an output is copying from.
//!
//! A corrected answer follows the original one and leaves it for a word. The pointer stays beside
//! it: after a token that differs, it goes on behind it or behind the next equal one.

/// Consecutive differences after which a copy is taken to have ended.
const PATIENCE: u8 = 3;

/// An inserted or left out passage may be so long.
const REACH: usize = 12;

/// A place in a text that may be copied next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pointer {
    /// The token that would follow.
    at: Option<usize>,
    /// Tokens copied in a row.
    agreed: u8,
    differed: u8,
}

/// Values of [`Pointer::state`].
pub(super) const STATES: usize = 7;

impl Pointer {
    /// What would follow.
    pub(super) fn next(&self, text: &[u32]) -> Option<u32> {
        self.at.and_then(|at| text.get(at)).copied()
    }

    /// How the copy has been going: the less, the worse.
    pub(super) fn state(&self) -> usize {
        match (self.at, self.differed, self.agreed) {
            (None, ..) => 0,
            (_, 2.., 0) => 1,
            (_, 1, 0) => 2,
            (.., 0 | 1) => 3,
            (.., 2 | 3) => 4,
            (.., 4..=7) => 5,
            _ => 6,
        }
    }

    /// Goes on with `token`, which follows the text.
    pub(super) fn follow(&mut self, token: u32, text: &[u32]) {
        let Some(at) = self.at else { return };
        if text.get(at) == Some(&token) {
            self.at = Some(at + 1);
            self.agreed = self.agreed.saturating_add(1);
            self.differed = 0;
            return;
        }
        self.agreed = 0;
        self.differed += 1;
        if self.differed > PATIENCE || at >= text.len() {
            *self = Self::default();
            return;
        }
        let ahead = &text[at..text.len().min(at + REACH)];
        let skipped = ahead.iter().position(|&other| other == token);
        self.at = Some(at + 1 + skipped.unwrap_or(0));
    }

    /// Takes up a copy at `at`, unless one is going on.
    pub(super) fn take_up(&mut self, at: usize) {
        if self.at.is_none() {
            *self = Self {
                at: Some(at),
                ..Self::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pointer expects after each token of `output`.
    fn expected(text: &[u32], output: &[u32]) -> Vec<Option<u32>> {
        let mut pointer = Pointer::default();
        pointer.take_up(0);
        output
            .iter()
            .map(|&token| {
                pointer.follow(token, text);
                pointer.next(text)
            })
            .collect()
    }

    #[test]
    fn a_copy_survives_a_substitution_an_omission_and_an_insertion() {
        let text = [1, 2, 3, 4, 5, 6];
        assert_eq!(expected(&text, &[1, 9, 3]), [Some(2), Some(3), Some(4)]);
        assert_eq!(expected(&text, &[1, 4]), [Some(2), Some(5)]);
        // Inserted tokens are taken for substitutions until an equal one is seen.
        assert_eq!(expected(&text, &[1, 9, 4]), [Some(2), Some(3), Some(5)]);
    }

    #[test]
    fn a_copy_ends_after_a_few_differences() {
        let text = [1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(expected(&text, &[91, 92, 93, 94]).last(), Some(&None));
    }
}
