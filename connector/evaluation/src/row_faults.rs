//! Rows that cannot be used, told all at once: whoever mends a file should not have to find its next
//! bad row by the next run.
//!
//! Each is named by file, line and key, and none by its text.

use std::{error, fmt};

use thiserror::Error;

/// Most rows that are named; of the others there is a count.
const MOST_NAMED: usize = 10;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RowFault {
    /// Not JSON; what the parser says.
    #[error("not JSON ({0})")]
    Json(String),
    /// JSON of another type.
    #[error("{0} stands where an object is expected")]
    NotAnObject(&'static str),
    /// A key is missing.
    #[error("key {0} is missing")]
    Missing(&'static str),
    /// A key whose text is white space.
    #[error("key {0} is blank")]
    Blank(&'static str),
    /// A key stands twice.
    #[error("key {0} stands twice, and which value was meant cannot be told")]
    Twice(&'static str),
    /// A key has a value of the wrong type.
    #[error("key {key} is {found}, expected {expected}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// JSON type that was found.
        found: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// Messages without an answer at their end.
    #[error("the last message of key {0} is not the assistant's")]
    NoAnswer(&'static str),
    /// Messages with nothing to read in the one that counts.
    #[error("key {key} has no text in {message}")]
    NoText {
        /// The key.
        key: &'static str,
        /// Which message counts.
        message: &'static str,
    },
    /// Two conversations rather than two answers.
    #[error("chosen and rejected differ before their last messages, and a row has one answer")]
    Parted,
    /// A message whose content is neither a text nor content parts; the words of whoever reads it.
    #[error("{0}")]
    Content(String),
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Of an array, the index.
    pub index: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.line)?;
        match self.index {
            // As jq has it.
            Some(index) => write!(f, " (.[{index}])"),
            None => Ok(()),
        }
    }
}

/// The rows of one file or several that cannot be used, as far as they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowFaults {
    /// The first of them, each with its place and what is wrong.
    named: Vec<String>,
    count: usize,
    /// All rows, whether they can be used or not.
    rows: usize,
}

impl RowFaults {
    /// Counts a row that was read.
    pub(crate) fn read_row(&mut self) {
        self.rows += 1;
    }

    pub(crate) fn add(&mut self, origin: &str, place: Place, fault: &RowFault) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(format!("{origin}:{place}: {fault}"));
        }
    }

    /// Refuses them, if there are any.
    ///
    /// # Errors
    /// All of them, as one.
    pub fn check(self) -> Result<(), Self> {
        if self.count == 0 { Ok(()) } else { Err(self) }
    }
}

impl error::Error for RowFaults {}

impl fmt::Display for RowFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} of {} rows cannot be used\n", self.count, self.rows)?;
        for row in &self.named {
            writeln!(f, "  {row}")?;
        }
        let others = self.count - self.named.len();
        if others > 0 {
            writeln!(f, "  and {others} more")?;
        }
        write!(
            f,
            "    fix: mend these rows, or take them out; a row is an object on a line of its own, or \
             in a JSON array, with question, answer and correction (the answer itself where nothing \
             is wrong), or with prompt, rejected and chosen"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(count: usize) -> RowFaults {
        let mut faults = RowFaults::default();
        for line in 1..=count {
            faults.read_row();
            let place = Place { line, index: None };
            faults.add("data.jsonl", place, &RowFault::Blank("answer"));
        }
        faults.read_row();
        faults
    }

    #[test]
    fn ten_rows_are_named_and_the_others_are_counted() {
        for (count, named, rest) in [
            (1, 1, None),
            (10, 10, None),
            (11, 10, Some("and 1 more")),
            (512, 10, Some("and 502 more")),
        ] {
            let error = faults(count).check().expect_err("they cannot be used");
            let told = error.to_string();
            let first = format!("{count} of {} rows cannot be used", count + 1);
            assert_eq!(told.lines().next(), Some(first.as_str()));
            assert_eq!(told.matches(": key answer is blank\n").count(), named);
            let more = told.lines().find(|line| line.starts_with("  and "));
            assert_eq!(more.map(str::trim), rest, "{told}");
            assert_eq!(told.matches("fix: ").count(), 1, "{told}");
        }
        assert_eq!(faults(0).check(), Ok(()));
    }
}
