//! Carries a record's trace through the pipeline (W3C Trace Context).
//!
//! A record whose producer sent a `traceparent` header gets one span, from its reading to its
//! result, as a child of the producer's; its outputs carry the span on. A result that the log
//! refuses afterwards becomes a dead letter with a span of its own. A record without a trace, the
//! usual case, costs a look at its headers. Without a tracer installed, the producer's own context
//! is carried on. Spans hold positions and dispositions, never text, under the names that
//! OpenTelemetry's conventions have for messaging and for generative AI.

use std::{str::FromStr, sync::Arc, time::SystemTime};

use aligner::Usage;
use aligner_records::Disposition;
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue, global,
    trace::{
        SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags, TraceId, TraceState,
        Tracer,
    },
};
use tokio::time::Instant;

use crate::source::{Header, Partition, SourceRecord};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A record's span.
#[derive(Debug)]
pub(crate) struct Trace(Context);

impl Trace {
    /// Begins the span of a record that was read at `received`, if its producer sent a trace.
    ///
    /// To be called once the record's turn has come: the span begins with its reading all the same,
    /// and what merely waits to be decoded holds no span.
    pub(crate) fn begin(record: &SourceRecord, received: Instant) -> Option<Box<Self>> {
        if record.headers.is_empty() {
            return None;
        }
        let parent = remote(&record.headers)?;
        let parent = Context::new().with_remote_span_context(parent);
        let tracer = global::tracer("aligner-pipeline");
        let Partition { topic, number } = &record.partition.partition;
        let now = SystemTime::now();
        // Samplers see what is there at the beginning and nothing that is added later.
        let span = tracer
            .span_builder(format!("process {topic}"))
            .with_kind(SpanKind::Consumer)
            .with_start_time(now.checked_sub(received.elapsed()).unwrap_or(now))
            .with_attributes([
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", Arc::clone(topic)),
                KeyValue::new("messaging.destination.partition.id", number.to_string()),
                KeyValue::new("messaging.kafka.offset", record.offset),
            ])
            .start_with_context(&tracer, &parent);
        Some(Box::new(Self(parent.with_span(span))))
    }

    /// The headers that carry the span on.
    pub(crate) fn headers(&self) -> Vec<Header> {
        headers(self.0.span().span_context())
    }

    /// The model was asked for this record. Usage is zero where it is not known.
    pub(crate) fn asked(&self, model: &str, usage: Usage) {
        let span = self.0.span();
        if !span.is_recording() {
            return;
        }
        span.set_attributes([
            KeyValue::new("gen_ai.operation.name", "text_completion"),
            KeyValue::new("gen_ai.request.model", model.to_owned()),
        ]);
        if usage != Usage::default() {
            let Usage {
                prompt_tokens,
                correction_tokens,
            } = usage;
            span.set_attributes([
                KeyValue::new("gen_ai.usage.input_tokens", i64::from(prompt_tokens)),
                KeyValue::new("gen_ai.usage.output_tokens", i64::from(correction_tokens)),
            ]);
        }
    }

    /// Ends the span, as an error if the record is dead-lettered.
    pub(crate) fn end(self, disposition: Disposition, reason: Option<&'static str>) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("aligner.disposition", disposition.as_str()));
        if let Some(reason) = reason {
            span.set_attribute(KeyValue::new("aligner.reason", reason));
            if disposition == Disposition::DeadLettered {
                span.set_attribute(KeyValue::new("error.type", reason));
                span.set_status(Status::error(reason));
            }
        }
        span.end();
    }
}

fn text<'a>(headers: &'a [Header], key: &str) -> Option<&'a str> {
    let header = headers.iter().find(|header| header.key == key)?;
    std::str::from_utf8(header.value.as_ref()?).ok()
}

/// The context in `traceparent` and `tracestate`; `None` if absent or not valid.
fn remote(headers: &[Header]) -> Option<SpanContext> {
    let mut parts = text(headers, TRACEPARENT)?.split('-');
    let mut part = |length: usize| {
        parts
            .next()
            .filter(|part| part.len() == length && part.bytes().all(is_lower_hex))
    };
    let version = part(2).filter(|version| *version != "ff")?;
    let trace = TraceId::from_hex(part(32)?).ok()?;
    let span = SpanId::from_hex(part(16)?).ok()?;
    let flags = u8::from_str_radix(part(2)?, 16).ok()?;
    // Later versions may have more parts; this one may not.
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let state = text(headers, TRACESTATE)
        .and_then(|state| TraceState::from_str(state).ok())
        .unwrap_or_default();
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, state);
    context.is_valid().then_some(context)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn headers(context: &SpanContext) -> Vec<Header> {
    if !context.is_valid() {
        return Vec::new();
    }
    let mut headers = vec![Header {
        key: TRACEPARENT.to_owned(),
        value: Some(Bytes::from(format!(
            "00-{}-{}-{:02x}",
            context.trace_id(),
            context.span_id(),
            context.trace_flags().to_u8()
        ))),
    }];
    let state = context.trace_state().header();
    if !state.is_empty() {
        headers.push(Header {
            key: TRACESTATE.to_owned(),
            value: Some(Bytes::from(state)),
        });
    }
    headers
}

#[cfg(test)]
mod tests {
    use crate::source::PartitionEpoch;

    use super::*;

    fn record(headers: &[(&str, &str)]) -> SourceRecord {
        SourceRecord {
            partition: Arc::new(PartitionEpoch {
                partition: Partition {
                    topic: "t".into(),
                    number: 0,
                },
                epoch: 1,
            }),
            offset: 7,
            key: None,
            value: None,
            headers: headers
                .iter()
                .map(|(key, value)| Header {
                    key: (*key).to_owned(),
                    value: Some(Bytes::copy_from_slice(value.as_bytes())),
                })
                .collect(),
            timestamp: None,
        }
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn without_a_tracer_the_producers_context_is_carried_on() {
        let headers = [(TRACEPARENT, PARENT), (TRACESTATE, "vendor=1")];
        let record = record(&headers);
        let trace = Trace::begin(&record, Instant::now()).expect("a valid traceparent");
        assert_eq!(trace.headers(), record.headers);
    }

    #[test]
    fn a_record_without_a_valid_traceparent_has_no_span() {
        for value in [
            None,
            Some(""),
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"),
            Some("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            Some("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"),
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x"),
        ] {
            let headers: Vec<_> = value
                .map(|value| (TRACEPARENT, value))
                .into_iter()
                .collect();
            let trace = Trace::begin(&record(&headers), Instant::now());
            assert!(trace.is_none(), "{value:?}");
        }
    }
}
