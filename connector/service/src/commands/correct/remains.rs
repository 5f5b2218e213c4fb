//! What can be read of a line that is no answer event, so that its dead letter tells whose it is.

use aligner_records::{AnswerEvent, FieldMap, INSTANTS, JsonPointer, TimeUnit, json};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::input::BYTE_ORDER_MARK;

/// Each field that can be read, whatever is wrong with others; texts that cannot are empty.
pub fn of_line(line: &[u8], fields: Option<&FieldMap>) -> AnswerEvent {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    match fields {
        None => of_own_layout(line),
        Some(fields) => of_mapped(line, fields),
    }
}

fn of_own_layout(line: &[u8]) -> AnswerEvent {
    let event: Value = serde_json::from_slice(line).unwrap_or_default();
    let text = |field: &str| {
        let text = event.get(field)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    AnswerEvent {
        event_id: text("event_id"),
        question: text("question").unwrap_or_default(),
        answer: text("answer").unwrap_or_default(),
        upstream_model: text("upstream_model"),
        created_at: event
            .get("created_at")
            .and_then(Value::as_i64)
            .filter(|at| INSTANTS.contains(at) && TimeUnit::mistaken(*at).is_none()),
        conversation_id: text("conversation_id"),
        user_id: text("user_id"),
        metadata_json: text("metadata_json"),
    }
}

/// A mapping is read as a whole or not at all. Here the line stands within a document that has a
/// question and an answer of its own, and each field of the line is mapped by itself.
fn of_mapped(line: &[u8], fields: &FieldMap) -> AnswerEvent {
    let text = std::str::from_utf8(line).ok();
    let is_json = |text: &&str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    let Some(line) = text.filter(is_json) else {
        return AnswerEvent::default();
    };
    let document = format!(r#"{{"own":"-","line":{line}}}"#);
    let read = |fields: FieldMap| json::decode_mapped(document.as_bytes(), &fields);
    let alone = |fields: FieldMap| read(fields).unwrap_or_default();
    let pointer = |text: String| JsonPointer::new(text).expect("a slash stands before a pointer");
    let within = |place: &JsonPointer| pointer(format!("/line{place}"));
    let optional = |place: &Option<JsonPointer>| place.as_ref().map(within);
    let own = FieldMap {
        question: pointer("/own".to_owned()),
        answer: pointer("/own".to_owned()),
        event_id: None,
        upstream_model: None,
        created_at: None,
        created_at_unit: fields.created_at_unit,
        conversation_id: None,
        user_id: None,
        metadata_json: None,
    };
    let beside = FieldMap {
        event_id: optional(&fields.event_id),
        upstream_model: optional(&fields.upstream_model),
        created_at: optional(&fields.created_at),
        conversation_id: optional(&fields.conversation_id),
        user_id: optional(&fields.user_id),
        metadata_json: optional(&fields.metadata_json),
        ..own.clone()
    };
    let question = alone(FieldMap {
        question: within(&fields.question),
        ..own.clone()
    });
    let answer = alone(FieldMap {
        answer: within(&fields.answer),
        ..own.clone()
    });
    // Mostly it is question or answer that is wrong, and the others are read at once.
    let others = read(beside.clone()).unwrap_or_else(|_| AnswerEvent {
        event_id: alone(FieldMap {
            event_id: beside.event_id,
            ..own.clone()
        })
        .event_id,
        upstream_model: alone(FieldMap {
            upstream_model: beside.upstream_model,
            ..own.clone()
        })
        .upstream_model,
        created_at: alone(FieldMap {
            created_at: beside.created_at,
            ..own.clone()
        })
        .created_at,
        conversation_id: alone(FieldMap {
            conversation_id: beside.conversation_id,
            ..own.clone()
        })
        .conversation_id,
        user_id: alone(FieldMap {
            user_id: beside.user_id,
            ..own.clone()
        })
        .user_id,
        metadata_json: alone(FieldMap {
            metadata_json: beside.metadata_json,
            ..own
        })
        .metadata_json,
        ..AnswerEvent::default()
    });
    AnswerEvent {
        question: question.question,
        answer: answer.answer,
        ..others
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn map() -> FieldMap {
        let pointers = [
            ("question", "/messages/role=user/content"),
            ("answer", "/choices/0/text"),
            ("event_id", "/id"),
            ("upstream_model", "/model"),
            ("created_at", "/time"),
            ("user_id", "/user"),
            ("metadata_json", "/usage"),
        ];
        let pointers = pointers.map(|(name, place)| (name.to_owned(), place.to_owned()));
        FieldMap::try_from(BTreeMap::from(pointers)).expect("a mapping")
    }

    #[test]
    fn each_field_of_a_mapping_is_read_whatever_is_wrong_with_others() {
        let asked = r#""messages":[{"role":"user","content":[{"type":"text","text":"why?"}]}]"#;
        let fields = map();
        let read = |line: &str| of_line(line.as_bytes(), Some(&fields));

        let unanswered = format!("\u{feff}{{\"id\":7,\"model\":\"m\",{asked},\"usage\":[1]}}");
        let event = read(&unanswered);
        assert_eq!(event.event_id.as_deref(), Some("7"));
        assert_eq!(event.upstream_model.as_deref(), Some("m"));
        assert_eq!(event.metadata_json.as_deref(), Some("[1]"));
        assert_eq!((&*event.question, &*event.answer), ("why?", ""));

        let odd = r#"{"id":"x","model":5,"time":"soon","user":"u","messages":"none",
            "choices":[{"text":"because"}]}"#;
        let event = read(odd);
        assert_eq!(event.event_id.as_deref(), Some("x"));
        assert_eq!((event.upstream_model, event.created_at), (None, None));
        assert_eq!(event.user_id.as_deref(), Some("u"));
        assert_eq!((&*event.question, &*event.answer), ("", "because"));
    }

    #[test]
    fn of_what_is_no_json_nothing_is_read() {
        let fields = map();
        for line in ["", "{", r#"{"id":"a"},"line":{"id":"b"}"#, "\u{feff}"] {
            for fields in [None, Some(&fields)] {
                let event = of_line(line.as_bytes(), fields);
                assert_eq!(event, AnswerEvent::default(), "{line}");
            }
        }
        let event = of_line(b"\xff", Some(&fields));
        assert_eq!(event, AnswerEvent::default());
    }
}
