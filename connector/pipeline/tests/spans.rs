//! What the span of a record tells of it.
//!
//! Alone in its file, because a tracer is installed for the whole process.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completion, Completions, Identity, Outcome,
    Usage,
    builtin::{Builtin, Rule},
};
use aligner_pipeline::{
    Header, JsonDecoder, JsonEncoder, Parts, Pipeline, Settings,
    memory::{Faults, MemoryLog},
};
use futures::{StreamExt, stream};
use opentelemetry::{
    Context, InstrumentationScope, KeyValue,
    trace::{
        Span, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceState,
        Tracer, TracerProvider,
    },
};

/// Keeps the spans that were ended.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Recorded>>>);

#[derive(Debug, Clone)]
struct Recorded {
    name: String,
    kind: Option<SpanKind>,
    attributes: Vec<KeyValue>,
    status: Status,
}

impl Recorded {
    fn attribute(&self, key: &str) -> Option<String> {
        let found = self.attributes.iter().find(|own| own.key.as_str() == key)?;
        Some(found.value.to_string())
    }
}

impl TracerProvider for Recorder {
    type Tracer = Self;

    fn tracer_with_scope(&self, _: InstrumentationScope) -> Self {
        self.clone()
    }
}

impl Tracer for Recorder {
    type Span = Recording;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Recording {
        let parent = parent.span().span_context().clone();
        Recording {
            context: SpanContext::new(
                parent.trace_id(),
                SpanId::from(0xfeed_u64),
                parent.trace_flags(),
                false,
                TraceState::NONE,
            ),
            recorder: self.clone(),
            recorded: Recorded {
                name: builder.name.into_owned(),
                kind: builder.span_kind,
                attributes: builder.attributes.unwrap_or_default(),
                status: Status::Unset,
            },
        }
    }
}

#[derive(Debug)]
struct Recording {
    context: SpanContext,
    recorder: Recorder,
    recorded: Recorded,
}

impl Span for Recording {
    fn add_event_with_timestamp<T>(&mut self, _: T, _: SystemTime, _: Vec<KeyValue>)
    where
        T: Into<Cow<'static, str>>,
    {
    }

    fn span_context(&self) -> &SpanContext {
        &self.context
    }

    fn is_recording(&self) -> bool {
        true
    }

    fn set_attribute(&mut self, attribute: KeyValue) {
        self.recorded.attributes.push(attribute);
    }

    fn set_status(&mut self, status: Status) {
        self.recorded.status = status;
    }

    fn update_name<T>(&mut self, new_name: T)
    where
        T: Into<Cow<'static, str>>,
    {
        self.recorded.name = new_name.into().into_owned();
    }

    fn add_link(&mut self, _: SpanContext, _: Vec<KeyValue>) {}

    fn end_with_timestamp(&mut self, _: SystemTime) {
        let mut ended = self.recorder.0.lock().expect("no panic");
        ended.push(self.recorded.clone());
    }
}

/// Answers as the answer says.
struct Scripted(Identity);

impl Aligner for Scripted {
    fn identity(&self) -> &Identity {
        &self.0
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let answers = batch.into_iter().enumerate().map(|(index, request)| {
            let rewritten = match &*request.answer {
                "rejected" => Err(AlignError::Rejected("drawn".to_owned())),
                "too large" => Ok("x".repeat(6_000)),
                "refused" => Ok("x".repeat(3_000)),
                answer => Ok(format!("{answer} indeed")),
            };
            let result = rewritten.map(|text| Alignment {
                outcome: Outcome::Rewritten(text),
                usage: Usage {
                    prompt_tokens: 7,
                    correction_tokens: 3,
                },
                timing: Default::default(),
                confidence: None,
            });
            Completion { index, result }
        });
        stream::iter(answers.collect::<Vec<_>>()).boxed()
    }
}

fn event(answer: &str) -> String {
    serde_json::json!({"question": "why?", "answer": answer}).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_record_with_a_trace_has_a_span_that_tells_its_end_and_dead_letters_are_errors() {
    let recorder = Recorder::default();
    opentelemetry::global::set_tracer_provider(recorder.clone());
    let log = MemoryLog::new("answers", 1);
    let traceparent = |span: u64| Header {
        key: "traceparent".to_owned(),
        value: Some(format!("00-0af7651916cd43dd8448eb211c80319c-{span:016x}-01").into()),
    };
    for value in [
        event("good"),
        event("an answer longer than the gate lets pass"),
        event("rejected"),
        "{".to_owned(),
        event(&"x".repeat(1_200)),
        event("too large"),
        event("refused"),
    ] {
        log.append(0, None, Some(value.into()), vec![traceparent(0xabc)]);
    }
    log.append(0, None, Some(event("untraced").into()), Vec::new());

    let identity = Builtin::new(Rule::Identity).identity().clone();
    let model = identity.name.clone();
    let faults = Faults {
        max_value_bytes: 2_000,
        ..Faults::default()
    };
    let pipeline = Pipeline::new(Parts {
        source: log.source(faults),
        sink: log.sink(faults),
        aligner: Arc::new(Scripted(identity)),
        decoder: Arc::new(JsonDecoder::default()),
        encoder: Arc::new(JsonEncoder),
        settings: Settings {
            max_answer_chars: Some(20),
            max_input_bytes: 1_000,
            max_output_bytes: 5_000,
            ..Settings::default()
        },
        connector: "test".to_owned(),
        task: 0,
        wall_clock: Arc::new(|| 0),
    });
    pipeline
        .run(log.delivered())
        .await
        .expect("nothing stops the pipeline");

    // The outputs carry on the record's span, which is a part of the producer's trace.
    assert_eq!(log.outputs()[0].output.headers, [traceparent(0xfeed)]);
    let spans = recorder.0.lock().expect("no panic").clone();
    assert_eq!(spans.len(), 8, "{spans:?}");
    for (offset, disposition, reason) in [
        ("0", "corrected", Some("extended")),
        ("1", "bypassed", Some("too_long")),
        ("2", "dead_lettered", Some("aligner_rejected")),
        ("3", "dead_lettered", Some("invalid_json")),
        ("4", "dead_lettered", Some("too_large")),
        ("5", "dead_lettered", Some("output_too_large")),
        // Its span had ended when the log refused what had become of it.
        ("6", "corrected", Some("replaced")),
        ("6", "dead_lettered", Some("output_refused")),
    ] {
        let says = |span: &Recorded, key: &str, value: &str| {
            span.attribute(key).is_some_and(|said| said == value)
        };
        let span = spans
            .iter()
            .filter(|span| says(span, "messaging.kafka.offset", offset))
            .find(|span| says(span, "aligner.disposition", disposition))
            .unwrap_or_else(|| panic!("{offset} is {disposition}: {spans:?}"));
        assert_eq!(span.name, "process answers");
        assert_eq!(span.kind, Some(SpanKind::Consumer));
        for (key, value) in [
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "process"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "answers"),
            ("messaging.destination.partition.id", "0"),
        ] {
            assert!(says(span, key, value), "{key} is {value}: {span:?}");
        }
        assert_eq!(span.attribute("aligner.reason").as_deref(), reason);
        let error = reason.filter(|_| disposition == "dead_lettered");
        assert_eq!(span.attribute("error.type").as_deref(), error);
        let status = match error {
            Some(reason) => Status::error(reason),
            None => Status::Unset,
        };
        assert_eq!(span.status, status);
    }

    let asked = |offset: usize| {
        let offset = offset.to_string();
        let span = spans
            .iter()
            .find(|span| span.attribute("messaging.kafka.offset").as_ref() == Some(&offset))
            .expect("looked at above");
        [
            span.attribute("gen_ai.request.model"),
            span.attribute("gen_ai.usage.input_tokens"),
            span.attribute("gen_ai.usage.output_tokens"),
        ]
    };
    let model = Some(model);
    let tokens = |count: &str| Some(count.to_owned());
    assert_eq!(asked(0), [model.clone(), tokens("7"), tokens("3")]);
    assert_eq!(asked(1), [None, None, None], "the gate did not let it pass");
    assert_eq!(asked(2), [model, None, None], "it was asked in vain");
    assert_eq!(asked(3), [None, None, None]);
}
