//! An error in one line.

use std::{error::Error, iter::successors};

/// An error, and all that caused it: the innermost causes say what a person wants to know (connection
/// refused, timed out).
pub fn story(error: &dyn Error) -> String {
    let causes = successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |story, cause| {
        format!("{story}: {cause}")
    })
}

/// Whether TLS failed over a certificate, the server's or ours: no outage, and no waiting helps.
pub fn is_about_trust(story: &str) -> bool {
    // As OpenSSL has it: we do not trust it, or it says that it does not trust us.
    [
        "certificate verify failed",
        "alert bad certificate",
        "alert unknown ca",
        "alert certificate",
        "certificate required",
    ]
    .iter()
    .any(|words| story.contains(words))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_cause_is_told_from_the_outermost_to_the_innermost() {
        #[derive(Debug)]
        struct Outer(io::Error);

        impl std::fmt::Display for Outer {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("no answer")
            }
        }

        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }

        let innermost = io::Error::other("connection refused");
        assert_eq!(story(&innermost), "connection refused");
        assert_eq!(story(&Outer(innermost)), "no answer: connection refused");
    }
}
