//! The pointers of `docs/existing-logs.md` read the logs that they are given for.

use std::{collections::BTreeMap, io::Write};

use aligner_records::{AnswerEvent, FieldMap, json::decode_mapped};
use aligner_service::config::{self, Layers, read_sections};
use serde_json::{Value, json};

const QUESTION: &str = "Who can help me?";
/// What every sample answers, in the pieces that its log has.
const ANSWER: &str = "Write to ann.lee@example.com today.";
/// When every sample with a time was logged.
const AT: i64 = 1_766_000_068_281;

/// The mapping of each row of the page, by the row's name.
fn documented() -> BTreeMap<String, FieldMap> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/existing-logs.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let mut rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| log |"))
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().trim_matches('`')).collect()
        });
    let columns: Vec<&str> = rows.next().expect("there is a table");
    // The line below the names.
    rows.next();
    rows.map(|row: Vec<&str>| {
        let mut fields = String::new();
        let mut unit = "null";
        for (column, cell) in columns.iter().zip(&row).skip(1) {
            match (*column, *cell) {
                (_, "–") => {}
                ("created_at_unit", cell) => unit = cell,
                (column, cell) => fields += &format!("    {column}: {cell}\n"),
            }
        }
        let yaml = format!("input:\n  created_at_unit: {unit}\n  fields:\n{fields}");
        (row[0].to_owned(), mapping(&yaml))
    })
    .collect()
}

fn mapping(yaml: &str) -> FieldMap {
    let mut file = tempfile::Builder::new()
        .suffix(".yaml")
        .tempfile()
        .expect("temporary file");
    file.write_all(yaml.as_bytes()).expect("written");
    let layers = Layers {
        file: Some(file.path().to_owned()),
        ..Layers::default()
    };
    let settings =
        read_sections(&layers, &["input"]).unwrap_or_else(|problems| panic!("{yaml}: {problems}"));
    config::fields(&settings)
        .expect("pointers")
        .expect("there are some")
}

/// A record of a log, and what it says.
struct Sample {
    log: &'static str,
    record: Value,
    id: &'static str,
    question: &'static str,
    answer: &'static str,
    created_at: Option<i64>,
}

/// A record with this question and this answer.
fn sample(log: &'static str, id: &'static str, created_at: Option<i64>, record: Value) -> Sample {
    Sample {
        log,
        record,
        id,
        question: QUESTION,
        answer: ANSWER,
        created_at,
    }
}

/// The same without a text in the answer.
fn silent(log: &'static str, id: &'static str, created_at: Option<i64>, record: Value) -> Sample {
    Sample {
        answer: "",
        ..sample(log, id, created_at, record)
    }
}

fn of_openai() -> Vec<Sample> {
    const CHAT: &str = "OpenAI, Chat Completions";
    const RESPONSES: &str = "OpenAI, Responses";
    let seconds = Some(AT / 1_000 * 1_000);
    let chat = |choices: Value| {
        json!({
            "request": {"model": "gpt-4o", "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": QUESTION},
                    {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
                ]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function",
                    "function": {"name": "search", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "c", "content": "ann.lee@example.com"},
            ]},
            "response": {"id": "chatcmpl-1", "object": "chat.completion",
                "created": AT / 1_000, "model": "gpt-4o-2024-08-06", "choices": choices,
                "usage": {"prompt_tokens": 19, "completion_tokens": 10}},
        })
    };
    let choice = |content: Value| {
        json!({"index": 0, "finish_reason": "stop", "logprobs": null, "message":
            {"role": "assistant", "content": content, "refusal": null, "annotations": []}})
    };
    let other = json!({"index": 1, "message": {"role": "assistant", "content": "Nobody can."}});
    let responses = |input: Value, output: Value| {
        json!({
            "request": {"model": "gpt-5", "input": input, "instructions": "Be brief."},
            "response": {"id": "resp_1", "object": "response", "created_at": AT / 1_000,
                "status": "completed", "model": "gpt-5", "output": output},
        })
    };
    let message = json!({"type": "message", "id": "msg_1", "role": "assistant",
        "status": "completed", "content": [{"type": "output_text", "text": ANSWER,
        "annotations": []}]});
    let reasoning = json!({"type": "reasoning", "id": "rs_1", "summary":
        [{"type": "summary_text", "text": "Somebody asks for help."}]});
    let call = json!({"type": "function_call", "call_id": "c", "name": "search",
        "arguments": "{}"});
    let turns = json!([
        {"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        call, {"type": "function_call_output", "call_id": "c", "output": "ann.lee@example.com"},
    ]);
    vec![
        sample(
            CHAT,
            "chatcmpl-1",
            seconds,
            chat(json!([choice(json!(ANSWER)), other])),
        ),
        silent(
            CHAT,
            "chatcmpl-1",
            seconds,
            chat(json!([choice(Value::Null)])),
        ),
        silent(CHAT, "chatcmpl-1", seconds, chat(json!([]))),
        sample(
            RESPONSES,
            "resp_1",
            seconds,
            responses(json!(QUESTION), json!([reasoning, message])),
        ),
        sample(
            RESPONSES,
            "resp_1",
            seconds,
            responses(turns.clone(), json!([message])),
        ),
        silent(
            RESPONSES,
            "resp_1",
            seconds,
            responses(turns, json!([call])),
        ),
    ]
}

fn of_anthropic() -> Vec<Sample> {
    const LOG: &str = "Anthropic, Messages";
    let record = |content: Value| {
        json!({
            "request": {"model": "claude-sonnet-4-5", "max_tokens": 1024, "messages": [
                {"role": "user", "content": QUESTION},
                {"role": "assistant", "content": [
                    {"type": "text", "text": "I will look."},
                    {"type": "tool_use", "id": "t", "name": "search", "input": {}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "ann.lee@example.com"},
                ]},
            ]},
            "response": {"id": "msg_1", "type": "message", "role": "assistant",
                "content": content, "stop_reason": "end_turn"},
        })
    };
    let text = |text: &str| json!({"type": "text", "text": text});
    let cited = json!({"type": "text", "text": "@example.com", "citations":
        [{"type": "char_location", "cited_text": "ann.lee@example.com", "document_index": 0}]});
    let thinking = json!({"type": "thinking", "thinking": "Who is it?", "signature": "EqQB"});
    let call = json!({"type": "tool_use", "id": "u", "name": "search", "input": {}});
    vec![
        sample(
            LOG,
            "msg_1",
            None,
            record(json!([
                thinking,
                text("Write to ann.lee"),
                cited,
                text(" today.")
            ])),
        ),
        silent(LOG, "msg_1", None, record(json!([call]))),
        silent(LOG, "msg_1", None, record(json!([]))),
    ]
}

fn of_gemini() -> Vec<Sample> {
    const LOG: &str = "Google, Gemini";
    let record = |contents: Value, candidates: Value| {
        json!({
            "request": {"contents": contents,
                "systemInstruction": {"parts": [{"text": "Be brief."}]}},
            "response": {"candidates": candidates, "modelVersion": "gemini-2.5-flash",
                "createTime": "2025-12-17T19:34:28.281234Z", "responseId": "r1"},
        })
    };
    let asked = json!([
        {"role": "user", "parts": [{"text": QUESTION},
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "search", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "search", "response": {}}}]},
    ]);
    let candidate = |parts: Value| json!([{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}]);
    let pieces = json!([{"text": "Who is it?", "thought": true}, {"text": "Write to ann.lee@exam"},
        {"text": "ple.com today.", "thoughtSignature": "x"}]);
    let call = json!([{"functionCall": {"name": "search", "args": {}}}]);
    vec![
        sample(
            LOG,
            "r1",
            Some(AT),
            record(asked.clone(), candidate(pieces)),
        ),
        // One turn needs no role.
        sample(
            LOG,
            "r1",
            Some(AT),
            record(
                json!([{"parts": [{"text": QUESTION}]}]),
                candidate(json!([{"text": ANSWER}])),
            ),
        ),
        silent(LOG, "r1", Some(AT), record(asked, candidate(call))),
    ]
}

fn of_bedrock() -> Vec<Sample> {
    const LOG: &str = "Amazon Bedrock's invocation log, Converse";
    let record = |asked: Value, content: Value| {
        json!({
            "schemaType": "ModelInvocationLog", "schemaVersion": "1.0", "requestId": "7ad1",
            "timestamp": "2025-12-17T19:34:28Z", "operation": "Converse", "modelId": "m",
            "input": {"inputContentType": "application/json",
                "inputBodyJson": {"messages": [{"role": "user", "content": asked}]}},
            "output": {"outputContentType": "application/json", "outputBodyJson": {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": "end_turn"}},
        })
    };
    let text = |text: &str| json!({"text": text});
    let reasoning = json!({"reasoningContent": {"reasoningText": {"text": "Who is it?"}}});
    let cited = json!({"citationsContent": {"content": [{"text": "ann.lee@example.com"}],
        "citations": [{"title": "People"}]}});
    let guarded = json!({"guardContent": {"text": {"text": QUESTION, "qualifiers": ["query"]}}});
    let call = json!({"toolUse": {"toolUseId": "t", "name": "search", "input": {}}});
    let at = Some(AT / 1_000 * 1_000);
    vec![
        sample(
            LOG,
            "7ad1",
            at,
            record(
                json!([text(QUESTION)]),
                json!([reasoning, text("Write to "), cited, text(" today.")]),
            ),
        ),
        sample(
            LOG,
            "7ad1",
            at,
            record(json!([guarded]), json!([text(ANSWER)])),
        ),
        silent(
            LOG,
            "7ad1",
            at,
            record(json!([text(QUESTION)]), json!([call])),
        ),
    ]
}

fn of_litellm() -> Vec<Sample> {
    const LOG: &str = "LiteLLM";
    let record = |response: Value| {
        json!({
            "id": "chatcmpl-1", "trace_id": "9d1c", "call_type": "acompletion",
            "status": "success", "startTime": 1_766_000_068.281, "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": QUESTION}], "response": response,
            "metadata": {"user_api_key_user_id": "u"}, "end_user": "",
        })
    };
    let response = |content: Value| {
        json!({"id": "chatcmpl-1", "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": content, "tool_calls": null}}]})
    };
    vec![
        sample(LOG, "chatcmpl-1", Some(AT), record(response(json!(ANSWER)))),
        silent(LOG, "chatcmpl-1", Some(AT), record(response(Value::Null))),
        silent(LOG, "chatcmpl-1", Some(AT), record(Value::Null)),
    ]
}

fn of_langfuse() -> Vec<Sample> {
    const LOG: &str = "Langfuse, observations";
    let record = |input: Value, output: Value| {
        json!({
            "id": "6f1c", "traceId": "t1", "type": "GENERATION", "name": "chat", "model": "gpt-4o",
            "startTime": "2025-12-17T19:34:28.281Z", "input": input, "output": output,
        })
    };
    let messages = json!([{"role": "system", "content": "Be brief."},
        {"role": "user", "content": QUESTION}]);
    let message = json!({"role": "assistant", "content": ANSWER});
    let call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]});
    let text = |value: &Value| json!(value.to_string());
    let mut samples = Vec::new();
    for input in [
        messages.clone(),
        text(&messages),
        json!({"messages": messages, "tools": []}),
        json!(QUESTION),
    ] {
        for output in [
            message.clone(),
            text(&message),
            json!([message]),
            json!(ANSWER),
        ] {
            samples.push(sample(LOG, "6f1c", Some(AT), record(input.clone(), output)));
        }
        for output in [call.clone(), text(&call), Value::Null] {
            samples.push(silent(LOG, "6f1c", Some(AT), record(input.clone(), output)));
        }
    }
    samples
}

fn of_opentelemetry() -> Vec<Sample> {
    const LOG: &str = "OpenTelemetry, a span in OTLP/JSON";
    let record = |asked: Value, part: Value| {
        let attribute =
            |key: &str, text: String| json!({"key": key, "value": {"stringValue": text}});
        let said = json!([{"role": "assistant", "finish_reason": "stop", "parts":
            [{"type": "reasoning", "content": "Who is it?"}, part]}]);
        json!({
            "traceId": "5b", "spanId": "ee", "name": "chat gpt-4o",
            "startTimeUnixNano": "1766000068281234567",
            "attributes": [
                attribute("gen_ai.response.id", "chatcmpl-1".to_owned()),
                attribute("gen_ai.input.messages", asked.to_string()),
                attribute("gen_ai.output.messages", said.to_string()),
                {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "19"}},
            ],
        })
    };
    let asked = json!([
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": QUESTION}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "…"}]},
    ]);
    let text = json!({"type": "text", "content": ANSWER});
    let call = json!({"type": "tool_call", "id": "c", "name": "search", "arguments": {}});
    let of_another_kind = json!({
        "traceId": "5b", "spanId": "ef", "name": "GET", "startTimeUnixNano": "1766000068281234567",
        "attributes": [{"key": "http.request.method", "value": {"stringValue": "GET"}},
            {"key": "gen_ai.response.id", "value": {"stringValue": "none"}}],
    });
    vec![
        sample(LOG, "chatcmpl-1", Some(AT), record(asked.clone(), text)),
        silent(LOG, "chatcmpl-1", Some(AT), record(asked, call)),
        Sample {
            question: "",
            ..silent(LOG, "none", Some(AT), of_another_kind)
        },
    ]
}

fn of_databases() -> Vec<Sample> {
    const COLUMN: &str = "Debezium, a chat in a JSON column";
    const MONGO: &str = "Debezium, MongoDB";
    let change = |after: Value| {
        json!({"before": null, "after": after, "op": "c", "ts_ms": AT,
            "source": {"connector": "postgresql", "table": "chats"}})
    };
    let chat = |content: Value| {
        let chat = json!({"messages": [{"role": "user", "content": QUESTION}],
            "choices": [{"message": {"role": "assistant", "content": content}}]});
        chat.to_string()
    };
    let row = |chat: Value| {
        change(json!({"id": 9_007_199_254_740_993_i64, "chat": chat, "created_at": AT * 1_000}))
    };
    let document = |at: Value| {
        let document = json!({"_id": {"$oid": "65f0"}, "question": QUESTION, "answer": ANSWER,
            "at": {"$date": at}});
        change(json!(document.to_string()))
    };
    let id = "9007199254740993";
    vec![
        sample(COLUMN, id, Some(AT), row(json!(chat(json!(ANSWER))))),
        silent(COLUMN, id, Some(AT), row(json!(chat(Value::Null)))),
        Sample {
            question: "",
            ..silent(COLUMN, id, Some(AT), row(Value::Null))
        },
        sample(MONGO, "65f0", Some(AT), document(json!(AT))),
        sample(
            MONGO,
            "65f0",
            Some(AT),
            document(json!({"$numberLong": AT.to_string()})),
        ),
        sample(
            MONGO,
            "65f0",
            Some(AT),
            document(json!("2025-12-17T19:34:28.281Z")),
        ),
    ]
}

fn of_cloudevents() -> Vec<Sample> {
    const LOG: &str = "CloudEvents, structured";
    let record = |data: Value| {
        json!({"specversion": "1.0", "type": "com.example.answer", "source": "/gateway",
            "id": "A234", "time": "2025-12-17T19:34:28.281Z",
            "datacontenttype": "application/json", "data": data})
    };
    let data = json!({"messages": [{"role": "user", "content": QUESTION}], "answer": ANSWER});
    vec![
        sample(LOG, "A234", Some(AT), record(data.clone())),
        sample(LOG, "A234", Some(AT), record(json!(data.to_string()))),
    ]
}

#[test]
fn every_row_of_the_page_reads_the_log_that_it_is_for() {
    let rows = documented();
    let samples: Vec<_> = [
        of_openai(),
        of_anthropic(),
        of_gemini(),
        of_bedrock(),
        of_litellm(),
        of_langfuse(),
        of_opentelemetry(),
        of_databases(),
        of_cloudevents(),
    ]
    .into_iter()
    .flatten()
    .collect();
    for sample in &samples {
        let Sample { log, record, .. } = sample;
        let fields = rows
            .get(*log)
            .unwrap_or_else(|| panic!("the page has no row {log:?}"));
        let event = decode_mapped(record.to_string().as_bytes(), fields)
            .unwrap_or_else(|error| panic!("{log}: {error} in {record}"));
        let expected = AnswerEvent {
            event_id: Some(sample.id.to_owned()),
            question: sample.question.to_owned(),
            answer: sample.answer.to_owned(),
            created_at: sample.created_at,
            ..AnswerEvent::default()
        };
        assert_eq!(event, expected, "{log}: {record}");
    }
    for name in rows.keys() {
        let read = samples.iter().any(|sample| sample.log == name.as_str());
        assert!(read, "no sample of {name:?}");
    }
    assert!(rows.len() >= 11, "{} rows", rows.len());
}
