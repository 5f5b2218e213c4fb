//! What a server's answer means. Pure: an answer in, a verdict out.
//!
//! A server's own words may quote the prompt (validation errors do), so no message here repeats
//! them: only the status and the error's type, where that is a plain word.

use aligner::{
    AlignError, Outcome, Usage,
    guard::{Confidence, Guard},
    reason::{self, Bypass},
    unjoined,
};

use crate::{
    client::Reply,
    completion::{self, Completion},
    problem::Problem,
};

/// What to do with one answer of the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// The request is answered.
    Done(Outcome, Usage, Option<Confidence>),
    /// Try again.
    Again(String),
    /// This request fails, and each repetition would.
    Rejected(String),
    /// Every request would fail.
    Stopped(String),
}

impl Verdict {
    /// The error that a verdict ends in when there is no further attempt.
    pub(crate) fn into_result(self) -> Result<(Outcome, Usage, Option<Confidence>), AlignError> {
        match self {
            Self::Done(outcome, usage, confidence) => Ok((outcome, usage, confidence)),
            Self::Again(cause) => Err(AlignError::Unavailable(cause)),
            Self::Rejected(cause) => Err(AlignError::Rejected(cause)),
            Self::Stopped(cause) => Err(AlignError::Stopped(cause)),
        }
    }
}

/// What is asked for, as far as the answer's meaning depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub url: &'a str,
    pub model: &'a str,
    pub unchanged_token: Option<&'a str>,
    pub guard: &'a Guard,
    pub question: &'a str,
    pub answer: &'a str,
}

/// Reads a server's answer.
///
/// A record is given up only for what is said of its request. Anything else that the server answers,
/// or a proxy before it, it would answer to every request: it is waited for, or stops the service
/// where settings must be changed.
pub(crate) fn read(reply: &Reply, asked: Asked<'_>) -> Verdict {
    let url = asked.url;
    if reply.status == 200 {
        return match completion::read(&reply.body) {
            Ok(completion) => completed(completion, asked),
            Err(lack) => Verdict::Again(format!("{url} {lack}")),
        };
    }
    if let Some(cause) = reply.redirection() {
        return Verdict::Stopped(format!("{url} {cause}"));
    }
    let problem = Problem::of(&reply.body);
    let said = problem.word();
    match reply.status {
        413 => too_long(url, reply.status),
        400 | 422 if problem.is_overflow() => too_long(url, reply.status),
        400 | 422 => Verdict::Rejected(format!("{url} answered {}{said}", reply.status)),
        401 | 403 => Verdict::Stopped(format!(
            "{url} answered {}{said}: check aligner.remote.api_key",
            reply.status
        )),
        402 => Verdict::Stopped(format!(
            "{url} answered 402{said}: check what the account of aligner.remote.api_key may still \
             spend"
        )),
        404 if problem.is_readable() => Verdict::Stopped(format!(
            "{url} answered 404{said}: check that it serves the model {:?} of \
             aligner.remote.model",
            asked.model
        )),
        404 | 405 => Verdict::Stopped(format!(
            "{url} answered {} at /completions: check the path in aligner.remote.url, which \
             ends in /v1 on most servers",
            reply.status
        )),
        status => Verdict::Again(format!("{url} answered {status}{said}")),
    }
}

fn too_long(url: &str, status: u16) -> Verdict {
    let found = format!(
        "{url} answered {status}: the prompt is longer than its model, or the server, allows"
    );
    let bypass = Bypass::found(reason::TOO_LONG, found);
    Verdict::Done(Outcome::Bypassed(bypass), Usage::default(), None)
}

fn completed(completion: Completion, asked: Asked<'_>) -> Verdict {
    let Completion {
        text,
        finish_reason,
        usage,
        confidence,
    } = completion;
    match finish_reason.as_str() {
        "stop" => Verdict::Done(outcome(&text, confidence, asked), usage, confidence),
        "length" => Verdict::Done(
            Outcome::Bypassed(reason::LENGTH_LIMIT.into()),
            usage,
            confidence,
        ),
        // vLLM's word for a request that it gave up, at its shutdown for instance.
        "abort" => Verdict::Again(format!("{} gave the request up", asked.url)),
        _ => Verdict::Rejected(format!(
            "{} ended the text for a reason other than stop and length",
            asked.url
        )),
    }
}

fn outcome(text: &str, confidence: Option<Confidence>, asked: Asked<'_>) -> Outcome {
    let text = unjoined(text, asked.answer);
    if asked
        .unchanged_token
        .is_some_and(|token| text.trim_start().starts_with(token))
    {
        return Outcome::Unchanged;
    }
    let Asked {
        question, answer, ..
    } = asked;
    asked.guard.outcome(question, answer, text, confidence)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use serde_json::Value;

    use super::*;

    static NO_GUARD: LazyLock<Guard> = LazyLock::new(Guard::default);

    static ASKED: LazyLock<Asked<'static>> = LazyLock::new(|| Asked {
        url: "http://h/v1",
        model: "m",
        unchanged_token: Some("<same>"),
        guard: &NO_GUARD,
        question: "Q?",
        answer: "A.",
    });

    fn told(status: u16, body: &[u8], asked: Asked<'_>) -> Verdict {
        let reply = Reply {
            status,
            retry_after: None,
            location: None,
            body: body.to_vec(),
        };
        read(&reply, asked)
    }

    fn done(status: u16, body: &str) -> Outcome {
        match told(status, body.as_bytes(), *ASKED) {
            Verdict::Done(outcome, ..) => outcome,
            other => panic!("{other:?}"),
        }
    }

    fn stop(text: &str) -> String {
        serde_json::json!({ "choices": [{ "text": text, "finish_reason": "stop" }] }).to_string()
    }

    #[test]
    fn a_finished_text_is_the_correction_without_the_space_that_joins_it_to_the_prompt() {
        assert_eq!(done(200, &stop(" B.\n")), Outcome::Rewritten("B.\n".into()));
        assert_eq!(done(200, &stop("B.")), Outcome::Rewritten("B.".into()));
        let body = stop("  A.");
        let spaced = Asked {
            answer: "  A.",
            ..*ASKED
        };
        assert_eq!(
            told(200, body.as_bytes(), spaced),
            Verdict::Done(Outcome::Rewritten("  A.".into()), Usage::default(), None)
        );
    }

    #[test]
    fn tokens_are_taken_from_the_servers_count() {
        let body = r#"{"choices":[{"text":"B","finish_reason":"stop","logprobs":null}],
            "usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}"#;
        let usage = Usage {
            prompt_tokens: 9,
            correction_tokens: 2,
        };
        assert_eq!(
            told(200, body.as_bytes(), *ASKED),
            Verdict::Done(Outcome::Rewritten("B".into()), usage, None)
        );
    }

    #[test]
    fn the_learnt_token_an_empty_text_and_the_length_limit_are_told_apart() {
        assert_eq!(done(200, &stop("<same>")), Outcome::Unchanged);
        assert_eq!(done(200, &stop(" <same>")), Outcome::Unchanged);
        assert_eq!(
            done(200, &stop(" \n")),
            Outcome::Bypassed(reason::EMPTY_OUTPUT.into())
        );
        let body = r#"{"choices":[{"text":"B","finish_reason":"length"}]}"#;
        assert_eq!(
            done(200, body),
            Outcome::Bypassed(reason::LENGTH_LIMIT.into())
        );
    }

    #[test]
    fn how_sure_the_server_was_is_told_whatever_the_outcome() {
        let body = r#"{"choices":[{"text":"B","finish_reason":"length",
            "logprobs":{"token_logprobs":[-0.5,null,-1.0]}}]}"#;
        let confidence = Confidence {
            mean_logprob: -0.75,
            min_logprob: -1.0,
            unchanged_logprob: None,
        };
        assert_eq!(
            told(200, body.as_bytes(), *ASKED),
            Verdict::Done(
                Outcome::Bypassed(reason::LENGTH_LIMIT.into()),
                Usage::default(),
                Some(confidence)
            )
        );
    }

    #[test]
    fn the_guard_chooses_by_words_and_by_the_probabilities_that_the_server_tells() {
        let guard: Guard = serde_json::from_str(
            r#"{"max_novel_words": 0.5, "min_mean_logprob": -1, "min_token_logprob": -3}"#,
        )
        .expect("a guard");
        let guarded = |text: &str, logprobs: Value| {
            let choice = serde_json::json!({
                "text": text, "finish_reason": "stop", "logprobs": logprobs,
            });
            let body = serde_json::json!({ "choices": [choice] }).to_string();
            let asked = Asked {
                guard: &guard,
                ..*ASKED
            };
            match told(200, body.as_bytes(), asked) {
                Verdict::Done(outcome, ..) => outcome,
                other => panic!("{other:?}"),
            }
        };
        let logprobs = |values: &[f64]| serde_json::json!({ "token_logprobs": values });
        let kept = Outcome::Rewritten("A, q".into());
        assert_eq!(guarded("A, q", Value::Null), kept);
        assert_eq!(guarded("A, q", logprobs(&[-0.5, -1.0])), kept);
        assert_eq!(guarded("A, q", logprobs(&[])), kept);
        for (text, logprobs, expected) in [
            ("A, q", logprobs(&[-0.5, -2.0]), reason::LOW_CONFIDENCE),
            (
                "A, q",
                logprobs(&[0.0, 0.0, 0.0, 0.0, -3.5]),
                reason::LOW_CONFIDENCE,
            ),
            ("Words from nowhere", Value::Null, reason::INCONSISTENT_COPY),
        ] {
            match guarded(text, logprobs) {
                Outcome::Rejected { bypass, proposal } => {
                    assert_eq!((bypass.word, proposal.as_str()), (expected, text));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_context_overflow_bypasses_in_the_words_of_each_server() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"no","code":"context_length_exceeded"}}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 16384 tokens.","type":"BadRequestError","param":null,"code":400}"#,
            ),
            (
                400,
                r#"{"error":{"message":"You passed 1015 input tokens","type":"BadRequestError","param":"input_tokens","code":400}}"#,
            ),
            (
                400,
                r#"{"object":"error","message":"max_tokens must be at least 1, got -186.","code":400}"#,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"no","type":"exceed_context_size_error"}}"#,
            ),
            (
                422,
                r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096","error_type":"validation"}"#,
            ),
            (413, ""),
        ] {
            let outcome = done(status, body);
            let Outcome::Bypassed(bypass) = &outcome else {
                panic!("{outcome:?} for {body}");
            };
            assert_eq!(bypass.word, reason::TOO_LONG, "{body}");
            let said = format!(" answered {status}: ");
            assert!(
                bypass
                    .message()
                    .is_some_and(|message| message.contains(&said))
            );
        }
    }

    #[test]
    fn each_refusal_is_sorted_by_what_comes_next() {
        let model = r#"{"error":{"message":"The model `m` does not exist.","type":"NotFoundError","code":404}}"#;
        let stopped = |status, body: &str| match told(status, body.as_bytes(), *ASKED) {
            Verdict::Stopped(cause) => cause,
            other => panic!("{status}: {other:?}"),
        };
        assert!(stopped(401, "").contains("api_key"));
        assert!(stopped(403, "{}").contains("api_key"));
        assert!(stopped(402, "").contains("api_key"));
        assert!(stopped(404, model).contains("aligner.remote.model"));
        assert!(stopped(404, "<html>").contains("aligner.remote.url"));
        assert!(stopped(405, "").contains("aligner.remote.url"));
        // None of these speaks of the request, however odd it is.
        for status in [
            101, 201, 204, 226, 407, 408, 409, 410, 418, 425, 429, 451, 500, 502, 503, 504, 999,
        ] {
            assert!(
                matches!(told(status, b"", *ASKED), Verdict::Again(_)),
                "{status}"
            );
        }
        let bad = br#"{"error":{"message":"temperature must be at least 0"}}"#;
        assert!(matches!(told(400, bad, *ASKED), Verdict::Rejected(_)));
        assert!(matches!(told(422, b"", *ASKED), Verdict::Rejected(_)));
    }

    #[test]
    fn a_redirect_stops_with_where_it_leads_to() {
        for status in [300, 301, 302, 303, 304, 307, 308] {
            for (location, part) in [
                (Some("http://new/v1"), "redirects to http://new/v1: set"),
                (None, "not where"),
            ] {
                let reply = Reply {
                    status,
                    retry_after: None,
                    location: location.map(str::to_owned),
                    body: Vec::new(),
                };
                let Verdict::Stopped(cause) = read(&reply, *ASKED) else {
                    panic!("{status} does not stop");
                };
                for part in [part, "http://h/v1 answered", "aligner.remote.url"] {
                    assert!(cause.contains(part), "{cause}");
                }
            }
        }
    }

    #[test]
    fn an_answer_that_is_no_completion_is_asked_for_again() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"choices":[]}"#,
            r#"{"choices":[{"text":"B","finish_reason":"abort"}]}"#,
            r#"{"choices":[{"text":"B"}]}"#,
        ] {
            assert!(
                matches!(told(200, body.as_bytes(), *ASKED), Verdict::Again(_)),
                "{body}"
            );
        }
    }

    #[test]
    fn no_message_repeats_the_servers_words() {
        const CANARY: &str = "canary7f3a";
        for status in [400, 401, 403, 404, 422, 429, 500] {
            let body = serde_json::json!({ "error": {
                "message": format!("invalid input: {CANARY}"),
                "type": format!("{CANARY} and more"),
                "param": CANARY,
                "code": CANARY,
            }});
            let verdict = told(status, body.to_string().as_bytes(), *ASKED);
            assert!(!format!("{verdict:?}").contains(CANARY), "{verdict:?}");
        }
        let body = serde_json::json!({
            "choices": [{ "text": CANARY, "finish_reason": CANARY }],
        });
        let verdict = told(200, body.to_string().as_bytes(), *ASKED);
        assert!(!format!("{verdict:?}").contains(CANARY), "{verdict:?}");
    }
}
