//! What is written is read back, whatever it holds.

use std::fmt::Write as _;

use aligner_records::{
    AnswerEvent, Correction, Disposition, FieldMap, INSTANTS, PreferencePair, Record,
    SourcePosition, TimeUnit,
    avro::{self, AnswerReader},
    framing, json,
};
use proptest::{option, prelude::*};

/// Any text, those that are hard to escape more often.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ -~]{0,80}",
        "(\\PC|[\"\\\\\u{0}-\u{1f}\u{7f}\u{2028}])*",
    ]
}

fn filled() -> impl Strategy<Value = String> {
    text().prop_filter("blank", |text| !text.trim().is_empty())
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    option::of(text())
}

const BACKSLASH: u16 = 0x5c;

/// UTF-16 that was cut anywhere, so that halves of pairs stand alone.
fn cut_text() -> impl Strategy<Value = Vec<u16>> {
    let unit = prop_oneof![
        0xd800..=0xdbff_u16,
        0xdc00..=0xdfff_u16,
        any::<u16>(),
        Just(BACKSLASH)
    ];
    prop::collection::vec(unit, 0..20)
}

/// Doubles of few digits: the last bit of one of seventeen may differ after JSON, whose reader here
/// is the fast one.
fn number() -> impl Strategy<Value = f64> {
    (-1_000_000..1_000_000).prop_map(|n| f64::from(n) / 1024.0)
}

/// Milliseconds that are no likely count of another unit.
fn instant() -> impl Strategy<Value = i64> {
    INSTANTS.prop_filter("another unit", |at| {
        TimeUnit::Milliseconds.mistaken(*at).is_none()
    })
}

prop_compose! {
    fn answer_event()(
        event_id in option::of(filled()),
        question in filled(),
        answer in filled(),
        upstream_model in maybe(),
        created_at in option::of(instant()),
        conversation_id in maybe(),
        user_id in maybe(),
        metadata_json in maybe(),
    ) -> AnswerEvent {
        AnswerEvent {
            event_id, question, answer, upstream_model, created_at, conversation_id, user_id,
            metadata_json,
        }
    }
}

prop_compose! {
    fn source()(topic in maybe(), partition in option::of(any::<i32>()), offset in option::of(any::<i64>()))
        -> (Option<String>, Option<i32>, Option<i64>) {
        (topic, partition, offset)
    }
}

prop_compose! {
    fn correction()(
        texts in [text(), text(), text(), text(), text()],
        maybes in [maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe(), maybe()],
        disposition in prop::sample::select(Disposition::ALL.to_vec()),
        ints in any::<[i32; 3]>(),
        longs in any::<[i64; 3]>(),
        temperature in number(),
        similarity in option::of(number()),
        logprobs in [option::of(number()), option::of(number())],
        top_p in option::of(number()),
        created_at in option::of(any::<i64>()),
        seed in option::of(any::<i64>()),
        (source_topic, source_partition, source_offset) in source(),
    ) -> Correction {
        let [correction_id, event_id, aligner_name, aligner_revision, template_hash] = texts;
        let [question, answer, correction, reason, message, upstream_model, conversation_id,
            user_id, metadata_json, proposal] = maybes;
        let [max_new_tokens, prompt_tokens, correction_tokens] = ints;
        let [queue_ms, inference_ms, corrected_at] = longs;
        let [unchanged_logprob, mean_logprob] = logprobs;
        Correction {
            correction_id, event_id, question, answer, correction, disposition, reason, message,
            similarity, unchanged_logprob, mean_logprob, upstream_model, conversation_id, user_id,
            metadata_json, created_at,
            aligner_name, aligner_revision, template_hash, max_new_tokens, temperature, top_p, seed,
            source_topic, source_partition, source_offset, prompt_tokens, correction_tokens,
            queue_ms, inference_ms, corrected_at, proposal,
        }
    }
}

prop_compose! {
    fn pair()(
        texts in [text(), text(), text(), text(), text(), text(), text(), text()],
        similarity in number(),
        logprobs in [option::of(number()), option::of(number())],
        whose in [maybe(), maybe(), maybe()],
        (corrected_at, created_at) in (any::<i64>(), option::of(any::<i64>())),
        (source_topic, source_partition, source_offset) in source(),
    ) -> PreferencePair {
        let [correction_id, event_id, prompt, chosen, rejected, aligner_name, aligner_revision,
            template_hash] = texts;
        let [unchanged_logprob, mean_logprob] = logprobs;
        let [upstream_model, conversation_id, user_id] = whose;
        PreferencePair {
            correction_id, event_id, prompt, chosen, rejected, similarity, unchanged_logprob,
            mean_logprob, upstream_model, aligner_name, aligner_revision, template_hash, source_topic, source_partition,
            source_offset, corrected_at, conversation_id, user_id, created_at,
        }
    }
}

macro_rules! round_trip {
    ($record:ty, $value:expr) => {
        let value: $record = $value;
        prop_assert_eq!(
            &json::decode::<$record>(&json::encode(&value)).expect("JSON"),
            &value
        );
        let datum = avro::encode(&value);
        let schema = <$record>::schema();
        prop_assert_eq!(
            &avro::decode::<$record>(&datum, schema).expect("Avro"),
            &value
        );
    };
}

proptest! {
    #[test]
    fn answer_events_survive_json_and_avro(event in answer_event()) {
        prop_assert_eq!(&json::decode_answer(&json::encode(&event)), &Ok(event.clone()));
        let reader = AnswerReader::new(AnswerEvent::schema().clone(), Vec::new(), None)
.expect("our own schema");
        prop_assert_eq!(&reader.decode(&avro::encode(&event)), &Ok(event.clone()));
        round_trip!(AnswerEvent, event);
    }

    #[test]
    fn corrections_survive_json_and_avro(value in correction()) {
        round_trip!(Correction, value);
    }

    #[test]
    fn pairs_survive_json_and_avro(value in pair()) {
        round_trip!(PreferencePair, value);
    }

    #[test]
    fn a_correction_has_every_field_of_its_schema_in_json_in_order(value in correction()) {
        let bytes = json::encode(&value);
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&bytes).expect("an object");
        let apache_avro::Schema::Record(schema) = Correction::schema() else {
            panic!("a record");
        };
        prop_assert_eq!(object.len(), schema.fields.len());
        for field in &schema.fields {
            prop_assert!(object.contains_key(&field.name), "{}", field.name);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
        let _ = json::decode_answer(&bytes);
        let _ = json::remains(&bytes, None);
        let _ = framing::split(&bytes);
        let _ = AnswerReader::new(AnswerEvent::schema().clone(), Vec::new(), None)
.expect("our own schema").decode(&bytes);
    }

    #[test]
    fn text_that_was_cut_anywhere_is_read_with_replacement_characters(units in cut_text()) {
        let mut document = r#"{"question":"Q","answer":"A"#.to_owned();
        for unit in &units {
            if *unit == BACKSLASH {
                document.push_str(r"\\");
            } else {
                write!(document, "\\u{unit:04x}").expect("writing to a string cannot fail");
            }
        }
        document.push_str(r#""}"#);
        let answer = format!("A{}", String::from_utf16_lossy(&units));
        let fields: FieldMap =
            serde_json::from_str(r#"{"question":"/question","answer":"/answer"}"#).expect("valid");
        for event in [
            json::decode_answer(document.as_bytes()),
            json::decode_mapped(document.as_bytes(), &fields),
        ] {
            let event = event.expect("valid");
            prop_assert_eq!(&event.answer, &answer);
        }
    }

    #[test]
    fn what_looks_like_json_never_panics(text in "[\\[\\]{}:,\"\\\\a-fu0-9eE.+ntrl -]{0,16}") {
        let _ = json::remains(text.as_bytes(), None);
        let within = format!(r#"{{"question":"Q","answer":[{text}]}}"#);
        let _ = json::remains(within.as_bytes(), None);
    }

    #[test]
    fn a_document_becomes_metadata_as_it_is_written(document in json_document()) {
        let fields: FieldMap = serde_json::from_str(
            r#"{"question":"/q","answer":"/q","metadata_json":"/meta"}"#,
        )
        .expect("valid");
        let log = format!(r#"{{"q":"Q", "meta" : {document}}}"#);
        let event = json::decode_mapped(log.as_bytes(), &fields).expect("valid");
        prop_assert_eq!(event.metadata_json, Some(document.to_string()));
    }

    #[test]
    fn the_reader_of_one_pass_agrees_with_a_tree(document in json_document()) {
        let text = document.to_string();
        let plain = json::decode_answer(text.as_bytes());
        let tree = |field: &str| document.get(field).and_then(|value| value.as_str());
        if let Ok(event) = plain {
            prop_assert_eq!(Some(event.question.as_str()), tree("question"));
            prop_assert_eq!(Some(event.answer.as_str()), tree("answer"));
            prop_assert_eq!(event.user_id.as_deref(), tree("user_id"));
            prop_assert_eq!(event.created_at, document.get("created_at").and_then(|v| v.as_i64()));
        } else {
            let filled = |field| tree(field).is_some_and(|text| !text.trim().is_empty());
            let ok = |field: &str, is: fn(&serde_json::Value) -> bool| {
                document.get(field).is_none_or(|value| value.is_null() || is(value))
            };
            prop_assert!(
                !(filled("question") && filled("answer")
                    && ok("user_id", serde_json::Value::is_string)
                    && ok("created_at", |at| at.as_i64().is_some_and(|at| {
                        INSTANTS.contains(&at) && TimeUnit::Milliseconds.mistaken(at).is_none()
                    }))),
                "refused {}", text
            );
        }
    }

    #[test]
    fn a_position_is_displayed_as_topic_partition_offset(partition in 0..9, offset in 0_i64..9) {
        let position = SourcePosition { topic: "t".into(), partition, offset };
        prop_assert_eq!(position.to_string(), format!("t-{partition}-{offset}"));
    }
}

/// Objects with some of our fields, of any type, and others.
fn json_document() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        number().prop_map(Into::into),
        text().prop_map(Into::into),
        text().prop_map(Into::into),
        text().prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(2, 8, 3, |inner| {
        prop::collection::vec(inner, 0..3).prop_map(Into::into)
    });
    let name = prop::sample::select(vec![
        "question",
        "answer",
        "question",
        "answer",
        "user_id",
        "created_at",
        "other",
    ]);
    prop::collection::btree_map(name.prop_map(str::to_owned), value, 0..6)
        .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect()))
}
