//! A record on its way to, through, and from the Aligner.

use std::{mem, sync::Arc};

use aligner::AlignRequest;
use aligner_records::{AnswerEvent, Disposition, INSTANTS, SourcePosition};
use tokio::time::Instant;

use crate::{offsets::Ticket, sink::Outbound, source::SourceRecord, trace::Trace};

/// A decoded record that has no result yet.
#[derive(Debug)]
pub(crate) struct Work {
    pub ticket: Ticket,
    /// As it came: a dead letter needs it.
    pub record: SourceRecord,
    /// The event without question and answer, which are in `request`.
    pub event: AnswerEvent,
    pub request: AlignRequest,
    /// What it will cost the Aligner, as it estimates.
    pub tokens: u32,
    pub received: Instant,
    pub tries: Tries,
    pub trace: Option<Box<Trace>>,
}

/// What went wrong with a record so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Calls for which the Aligner was unavailable.
    pub unavailable: u32,
    /// Those of them that speak against the record: the Aligner answered others meanwhile.
    pub passed_over: u32,
    /// Calls that failed with it.
    pub failed: u32,
    /// Calls that went without an answer for too long.
    pub timed_out: u32,
    /// How things stood when the Aligner was first asked, or last unavailable.
    pub last: Option<Standing>,
}

/// How things stood with the Aligner from one record's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Requests that it had answered by then, of any record.
    pub answered: u64,
    /// Since when it has answered nothing, as far as this record saw.
    pub silent_since: Instant,
}

impl Work {
    pub(crate) fn new(
        ticket: Ticket,
        record: SourceRecord,
        mut event: AnswerEvent,
        received: Instant,
    ) -> Self {
        let event_id = match event.event_id.take() {
            Some(id) => id.into(),
            None => position(&record).to_string().into(),
        };
        // Logs without a time of their own have Kafka's.
        event.created_at = event
            .created_at
            .or(record.timestamp.filter(|at| INSTANTS.contains(at)));
        let request = AlignRequest {
            event_id,
            question: mem::take(&mut event.question).into(),
            answer: mem::take(&mut event.answer).into(),
            waiting_since: received.into_std(),
        };
        let trace = Trace::begin(&record, received);
        Self {
            ticket,
            record,
            event,
            request,
            tokens: 0,
            received,
            tries: Tries::default(),
            trace,
        }
    }
}

/// Where a record lies.
pub(crate) fn position(record: &SourceRecord) -> SourcePosition {
    let partition = &record.partition.partition;
    SourcePosition {
        topic: Arc::clone(&partition.topic),
        partition: partition.number,
        offset: record.offset,
    }
}

/// Whose record it is, as far as that could be read: its dead letter says so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whose {
    pub event_id: Option<Arc<str>>,
    pub upstream_model: Option<Arc<str>>,
}

impl Whose {
    pub(crate) fn of(work: &Work) -> Self {
        Self {
            event_id: Some(Arc::clone(&work.request.event_id)),
            upstream_model: work.event.upstream_model.as_deref().map(Arc::from),
        }
    }
}

impl From<AnswerEvent> for Whose {
    fn from(remains: AnswerEvent) -> Self {
        Self {
            event_id: remains.event_id.map(Arc::from),
            upstream_model: remains.upstream_model.map(Arc::from),
        }
    }
}

/// The end of a record, waiting to be delivered.
#[derive(Debug)]
pub(crate) struct Finished {
    /// As it came: the sink may refuse its outputs.
    pub record: SourceRecord,
    pub outputs: Outputs,
    pub disposition: Disposition,
    pub reason: Option<&'static str>,
    pub whose: Whose,
    /// What its dead letter keeps of it; none where it is no dead letter.
    pub kept: Option<Kept>,
    /// How often the sink refused outputs of it.
    pub refusals: u32,
}

/// What a dead letter keeps of its record, besides position and cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Key, value and headers.
    Everything,
    /// Key and headers, where they have room.
    KeyAndHeaders,
    /// The key, where it has room.
    Key,
    /// Nothing: any log takes that.
    Nothing,
}

impl Kept {
    /// What is kept in the next try, after a dead letter with this much was refused.
    pub(crate) fn less(self) -> Self {
        match self {
            Self::Everything => Self::KeyAndHeaders,
            Self::KeyAndHeaders => Self::Key,
            Self::Key | Self::Nothing => Self::Nothing,
        }
    }
}

/// One or two records to write.
#[derive(Debug)]
pub(crate) struct Outputs(pub Arc<Outbound>, pub Option<Arc<Outbound>>);

impl Outputs {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Outbound>> {
        [Some(&self.0), self.1.as_ref()].into_iter().flatten()
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.iter().map(|output| output.bytes() as u64).sum()
    }
}

/// Bytes that a record holds while it is in the pipeline, its bookkeeping included.
pub(crate) fn footprint(record: &SourceRecord) -> u64 {
    const BOOKKEEPING: usize = 512;
    (record.bytes() + BOOKKEEPING) as u64
}
