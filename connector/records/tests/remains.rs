//! What is kept of a value that is no answer event.

use aligner_records::{AnswerEvent, FieldMap, json};

fn map() -> FieldMap {
    serde_json::from_str(
        r#"{"question":"/messages/role=user/content","answer":"/choices/0/text","event_id":"/id",
            "upstream_model":"/model","created_at":"/time","user_id":"/user",
            "metadata_json":"/usage"}"#,
    )
    .expect("a mapping")
}

/// Of our own layout, which `line` breaks.
fn of_own_layout(line: &str) -> AnswerEvent {
    json::decode_answer(line.as_bytes()).expect_err("no answer event");
    json::remains(line.as_bytes(), None)
}

/// Of the layout of [`map`], which `line` breaks.
fn of_mapped(line: &str) -> AnswerEvent {
    json::decode_mapped(line.as_bytes(), &map()).expect_err("no answer event");
    json::remains(line.as_bytes(), Some(&map()))
}

#[test]
fn each_field_of_our_own_layout_is_read_whatever_is_wrong_with_others() {
    assert_eq!(
        of_own_layout(
            r#"{"event_id":"e","question":"q","answer":5,"upstream_model":"m","created_at":7,
                "conversation_id":"c","user_id":"u","metadata_json":"{}"}"#
        ),
        AnswerEvent {
            event_id: Some("e".into()),
            question: "q".into(),
            answer: String::new(),
            upstream_model: Some("m".into()),
            created_at: Some(7),
            conversation_id: Some("c".into()),
            user_id: Some("u".into()),
            metadata_json: Some("{}".into()),
        }
    );
    let wrong =
        r#"{"event_id":"","answer":"a","upstream_model":{},"user_id":7,"created_at":"now"}"#;
    let answer = "a".to_owned();
    assert_eq!(
        of_own_layout(wrong),
        AnswerEvent {
            answer,
            ..AnswerEvent::default()
        }
    );
}

#[test]
fn half_an_emoji_and_a_number_beyond_all_floats_cost_no_other_field() {
    for line in [
        r#"{"event_id":"e1","question":"q \ud83d","answer":5}"#,
        r#"{"event_id":"e1","question":"q \ud83d","answer":1e400}"#,
        r#"{"event_id":"e1","question":"q \ud83d","score":[1e400],"\ude00":0}"#,
        r#"{"event_id":"e1","question":"q \ud83d","created_at":1e400,"answer":""}"#,
    ] {
        let event = of_own_layout(line);
        assert_eq!(event.event_id.as_deref(), Some("e1"), "{line}");
        assert_eq!((&*event.question, &*event.answer), ("q \u{fffd}", ""));
    }
    let event =
        of_mapped(r#"{"id":"e1","messages":[{"role":"user","content":"q \ud83d"}],"x":1e400}"#);
    assert_eq!(event.event_id.as_deref(), Some("e1"));
    assert_eq!(event.question, "q \u{fffd}");
}

#[test]
fn an_instant_that_may_count_another_unit_is_not_kept() {
    for number in ["1780000000", "1780000000000000", "-62135596800001", "1.5"] {
        let event = of_own_layout(&format!(r#"{{"question":"q","created_at":{number}}}"#));
        assert_eq!(event.created_at, None, "{number}");
    }
}

#[test]
fn a_field_that_stands_twice_is_not_kept_and_others_are() {
    let event = of_own_layout(r#"{"question":"q","answer":"a","answer":"b","event_id":"e"}"#);
    assert_eq!((&*event.question, &*event.answer), ("q", ""));
    assert_eq!(event.event_id.as_deref(), Some("e"));
    let event = of_mapped(r#"{"id":"x","id":"y","model":"m","choices":[{"text":"a"}]}"#);
    assert_eq!((event.event_id, &*event.answer), (None, "a"));
    assert_eq!(event.upstream_model.as_deref(), Some("m"));
}

#[test]
fn each_field_of_a_mapping_is_read_whatever_is_wrong_with_others() {
    let asked = r#""messages":[{"role":"user","content":[{"type":"text","text":"why?"}]}]"#;
    let unanswered = format!("\u{feff}{{\"id\":7,\"model\":\"m\",{asked},\"usage\":[1]}}");
    let event = of_mapped(&unanswered);
    assert_eq!(event.event_id.as_deref(), Some("7"));
    assert_eq!(event.upstream_model.as_deref(), Some("m"));
    assert_eq!(event.metadata_json.as_deref(), Some("[1]"));
    assert_eq!((&*event.question, &*event.answer), ("why?", ""));

    let event = of_mapped(
        r#"{"id":"x","model":5,"time":"soon","user":"u","messages":"none",
            "choices":[{"text":"because"}]}"#,
    );
    assert_eq!(event.event_id.as_deref(), Some("x"));
    assert_eq!((event.upstream_model, event.created_at), (None, None));
    assert_eq!(event.user_id.as_deref(), Some("u"));
    assert_eq!((&*event.question, &*event.answer), ("", "because"));
}

#[test]
fn of_what_is_no_json_object_nothing_is_kept() {
    let fields = map();
    for line in [
        &b""[..],
        b"{",
        br#"{"id":"a"},"line":{"id":"b"}"#,
        "\u{feff}".as_bytes(),
        b"\xff",
        b"7",
        br#""text""#,
        br#"["q","a"]"#,
    ] {
        for fields in [None, Some(&fields)] {
            assert_eq!(json::remains(line, fields), AnswerEvent::default());
        }
    }
}
