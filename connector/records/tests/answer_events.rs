//! What is an answer event and what is not, in JSON and in Avro.

use std::{collections::BTreeMap, sync::Arc};

use aligner_records::{
    AnswerEvent, DecodeError, FieldMap, Record, TimeUnit,
    avro::{self, AnswerReader},
    json, reason,
};
use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};

fn refused(bytes: &[u8]) -> DecodeError {
    json::decode_answer(bytes).expect_err("not an answer event")
}

#[test]
fn an_event_needs_a_question_and_an_answer_only_and_other_fields_are_ignored() {
    let event = json::decode_answer(
        br#" {"extra":{"nested":[1,2,{"a":null}]},"answer":"A\n\u00e9","question":"Q"} "#,
    )
    .expect("valid");
    assert_eq!(
        event,
        AnswerEvent {
            question: "Q".into(),
            answer: "A\né".into(),
            ..AnswerEvent::default()
        }
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_event() {
    let event = json::decode_answer("\u{feff}{\"question\":\"q\",\"answer\":\"a\"}".as_bytes());
    assert_eq!(event.expect("valid").answer, "a");
}

#[test]
fn every_field_is_read() {
    let event = json::decode_answer(
        br#"{"event_id":"e","question":"q","answer":"a","upstream_model":"m","created_at":-5,
             "conversation_id":"c","user_id":"u","metadata_json":"{}"}"#,
    )
    .expect("valid");
    assert_eq!(
        event,
        AnswerEvent {
            event_id: Some("e".into()),
            question: "q".into(),
            answer: "a".into(),
            upstream_model: Some("m".into()),
            created_at: Some(-5),
            conversation_id: Some("c".into()),
            user_id: Some("u".into()),
            metadata_json: Some("{}".into()),
        }
    );
}

#[test]
fn nulls_and_an_empty_id_count_as_absent() {
    let event = json::decode_answer(
        br#"{"event_id":"","question":"q","answer":"a","created_at":null,"user_id":null}"#,
    )
    .expect("valid");
    assert_eq!(
        event,
        AnswerEvent {
            question: "q".into(),
            answer: "a".into(),
            ..AnswerEvent::default()
        }
    );
}

#[test]
fn each_mistake_has_its_reason_and_names_its_field() {
    let table: &[(&[u8], &str, &str)] = &[
        (b"", reason::INVALID_JSON, "not JSON"),
        (b"{", reason::INVALID_JSON, "line 1 column 1"),
        (
            br#"{"question":"q","answer":"a"} x"#,
            reason::INVALID_JSON,
            "trailing",
        ),
        (
            br#"{"question":"q","answer":"\ud80"}"#,
            reason::INVALID_JSON,
            "invalid escape",
        ),
        (
            // Half an emoji is no fault: the other one is told.
            br#"{"question":"\ud800","answer":}"#,
            reason::INVALID_JSON,
            "a value is missing, at line 1 column 31",
        ),
        (br#"{"answer":[1,}"#, reason::INVALID_JSON, "not JSON"),
        (b"[1,", reason::INVALID_JSON, "not JSON"),
        (b"\xff", reason::INVALID_UTF8, "byte 0 of 1"),
        (b"{\"answer\":\"\xc3\"}", reason::INVALID_UTF8, "byte 11"),
        (b"[]", reason::NOT_AN_OBJECT, "an array"),
        (b" \"text\"", reason::NOT_AN_OBJECT, "a string"),
        (b"7", reason::NOT_AN_OBJECT, "a number"),
        (b"null", reason::NOT_AN_OBJECT, "null"),
        (b"true", reason::NOT_AN_OBJECT, "a boolean"),
        (b"{}", reason::MISSING_QUESTION, "\"question\" is missing"),
        (
            br#"{"question":"q"}"#,
            reason::MISSING_ANSWER,
            "\"answer\" is missing: write a string there, or say where it is with \
             input.fields.answer",
        ),
        (
            br#"{"question":null,"answer":"a"}"#,
            reason::MISSING_QUESTION,
            "\"question\" is null: write a string there",
        ),
        (
            br#"{"question":" \n","answer":"a"}"#,
            reason::EMPTY_QUESTION,
            "\"question\"",
        ),
        (
            br#"{"question":"q","answer":""}"#,
            reason::EMPTY_ANSWER,
            "\"answer\"",
        ),
        (
            br#"{"question":1,"answer":"a"}"#,
            reason::WRONG_TYPE,
            "is a number",
        ),
        (
            br#"{"question":"q","answer":["a"]}"#,
            reason::WRONG_TYPE,
            "is an array",
        ),
        (
            br#"{"question":"q","answer":{"a":[{}]}}"#,
            reason::WRONG_TYPE,
            "is an object",
        ),
        (
            br#"{"question":"q","answer":"a","event_id":7}"#,
            reason::WRONG_TYPE,
            "\"event_id\" is a number",
        ),
        (
            br#"{"question":"q","answer":"a","metadata_json":{}}"#,
            reason::WRONG_TYPE,
            "\"metadata_json\"",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":"now"}"#,
            reason::WRONG_TYPE,
            "\"created_at\" is a string",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":1.5}"#,
            reason::WRONG_TYPE,
            "fraction",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":9223372036854775808}"#,
            reason::OUT_OF_RANGE,
            "\"created_at\"",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":-62135596800001}"#,
            reason::OUT_OF_RANGE,
            "the years 1 to 9999",
        ),
        (
            // It would pass for January 1970.
            br#"{"question":"q","answer":"a","created_at":1766000068}"#,
            reason::OUT_OF_RANGE,
            "is 1766000068, most likely seconds: write epoch milliseconds, here 1766000068000",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":1766000068280000}"#,
            reason::OUT_OF_RANGE,
            "most likely microseconds: write epoch milliseconds, here 1766000068280",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":1766000068280000000}"#,
            reason::OUT_OF_RANGE,
            "most likely nanoseconds: write epoch milliseconds, here 1766000068280",
        ),
        (
            br#"{"question":"q","answer":"a","created_at":-9223372036854775808}"#,
            reason::OUT_OF_RANGE,
            "\"created_at\"",
        ),
        (
            br#"{"question":"q","answer":"a","answer":"b"}"#,
            reason::DUPLICATE_FIELD,
            "\"answer\" stands twice",
        ),
    ];
    for (bytes, expected, part) in table {
        let error = refused(bytes);
        assert_eq!(error.reason, *expected, "{}", error.message);
        assert!(
            error.message.contains(part),
            "{:?} in {:?}",
            part,
            error.message
        );
    }
    assert_eq!(DecodeError::tombstone().reason, reason::TOMBSTONE);
}

#[test]
fn half_an_emoji_is_read_as_a_replacement_character_in_both_layouts() {
    let fields: FieldMap =
        serde_json::from_str(r#"{"question":"/question","answer":"/answer"}"#).expect("valid");
    for (written, read) in [
        (r"so \ud83d", "so \u{fffd}"),
        (r"\uDE00 so", "\u{fffd} so"),
        (r"\ud83d\n", "\u{fffd}\n"),
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d\ud83d\ude00\ude00", "\u{fffd}😀\u{fffd}"),
        (r"\ud83d and \\ud83d", "\u{fffd} and \\ud83d"),
        (r"\\\ud83d", "\\\u{fffd}"),
    ] {
        for document in [
            format!(r#"{{"question":"Q","answer":"{written}"}}"#),
            // Elsewhere in the document, too: in names, and in what nobody asked for.
            format!(r#"{{"\udfff":"\ud800","question":"Q","answer":"{written}","x":["\udc00"]}}"#),
        ] {
            for event in [
                json::decode_answer(document.as_bytes()),
                json::decode_mapped(document.as_bytes(), &fields),
            ] {
                assert_eq!(event.expect("valid").answer, read, "{document}");
            }
        }
    }
}

#[test]
fn metadata_with_half_an_emoji_stays_json() {
    let own = json::decode_answer(
        br#"{"question":"Q","answer":"A","metadata_json":"{\"note\":\"so \ud83d\"}"}"#,
    );
    let fields: FieldMap =
        serde_json::from_str(r#"{"question":"/q","answer":"/a","metadata_json":"/meta"}"#)
            .expect("valid");
    let mapped = json::decode_mapped(br#"{"q":"Q","a":"A","meta":{"note":"so \ud83d"}}"#, &fields);
    for event in [own, mapped] {
        let metadata = event.expect("valid").metadata_json.expect("there");
        assert_eq!(metadata, "{\"note\":\"so \u{fffd}\"}");
        serde_json::from_str::<serde_json::Value>(&metadata).expect("JSON");
    }
}

#[test]
fn reasons_are_distinct_snake_case_words() {
    let mut words = reason::ALL.to_vec();
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), reason::ALL.len());
    for word in words {
        assert!(
            word.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "{word}"
        );
    }
}

#[test]
fn no_error_holds_text_of_the_record() {
    const CANARY: &str = "canary7f3a";
    let documents = [
        format!(r#"{{"question":"{CANARY}","answer":"{CANARY}","created_at":"{CANARY}"}}"#),
        format!(r#"{{"question":"{CANARY}","answer":"{CANARY}"}} {CANARY}"#),
        format!(r#"{{"question":"{CANARY}","{CANARY}":{CANARY}"#),
        format!(r#"{{"question":"{CANARY}"}}"#),
        format!(r#""{CANARY}""#),
        format!(r#"{{"question":"{CANARY}\x","answer":1}}"#),
    ];
    let fields: FieldMap =
        serde_json::from_str(r#"{"question":"/question","answer":"/answer/0"}"#).expect("valid");
    for document in documents {
        for error in [
            json::decode_answer(document.as_bytes()).expect_err("invalid"),
            json::decode_mapped(document.as_bytes(), &fields).expect_err("invalid"),
        ] {
            assert!(!format!("{error:?} {error}").contains(CANARY), "{error:?}");
        }
    }
}

fn schema(fields: &str) -> Schema {
    Schema::parse_str(&format!(
        r#"{{"type":"record","name":"Log","namespace":"example","fields":[{fields}]}}"#
    ))
    .expect("a schema")
}

fn datum(schema: &Schema, fields: Vec<(&str, Value)>) -> Vec<u8> {
    let record = Value::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    );
    GenericDatumWriter::builder(schema)
        .build()
        .and_then(|writer| writer.write_value_to_vec(record))
        .expect("the value fits")
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

#[test]
fn an_event_of_another_writer_is_fitted_by_name() {
    let writer = schema(
        r#"{"name":"extra","type":{"type":"array","items":"string"}},
           {"name":"answer","type":["null","string"]},
           {"name":"created_at","type":{"type":"long","logicalType":"timestamp-micros"}},
           {"name":"question","type":"bytes"},
           {"name":"upstream_model","type":{"type":"enum","name":"M","symbols":["small","large"]}}"#,
    );
    let bytes = datum(
        &writer,
        vec![
            ("extra", Value::Array(vec![Value::String("x".into())])),
            ("answer", some(Value::String("A".into()))),
            ("created_at", Value::TimestampMicros(1_766_000_068_280_999)),
            ("question", Value::Bytes(b"Q".to_vec())),
            ("upstream_model", Value::Enum(1, "large".into())),
        ],
    );
    let event = AnswerReader::new(writer, Vec::new(), None)
        .expect("a usable schema")
        .decode(&bytes)
        .expect("valid");
    assert_eq!(
        event,
        AnswerEvent {
            question: "Q".into(),
            answer: "A".into(),
            upstream_model: Some("large".into()),
            created_at: Some(1_766_000_068_280),
            ..AnswerEvent::default()
        }
    );
}

#[test]
fn a_nested_avro_log_is_read_through_pointers() {
    let writer = schema(
        r#"{"name":"messages","type":{"type":"array","items":
             {"type":"record","name":"Message","fields":[{"name":"content","type":"string"}]}}},
           {"name":"response","type":{"type":"map","values":"string"}},
           {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}"#,
    );
    let message = Value::Record(vec![("content".into(), Value::String("Q".into()))]);
    let bytes = datum(
        &writer,
        vec![
            ("messages", Value::Array(vec![message])),
            (
                "response",
                Value::Map([("text".to_owned(), Value::String("A".into()))].into()),
            ),
            ("at", Value::TimestampMicros(5_000)),
        ],
    );
    let fields: FieldMap = serde_json::from_str(
        r#"{"question":"/messages/0/content","answer":"/response/text","created_at":"/at",
            "metadata_json":"/response"}"#,
    )
    .expect("valid");
    let event = AnswerReader::new(writer, Vec::new(), Some(Arc::new(fields)))
        .expect("a usable schema")
        .decode(&bytes)
        .expect("valid");
    assert_eq!(
        event,
        AnswerEvent {
            question: "Q".into(),
            answer: "A".into(),
            created_at: Some(5),
            metadata_json: Some(r#"{"text":"A"}"#.into()),
            ..AnswerEvent::default()
        }
    );
}

#[test]
fn what_json_has_no_value_for_is_no_absence_where_a_pointer_leads_to_it() {
    let decoded = |kind: &str, field: &str, reply: Value| {
        let reply_field = format!(r#"{{"name":"reply","type":{kind}}}"#);
        let writer = schema(&format!(r#"{{"name":"q","type":"string"}},{reply_field}"#));
        let mut fields: BTreeMap<String, String> = ["question", "answer"]
            .map(|field| (field.to_owned(), "/q".to_owned()))
            .into();
        fields.insert(field.to_owned(), "/reply".to_owned());
        let fields = FieldMap::try_from(fields).expect("valid");
        let values = vec![("q", Value::String("Q".into())), ("reply", reply)];
        AnswerReader::new(writer.clone(), Vec::new(), Some(Arc::new(fields)))
            .expect("a usable schema")
            .decode(&datum(&writer, values))
    };
    let text = decoded(r#""bytes""#, "answer", Value::Bytes(b"A".to_vec()));
    assert_eq!(text.expect("a text").answer, "A");
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":0}"#;
    let date = r#"{"type":"int","logicalType":"date"}"#;
    for (kind, reply, found) in [
        (r#""bytes""#, Value::Bytes(vec![0xff]), "bytes"),
        (r#""double""#, Value::Double(f64::NAN), "not finite"),
        (r#""float""#, Value::Float(f32::INFINITY), "not finite"),
        (decimal, Value::Decimal(vec![7_u8].into()), "a number"),
        (date, Value::Date(20_440), "a number"),
    ] {
        for field in ["question", "answer", "event_id", "user_id", "created_at"] {
            let error = decoded(kind, field, reply.clone()).expect_err("no text");
            assert_eq!(error.reason, reason::WRONG_TYPE, "{field}: {kind}");
            assert!(error.message.contains(found), "{error}");
        }
    }
}

#[test]
fn metadata_of_avro_keeps_decimals_bytes_and_instants_as_they_stand() {
    let writer = schema(
        r#"{"name":"q","type":"string"},
           {"name":"meta","type":{"type":"record","name":"Meta","fields":[
             {"name":"cost","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":4}},
             {"name":"hash","type":{"type":"fixed","name":"Hash","size":3}},
             {"name":"blob","type":"bytes"},
             {"name":"text","type":"bytes"},
             {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}}"#,
    );
    let meta = Value::Record(
        [
            ("cost", Value::Decimal(vec![0x04_u8, 0xd2].into())),
            ("hash", Value::Fixed(3, b"abc".to_vec())),
            ("blob", Value::Bytes(vec![0xff, 0xfe])),
            ("text", Value::Bytes(b"plain".to_vec())),
            ("at", Value::TimestampMicros(1_766_000_068_280_999)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    );
    let bytes = datum(
        &writer,
        vec![("q", Value::String("Q".into())), ("meta", meta)],
    );
    for unit in [None, Some(TimeUnit::Seconds)] {
        let read = |pointer: &str| {
            let pointers = [
                ("question", "/q"),
                ("answer", "/q"),
                ("created_at", "/meta/at"),
                ("metadata_json", pointer),
            ]
            .map(|(field, pointer)| (field.to_owned(), pointer.to_owned()));
            let mut fields = FieldMap::try_from(BTreeMap::from(pointers)).expect("a field map");
            fields.created_at_unit = unit;
            AnswerReader::new(writer.clone(), Vec::new(), Some(Arc::new(fields)))
                .expect("a usable schema")
                .decode(&bytes)
                .expect("valid")
        };
        let event = read("/meta");
        assert_eq!(
            event.metadata_json.as_deref(),
            Some(
                r#"{"cost":0.1234,"hash":"YWJj","blob":"//4=","text":"plain","at":1766000068280999}"#
            )
        );
        assert_eq!(event.created_at, Some(1_766_000_068_280));
        for (pointer, written) in [
            ("/meta/cost", "0.1234"),
            ("/meta/hash", "YWJj"),
            ("/meta/at", "1766000068280999"),
        ] {
            assert_eq!(read(pointer).metadata_json.as_deref(), Some(written));
        }
    }
}

#[test]
fn a_timestamp_of_avro_that_counts_another_unit_than_its_type_is_refused() {
    let writer = schema(
        r#"{"name":"question","type":"string"},{"name":"answer","type":"string"},
           {"name":"created_at","type":{"type":"long","logicalType":"timestamp-micros"}}"#,
    );
    let bytes = datum(
        &writer,
        vec![
            ("question", Value::String("Q".into())),
            ("answer", Value::String("A".into())),
            ("created_at", Value::TimestampMicros(1_766_000_068_280)),
        ],
    );
    let pointers =
        ["question", "answer", "created_at"].map(|field| (field.to_owned(), format!("/{field}")));
    let map = FieldMap::try_from(BTreeMap::from(pointers)).expect("a field map");
    for fields in [None, Some(Arc::new(map))] {
        let error = AnswerReader::new(writer.clone(), Vec::new(), fields)
            .expect("a usable schema")
            .decode(&bytes)
            .expect_err("milliseconds");
        assert_eq!(error.reason, reason::OUT_OF_RANGE);
        let said = "is 1766000068280, most likely milliseconds and not microseconds: write epoch \
                    microseconds, here 1766000068280000";
        assert!(error.message.ends_with(said), "{error}");
    }
}

#[test]
fn a_map_of_avro_becomes_the_same_metadata_each_time() {
    let writer = schema(
        r#"{"name":"q","type":"string"},{"name":"tags","type":{"type":"map","values":"string"}}"#,
    );
    let names = ["e", "b", "d", "a", "c"];
    let tags = names.map(|name| (name.to_owned(), Value::String("x".into())));
    let tags = Value::Map(tags.into());
    let bytes = datum(
        &writer,
        vec![("q", Value::String("Q".into())), ("tags", tags)],
    );
    let fields: FieldMap =
        serde_json::from_str(r#"{"question":"/q","answer":"/q","metadata_json":"/tags"}"#)
            .expect("valid");
    let event = AnswerReader::new(writer, Vec::new(), Some(Arc::new(fields)))
        .expect("a usable schema")
        .decode(&bytes)
        .expect("valid");
    let expected = r#"{"a":"x","b":"x","c":"x","d":"x","e":"x"}"#;
    assert_eq!(event.metadata_json.as_deref(), Some(expected));
}

#[test]
fn seconds_are_no_milliseconds_in_avro_either() {
    let event = AnswerEvent {
        question: "Q".into(),
        answer: "A".into(),
        created_at: Some(1_766_000_068),
        ..AnswerEvent::default()
    };
    let error = AnswerReader::new(AnswerEvent::schema().clone(), Vec::new(), None)
        .expect("our own schema")
        .decode(&avro::encode(&event))
        .expect_err("seconds");
    assert_eq!(error.reason, reason::OUT_OF_RANGE);
    assert!(error.message.contains("most likely seconds"), "{error}");
}

#[test]
fn timestamps_of_avro_bring_their_unit_and_plain_numbers_have_the_maps() {
    let writer = schema(
        r#"{"name":"q","type":"string"},{"name":"a","type":"string"},
           {"name":"logical","type":{"type":"long","logicalType":"timestamp-micros"}},
           {"name":"plain","type":"long"}"#,
    );
    let bytes = datum(
        &writer,
        vec![
            ("q", Value::String("Q".into())),
            ("a", Value::String("A".into())),
            ("logical", Value::TimestampMicros(1_766_000_068_280_999)),
            ("plain", Value::Long(1_766_000_068)),
        ],
    );
    for (pointer, expected) in [
        ("/logical", 1_766_000_068_280),
        ("/plain", 1_766_000_068_000),
    ] {
        let fields = [
            ("question", "/q"),
            ("answer", "/a"),
            ("created_at", pointer),
        ]
        .map(|(field, pointer)| (field.to_owned(), pointer.to_owned()));
        let mut fields = FieldMap::try_from(BTreeMap::from(fields)).expect("a field map");
        fields.created_at_unit = Some(TimeUnit::Seconds);
        let reader = AnswerReader::new(writer.clone(), Vec::new(), Some(Arc::new(fields)))
            .expect("a usable schema");
        let event = reader.decode(&bytes).expect("valid");
        assert_eq!(event.created_at, Some(expected), "{pointer}");
    }
}

#[test]
fn an_event_in_a_nullable_union_is_read_and_its_null_is_none() {
    let own = Schema::parse_str(&format!(r#"["null",{}]"#, AnswerEvent::AVSC)).expect("a schema");
    let event = AnswerEvent {
        question: "Q".into(),
        answer: "A".into(),
        ..AnswerEvent::default()
    };
    let reader = AnswerReader::new(own, Vec::new(), None).expect("a usable schema");
    let bytes = [&b"\x02"[..], &avro::encode(&event)].concat();
    assert_eq!(reader.decode(&bytes), Ok(event));
    assert_eq!(
        reader.decode(b"\0").expect_err("null").reason,
        reason::NOT_AN_OBJECT
    );
}

#[test]
fn avro_mistakes_have_the_same_reasons_as_in_json() {
    let writer = schema(
        r#"{"name":"question","type":["null","string","int"]},{"name":"answer","type":"string"}"#,
    );
    let reader = AnswerReader::new(writer.clone(), Vec::new(), None).expect("a usable schema");
    let reason_of = |question: Value, answer: &str| {
        let bytes = datum(
            &writer,
            vec![
                ("question", question),
                ("answer", Value::String(answer.into())),
            ],
        );
        reader.decode(&bytes).expect_err("invalid").reason
    };
    let q = || some(Value::String("Q".into()));
    assert_eq!(
        reason_of(Value::Union(0, Box::new(Value::Null)), "A"),
        reason::MISSING_QUESTION
    );
    assert_eq!(
        reason_of(Value::Union(2, Box::new(Value::Int(1))), "A"),
        reason::WRONG_TYPE
    );
    assert_eq!(
        reason_of(some(Value::String(" ".into())), "A"),
        reason::EMPTY_QUESTION
    );
    assert_eq!(reason_of(q(), ""), reason::EMPTY_ANSWER);

    let without_answer = schema(r#"{"name":"question","type":"string"}"#);
    let bytes = datum(
        &without_answer,
        vec![("question", Value::String("Q".into()))],
    );
    assert_eq!(
        AnswerReader::new(without_answer, Vec::new(), None)
            .expect("a usable schema")
            .decode(&bytes)
            .expect_err("invalid")
            .reason,
        reason::MISSING_ANSWER
    );
    let text = Schema::parse_str(r#""string""#).expect("a schema");
    assert_eq!(
        AnswerReader::new(text, Vec::new(), None)
            .expect("a usable schema")
            .decode(&[2, b'a'])
            .expect_err("invalid")
            .reason,
        reason::NOT_AN_OBJECT
    );
}

#[test]
fn a_datum_that_is_cut_off_or_too_long_is_invalid_wherever_it_is_cut() {
    let event = AnswerEvent {
        event_id: Some("e".into()),
        question: "question".into(),
        answer: "answer".into(),
        ..AnswerEvent::default()
    };
    let bytes = avro::encode(&event);
    let reader =
        AnswerReader::new(AnswerEvent::schema().clone(), Vec::new(), None).expect("our own schema");
    assert_eq!(reader.decode(&bytes), Ok(event));
    for len in 0..bytes.len() {
        assert_eq!(
            reader.decode(&bytes[..len]).expect_err("cut off").reason,
            reason::INVALID_AVRO,
            "cut to {len} bytes"
        );
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert_eq!(
        reader.decode(&longer).expect_err("too long").reason,
        reason::INVALID_AVRO
    );
    assert_eq!(
        reader
            .decode(b"\x02\x02\xff")
            .expect_err("not UTF-8")
            .reason,
        reason::INVALID_AVRO
    );
}
