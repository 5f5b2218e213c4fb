//! Lists in the log: one text each, for `tracing` knows no lists. What is listed has no spaces, as topics have
//! none, and however many partitions there are, a line stays a line.

use aligner_pipeline::Partition;

/// A list has no more words; the others are counted.
const MAX_WORDS: usize = 100;

/// Some words, each without spaces.
pub(crate) fn listed(words: impl IntoIterator<Item = String>) -> String {
    let mut words = words.into_iter();
    let mut list: Vec<_> = words.by_ref().take(MAX_WORDS).collect();
    match words.count() {
        0 => {}
        more => list.push(format!("and {more} more")),
    }
    list.join(" ")
}

/// The names of some partitions.
pub(crate) fn shown<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> String {
    listed(partitions.into_iter().map(Partition::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_text_and_bounded() {
        let words = |count: usize| (0..count).map(|number| format!("t-{number}"));
        assert_eq!(listed(words(0)), "");
        assert_eq!(listed(words(3)), "t-0 t-1 t-2");
        let all = listed(words(MAX_WORDS));
        assert!(all.ends_with(" t-99"), "{all}");
        let more = listed(words(MAX_WORDS + 400));
        assert_eq!(more, format!("{all} and 400 more"));
    }
}
