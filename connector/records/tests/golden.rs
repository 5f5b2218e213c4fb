//! Every version of every record that was ever written can still be read, and readers that know an
//! older version read what is written today.
//!
//! `schemas/golden/vN` holds, for each record, the schema of that version, one record as JSON and
//! as Avro (hex). A version that was released never changes; when a schema changes, if only in a
//! word of its documentation, raise [`CURRENT`] and run the ignored test here, which writes the new
//! folder.

use std::{
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use aligner_records::{
    AnswerEvent, Correction, Disposition, PreferencePair, Record, SourcePosition, avro,
    correction_id, json,
};
use apache_avro::{
    Schema,
    schema_compatibility::{Compatibility, SchemaCompatibility},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

const CURRENT: &str = "v2";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden")
}

fn position() -> SourcePosition {
    SourcePosition {
        topic: "llm.answers".into(),
        partition: 3,
        offset: 42,
    }
}

fn answer_event() -> AnswerEvent {
    AnswerEvent {
        event_id: Some("evt-1".into()),
        question: "Where do I send \"the form\"?\nThanks — Zoë".into(),
        answer: "Write to ada@example.org.".into(),
        upstream_model: Some("upstream-7b".into()),
        created_at: Some(1_766_000_068_280),
        conversation_id: Some("conv-9".into()),
        user_id: None,
        metadata_json: Some(r#"{"region":"eu"}"#.into()),
    }
}

fn correction() -> Correction {
    let event = answer_event();
    Correction {
        correction_id: correction_id(Some(&position()), "evt-1", "rev-1"),
        event_id: "evt-1".into(),
        question: Some(event.question),
        answer: Some(event.answer),
        correction: Some(answer_event().answer),
        disposition: Disposition::Bypassed,
        reason: Some("low_confidence".into()),
        message: Some("the guard of the profile did not let it through".into()),
        similarity: Some(1.0),
        unchanged_logprob: Some(-9.5),
        mean_logprob: Some(-0.015625),
        upstream_model: event.upstream_model,
        conversation_id: event.conversation_id,
        user_id: event.user_id,
        metadata_json: event.metadata_json,
        created_at: event.created_at,
        aligner_name: "aligner-mini".into(),
        aligner_revision: "rev-1".into(),
        template_hash: "00ff".repeat(16),
        max_new_tokens: 1024,
        temperature: 0.0,
        top_p: None,
        seed: None,
        source_topic: Some("llm.answers".into()),
        source_partition: Some(3),
        source_offset: Some(42),
        prompt_tokens: 61,
        correction_tokens: 17,
        queue_ms: 4,
        inference_ms: 230,
        corrected_at: 1_766_000_069_001,
        proposal: Some("Write to [e-mail removed].".into()),
    }
}

fn pair() -> PreferencePair {
    let correction = correction();
    PreferencePair {
        correction_id: correction.correction_id,
        event_id: correction.event_id,
        prompt: answer_event().question,
        chosen: "Write to [e-mail removed].".into(),
        rejected: answer_event().answer,
        similarity: 0.625,
        unchanged_logprob: correction.unchanged_logprob,
        mean_logprob: correction.mean_logprob,
        upstream_model: correction.upstream_model,
        aligner_name: correction.aligner_name,
        aligner_revision: correction.aligner_revision,
        template_hash: correction.template_hash,
        source_topic: correction.source_topic,
        source_partition: correction.source_partition,
        source_offset: correction.source_offset,
        corrected_at: correction.corrected_at,
        conversation_id: correction.conversation_id,
        user_id: correction.user_id,
        created_at: correction.created_at,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.chunks(32).fold(String::new(), |mut text, line| {
        for byte in line {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        }
        text.push('\n');
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).expect("a hex digit")).expect("below 16"))
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The three files of one record in one version.
struct Golden {
    avsc: PathBuf,
    json: PathBuf,
    avro: PathBuf,
}

impl Golden {
    fn of<R: Record>(version: &Path) -> Self {
        let avsc = version.join(R::FILE);
        Self {
            json: avsc.with_extension("json"),
            avro: avsc.with_extension("avro.hex"),
            avsc,
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn versions() -> Vec<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir(folder())
        .expect("schemas/golden is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_dir())
        .collect();
    versions.sort();
    assert!(!versions.is_empty());
    versions
}

fn check<R: Record + DeserializeOwned + PartialEq + Debug>(sample: &R) {
    for version in versions() {
        let golden = Golden::of::<R>(&version);
        let avsc = text(&golden.avsc);
        let writer = Schema::parse_str(&avsc).expect("a schema");
        // Both ways: a topic holds what older connectors wrote, and its readers are upgraded later.
        for (fault, written, read) in [
            ("what it wrote is not read", &writer, R::schema()),
            ("it does not read what is written", R::schema(), &writer),
        ] {
            assert_eq!(
                SchemaCompatibility::can_read(written, read),
                Ok(Compatibility::Full),
                "{}: {fault}",
                golden.avsc.display()
            );
        }
        let from_json: R = json::decode(text(&golden.json).trim_end().as_bytes()).expect("JSON");
        let datum = unhex(&text(&golden.avro));
        let from_avro: R = avro::decode(&datum, &writer).expect("Avro");
        assert_eq!(from_json, from_avro, "{}", golden.json.display());

        if version.ends_with(CURRENT) {
            // To the word: a registry takes the same fields with another doc for another schema.
            let [kept, embedded] = [avsc.as_str(), R::AVSC]
                .map(|avsc| serde_json::from_str::<Value>(avsc).expect("schemas are JSON"));
            assert_eq!(
                kept,
                embedded,
                "schemas/{} changed: raise CURRENT and write its golden files",
                R::FILE
            );
            assert_eq!(&from_json, sample);
            assert_eq!(
                json::encode(sample),
                text(&golden.json).trim_end().as_bytes()
            );
            assert_eq!(avro::encode(sample), datum);
        }
    }
}

#[test]
fn answer_events_of_every_version_are_read() {
    check(&answer_event());
    for version in versions() {
        let golden = Golden::of::<AnswerEvent>(&version);
        let writer = Schema::parse_str(&text(&golden.avsc)).expect("a schema");
        let event = json::decode_answer(text(&golden.json).as_bytes()).expect("JSON");
        let reader = avro::AnswerReader::new(writer, Vec::new(), None).expect("a usable schema");
        assert_eq!(reader.decode(&unhex(&text(&golden.avro))), Ok(event));
    }
}

#[test]
fn corrections_of_every_version_are_read() {
    check(&correction());
}

#[test]
fn pairs_of_every_version_are_read() {
    check(&pair());
}

#[test]
#[ignore = "writes the golden files of a new version; run it once when a schema changes"]
fn write_the_golden_files_of_a_new_version() {
    fn write<R: Record>(sample: &R) {
        let version = folder().join(CURRENT);
        fs::create_dir_all(&version).expect("schemas/golden is writable");
        let golden = Golden::of::<R>(&version);
        let mut line = json::encode(sample);
        line.push(b'\n');
        for (path, content) in [
            (golden.avsc, R::AVSC.as_bytes()),
            (golden.json, &line),
            (golden.avro, hex(&avro::encode(sample)).as_bytes()),
        ] {
            fs::write(path, content).expect("schemas/golden is writable");
        }
    }
    write(&answer_event());
    write(&correction());
    write(&pair());
}
