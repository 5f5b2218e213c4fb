//! The client against a registry that answers as it is told, faults included.

mod fake;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use aligner_records::{
    AnswerEvent, Correction, DecodeError, FieldMap, Record, avro, framing, reason,
};
use aligner_registry::{
    AnswerDecoder, DecodeFailure, Registry, RegistryError, RegistrySettings, Secret,
};
use serde_json::json;

use fake::{Fake, Script, error_body, schema_body};

fn event() -> AnswerEvent {
    AnswerEvent {
        question: "Q".into(),
        answer: "A".into(),
        ..AnswerEvent::default()
    }
}

fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&framing::header(id)[..], datum].concat()
}

fn invalid(failure: DecodeFailure) -> DecodeError {
    match failure {
        DecodeFailure::Invalid(error) => error,
        DecodeFailure::SchemaNeeded(id) => panic!("schema {id} is still needed"),
    }
}

fn reason_of(failure: DecodeFailure) -> &'static str {
    invalid(failure).reason
}

/// A decoder that gives an id up after so many refusals over so long a time.
fn giving_up(fake: &Fake, max_refusals: u32, refused_for: Duration) -> AnswerDecoder {
    let mut settings = RegistrySettings::new(&fake.url);
    settings.max_refusals = NonZeroU32::new(max_refusals).expect("not zero");
    settings.refused_for = refused_for;
    AnswerDecoder::new(Registry::new(settings).expect("valid"), None)
}

/// A decoder that believes that there is no such id after so many answers over so long a time.
fn believing(fake: &Fake, max_misses: u32, missed_for: Duration) -> AnswerDecoder {
    let mut settings = RegistrySettings::new(&fake.url);
    settings.max_misses = NonZeroU32::new(max_misses).expect("not zero");
    settings.missed_for = missed_for;
    AnswerDecoder::new(Registry::new(settings).expect("valid"), None)
}

#[tokio::test]
async fn a_schema_is_fetched_once_and_then_reading_needs_no_registry() {
    let fake = Fake::start(|_| (200, schema_body(AnswerEvent::AVSC))).await;
    let decoder = AnswerDecoder::new(fake.registry(), None);
    let value = framed(7, &avro::encode(&event()));
    assert_eq!(decoder.decode(&value), Err(DecodeFailure::SchemaNeeded(7)));
    decoder.fetch(7).await.expect("there");
    for _ in 0..3 {
        assert_eq!(decoder.decode(&value), Ok(event()));
    }
    assert_eq!(fake.lines(), ["GET /schemas/ids/7?deleted=true"]);
}

#[tokio::test]
async fn an_outage_says_nothing_about_the_record() {
    let faults: [Script; 6] = [
        |_| (500, error_body(50_001)),
        |_| (503, "<html>busy</html>".into()),
        |_| (429, String::new()),
        |_| (200, "<html>welcome</html>".into()),
        |_| (200, "{}".into()),
        |_| (0, String::new()),
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        let fake = Fake::start(fault).await;
        let mut settings = RegistrySettings::new(&fake.url);
        settings.timeout = Duration::from_millis(200);
        // However soon an id is given up that alone fails.
        settings.max_refusals = NonZeroU32::MIN;
        settings.unavailable_for = Duration::ZERO;
        let decoder = AnswerDecoder::new(Registry::new(settings).expect("valid"), None);
        let error = decoder.fetch(7).await.expect_err("no schema");
        assert!(
            matches!(error, RegistryError::Unavailable { .. }),
            "fault {index}: {error}"
        );
        assert_eq!(
            decoder.decode(&framed(7, b"")),
            Err(DecodeFailure::SchemaNeeded(7)),
            "fault {index}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_unavailable_and_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    let registry = Registry::new(RegistrySettings::new(&url)).expect("valid");
    let error = AnswerDecoder::new(registry, None)
        .fetch(7)
        .await
        .expect_err("nobody");
    assert!(matches!(error, RegistryError::Unavailable { .. }));
    assert!(error.to_string().contains(&url), "{error}");
    assert!(
        error.to_string().to_lowercase().contains("connect"),
        "{error}"
    );
}

#[tokio::test]
async fn only_the_registrys_own_word_makes_a_schema_unknown() {
    let fake = Fake::start(|_| (404, error_body(40_403))).await;
    let decoder = believing(&fake, 1, Duration::ZERO);
    decoder.fetch(7).await.expect("the registry said no");
    let failure = decoder.decode(&framed(7, b"")).expect_err("unknown");
    assert_eq!(reason_of(failure), reason::UNKNOWN_SCHEMA);

    // What a wrong path or a proxy answers.
    for body in [error_body(404), "not found".into()] {
        let script: Script = if body.starts_with('{') {
            |_| (404, error_body(404))
        } else {
            |_| (404, "not found".into())
        };
        let fake = Fake::start(script).await;
        let decoder = AnswerDecoder::new(fake.registry(), None);
        let error = decoder.fetch(7).await.expect_err("a wrong path");
        assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
        assert_eq!(
            decoder.decode(&framed(7, b"")),
            Err(DecodeFailure::SchemaNeeded(7))
        );
    }
}

#[tokio::test]
async fn a_schema_that_a_replica_does_not_know_yet_is_waited_for() {
    let fake = Fake::start(|_| {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        if ASKED.fetch_add(1, SeqCst) < 2 {
            (404, error_body(40_403))
        } else {
            (200, schema_body(AnswerEvent::AVSC))
        }
    })
    .await;
    let decoder = AnswerDecoder::new(fake.registry(), None);
    let value = framed(7, &avro::encode(&event()));
    for _ in 0..2 {
        let error = decoder.fetch(7).await.expect_err("not yet");
        assert!(
            matches!(error, RegistryError::Unknown { id: 7, .. }),
            "{error}"
        );
        assert_eq!(decoder.decode(&value), Err(DecodeFailure::SchemaNeeded(7)));
    }
    decoder.fetch(7).await.expect("there");
    assert_eq!(decoder.decode(&value), Ok(event()));
}

#[tokio::test]
async fn a_schema_is_unknown_only_when_that_was_said_often_and_for_a_while() {
    let fake = Fake::start(|_| (404, error_body(40_403))).await;
    for (max_misses, missed_for) in [(4, Duration::ZERO), (1, Duration::from_secs(3600))] {
        let decoder = believing(&fake, max_misses, missed_for);
        for _ in 0..3 {
            decoder.fetch(7).await.expect_err("not believed yet");
            assert_eq!(
                decoder.decode(&framed(7, b"")),
                Err(DecodeFailure::SchemaNeeded(7))
            );
        }
    }
    let decoder = believing(&fake, 2, Duration::ZERO);
    decoder.fetch(7).await.expect_err("not believed yet");
    decoder.fetch(7).await.expect("believed");
    let failure = decoder.decode(&framed(7, b"")).expect_err("unknown");
    assert_eq!(reason_of(failure), reason::UNKNOWN_SCHEMA);
}

#[tokio::test]
async fn an_unknown_schema_is_asked_for_again_after_a_while() {
    let fake = Fake::start(|_| (404, error_body(40_403))).await;
    let mut settings = RegistrySettings::new(&fake.url);
    settings.max_misses = NonZeroU32::MIN;
    settings.missed_for = Duration::ZERO;
    settings.unknown_for = Duration::ZERO;
    let decoder = AnswerDecoder::new(Registry::new(settings).expect("valid"), None);
    decoder.fetch(7).await.expect("the registry said no");
    assert_eq!(
        decoder.decode(&framed(7, b"")),
        Err(DecodeFailure::SchemaNeeded(7))
    );
}

#[tokio::test]
async fn an_id_that_no_registry_gives_is_invalid_and_nobody_is_asked() {
    let fake = Fake::start(|_| (404, error_body(404))).await;
    let decoder = AnswerDecoder::new(fake.registry(), None);
    for id in [framing::MAX_ID + 1, u32::MAX] {
        let error = invalid(decoder.decode(&framed(id, b"")).expect_err("no id"));
        assert_eq!(error.reason, reason::INVALID_AVRO);
        assert!(error.message.contains(&id.to_string()), "{error}");
    }
    for id in [0, 1, framing::MAX_ID] {
        assert_eq!(
            decoder.decode(&framed(id, b"")),
            Err(DecodeFailure::SchemaNeeded(id))
        );
    }
    assert!(fake.lines().is_empty());
}

/// A registry that gives every schema, and refuses the id 9.
fn all_but_nine(line: &str) -> (u16, String) {
    if line.contains("/ids/9?") {
        (404, error_body(404))
    } else {
        (200, schema_body(AnswerEvent::AVSC))
    }
}

#[tokio::test]
async fn an_id_that_alone_is_refused_is_given_up_by_its_name_and_others_are_read() {
    let fake = Fake::start(all_but_nine).await;
    let decoder = giving_up(&fake, 3, Duration::ZERO);
    let poison = framed(9, b"");
    for _ in 0..2 {
        let error = decoder.fetch(9).await.expect_err("refused");
        assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
        assert_eq!(decoder.decode(&poison), Err(DecodeFailure::SchemaNeeded(9)));
    }
    decoder.fetch(9).await.expect("given up");
    let error = invalid(decoder.decode(&poison).expect_err("given up"));
    assert_eq!(error.reason, reason::UNKNOWN_SCHEMA);
    for part in ["schema id 9", "answered 404", "3 times in a row"] {
        assert!(error.message.contains(part), "{error}");
    }
    // No other id was named yet, so the likeliest one shows that the registry answers.
    let one_try = [
        "GET /schemas/ids/9?deleted=true",
        "GET /schemas/ids/1?deleted=true",
    ];
    assert_eq!(fake.lines(), one_try.repeat(3));

    decoder.fetch(7).await.expect("there");
    let value = framed(7, &avro::encode(&event()));
    assert_eq!(decoder.decode(&value), Ok(event()));
}

#[tokio::test]
async fn whatever_the_registry_refuses_of_an_id_counts_once_it_has_its_word_for_another() {
    let answers: [(Script, &str); 3] = [
        // The other one is unknown, says the registry itself.
        (
            |line| {
                if line.contains("/ids/9?") {
                    (404, "not found".into())
                } else {
                    (404, error_body(40_403))
                }
            },
            "answered 404",
        ),
        // Not this user's to read.
        (
            |line| {
                if line.contains("/ids/9?") {
                    (403, error_body(40_301))
                } else {
                    (200, schema_body(AnswerEvent::AVSC))
                }
            },
            "answered 403",
        ),
        // Refers to what is not there.
        (
            |line| {
                if line.contains("/subjects/gone/") {
                    (404, error_body(40_401))
                } else {
                    let gone = json!([{ "name": "x.Gone", "subject": "gone", "version": 1 }]);
                    let body = json!({ "schema": "\"x.Gone\"", "references": gone });
                    (200, body.to_string())
                }
            },
            "refers to is missing",
        ),
    ];
    for (script, part) in answers {
        let fake = Fake::start(script).await;
        let decoder = giving_up(&fake, 1, Duration::ZERO);
        decoder.fetch(9).await.expect("given up");
        let error = invalid(decoder.decode(&framed(9, b"")).expect_err("given up"));
        assert_eq!(error.reason, reason::UNKNOWN_SCHEMA);
        assert!(error.message.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_registry_that_answers_for_nobody_is_waited_for_however_often_it_refuses() {
    let scripts: [Script; 4] = [
        // A proxy without anything behind it.
        |_| (404, "default backend".into()),
        // A password that has changed.
        |_| (401, error_body(401)),
        |line| {
            if line.contains("/ids/9?") {
                (404, error_body(404))
            } else {
                (503, String::new())
            }
        },
        |line| {
            if line.contains("/ids/9?") {
                (404, error_body(404))
            } else {
                (200, "<html>welcome</html>".into())
            }
        },
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let fake = Fake::start(script).await;
        let decoder = giving_up(&fake, 1, Duration::ZERO);
        for _ in 0..3 {
            let error = decoder.fetch(9).await.expect_err("refused");
            assert!(
                matches!(error, RegistryError::Refused { .. }),
                "script {index}: {error}"
            );
            assert_eq!(
                decoder.decode(&framed(9, b"")),
                Err(DecodeFailure::SchemaNeeded(9)),
                "script {index}"
            );
        }
    }
}

#[tokio::test]
async fn an_id_that_is_refused_for_a_moment_only_is_not_given_up() {
    let fake = Fake::start(all_but_nine).await;
    let decoder = giving_up(&fake, 1, Duration::from_secs(3600));
    for _ in 0..3 {
        decoder.fetch(9).await.expect_err("refused");
        assert_eq!(
            decoder.decode(&framed(9, b"")),
            Err(DecodeFailure::SchemaNeeded(9))
        );
    }
}

#[tokio::test]
async fn an_id_that_the_registry_fails_for_alone_is_given_up_after_a_longer_time() {
    let faults: [Script; 3] = [
        |line| {
            if line.contains("/ids/9?") {
                (500, error_body(50_001))
            } else {
                (200, schema_body(AnswerEvent::AVSC))
            }
        },
        |line| {
            if line.contains("/ids/9?") {
                (200, "<html>welcome</html>".into())
            } else {
                (404, error_body(40_403))
            }
        },
        // Never answers.
        |line| {
            if line.contains("/ids/9?") {
                (0, String::new())
            } else {
                (200, schema_body(AnswerEvent::AVSC))
            }
        },
    ];
    for (index, fault) in faults.into_iter().enumerate() {
        let fake = Fake::start(fault).await;
        let giving_up = |unavailable_for| {
            let mut settings = RegistrySettings::new(&fake.url);
            settings.timeout = Duration::from_secs(1);
            settings.max_refusals = NonZeroU32::MIN;
            settings.refused_for = Duration::ZERO;
            settings.unavailable_for = unavailable_for;
            AnswerDecoder::new(Registry::new(settings).expect("valid"), None)
        };
        let decoder = giving_up(Duration::from_secs(3600));
        for _ in 0..2 {
            let error = decoder.fetch(9).await.expect_err("unavailable");
            assert!(
                matches!(error, RegistryError::Unavailable { .. }),
                "fault {index}: {error}"
            );
            assert_eq!(
                decoder.decode(&framed(9, b"")),
                Err(DecodeFailure::SchemaNeeded(9)),
                "fault {index}"
            );
        }
        let decoder = giving_up(Duration::ZERO);
        decoder.fetch(9).await.expect("given up");
        let error = invalid(decoder.decode(&framed(9, b"")).expect_err("given up"));
        assert_eq!(error.reason, reason::UNKNOWN_SCHEMA, "fault {index}");
        assert!(error.message.contains("is unavailable"), "{error}");
    }
}

#[tokio::test]
async fn bytes_that_do_not_fit_their_schema_are_invalid() {
    let fake = Fake::start(|line| {
        if line.contains("/8") {
            let body = json!({ "schema": "{}", "schemaType": "JSON" });
            (200, body.to_string())
        } else if line.contains("/9") {
            (200, schema_body("{\"type\":\"surprise\"}"))
        } else {
            (200, schema_body(AnswerEvent::AVSC))
        }
    })
    .await;
    let decoder = AnswerDecoder::new(fake.registry(), None);
    for id in [7, 8, 9] {
        decoder.fetch(id).await.expect("the registry answered");
    }
    for value in [
        framed(7, b"\x02"),
        framed(8, b"{}"),
        framed(9, b""),
        b"{\"question\":\"Q\"}".to_vec(),
        b"\0\0".to_vec(),
        Vec::new(),
    ] {
        let failure = decoder.decode(&value).expect_err("invalid");
        assert_eq!(reason_of(failure), reason::INVALID_AVRO, "{value:?}");
    }
}

#[tokio::test]
async fn schemas_that_refer_to_others_are_read_and_mapped() {
    const LOG: &str = r#"{"type":"record","name":"Log","namespace":"x","fields":[
        {"name":"prompt","type":"x.Message"},{"name":"reply","type":"x.Message"}]}"#;
    const MESSAGE: &str = r#"{"type":"record","name":"Message","namespace":"x","fields":[
        {"name":"part","type":"x.Part"}]}"#;
    const PART: &str = r#"{"type":"record","name":"Part","namespace":"x","fields":[
        {"name":"text","type":"string"}]}"#;
    let fake = Fake::start(|line| {
        if line.contains("/subjects/part%3F%231%2Fa%20b/versions/1?deleted=true") {
            let body = json!({ "subject": "part?#1/a b", "version": 1, "id": 3, "schema": PART });
            (200, body.to_string())
        } else if line.contains("/subjects/message/versions/3") {
            let part = json!([{ "name": "x.Part", "subject": "part?#1/a b", "version": 1 }]);
            let body = json!({
                "subject": "message", "version": 3, "id": 4, "schema": MESSAGE, "references": part,
            });
            (200, body.to_string())
        } else {
            let references = json!([
                { "name": "x.Part", "subject": "part?#1/a b", "version": 1 },
                { "name": "x.Message", "subject": "message", "version": 3 },
            ]);
            let body = json!({ "schema": LOG, "references": references });
            (200, body.to_string())
        }
    })
    .await;
    let fields: FieldMap =
        serde_json::from_str(r#"{"question":"/prompt/part/text","answer":"/reply/part/text"}"#)
            .expect("a field map");
    let decoder = AnswerDecoder::new(fake.registry(), Some(fields));
    decoder.fetch(7).await.expect("there");
    assert_eq!(decoder.decode(&framed(7, b"\x02Q\x02A")), Ok(event()));
}

/// A registry that has a schema, and not what that refers to.
fn without_reference(line: &str, code: u32) -> (u16, String) {
    if line.contains("/versions/") {
        let body = json!({ "error_code": code, "message": "gone" });
        (404, body.to_string())
    } else {
        let references = json!([{ "name": "x.Part", "subject": "part", "version": 1 }]);
        let body = json!({ "schema": "\"string\"", "references": references });
        (200, body.to_string())
    }
}

#[tokio::test]
async fn a_missing_reference_is_the_registrys_fault_and_no_unknown_schema() {
    let scripts: [Script; 2] = [
        |line| without_reference(line, 40_401),
        |line| without_reference(line, 40_402),
    ];
    for script in scripts {
        let fake = Fake::start(script).await;
        let decoder = AnswerDecoder::new(fake.registry(), None);
        let error = decoder.fetch(7).await.expect_err("refused");
        let said = "a schema that it refers to is missing";
        assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_schema_that_refers_to_too_many_others_is_invalid_for_good_and_stalls_nobody() {
    let fake = Fake::start(|line| {
        // Each refers to the next one, without end.
        let number: u32 = line
            .split_once("/subjects/s")
            .and_then(|(_, rest)| rest.split('/').next()?.parse().ok())
            .unwrap_or(0);
        let next = number + 1;
        let body = json!({
            "subject": format!("s{number}"), "version": 1, "id": 100 + number,
            "schema": "\"string\"",
            "references": [{ "name": "n", "subject": format!("s{next}"), "version": 1 }],
        });
        (200, body.to_string())
    })
    .await;
    let decoder = AnswerDecoder::new(fake.registry(), None);
    decoder.fetch(7).await.expect("the registry answered");
    let failure = decoder.decode(&framed(7, b"")).expect_err("invalid");
    let DecodeFailure::Invalid(error) = failure else {
        unreachable!("the schema was fetched");
    };
    assert_eq!(error.reason, reason::INVALID_AVRO);
    assert!(error.message.contains("more than 64"), "{}", error.message);
}

#[tokio::test]
async fn a_schema_that_holds_itself_is_invalid_and_its_data_are_not_read() {
    let fake = Fake::start(|_| {
        let schema = r#"{"type":"record","name":"N","fields":[
            {"name":"question","type":"string"},{"name":"answer","type":"string"},
            {"name":"next","type":["null","N"]}]}"#;
        (200, schema_body(schema))
    })
    .await;
    let decoder = AnswerDecoder::new(fake.registry(), None);
    decoder.fetch(7).await.expect("the registry answered");
    // A million levels, each of three bytes.
    let failure = decoder.decode(&framed(7, &b"\0\0\x02".repeat(1_000_000)));
    let Err(DecodeFailure::Invalid(error)) = failure else {
        unreachable!("the schema was fetched and is refused");
    };
    assert_eq!(error.reason, reason::INVALID_AVRO);
    for part in ["schema id 7", "type N holds itself"] {
        assert!(error.message.contains(part), "{}", error.message);
    }
}

#[tokio::test]
async fn output_schemas_are_registered_under_their_topics_and_frame_the_outputs() {
    let fake = Fake::start(|line| {
        let id = if line.contains("corrections") { 11 } else { 12 };
        (200, json!({ "id": id }).to_string())
    })
    .await;
    let encoder = fake
        .registry()
        .outputs("llm.corrections", "llm.pairs")
        .await
        .expect("registered");
    assert_eq!(
        fake.lines(),
        [
            "POST /subjects/llm.corrections-value/versions",
            "POST /subjects/llm.pairs-value/versions"
        ]
    );
    let sent: serde_json::Value = serde_json::from_str(&fake.last().body).expect("JSON");
    assert_eq!(sent["schemaType"], "AVRO");
    assert!(
        sent["schema"]
            .as_str()
            .expect("text")
            .contains("PreferencePair")
    );

    let golden = include_bytes!("../../../schemas/golden/v1/correction.json");
    let correction: Correction = aligner_records::json::decode(golden).expect("a correction");
    let value = encoder.correction(&correction);
    let (id, datum) = framing::split(&value).expect("framed");
    assert_eq!(id, 11);
    assert_eq!(
        avro::decode::<Correction>(datum, Correction::schema()),
        Ok(correction)
    );
}

#[tokio::test]
async fn without_auto_register_schemas_are_looked_up_and_must_be_there() {
    let lookup = |fake: &Fake| {
        let mut settings = RegistrySettings::new(&fake.url);
        settings.auto_register = false;
        Registry::new(settings).expect("valid")
    };
    let fake = Fake::start(|_| (200, json!({ "id": 5, "version": 1 }).to_string())).await;
    let id = lookup(&fake).id_of::<Correction>("llm.corrections").await;
    assert_eq!(id, Ok(5));
    assert_eq!(
        fake.lines(),
        ["POST /subjects/llm.corrections-value?deleted=false"]
    );

    let fake = Fake::start(|_| (404, error_body(40_403))).await;
    let error = lookup(&fake)
        .id_of::<Correction>("llm.corrections")
        .await
        .expect_err("not there");
    assert!(matches!(error, RegistryError::Refused { .. }));
    let message = error.to_string();
    assert!(message.contains("llm.corrections-value"), "{message}");
    assert!(message.contains("auto_register"), "{message}");
}

#[tokio::test]
async fn a_schema_that_the_registry_does_not_accept_is_refused_not_unavailable() {
    let answers: [Script; 4] = [
        |_| (409, error_body(409)),
        |_| (422, error_body(42_201)),
        |_| (401, error_body(401)),
        |_| (403, String::new()),
    ];
    for script in answers {
        let fake = Fake::start(script).await;
        let error = fake
            .registry()
            .outputs("c", "p")
            .await
            .expect_err("refused");
        assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
        assert_eq!(fake.lines().len(), 1, "asked once");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_registrys_is_waited_for_with_a_hint_and_few_words() {
    let answers: [(Script, &str); 8] = [
        (|_| (200, "<html>welcome</html>".into()), "not a registry's"),
        (|_| (200, String::new()), "not a registry's"),
        (|_| (204, String::new()), "not a registry's"),
        (|_| (200, "null".into()), "not a registry's"),
        (|_| (200, "[]".into()), "not a registry's"),
        (
            |_| (200, r#"{"id":-1,"schema":5}"#.into()),
            "not a registry's",
        ),
        (|_| (200, r#"{"version":1}"#.into()), "it gave no "),
        (|_| (200, " ".repeat(9 << 20)), "longer than 8388608 bytes"),
    ];
    for (index, (script, part)) in answers.into_iter().enumerate() {
        let fake = Fake::start(script).await;
        let decoder = AnswerDecoder::new(fake.registry(), None);
        let errors = [
            decoder.fetch(7).await.expect_err("no schema"),
            fake.registry().outputs("c", "p").await.expect_err("no id"),
        ];
        for error in errors {
            assert!(
                matches!(error, RegistryError::Unavailable { .. }),
                "answer {index}: {error}"
            );
            let said = error.to_string();
            for part in [part, "check the path in formats.schema_registry.url"] {
                assert!(said.contains(part), "answer {index}: {said}");
            }
            assert!(said.len() < 300, "answer {index}: {said}");
        }
    }
}

/// A refusal that is explained at length.
fn refusal_of(length: usize) -> (u16, String) {
    let explanation = json!({ "error_code": 42_201, "message": "x".repeat(length) });
    (422, explanation.to_string())
}

#[tokio::test]
async fn a_refusal_counts_by_its_status_and_is_cut_however_long_it_is() {
    let scripts: [(Script, usize); 2] =
        [(|_| refusal_of(10_000), 300), (|_| refusal_of(9 << 20), 0)];
    for (script, told) in scripts {
        let fake = Fake::start(script).await;
        let error = fake
            .registry()
            .outputs("c", "p")
            .await
            .expect_err("refused");
        assert!(matches!(error, RegistryError::Refused { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("it answered 422"), "{said}");
        assert_eq!(said.matches('x').count(), told, "{said}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_printed() {
    let fake = Fake::start(|_| (401, error_body(401))).await;
    // A trailing slash is no part of the path.
    let mut settings = RegistrySettings::new(format!("{}/", fake.url));
    settings.username = Some("ada".into());
    settings.password = Some(Secret::new("hunter2"));
    let registry = Registry::new(settings.clone()).expect("valid");
    let error = registry
        .id_of::<Correction>("c")
        .await
        .expect_err("refused");
    let seen = fake.last();
    // printf ada:hunter2 | base64
    assert_eq!(
        seen.authorization.as_deref(),
        Some("Basic YWRhOmh1bnRlcjI=")
    );
    assert_eq!(seen.line, "POST /subjects/c-value/versions");
    for printed in [
        format!("{settings:?}"),
        format!("{registry:?}"),
        format!("{error} {error:?}"),
        format!("{:?}", AnswerDecoder::new(registry, None)),
    ] {
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[test]
fn mistaken_settings_are_refused_without_a_connection() {
    let refusal = |change: fn(&mut RegistrySettings)| {
        let mut settings = RegistrySettings::new("http://localhost:8081");
        change(&mut settings);
        Registry::new(settings).expect_err("mistaken").to_string()
    };
    assert!(refusal(|settings| settings.url = "localhost:8081".into()).contains("http://"));
    assert!(refusal(|settings| settings.url = "http://".into()).contains("host"));
    let message = refusal(|settings| settings.url = "http://ada:hunter2@host".into());
    assert!(
        !message.contains("hunter2") && message.contains("username"),
        "{message}"
    );
    for (message, cause) in [
        (
            refusal(|settings| settings.url = "http://host/?token=hunter2".into()),
            "query",
        ),
        (
            refusal(|settings| settings.url = "http://host#hunter2".into()),
            "fragment",
        ),
        (
            refusal(|settings| settings.url = "http://host:hunter2".into()),
            "port",
        ),
    ] {
        assert!(
            !message.contains("hunter2") && message.contains(cause),
            "{message}"
        );
    }
    let message = refusal(|settings| settings.password = Some(Secret::new("hunter2")));
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn the_memory_of_schemas_is_bounded() {
    let fake = Fake::start(|_| (200, schema_body(AnswerEvent::AVSC))).await;
    let mut settings = RegistrySettings::new(&fake.url);
    settings.max_cached_schemas = NonZeroUsize::new(2).expect("not zero");
    let decoder = AnswerDecoder::new(Registry::new(settings).expect("valid"), None);
    let datum = avro::encode(&event());
    for id in 1..=3 {
        decoder.fetch(id).await.expect("there");
    }
    assert_eq!(
        decoder.decode(&framed(1, &datum)),
        Err(DecodeFailure::SchemaNeeded(1))
    );
    assert_eq!(decoder.decode(&framed(3, &datum)), Ok(event()));
}
