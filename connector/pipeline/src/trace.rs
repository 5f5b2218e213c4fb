//! Carries a record's trace through the pipeline (W3C Trace Context).
//!
//! A record whose producer sent a `traceparent` header gets one span, from its reading to its
//! result, as a child of the producer's; its outputs carry the span on. A record without one, the
//! usual case, costs a look at its headers. Without a tracer installed, the producer's own context
//! is carried on. Spans hold positions and dispositions, never text.

use std::str::FromStr;

use aligner_records::Disposition;
use bytes::Bytes;
use opentelemetry::{
    Context, KeyValue, global,
    trace::{
        SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
    },
};

use crate::source::{Header, SourceRecord};

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// A record's span.
#[derive(Debug)]
pub(crate) struct Trace(Context);

impl Trace {
    /// Begins the span of a record, if its producer sent a trace.
    pub(crate) fn begin(record: &SourceRecord) -> Option<Box<Self>> {
        if record.headers.is_empty() {
            return None;
        }
        let parent = remote(&record.headers)?;
        let parent = Context::new().with_remote_span_context(parent);
        let tracer = global::tracer("aligner-pipeline");
        let partition = &record.partition.partition;
        let span = tracer
            .span_builder("align")
            .with_kind(SpanKind::Consumer)
            .with_attributes([
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.destination.name", partition.topic.to_string()),
                KeyValue::new(
                    "messaging.destination.partition.id",
                    partition.number.to_string(),
                ),
                KeyValue::new("messaging.kafka.offset", record.offset),
            ])
            .start_with_context(&tracer, &parent);
        Some(Box::new(Self(parent.with_span(span))))
    }

    /// Ends the span and returns the headers that carry it on.
    pub(crate) fn end(
        &self,
        disposition: Disposition,
        reason: Option<&'static str>,
    ) -> Vec<Header> {
        let span = self.0.span();
        span.set_attribute(KeyValue::new("aligner.disposition", disposition.as_str()));
        if let Some(reason) = reason {
            span.set_attribute(KeyValue::new("aligner.reason", reason));
        }
        let headers = headers(span.span_context());
        span.end();
        headers
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
    use std::sync::Arc;

    use crate::source::{Partition, PartitionEpoch};

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
        let trace = Trace::begin(&record(&headers)).expect("a valid traceparent");
        assert_eq!(
            trace.end(Disposition::Unchanged, None),
            record(&headers).headers
        );
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
            assert!(Trace::begin(&record(&headers)).is_none(), "{value:?}");
        }
    }
}
