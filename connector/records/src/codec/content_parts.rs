//! Messages of chat APIs: a text, or a list of content parts.

use super::{
    draft::{Kind, Slot},
    field_values::text,
    tree::{Found, Tree},
};

/// What the texts of two parts have between them that bring no white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joint {
    /// A line break: what people send in parts are pieces of their own, such as two documents.
    LineBreak,
    /// Nothing, since a model's text goes on from part to part, be it within an address, as where
    /// each part cites another source. Where a part was left out between two, a line break.
    Nothing,
}

/// A text, or the texts of content parts.
pub(super) fn message(value: &Tree<'_>, joint: Joint) -> Slot<String> {
    let Tree::Array(parts) = value else {
        return text(value);
    };
    let mut whole = Whole::new(joint);
    match whole.append_all(parts) {
        Ok(()) => Slot::Is(whole.text),
        Err(kind) => Slot::Wrong(kind),
    }
}

/// The texts of the parts so far.
struct Whole {
    text: String,
    joint: Joint,
    /// Whether something was left out behind the last text.
    has_gap: bool,
}

impl Whole {
    fn new(joint: Joint) -> Self {
        Self {
            text: String::new(),
            joint,
            has_gap: false,
        }
    }

    /// # Errors
    ///
    /// What stands in place of a text, which is never left out without a word.
    fn append_all(&mut self, parts: &[Tree<'_>]) -> Result<(), Kind> {
        for (index, part) in parts.iter().enumerate() {
            match part {
                Tree::Text(text) => self.append(text),
                Tree::Object(_) => self.append_part(part, index)?,
                _ => return Err(Kind::Array),
            }
        }
        Ok(())
    }

    /// Appends what a part says, and leaves out parts of other kinds.
    ///
    /// OpenAI and Anthropic call a text `text`, OpenAI's Responses API `input_text` and
    /// `output_text`, and it stands at `text`. OpenAI's Assistants API has it one step further in,
    /// at `value`, beside its annotations; OpenTelemetry's conventions have it at `content`. Google
    /// and Amazon give parts no type, and Google `thought` to what a model only thought, which
    /// nobody was told.
    fn append_part(&mut self, part: &Tree<'_>, index: usize) -> Result<(), Kind> {
        let is_text = match part.member("type") {
            Found::Nothing | Found::One(Tree::Null) => false,
            Found::One(Tree::Text(kind))
                if matches!(kind.as_ref(), "text" | "input_text" | "output_text") =>
            {
                true
            }
            Found::One(_) => {
                self.leave_out();
                return Ok(());
            }
            Found::Twice => return Err(Kind::Twice(index, "type")),
        };
        match part.member("thought") {
            Found::One(Tree::Bool(true)) => {
                self.leave_out();
                return Ok(());
            }
            Found::Nothing | Found::One(_) => {}
            // One of them may say that nobody was told.
            Found::Twice => return Err(Kind::Twice(index, "thought")),
        }
        let text = match part.member("text") {
            Found::One(annotated @ Tree::Object(_)) => match annotated.member("value") {
                Found::Nothing => return Err(Kind::Textless(index)),
                value => value,
            },
            // A writer that knows both members leaves one of them null.
            none @ (Found::Nothing | Found::One(Tree::Null)) if is_text => {
                match part.member("content") {
                    Found::Nothing => none,
                    content => content,
                }
            }
            text => text,
        };
        match text {
            Found::One(Tree::Text(text)) => self.append(text),
            Found::One(Tree::Null) => {}
            Found::Nothing if is_text => return Err(Kind::Textless(index)),
            Found::Nothing => return self.append_block(part, index),
            Found::One(other) => return Err(other.kind()),
            Found::Twice => return Err(Kind::Twice(index, "text")),
        }
        Ok(())
    }

    /// Appends what a block of Amazon's Converse API says that has no text of its own: one with
    /// citations has parts, one for a guardrail the text that it is to look at.
    fn append_block(&mut self, part: &Tree<'_>, index: usize) -> Result<(), Kind> {
        if let Found::One(cited) = part.member("citationsContent") {
            match cited.member("content") {
                Found::One(Tree::Array(parts)) => return self.append_all(parts),
                Found::Nothing | Found::One(Tree::Null) => {}
                _ => return Err(Kind::Textless(index)),
            }
        }
        if let Found::One(guarded) = part.member("guardContent")
            && let Found::One(text) = guarded.member("text")
        {
            let Found::One(Tree::Text(text)) = text.member("text") else {
                return Err(Kind::Textless(index));
            };
            self.append(text);
            return Ok(());
        }
        // Left out, an answer that is there would be one without text.
        if !matches!(part.member("role"), Found::Nothing) {
            return Err(Kind::Message(index));
        }
        self.leave_out();
        Ok(())
    }

    /// Appends a text, with whatever belongs between it and the last one.
    fn append(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let is_broken = self.has_gap || self.joint == Joint::LineBreak;
        let is_apart =
            self.text.ends_with(char::is_whitespace) || text.starts_with(char::is_whitespace);
        if is_broken && !self.text.is_empty() && !is_apart {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.has_gap = false;
    }

    fn leave_out(&mut self) {
        self.has_gap = true;
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
    fn a_text_is_found_wherever_a_vendor_has_it_in_a_part() {
        for (parts, text) in [
            // OpenTelemetry's conventions.
            (
                r#"[{"type":"reasoning","content":"Hm."},{"type":"text","content":"A."}]"#,
                "A.",
            ),
            (r#"[{"type":"text","text":null,"content":"A."}]"#, "A."),
            (
                r#"[{"type":null,"text":"A.","thought":null,"inlineData":null}]"#,
                "A.",
            ),
            // Amazon's Converse API.
            (
                r#"[{"reasoningContent":{"reasoningText":{"text":"Hm."}}},{"text":"A."},
                    {"toolUse":{"toolUseId":"t","name":"n","input":{}}}]"#,
                "A.",
            ),
            (
                r#"[{"text":"As it says: "},{"citationsContent":{"citations":[{"title":"p"}],
                    "content":[{"text":"write to ann.lee"},{"text":"@example.com"}]}},
                    {"text":"."}]"#,
                "As it says: write to ann.lee@example.com.",
            ),
            (
                r#"[{"guardContent":{"text":{"text":"A.","qualifiers":["query"]}}},
                    {"guardContent":{"image":{"format":"png"}}},{"citationsContent":{}}]"#,
                "A.",
            ),
        ] {
            let log = format!(r#"{{"q":"Q","a":{parts}}}"#);
            assert_eq!(read(&log).expect(parts).answer, text);
        }
    }

    #[test]
    fn a_part_whose_text_is_none_is_refused_and_not_left_out() {
        for (part, found) in [
            (r#"{"type":"text","text":7}"#, "a number"),
            (r#"{"type":"text","text":["A"]}"#, "an array"),
            (r#"{"type":"text","text":{"value":true}}"#, "a boolean"),
            (
                r#"{"text":"A","text":"B"}"#,
                "a list whose part 1 has two members text",
            ),
            (
                r#"{"type":"text","text":"A","type":"text"}"#,
                "a list whose part 1 has two members type",
            ),
            // Whatever was only thought is not to come out.
            (
                r#"{"text":"A","thought":true,"thought":true}"#,
                "a list whose part 1 has two members thought",
            ),
            (r#"{"type":"text","text":null,"content":7}"#, "a number"),
            (r#"{"type":"text","content":7}"#, "a number"),
            (r#"{"type":"text","Text":"A"}"#, "a list whose part 1 "),
            (r#"{"type":"output_text"}"#, "a list whose part 1 "),
            (r#"{"text":{"value_of":"A"}}"#, "a list whose part 1 "),
            (r#"{"guardContent":{"text":"A"}}"#, "a list whose part 1 "),
            (
                r#"{"citationsContent":{"content":"A"}}"#,
                "a list whose part 1 ",
            ),
            (
                r#"{"role":"assistant","content":"A"}"#,
                "a list whose item 1 is a message: point to the content of one, as in \
                 /messages/role=assistant/content",
            ),
        ] {
            let log = format!(r#"{{"q":"Q","a":[{{"text":"So."}},{part}]}}"#);
            let error = read(&log).expect_err(part);
            assert_eq!(error.reason, reason::WRONG_TYPE);
            assert!(error.message.contains("answer (at /a) is "), "{error}");
            assert!(error.message.contains(found), "{error}");
        }
    }

    /// Parts with these texts, one after another or with something else in between.
    fn parts(texts: &[&str], between: &str) -> String {
        let parts: Vec<_> = texts
            .iter()
            .map(|text| serde_json::json!({"type": "text", "text": text}).to_string())
            .collect();
        format!("[{}]", parts.join(between))
    }

    const IMAGE: &str =
        r#",{"type":"image_url","image_url":{"url":"https://example.com/cat.png"}},"#;

    #[test]
    fn parts_of_a_question_have_white_space_between_them_and_a_line_break_where_they_bring_none() {
        for (texts, question) in [
            (&["Hello", "world"][..], "Hello\nworld"),
            (&["Hello ", "world"], "Hello world"),
            (&["Hello", " world"], "Hello world"),
            (&["Hello\n\n", "world"], "Hello\n\nworld"),
            (&["", "Hello", "", "world", ""], "Hello\nworld"),
            (&["Hello"], "Hello"),
        ] {
            for between in [",", IMAGE] {
                let log = format!(r#"{{"q":{},"a":"A"}}"#, parts(texts, between));
                assert_eq!(read(&log).expect("valid").question, question, "{log}");
            }
        }
    }

    #[test]
    fn parts_of_an_answer_go_on_from_one_to_the_next_unless_something_stood_between_them() {
        for (texts, joined, broken) in [
            (&["Hello", "world"][..], "Helloworld", "Hello\nworld"),
            (
                &["Write to ann.lee", "@example.com."],
                "Write to ann.lee@example.com.",
                "Write to ann.lee\n@example.com.",
            ),
            (&["Hello ", "world"], "Hello world", "Hello world"),
            (&["Hello", " world"], "Hello world", "Hello world"),
            (
                &["", "Hello", "", "world", ""],
                "Helloworld",
                "Hello\nworld",
            ),
            (&["Hello"], "Hello", "Hello"),
        ] {
            for (between, answer) in [(",", joined), (IMAGE, broken)] {
                let log = format!(r#"{{"q":"Q","a":{}}}"#, parts(texts, between));
                assert_eq!(read(&log).expect("valid").answer, answer, "{log}");
            }
        }
        // What stands before the first text or behind the last one is between nothing.
        let log = r#"{"q":"Q","a":[{"type":"thinking","thinking":"Hm."},"A","B",
            {"type":"tool_use","name":"t","input":{}}]}"#;
        assert_eq!(read(log).expect("valid").answer, "AB");
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
