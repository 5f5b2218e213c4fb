//! Preference pairs as messages of a chat: TRL's conversational data sets, with the prompt in a key
//! of its own or at the beginning of both answers.
//!
//! A triple has one question and one answer. The question is the last message of the user that has a
//! text, as `input.fields` takes it from a log with `/messages/role=user/content`: what is trained
//! or measured here is what the connector will ask. System messages, earlier turns and what tools
//! said are left out, and their rows are counted. What would make a wrong triple is refused: answers
//! that are no answers to one conversation, and messages without text.

use std::{borrow::Cow, sync::LazyLock};

use aligner_records::{FieldMap, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    row::{Row, text, type_name},
    row_faults::RowFault,
};

/// What a pair of messages says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chat {
    pub question: String,
    pub answer: String,
    pub correction: Option<String>,
    /// Whether the conversation holds more than the question.
    pub is_shortened: bool,
}

const MESSAGES: &str = "a string, or messages with role and content";

/// One message.
#[derive(Debug, Clone, Deserialize, Serialize)]
struct Turn<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

impl PartialEq for Turn<'_> {
    fn eq(&self, other: &Self) -> bool {
        let content = |turn: &Self| {
            turn.content
                .map(|content| text(content).ok_or(content.get()))
        };
        self.role == other.role && content(self) == content(other)
    }
}

/// Whether a pair holds messages, and not texts alone.
pub(crate) fn is_chat(row: &Row<'_>) -> bool {
    ["prompt", "rejected", "chosen"]
        .into_iter()
        .filter_map(|key| row.get(key))
        .any(|value| value.get().starts_with('['))
}

/// Reads a pair in which messages and texts stand side by side in any way.
pub(crate) fn chat(row: &Row<'_>) -> Result<Chat, RowFault> {
    let prompt = turns(row, "prompt", "user")?.unwrap_or_default();
    let rejected = turns(row, "rejected", "assistant")?.ok_or(RowFault::Missing("rejected"))?;
    let (rejected, before) = answer(rejected, "rejected")?;
    let chosen = match turns(row, "chosen", "assistant")? {
        None => None,
        Some(chosen) => {
            let (chosen, before_chosen) = answer(chosen, "chosen")?;
            if before_chosen != before {
                return Err(RowFault::Parted);
            }
            Some(chosen)
        }
    };
    let conversation = if before.starts_with(&prompt) {
        before
    } else {
        [prompt, before].concat()
    };
    if conversation.is_empty() {
        return Err(RowFault::Missing("prompt"));
    }
    let is_shortened = conversation.len() > 1;
    let log = Log {
        prompt: conversation,
        rejected: rejected.content,
        chosen: chosen.as_ref().and_then(|chosen| chosen.content),
    };
    let (question, answer) = log.read("rejected", &REJECTED)?;
    let correction = match chosen {
        None => None,
        Some(_) => Some(log.read("chosen", &CHOSEN)?.1),
    };
    Ok(Chat {
        question,
        answer,
        correction,
        is_shortened,
    })
}

/// The messages under a key; a text is one message of `role`.
fn turns<'a>(
    row: &Row<'a>,
    key: &'static str,
    role: &'static str,
) -> Result<Option<Vec<Turn<'a>>>, RowFault> {
    let Some(value) = row.get(key) else {
        return Ok(None);
    };
    let turns = match value.get().as_bytes().first() {
        Some(b'"') => Some(vec![Turn {
            role: role.into(),
            content: Some(value),
        }]),
        Some(b'[') => serde_json::from_str(value.get()).ok(),
        _ => None,
    };
    let wrong = || RowFault::WrongType {
        key,
        found: type_name(value),
        expected: MESSAGES,
    };
    turns.ok_or_else(wrong).map(Some)
}

/// The last message, which is the assistant's, and those before it.
fn answer<'a>(
    mut turns: Vec<Turn<'a>>,
    key: &'static str,
) -> Result<(Turn<'a>, Vec<Turn<'a>>), RowFault> {
    match turns.pop() {
        Some(last) if last.role == "assistant" => Ok((last, turns)),
        _ => Err(RowFault::NoAnswer(key)),
    }
}

/// A pair as a log of a chat, to be read as the connector reads those.
#[derive(Serialize)]
struct Log<'a> {
    prompt: Vec<Turn<'a>>,
    rejected: Option<&'a RawValue>,
    chosen: Option<&'a RawValue>,
}

static REJECTED: LazyLock<FieldMap> = LazyLock::new(|| fields("/rejected"));
static CHOSEN: LazyLock<FieldMap> = LazyLock::new(|| fields("/chosen"));

fn fields(answer: &str) -> FieldMap {
    let fields = serde_json::json!({"question": "/prompt/role=user/content", "answer": answer});
    serde_json::from_value(fields).expect("both are pointers")
}

impl Log<'_> {
    /// The question, and the answer under `key`.
    fn read(&self, key: &'static str, fields: &FieldMap) -> Result<(String, String), RowFault> {
        let bytes = serde_json::to_vec(self).expect("what was JSON is JSON");
        let event = json::decode_mapped(&bytes, fields)
            .map_err(|error| RowFault::Content(error.message))?;
        for (key, message, said) in [
            ("prompt", "any message of the user", &event.question),
            (key, "its last message", &event.answer),
        ] {
            if said.trim().is_empty() {
                return Err(RowFault::NoText { key, message });
            }
        }
        Ok((event.question, event.answer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(row: &Value) -> Result<Chat, RowFault> {
        let row = row.to_string();
        let row: Row<'_> = serde_json::from_str(&row).expect("an object");
        assert!(is_chat(&row));
        chat(&row)
    }

    fn user(content: impl Into<Value>) -> Value {
        json!({"role": "user", "content": content.into()})
    }

    fn assistant(content: impl Into<Value>) -> Value {
        json!({"role": "assistant", "content": content.into(), "name": null})
    }

    #[test]
    fn each_layout_of_a_conversation_gives_the_last_question_and_both_answers() {
        let system = json!({"role": "system", "content": "Be brief."});
        let parts = json!([{"type": "text", "text": "q"}]);
        let earlier = [user("first"), assistant("so")];
        for (row, is_shortened) in [
            // The prompt in a key of its own.
            (
                json!({"prompt": [user("q")], "chosen": [assistant("c")], "rejected": [assistant("r")]}),
                false,
            ),
            (
                json!({"prompt": [system, user("q")], "chosen": [assistant("c")], "rejected": [assistant("r")]}),
                true,
            ),
            (
                json!({"prompt": [earlier[0], earlier[1], user("q")], "chosen": [assistant("c")],
                    "rejected": [assistant("r")]}),
                true,
            ),
            // What tools said has the user's role with some vendors, and no text.
            (
                json!({"prompt": [user("q"), user(json!([{"type": "tool_result", "content": "x"}]))],
                    "chosen": [assistant("c")], "rejected": [assistant("r")]}),
                true,
            ),
            // At the beginning of both answers.
            (
                json!({"chosen": [user("q"), assistant("c")], "rejected": [user("q"), assistant("r")]}),
                false,
            ),
            (
                json!({"chosen": [earlier[0], earlier[1], user("q"), assistant("c")],
                    "rejected": [earlier[0], earlier[1], user("q"), assistant("r")]}),
                true,
            ),
            // In both places.
            (
                json!({"prompt": "q", "chosen": [user("q"), assistant("c")],
                    "rejected": [user("q"), assistant("r")]}),
                false,
            ),
            (
                json!({"prompt": "first", "chosen": [earlier[0], earlier[1], user("q"), assistant("c")],
                    "rejected": [earlier[0], earlier[1], user("q"), assistant("r")]}),
                true,
            ),
            // Texts beside messages, and parts in place of a text.
            (
                json!({"prompt": "q", "chosen": "c", "rejected": [assistant("r")]}),
                false,
            ),
            (
                json!({"prompt": [user(parts)], "chosen": "c", "rejected": "r"}),
                false,
            ),
        ] {
            let expected = Chat {
                question: "q".to_owned(),
                answer: "r".to_owned(),
                correction: Some("c".to_owned()),
                is_shortened,
            };
            assert_eq!(read(&row), Ok(expected), "{row}");
        }
        let measured = json!({"prompt": [user("q")], "rejected": [assistant("r")]});
        assert_eq!(read(&measured).expect("a pair").correction, None);
    }

    #[test]
    fn what_would_make_a_wrong_triple_is_refused_by_its_key_without_its_text() {
        let said = |prompt: Value, chosen: Value| json!({"prompt": prompt, "chosen": chosen, "rejected": [assistant("secret")]});
        let call = json!({"role": "assistant", "content": null, "tool_calls": []});
        for (row, told) in [
            (
                json!({"chosen": [assistant("secret")], "rejected": [assistant("secret")]}),
                "key prompt is missing",
            ),
            (
                json!({"prompt": [user("secret")], "chosen": [assistant("secret")]}),
                "key rejected is missing",
            ),
            (
                said(json!([user("secret")]), json!([])),
                "the last message of key chosen is not the assistant's",
            ),
            (
                said(json!([user("secret")]), json!([user("secret")])),
                "the last message of key chosen is not the assistant's",
            ),
            (
                said(json!([user("secret")]), json!([call])),
                "key chosen has no text in its last message",
            ),
            (
                said(
                    json!([user("secret")]),
                    json!([assistant("secret"), user("secret"), assistant("secret")]),
                ),
                "chosen and rejected differ before their last messages, and a row has one answer",
            ),
            (
                said(
                    json!([{"role": "system", "content": "secret"}]),
                    json!("secret"),
                ),
                "key prompt has no text in any message of the user",
            ),
            (
                said(json!([user(" ")]), json!("secret")),
                "key prompt has no text in any message of the user",
            ),
            (
                said(json!(["secret"]), json!("secret")),
                "key prompt is a list, expected a string, or messages with role and content",
            ),
            (
                said(json!("secret"), json!({"role": "assistant"})),
                "key chosen is an object, expected a string, or messages with role and content",
            ),
            (
                said(json!([user("secret")]), json!([assistant(7)])),
                "answer (at /chosen) is a number: write a string",
            ),
        ] {
            let fault = read(&row).expect_err("refused").to_string();
            assert_eq!(fault, told, "{row}");
        }
    }
}
