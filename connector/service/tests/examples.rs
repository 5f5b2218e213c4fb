//! The examples in `config/` say the truth.

use std::path::{Path, PathBuf};

use aligner_records::{AnswerEvent, json::decode_mapped};
use aligner_service::config::{self, Layers, Problems, Settings, read};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

fn problems(file: &Path) -> Vec<String> {
    let layers = Layers {
        file: Some(file.to_owned()),
        ..Layers::default()
    };
    match read(&layers) {
        Ok(_) => Vec::new(),
        Err(Problems(problems)) => problems.into_iter().map(|problem| problem.key).collect(),
    }
}

#[test]
fn the_commented_example_holds_every_key_with_its_default() {
    let written = ::config::Config::builder()
        .add_source(::config::File::from(folder().join("connector.yaml")))
        .build()
        .and_then(::config::Config::try_deserialize::<serde_json::Value>)
        .expect("the example is YAML");
    let defaults = serde_json::to_value(Settings::default()).expect("settings serialise");
    assert_eq!(written, defaults);
}

/// What `secured.yaml` names.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

#[test]
fn every_example_is_valid_but_for_the_secrets_of_other_machines() {
    let mut examples = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let path = entry.expect("readable").path();
        if !path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "toml")
        {
            continue;
        }
        examples += 1;
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        // These name a mounted secret, as they should.
        let expected: &[&str] = match stem {
            Some("secured") => &["kafka.property_files.sasl.password"],
            Some("oauth") => &["kafka.property_files.sasl.oauthbearer.client.secret"],
            _ => &[],
        };
        let mut found = problems(&path);
        if !Path::new(AUTHORITIES).exists() {
            // So it is on machines without Debian's package of authorities.
            found.retain(|key| key != "kafka.properties.ssl.ca.location");
        }
        assert_eq!(found, expected, "{}", path.display());
    }
    assert!(examples >= 7, "{examples} examples");
}

#[test]
fn a_mapping_is_read_where_the_secrets_of_the_same_file_are_not() {
    let layers = Layers {
        file: Some(folder().join("secured.yaml")),
        ..Layers::default()
    };
    read(&layers).expect_err("the secret is mounted elsewhere");
    let settings = config::read_sections(&layers, &["input"]).expect("its input is complete");
    assert_eq!(config::fields(&settings).expect("there are none"), None);
}

#[test]
fn the_example_for_chat_logs_reads_what_openai_writes() {
    let layers = Layers {
        file: Some(folder().join("existing-log.yaml")),
        ..Layers::default()
    };
    let settings = read(&layers).expect("the example is valid");
    let fields = config::fields(&settings)
        .expect("its pointers are")
        .expect("it has some");
    // As the Chat Completions API has it: integers of seconds, the system's message first, content
    // as a text or in parts, and null where the model calls a tool.
    let log = |content: &str, message: &str| {
        let log = format!(
            r#"{{"id":"chatcmpl-B9MB","object":"chat.completion","created":1741569952,
                "model":"gpt-4.1-2025-04-14","messages":[
                    {{"role":"system","content":"You are a helpful assistant."}},
                    {{"role":"user","content":"Hello!"}},
                    {{"role":"assistant","content":"Hello! How can I help?"}},
                    {{"role":"user","content":{content}}}],
                "choices":[{{"index":0,"message":{message},"logprobs":null,"finish_reason":"stop"}}],
                "usage":{{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}}}}"#
        );
        decode_mapped(log.as_bytes(), &fields).expect("an answer event")
    };
    let spoken = r#"{"role":"assistant","content":"It is a cat.","refusal":null,"annotations":[]}"#;
    let parts = r#"[{"type":"text","text":"What is this?"},
        {"type":"image_url","image_url":{"url":"https://example.com/cat.jpg"}}]"#;
    let event = log(parts, spoken);
    assert_eq!(
        event,
        AnswerEvent {
            event_id: Some("chatcmpl-B9MB".to_owned()),
            question: "What is this?".to_owned(),
            answer: "It is a cat.".to_owned(),
            upstream_model: Some("gpt-4.1-2025-04-14".to_owned()),
            created_at: Some(1_741_569_952_000),
            conversation_id: None,
            user_id: None,
            metadata_json: Some(
                r#"{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29}"#.to_owned()
            ),
        }
    );
    assert_eq!(log(r#""What is this?""#, spoken), event);

    let called = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1",
        "type":"function","function":{"name":"look","arguments":"{}"}}]}"#;
    assert_eq!(log(parts, called).answer, "");
}
