//! Dead letters: the record as it came, with the cause in its headers, and whose it is.
//!
//! One that is too large for the log leaves out the record's value, then its headers, and at last its
//! key; headers say how large they were. No record can block its partition.

use std::sync::Arc;

use aligner_records::{DeadLetter, Disposition, Stage};
use tokio::time::Instant;

use crate::{
    encode::{Cause, Encoding, dead_letter_reason},
    sink::{Outbound, OutputKind},
    source::{Header, SourceRecord},
    trace::Trace,
    work::{Finished, Kept, Outputs, Whose, position},
};

/// The header of a dead letter whose value was too large to be written: its size in bytes.
pub const VALUE_OMITTED_HEADER: &str = "aligner.value_omitted";

/// The header of a dead letter whose record's own headers were too large to be written: the size of
/// their keys and values in bytes.
pub const HEADERS_OMITTED_HEADER: &str = "aligner.headers_omitted";

/// The header of a dead letter whose key was too large to be written: its size in bytes. The key is
/// then the record's position.
pub const KEY_OMITTED_HEADER: &str = "aligner.key_omitted";

impl Encoding {
    /// The record as it came, with the cause in its headers.
    pub(crate) fn dead_letter(
        &self,
        record: SourceRecord,
        trace: Option<Box<Trace>>,
        whose: Whose,
        cause: Cause,
    ) -> Finished {
        if let Some(trace) = trace {
            trace.end(Disposition::DeadLettered, Some(cause.reason));
        }
        let letter = self.letter(&record, &whose, &cause);
        let headers = self.headers(&record.headers, &letter);
        let output = Outbound {
            kind: OutputKind::DeadLetter,
            key: Some(record.key.clone().unwrap_or_else(|| letter.key().into())),
            value: record.value.clone(),
            headers,
        };
        let (output, kept) = if output.bytes() > self.max_output_bytes {
            self.bare(&record, &letter, Kept::KeyAndHeaders)
        } else {
            (output, Kept::Everything)
        };
        Finished {
            record,
            outputs: Outputs(Arc::new(output), None),
            disposition: Disposition::DeadLettered,
            reason: Some(cause.reason),
            whose,
            kept: Some(kept),
            refusals: 0,
        }
    }

    /// The next try after the sink refused an output: a dead letter, then one without the record's
    /// value, then one without its headers, then one without its key, too.
    pub(crate) fn refused(&self, finished: Finished, cause: &str) -> Finished {
        let refusals = finished.refusals + 1;
        let cause = Cause {
            stage: Stage::Encode,
            reason: dead_letter_reason::OUTPUT_REFUSED,
            message: format!("an output of this record was refused: {cause}"),
        };
        let next = if let Some(kept) = finished.kept {
            let letter = self.letter(&finished.record, &finished.whose, &cause);
            let (bare, kept) = self.bare(&finished.record, &letter, kept.less());
            Finished {
                outputs: Outputs(Arc::new(bare), None),
                reason: Some(cause.reason),
                kept: Some(kept),
                ..finished
            }
        } else {
            // The record's own span has ended, and says what became of it before.
            let trace = Trace::begin(&finished.record, Instant::now());
            self.dead_letter(finished.record, trace, finished.whose, cause)
        };
        Finished { refusals, ..next }
    }

    fn letter(&self, record: &SourceRecord, whose: &Whose, cause: &Cause) -> DeadLetter {
        let Whose {
            event_id,
            upstream_model,
        } = whose.clone();
        DeadLetter {
            source: position(record),
            logged_at: record.timestamp,
            event_id,
            upstream_model,
            stage: cause.stage,
            reason: cause.reason,
            message: cause.message.clone(),
        }
    }

    /// A record's own headers, and those that name the cause.
    fn headers(&self, own: &[Header], letter: &DeadLetter) -> Vec<Header> {
        let added = letter.headers(&self.connector, self.task);
        let mut headers = Vec::with_capacity(own.len() + added.len() + 1);
        headers.extend_from_slice(own);
        headers.extend(added.into_iter().map(|(key, value)| Header {
            key,
            value: Some(value.into()),
        }));
        headers
    }

    /// A dead letter without its record's value: position, cause, how large the value was, and what
    /// of the rest shall be kept and has room. Returns what was kept, too: less where headers have
    /// no room, or where there are none to leave out.
    fn bare(&self, record: &SourceRecord, letter: &DeadLetter, kept: Kept) -> (Outbound, Kept) {
        let max_key_bytes = if kept == Kept::Nothing {
            0
        } else {
            // So that headers have room.
            self.max_output_bytes / 4
        };
        let (key, key_omitted) = match &record.key {
            Some(key) if key.len() <= max_key_bytes => (key.clone(), None),
            key => (letter.key().into(), key.as_ref()),
        };
        let output = |own: &[Header], headers_omitted: Option<usize>| {
            let value_bytes = record.value.as_ref().map_or(0, |value| value.len());
            let mut headers = self.headers(own, letter);
            for (name, bytes) in [
                (KEY_OMITTED_HEADER, key_omitted.map(|key| key.len())),
                (HEADERS_OMITTED_HEADER, headers_omitted),
                (VALUE_OMITTED_HEADER, Some(value_bytes)),
            ] {
                headers.extend(bytes.map(|bytes| Header {
                    key: name.to_owned(),
                    value: Some(bytes.to_string().into()),
                }));
            }
            Outbound {
                kind: OutputKind::DeadLetter,
                key: Some(key.clone()),
                value: None,
                headers,
            }
        };
        let own = &record.headers;
        let without_headers = if kept == Kept::KeyAndHeaders {
            Kept::Key
        } else {
            kept
        };
        if own.is_empty() {
            return (output(&[], None), without_headers);
        }
        let whole = output(own, None);
        if kept == Kept::KeyAndHeaders && whole.bytes() <= self.max_output_bytes {
            return (whole, kept);
        }
        let own_bytes = whole.bytes() - output(&[], None).bytes();
        (output(&[], Some(own_bytes)), without_headers)
    }
}
