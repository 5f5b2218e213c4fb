//! The faults of all rows, looked for in a text at once: there may be as many as there are rows.

use std::collections::BTreeSet;

use aho_corasick::AhoCorasick;

use crate::text;

/// Shorter ones stand in texts by chance.
const LEAST_CHARACTERS: usize = 4;

/// What was planted anywhere, in lower case.
pub(crate) struct Planted {
    texts: Vec<String>,
    finder: AhoCorasick,
}

impl Planted {
    /// Of these, those that are long enough to tell something.
    pub fn new<'a>(faults: impl IntoIterator<Item = &'a str>) -> Self {
        let texts: BTreeSet<_> = faults
            .into_iter()
            .map(|fault| fault.trim().to_lowercase())
            .filter(|fault| fault.chars().count() >= LEAST_CHARACTERS)
            .collect();
        let texts: Vec<_> = texts.into_iter().collect();
        let finder = AhoCorasick::new(&texts).expect("rows in memory are fewer than it can number");
        Self { texts, finder }
    }

    /// Those that stand in `text` as whole words, whatever their case.
    pub fn within(&self, text: &str) -> BTreeSet<&str> {
        let text = text.to_lowercase();
        self.finder
            .find_overlapping_iter(&text)
            .filter(|found| text::is_whole(&text, found.range()))
            .map(|found| self.texts[found.pattern()].as_str())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_as_whole_words_whatever_their_case_and_inside_one_another() {
        let faults = Planted::new(["Utter Fool", "fool", "jo@x.org", "oaf", " café ", "other"]);
        let found = |text| faults.within(text).into_iter().collect::<Vec<_>>();
        assert_eq!(found("You utter fool!"), ["fool", "utter fool"]);
        assert_eq!(found("Foolish, brother."), [""; 0]);
        assert_eq!(found("foolish fool"), ["fool"]);
        assert_eq!(found("At JO@X.ORG: CAFÉ."), ["café", "jo@x.org"]);
        // It tells too little.
        assert_eq!(found("An oaf."), [""; 0]);
        assert!(Planted::new([]).within("anything").is_empty());
    }
}
