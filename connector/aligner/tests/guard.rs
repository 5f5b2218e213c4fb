//! What a guard makes of how sure a model was.

use aligner::{
    guard::{Confidence, Guard},
    reason,
};

#[test]
fn a_correction_that_nearly_was_none_is_none_where_the_guard_says_so() {
    let guard = Guard {
        max_unchanged_logprob: Some(-3.0),
        ..Guard::default()
    };
    for (unchanged_logprob, expected) in [
        (Some(-2.9), Err(reason::LOW_CONFIDENCE)),
        (Some(-3.0), Ok(())),
        (None, Ok(())),
    ] {
        let confidence = Some(Confidence {
            mean_logprob: 0.0,
            min_logprob: 0.0,
            unchanged_logprob,
        });
        let accepted = guard.accept("q", "abcd", "abce", confidence);
        assert_eq!(accepted, expected, "{unchanged_logprob:?}");
        let unchanged = guard.accept("q", "abcd", "abcd", confidence);
        assert_eq!(unchanged, Ok(()), "nothing was changed");
    }
}
