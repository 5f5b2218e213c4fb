//! The body of a completion, as far as it is needed.
//!
//! Counts and probabilities stand beside the text. Those that cannot be read are as good as absent:
//! a valid text is not thrown away over them.

use aligner::{Usage, guard::Confidence};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What the first choice of a completion says.
#[derive(Debug)]
pub(crate) struct Completion {
    pub text: String,
    pub finish_reason: String,
    pub usage: Usage,
    pub confidence: Option<Confidence>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Counts<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
}

/// Only there if it was asked for.
#[derive(Deserialize)]
struct Logprobs {
    /// Some servers write null for a token that they did not choose.
    token_logprobs: Vec<Option<f32>>,
}

impl Logprobs {
    fn confidence(&self) -> Option<Confidence> {
        let known: Vec<f32> = self.token_logprobs.iter().copied().flatten().collect();
        let min_logprob = known.iter().copied().reduce(f32::min)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "texts have fewer than 2^24 tokens"
        )]
        let mean_logprob = known.iter().sum::<f32>() / known.len() as f32;
        Some(Confidence {
            mean_logprob,
            min_logprob,
            // The server tells of the tokens that it chose.
            unchanged_logprob: None,
        })
    }
}

/// Reads a completion; the error says what it lacks, after the server's name.
pub(crate) fn read(body: &[u8]) -> Result<Completion, &'static str> {
    let Body { choices, usage }: Body<'_> = serde_json::from_slice(body)
        .map_err(|_| "answered 200 with something that is no completion")?;
    let choice = choices
        .and_then(|choices| choices.into_iter().next())
        .ok_or("answered without a choice")?;
    let text = readable(choice.text).ok_or("answered without a text in choices[0].text")?;
    let finish_reason = readable(choice.finish_reason)
        .ok_or("answered without a reason in choices[0].finish_reason")?;
    let counts: Counts<'_> = readable(usage).unwrap_or_default();
    let logprobs: Option<Logprobs> = readable(choice.logprobs);
    Ok(Completion {
        text,
        finish_reason,
        usage: Usage {
            prompt_tokens: readable(counts.prompt_tokens).unwrap_or_default(),
            correction_tokens: readable(counts.completion_tokens).unwrap_or_default(),
        },
        confidence: logprobs.and_then(|logprobs| logprobs.confidence()),
    })
}

/// What a field holds, if that is there and can be read.
fn readable<'a, T: Deserialize<'a>>(field: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(field?.get()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with(usage: &Value, logprobs: &Value) -> Completion {
        let choice = json!({ "text": "B", "finish_reason": "stop", "logprobs": logprobs });
        let body = json!({ "choices": [choice], "usage": usage }).to_string();
        read(body.as_bytes()).expect("a completion")
    }

    #[test]
    fn counts_that_cannot_be_read_are_absent_each_for_itself() {
        for (usage, prompt, correction) in [
            (json!({ "prompt_tokens": 9, "completion_tokens": 2 }), 9, 2),
            (
                json!({ "prompt_tokens": null, "completion_tokens": 2 }),
                0,
                2,
            ),
            (
                json!({ "prompt_tokens": -1, "completion_tokens": 1e30 }),
                0,
                0,
            ),
            (
                json!({ "prompt_tokens": 9, "completion_tokens": "two" }),
                9,
                0,
            ),
            (json!({ "prompt_tokens": 4_294_967_296_u64 }), 0, 0),
            (json!({}), 0, 0),
            (json!([]), 0, 0),
            (json!("many"), 0, 0),
            (Value::Null, 0, 0),
        ] {
            let completion = with(&usage, &Value::Null);
            assert_eq!(completion.text, "B");
            let expected = Usage {
                prompt_tokens: prompt,
                correction_tokens: correction,
            };
            assert_eq!(completion.usage, expected, "{usage}");
        }
    }

    #[test]
    fn probabilities_that_cannot_be_read_are_absent() {
        for logprobs in [
            Value::Null,
            json!({}),
            json!({ "token_logprobs": null }),
            json!({ "token_logprobs": [] }),
            json!({ "token_logprobs": [null] }),
            json!({ "token_logprobs": ["sure"] }),
            json!({ "token_logprobs": 5 }),
            json!("sure"),
        ] {
            let completion = with(&Value::Null, &logprobs);
            assert_eq!(completion.text, "B");
            assert!(completion.confidence.is_none(), "{logprobs}");
        }
        let logprobs = json!({ "token_logprobs": [null, -0.5, -1.5] });
        let confidence = with(&Value::Null, &logprobs).confidence.expect("two");
        assert!((confidence.mean_logprob + 1.0).abs() < 1e-6);
        assert!((confidence.min_logprob + 1.5).abs() < 1e-6);
    }

    #[test]
    fn what_is_needed_and_is_not_there_is_named() {
        for (body, lack) in [
            ("", "no completion"),
            ("<html>", "no completion"),
            ("null", "no completion"),
            ("[]", "no completion"),
            (r#"{"choices":5}"#, "no completion"),
            ("{}", "without a choice"),
            (r#"{"choices":[]}"#, "without a choice"),
            (
                r#"{"choices":[{"finish_reason":"stop"}]}"#,
                "choices[0].text",
            ),
            (
                r#"{"choices":[{"text":null,"finish_reason":"stop"}]}"#,
                "choices[0].text",
            ),
            (
                r#"{"choices":[{"text":5,"finish_reason":"stop"}]}"#,
                "choices[0].text",
            ),
            (r#"{"choices":[{"text":"B"}]}"#, "choices[0].finish_reason"),
            (
                r#"{"choices":[{"text":"B","finish_reason":5}]}"#,
                "choices[0].finish_reason",
            ),
        ] {
            let said = read(body.as_bytes()).expect_err(body);
            assert!(said.contains(lack), "{body}: {said}");
        }
    }
}
