//! Which valid events go to the Aligner at all.
//!
//! What a model is fit for is in its profile, in tokens, and the Aligner's own business; the gate
//! is the operator's: limits that hold whatever the model.

use aligner::reason::{self, Bypass};
use aligner_records::AnswerEvent;

use crate::settings::Settings;

/// Lets events pass, or says why not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gate {
    max_question_chars: Option<usize>,
    max_answer_chars: Option<usize>,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            max_question_chars: settings.max_question_chars,
            max_answer_chars: settings.max_answer_chars,
        }
    }

    /// Why an event bypasses the Aligner, if it does.
    pub(crate) fn bypass(self, event: &AnswerEvent) -> Option<Bypass> {
        let silent = match (event.question.is_empty(), event.answer.is_empty()) {
            (true, true) => Some("neither question nor answer has a text"),
            (true, false) => Some("the question has no text"),
            (false, true) => Some("the answer has no text"),
            (false, false) => None,
        };
        if let Some(silent) = silent {
            let found = format!("{silent}, so there is nothing to correct");
            return Some(Bypass::found(reason::NO_TEXT, found));
        }
        exceeds("question", &event.question, self.max_question_chars)
            .or_else(|| exceeds("answer", &event.answer, self.max_answer_chars))
    }
}

/// Counts characters only where the bytes leave a doubt.
fn exceeds(name: &str, text: &str, limit: Option<usize>) -> Option<Bypass> {
    let limit = limit.filter(|limit| text.len() > *limit)?;
    let characters = text.chars().count();
    (characters > limit).then(|| {
        Bypass::found(
            reason::TOO_LONG,
            format!(
                "the {name} has {characters} characters, and pipeline.max_{name}_chars is {limit}"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_text_or_too_much_of_it_bypasses_the_aligner() {
        let cases = [
            (None, None, "éé", "a long answer", None),
            (Some(2), None, "éé", "a long answer", None),
            (Some(1), None, "éé", "a", Some("too_long")),
            (None, Some(3), "a long question", "abc", None),
            (None, Some(3), "q", "abcd", Some("too_long")),
            (Some(0), Some(0), "", "", Some("no_text")),
            (None, None, "q", "", Some("no_text")),
            (None, None, "", "a", Some("no_text")),
        ];
        for (max_question_chars, max_answer_chars, question, answer, expected) in cases {
            let gate = Gate::new(&Settings {
                max_question_chars,
                max_answer_chars,
                ..Settings::default()
            });
            let event = AnswerEvent {
                question: question.to_owned(),
                answer: answer.to_owned(),
                ..AnswerEvent::default()
            };
            let bypass = gate.bypass(&event).map(|bypass| bypass.word);
            assert_eq!(bypass, expected, "{question} / {answer}");
        }
    }

    #[test]
    fn of_question_and_answer_it_is_told_which_is_silent() {
        for (question, answer, told) in [
            ("q", "", "the answer has no text"),
            ("", "a", "the question has no text"),
            ("", "", "neither question nor answer has a text"),
        ] {
            let event = AnswerEvent {
                question: question.to_owned(),
                answer: answer.to_owned(),
                ..AnswerEvent::default()
            };
            let bypass = Gate::new(&Settings::default())
                .bypass(&event)
                .expect("it is silent");
            let message = bypass.message().expect("a sentence");
            assert!(message.starts_with(told), "{message}");
        }
    }
}
