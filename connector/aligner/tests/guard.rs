//! What a guard makes of how sure a model was, and what is kept of an output that it rejects.

use aligner::{
    Outcome,
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
        assert_eq!(
            accepted.map_err(|bypass| bypass.word),
            expected,
            "{unchanged_logprob:?}"
        );
        let unchanged = guard.accept("q", "abcd", "abcd", confidence);
        assert_eq!(unchanged, Ok(()), "nothing was changed");
    }
}

#[test]
fn what_is_rejected_is_kept_as_it_was_written_and_an_empty_output_is_nothing() {
    let guard = Guard {
        max_length_ratio: Some(1.0),
        ..Guard::default()
    };
    let long = format!(" {}\n", "b".repeat(300));
    for (output, expected) in [
        ("b", Outcome::Rewritten("b".to_owned())),
        ("a", Outcome::Rewritten("a".to_owned())),
        (" \n", Outcome::Bypassed(reason::EMPTY_OUTPUT.into())),
        (
            long.as_str(),
            Outcome::Rejected {
                bypass: guard.accept("q", "a", &long, None).unwrap_err(),
                proposal: long.clone(),
            },
        ),
    ] {
        assert_eq!(guard.outcome("q", "a", output, None), expected);
    }
}
