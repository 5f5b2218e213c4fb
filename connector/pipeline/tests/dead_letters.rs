//! What a dead letter keeps of its record where not all of it has room, or the log refuses it, and whose
//! it says that it is.

use std::sync::Arc;

use aligner::builtin::{Builtin, Rule};
use aligner_pipeline::{
    Delivery, DeliveryError, HEADERS_OMITTED_HEADER, Header, JsonDecoder, JsonEncoder,
    KEY_OMITTED_HEADER, OpenedLetter, OriginalRecord, Outbound, PartitionEpoch, Parts, Pipeline,
    Settings, Sink, VALUE_OMITTED_HEADER,
    memory::{Faults, MemoryLog, MemorySink},
};
use bytes::Bytes;

/// Refuses the first output that it is given, so many times.
struct Reluctant {
    sink: MemorySink,
    refusals: u32,
}

impl Sink for Reluctant {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        if self.refusals == 0 {
            return self.sink.deliver(deliveries).await;
        }
        self.refusals -= 1;
        Err(DeliveryError::Refused {
            delivery: 0,
            output: 0,
            cause: "too large".to_owned(),
        })
    }

    async fn close(self) {
        self.sink.close().await;
    }
}

/// Bytes of the value of a record that is no event.
const VALUE_BYTES: usize = 6_000;

/// The dead letter of a record that is no event, after so many refusals.
async fn letter(
    key: Option<&'static str>,
    headers: Vec<Header>,
    max_output_bytes: usize,
    refusals: u32,
) -> Arc<Outbound> {
    let value = Bytes::from("x".repeat(VALUE_BYTES));
    letter_of(value, key, headers, max_output_bytes, refusals).await
}

/// The dead letter of a record with this value.
async fn letter_of(
    value: Bytes,
    key: Option<&'static str>,
    headers: Vec<Header>,
    max_output_bytes: usize,
    refusals: u32,
) -> Arc<Outbound> {
    let log = MemoryLog::new("answers", 1);
    log.append(0, key.map(Bytes::from), Some(value), headers);
    let pipeline = Pipeline::new(Parts {
        source: log.source(Faults::default()),
        sink: Reluctant {
            sink: log.sink(Faults::default()),
            refusals,
        },
        aligner: Arc::new(Builtin::new(Rule::Identity)),
        decoder: Arc::new(JsonDecoder::default()),
        encoder: Arc::new(JsonEncoder),
        settings: Settings {
            max_output_bytes,
            ..Settings::default()
        },
        connector: "test".to_owned(),
        task: 0,
        wall_clock: Arc::new(|| 0),
    });
    let ended = pipeline.run(log.delivered()).await;
    ended.expect("nothing stops the pipeline");
    let outputs = log.outputs();
    assert_eq!(outputs.len(), 1, "{outputs:?}");
    Arc::clone(&outputs[0].output)
}

/// A header of the record's own.
fn own(bytes: usize) -> Header {
    Header {
        key: "tenant".to_owned(),
        value: Some("t".repeat(bytes).into()),
    }
}

/// What is told of what was left out: key, headers and value.
fn omitted(letter: &Outbound) -> [Option<&str>; 3] {
    [
        KEY_OMITTED_HEADER,
        HEADERS_OMITTED_HEADER,
        VALUE_OMITTED_HEADER,
    ]
    .map(|name| {
        let header = letter.headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(header.value.as_deref()?).ok()
    })
}

#[tokio::test(start_paused = true)]
async fn a_value_without_room_is_left_out_and_headers_go_with_it_only_where_they_have_none() {
    let small = letter(Some("key"), vec![own(100)], 5_000, 0).await;
    assert_eq!(omitted(&small), [None, None, Some("6000")]);
    assert_eq!(small.value, None);
    assert_eq!(small.key, Some("key".into()));
    assert_eq!(small.headers[0], own(100));

    let large = letter(Some("key"), vec![own(4_990)], 5_000, 0).await;
    assert_eq!(omitted(&large), [None, Some("4996"), Some("6000")]);
    assert_eq!(large.key, Some("key".into()));
    assert!(!large.headers.contains(&own(4_990)));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_is_refused_leaves_out_its_value_then_its_headers_then_its_key() {
    let max_output_bytes = Settings::default().max_output_bytes;
    for (refusals, expected) in [
        (0, [None, None, None]),
        (1, [None, None, Some("6000")]),
        (2, [None, Some("106"), Some("6000")]),
        (3, [Some("3"), Some("106"), Some("6000")]),
        (4, [Some("3"), Some("106"), Some("6000")]),
    ] {
        let letter = letter(Some("key"), vec![own(100)], max_output_bytes, refusals).await;
        assert_eq!(omitted(&letter), expected, "after {refusals}");
        let [key, headers, value] = expected;
        assert_eq!(letter.value.is_none(), value.is_some());
        assert_eq!(letter.headers.contains(&own(100)), headers.is_none());
        let position = key.map(|_| Bytes::from("answers-0-0"));
        assert_eq!(letter.key, position.or(Some("key".into())));
    }
    // Without headers there is one try less.
    for (refusals, expected) in [
        (1, [None, None, Some("6000")]),
        (2, [Some("3"), None, Some("6000")]),
    ] {
        let letter = letter(Some("key"), Vec::new(), max_output_bytes, refusals).await;
        assert_eq!(omitted(&letter), expected, "after {refusals}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_dead_letter_is_its_records_even_when_empty_or_else_its_position() {
    for (key, expected) in [(Some("key"), "key"), (Some(""), ""), (None, "answers-0-0")] {
        let max_output_bytes = Settings::default().max_output_bytes;
        let letter = letter(key, Vec::new(), max_output_bytes, 0).await;
        assert_eq!(letter.key, Some(expected.into()));
    }
}

/// Whose the dead letter of a record with this value is, after so many refusals.
async fn whose(value: &str, refusals: u32) -> [Option<String>; 2] {
    let letter = letter_of(value.to_owned().into(), None, Vec::new(), 5_000, refusals).await;
    ["aligner.event_id", "aligner.upstream_model"].map(|name| {
        let header = letter.headers.iter().find(|header| header.key == name)?;
        String::from_utf8(header.value.as_deref()?.to_vec()).ok()
    })
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_says_whose_it_is_where_that_could_be_read() {
    let some = |text: &str| Some(text.to_owned());
    let sound = r#"{"event_id": "e1", "question": "q", "answer": "a", "upstream_model": "m"}"#;
    for refusals in [1, 4] {
        assert_eq!(whose(sound, refusals).await, [some("e1"), some("m")]);
    }
    let large = sound.replace("\"a\"", &format!("{:?}", "a".repeat(3_000)));
    assert_eq!(whose(&large, 0).await, [some("e1"), some("m")], "no room");
    let nameless = r#"{"question": "q", "answer": "a"}"#;
    assert_eq!(whose(nameless, 1).await, [some("answers-0-0"), None]);
    let unanswered = r#"{"event_id": "e1", "question": "q", "upstream_model": 7}"#;
    assert_eq!(whose(unanswered, 0).await, [some("e1"), None]);
    assert_eq!(whose("no JSON", 0).await, [None, None]);
}

/// A letter as it is read back.
fn opened(letter: &Outbound) -> OpenedLetter {
    let Outbound {
        key,
        value,
        headers,
        ..
    } = letter.clone();
    OpenedLetter::open(key, value, headers).expect("it is a letter")
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_opened_gives_its_record_back_byte_for_byte() {
    let header = |key: &str, value: Option<&'static [u8]>| Header {
        key: key.to_owned(),
        value: value.map(Bytes::from_static),
    };
    // Of a record that came out of another dead-letter topic, above all.
    let dead_before = vec![
        header("traceparent", Some(b"00-1")),
        header("__connect.errors.topic", Some(b"elsewhere")),
        header("__connect.errors.offset", Some(b"7")),
        header("aligner.reason", Some(b"invalid_json")),
        header("aligner.value_omitted", Some(b"12")),
        header("empty", Some(b"")),
        header("null", None),
        header("bytes", Some(b"\x00\xff")),
    ];
    for key in [None, Some("k"), Some(""), Some("answers-0-1")] {
        for headers in [Vec::new(), dead_before.clone()] {
            let letter = letter(key, headers.clone(), usize::MAX, 0).await;
            let opened = opened(&letter);
            assert_eq!(opened.source.to_string(), "answers-0-0");
            assert_eq!(opened.reason, "invalid_json");
            let record = OriginalRecord {
                key: key.map(|key| Bytes::from(key.to_owned())),
                value: Some(Bytes::from("x".repeat(VALUE_BYTES))),
                headers,
            };
            assert_eq!(opened.record, Some(record), "{key:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_left_something_out_gives_no_record_back() {
    for (max_output_bytes, refusals) in [(3_000, 0), (usize::MAX, 1), (usize::MAX, 3)] {
        let letter = letter(Some("k"), vec![own(100)], max_output_bytes, refusals).await;
        let opened = opened(&letter);
        assert_eq!(opened.record, None, "{max_output_bytes} {refusals}");
        assert_eq!(opened.source.to_string(), "answers-0-0");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_connector_wrote_is_no_letter() {
    let letter = letter(Some("k"), Vec::new(), usize::MAX, 0).await;
    for missing in 0..letter.headers.len() {
        let mut headers = letter.headers.clone();
        let name = headers.remove(missing).key;
        let opened = OpenedLetter::open(letter.key.clone(), letter.value.clone(), headers);
        let is_needed = [
            "__connect.errors.topic",
            "__connect.errors.partition",
            "__connect.errors.offset",
            "__connect.errors.connector.name",
            "__connect.errors.exception.message",
            "aligner.reason",
        ]
        .contains(&name.as_str());
        assert_eq!(opened.is_none(), is_needed, "{name}");
    }
    assert_eq!(OpenedLetter::open(None, None, Vec::new()), None);
}
