//! Messages of chat APIs: a text, or a list of content parts.

use super::{
    draft::{Kind, Slot},
    field_map::text,
    tree::{Found, Tree},
};

/// A text, or the texts of content parts.
pub(super) fn message(value: Option<&Tree<'_>>) -> Slot<String> {
    let Some(Tree::Array(parts)) = value else {
        return text(value);
    };
    let mut whole = String::new();
    for part in parts {
        match part {
            Tree::Text(text) => append(&mut whole, text),
            Tree::Object(_) => match part_text(part) {
                Ok(text) => append(&mut whole, text),
                Err(kind) => return Slot::Wrong(kind),
            },
            _ => return Slot::Wrong(Kind::Array),
        }
    }
    Slot::Is(whole)
}

/// Appends the text of a part, so that the last word before it and its first one stay two.
fn append(whole: &mut String, text: &str) {
    let is_joint = !whole.is_empty() && !text.is_empty();
    let is_apart = whole.ends_with(char::is_whitespace) || text.starts_with(char::is_whitespace);
    if is_joint && !is_apart {
        whole.push('\n');
    }
    whole.push_str(text);
}

/// The text of a content part, empty for parts of other kinds: OpenAI and Anthropic say `text`,
/// OpenAI's Responses API `input_text` and `output_text`, Google nothing, and `thought` of what a
/// model only thought, which nobody was told. OpenAI's Assistants API has the text one step further
/// in, at `value`, beside its annotations.
///
/// # Errors
///
/// What stands in place of the text, which is never left out without a word.
fn part_text<'t>(part: &'t Tree<'_>) -> Result<&'t str, Kind> {
    match part.member("type") {
        Found::Nothing => {}
        Found::One(Tree::Text(kind))
            if matches!(kind.as_ref(), "text" | "input_text" | "output_text") => {}
        _ => return Ok(""),
    }
    if matches!(part.member("thought"), Found::One(Tree::Bool(true))) {
        return Ok("");
    }
    let text = match part.member("text") {
        Found::One(annotated @ Tree::Object(_)) => annotated.member("value"),
        text => text,
    };
    match text {
        Found::One(Tree::Text(text)) => Ok(text),
        Found::Nothing | Found::One(Tree::Null) => Ok(""),
        Found::One(other) => Err(other.kind()),
        Found::Twice => Err(Kind::TwoTexts),
    }
}

#[cfg(test)]
mod tests {
    use crate::{AnswerEvent, DecodeError, FieldMap, codec::json::decode_mapped, reason};

    fn read(log: &str) -> Result<AnswerEvent, DecodeError> {
        let map: FieldMap =
            serde_json::from_str(r#"{"question":"/q","answer":"/a"}"#).expect("a field map");
        decode_mapped(log.as_bytes(), &map)
    }

    #[test]
    fn the_texts_of_content_parts_are_taken_one_after_another() {
        let log = r#"{"q":[{"type":"text","text":"Who is "},
                {"type":"image_url","image_url":{"url":"https://example.com/cat.png"}},
                {"type":"input_text","text":"this?"}," Say."],
            "a":[{"type":"thinking","thinking":"Hm."},{"type":"output_text","text":"A "},
                {"text":"A dog?","thought":true},{"text":"cat.","thought":false},{"type":"tool_use","name":"t","input":{}}]}"#;
        let event = read(log).expect("valid");
        assert_eq!(event.question, "Who is this? Say.");
        assert_eq!(event.answer, "A cat.");
    }

    #[test]
    fn the_text_of_an_annotated_part_is_its_value() {
        let log = r#"{"q":"Q","a":[{"type":"text","text":{"value":"A.","annotations":[]}}]}"#;
        assert_eq!(read(log).expect("valid").answer, "A.");
    }

    #[test]
    fn a_part_whose_text_is_none_is_refused_and_not_left_out() {
        for (part, found) in [
            (r#"{"type":"text","text":7}"#, "a number"),
            (r#"{"type":"text","text":["A"]}"#, "an array"),
            (r#"{"type":"text","text":{"value":true}}"#, "a boolean"),
            (r#"{"text":"A","text":"B"}"#, "two texts"),
        ] {
            let log = format!(r#"{{"q":"Q","a":[{{"text":"So."}},{part}]}}"#);
            let error = read(&log).expect_err(part);
            assert_eq!(error.reason, reason::WRONG_TYPE);
            assert!(error.message.contains(found), "{}", error.message);
        }
    }

    #[test]
    fn texts_of_parts_have_white_space_between_them_and_a_line_break_where_they_bring_none() {
        let image = r#",{"type":"image_url","image_url":{"url":"https://example.com/cat.png"}},"#;
        for (parts, answer) in [
            (vec!["Hello", "world"], "Hello\nworld"),
            (vec!["Hello ", "world"], "Hello world"),
            (vec!["Hello", " world"], "Hello world"),
            (vec!["Hello\n\n", "world"], "Hello\n\nworld"),
            (vec!["", "Hello", "", "world", ""], "Hello\nworld"),
            (vec!["Hello"], "Hello"),
        ] {
            let parts: Vec<_> = parts
                .iter()
                .map(|text| serde_json::json!({"type": "text", "text": text}).to_string())
                .collect();
            for between in [",", image] {
                let log = format!(r#"{{"q":"Q","a":[{}]}}"#, parts.join(between));
                assert_eq!(read(&log).expect("valid").answer, answer, "{log}");
            }
        }
    }

    #[test]
    fn a_message_without_text_is_an_event_with_an_empty_one_and_an_absent_message_is_none() {
        for answer in [
            "null",
            r#""""#,
            r#"" \n""#,
            "[]",
            r#"[{"type":"tool_use","name":"t","input":{}}]"#,
            r#"[{"type":"refusal","refusal":"No."}]"#,
        ] {
            let event = read(&format!(r#"{{"q":"Q","a":{answer}}}"#)).expect(answer);
            assert_eq!((event.question.as_str(), event.answer.as_str()), ("Q", ""));
        }
        let error = read(r#"{"q":"Q"}"#).expect_err("absent");
        assert_eq!(error.reason, reason::MISSING_ANSWER);
    }
}
