//! What is wrong with a configuration: each problem with its key, its value and the fix.

use std::fmt;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, such as `kafka.delivery`.
    pub key: String,
    /// The value as written, `None` where it is missing; secrets are redacted.
    pub value: Option<String>,
    /// What is wrong with it, and where `fix` is absent also what to do.
    pub message: String,
    /// What to write instead.
    pub fix: Option<String>,
}

/// Every mistake of a configuration, never none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the configuration", self.0.len())?;
        for problem in &self.0 {
            write!(f, "\n\n  {}", problem.key)?;
            if let Some(value) = &problem.value {
                write!(f, " = {value}")?;
            }
            write!(f, "\n    {}", problem.message)?;
            if let Some(fix) = &problem.fix {
                write!(f, "\n    fix: {fix}")?;
            }
        }
        Ok(())
    }
}
