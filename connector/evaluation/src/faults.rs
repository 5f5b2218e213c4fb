//! The faults that a row names: which of them its answer holds, and which are left in an output.
//!
//! Both are told by one rule. So an answer that came back as it was has all of its faults left, and
//! a fault that the answer never had, such as one with another kind of quotation mark, is not taken
//! for one that is gone.

use crate::{text, triple::Triple, verdict::Class};

impl Triple {
    /// How many of its faults its answer does not hold: they tell nothing of an output. None of a
    /// clean row, which is not judged by them.
    pub fn absent_faults(&self) -> usize {
        if Class::of(self) == Class::Clean {
            return 0;
        }
        let absent = self.faults.iter().filter(|fault| !stands(self, fault));
        absent.count()
    }
}

/// Whether the answer holds a fault.
pub(crate) fn stands(triple: &Triple, fault: &str) -> bool {
    left(triple, fault, &triple.answer)
}

/// Whether a planted fault is left: the whole of it; or, where it holds a digit or an at sign,
/// as personal data does, a telling part: six letters or digits in a row that stand nowhere
/// else in what the output may use.
pub(crate) fn left(triple: &Triple, fault: &str, output: &str) -> bool {
    const TELLING: usize = 6;
    if text::contains_phrase(output, fault) {
        return true;
    }
    if !fault.contains(|c: char| c.is_ascii_digit() || c == '@') {
        return false;
    }
    let free = match &triple.correction {
        Some(wanted) => wanted.clone(),
        None => triple.answer.replace(fault, "\u{0}"),
    };
    let (fault, output) = (text::letters(fault), text::letters(output));
    let free = [text::letters(&free), text::letters(&triple.question)];
    let contains = |text: &[char], part: &[char]| text.windows(part.len()).any(|w| w == part);
    fault
        .windows(TELLING)
        .any(|part| contains(&output, part) && !free.iter().any(|free| contains(free, part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triple::tests::triple;

    #[test]
    fn a_fault_stands_in_its_answer_as_whole_words_in_any_case_or_by_a_telling_part() {
        for (answer, fault, held) in [
            ("You utter fool. Go.", "Utter FOOL", true),
            ("You utter fool. Go.", " utter fool ", true),
            ("You utter fool. Go.", "utter  fool", false),
            ("You utter fool. Go.", "utter foo", false),
            ("That\u{2019}s never wrong.", "That's never wrong", false),
            ("Call 555-010-4477 now.", "555 010 4477", true),
        ] {
            let triple = triple(answer, Some("Go."), &[fault]);
            assert_eq!(stands(&triple, fault), held, "{fault:?} in {answer:?}");
            assert_eq!(triple.absent_faults(), usize::from(!held), "{fault:?}");
        }
    }

    #[test]
    fn a_clean_row_lacks_none_of_its_faults() {
        assert_eq!(triple("Go.", Some("Go."), &["fool"]).absent_faults(), 0);
        let unsaid = triple("Go.", None, &["fool", "Go"]);
        assert_eq!(unsaid.absent_faults(), 1);
    }
}
