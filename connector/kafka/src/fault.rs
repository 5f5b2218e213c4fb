//! What is wrong with a setting and what to do about it, apart: whoever shows them may give each its own
//! place, or know better what to do.

use std::fmt;

/// Why something cannot be used. Shown alone it is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What is wrong.
    pub message: String,
    /// What to do about it, where that is known here.
    pub fix: Option<String>,
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: None,
        }
    }

    pub(crate) fn with_fix(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            fix: Some(fix.into()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.fix {
            Some(fix) => write!(f, "; {fix}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shown_alone_is_one_sentence_with_or_without_its_fix() {
        let told = Fault::with_fix("is empty", "name a topic").to_string();
        assert_eq!(told, "is empty; name a topic");
        assert_eq!(Fault::new("is empty").to_string(), "is empty");
    }
}
