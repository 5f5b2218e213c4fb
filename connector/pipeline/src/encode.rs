//! From an Aligner's verdict to the records that are written.
//!
//! Every record ends here, as exactly one of: a correction, a correction with its preference pair
//! (if and only if the answer was changed, in more than white space at its ends), or a dead letter.
//! Outputs that no log would take are not tried: the record becomes a dead letter instead, see
//! [`crate::letters`].

use std::{fmt, sync::Arc};

use aligner::{
    AlignRequest, Alignment, Identity, Outcome, Usage, guard::Confidence, reason::Bypass,
};
use aligner_records::{
    AnswerEvent, Correction, Disposition, PreferencePair, SourcePosition, Stage, correction_id,
    json,
};
use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    edit,
    similarity::similarity,
    sink::{Outbound, OutputKind},
    source::SourceRecord,
    trace::Trace,
    work::{Finished, Outputs, Whose, Work, position},
};

/// Stable words for dead letters that this crate decides on; those of decoding are in
/// [`aligner_records::reason`].
pub(crate) mod dead_letter_reason {
    /// The record's value is larger than `max_input_bytes`.
    pub const TOO_LARGE: &str = "too_large";
    /// The Aligner said that it cannot answer this record.
    pub const ALIGNER_REJECTED: &str = "aligner_rejected";
    /// The Aligner fails whenever this record is in its batch.
    pub const ALIGNER_FAILED: &str = "aligner_failed";
    /// The Aligner was unavailable for this record at all attempts, or for all for very long.
    pub const ALIGNER_UNAVAILABLE: &str = "aligner_unavailable";
    /// The Aligner gave no answer in time, twice.
    pub const ALIGNER_TIMEOUT: &str = "aligner_timeout";
    /// An output is larger than `max_output_bytes`.
    pub const OUTPUT_TOO_LARGE: &str = "output_too_large";
    /// The output log refused an output.
    pub const OUTPUT_REFUSED: &str = "output_refused";
}

/// Writes records as bytes. What it needs, such as schema ids, it has before the pipeline starts.
pub trait Encoder: Send + Sync + 'static {
    /// The value of a correction.
    fn correction(&self, correction: &Correction) -> Bytes;

    /// The value of a preference pair.
    fn pair(&self, pair: &PreferencePair) -> Bytes;
}

/// Writes JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonEncoder;

impl Encoder for JsonEncoder {
    fn correction(&self, correction: &Correction) -> Bytes {
        json::encode(correction).into()
    }

    fn pair(&self, pair: &PreferencePair) -> Bytes {
        json::encode(pair).into()
    }
}

/// Epoch milliseconds; tests bring their own.
pub type WallClock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Why a record is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    pub stage: Stage,
    pub reason: &'static str,
    pub message: String,
}

/// Makes outputs of verdicts.
#[derive(Clone)]
pub(crate) struct Encoding {
    pub encoder: Arc<dyn Encoder>,
    pub identity: Identity,
    /// The connector's name, as dead letters give it.
    pub connector: String,
    /// The number of its task.
    pub task: u32,
    pub max_output_bytes: usize,
    pub wall_clock: WallClock,
}

impl fmt::Debug for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoding").finish_non_exhaustive()
    }
}

/// What is known of an alignment besides its outcome.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub usage: Usage,
    pub queue_ms: i64,
    pub inference_ms: i64,
    pub confidence: Option<Confidence>,
}

impl Encoding {
    /// The end of a record that the Aligner answered; `submitted` is when it was asked and `now`
    /// when it answered.
    pub(crate) fn aligned(
        &self,
        work: Work,
        alignment: Alignment,
        submitted: Instant,
        now_ms: i64,
    ) -> Finished {
        if let Some(trace) = &work.trace {
            trace.asked(&self.identity.name, alignment.usage);
        }
        let cost = Cost {
            usage: alignment.usage,
            queue_ms: millis((submitted - work.received) + alignment.timing.queued),
            inference_ms: millis(alignment.timing.inference),
            confidence: alignment.confidence,
        };
        let verdict = match alignment.outcome.normalized(&work.request.answer) {
            Outcome::Rewritten(text) if *text == *work.request.answer => Verdict::Unchanged,
            Outcome::Rewritten(text) => Verdict::corrected(&work.request.answer, text),
            Outcome::Unchanged => Verdict::Unchanged,
            Outcome::Bypassed(bypass) => Verdict::Bypassed(bypass, None),
            Outcome::Rejected { bypass, proposal } => Verdict::Bypassed(bypass, Some(proposal)),
        };
        self.verdict(work, verdict, cost, now_ms)
    }

    /// The end of a record that the gate did not let pass.
    pub(crate) fn bypassed(&self, work: Work, bypass: Bypass, now: Instant) -> Finished {
        let cost = Cost {
            queue_ms: millis(now - work.received),
            ..Cost::default()
        };
        let now_ms = (self.wall_clock)();
        self.verdict(work, Verdict::Bypassed(bypass, None), cost, now_ms)
    }

    /// The end of a record that the Aligner could not answer.
    pub(crate) fn failed(&self, work: Work, cause: Cause) -> Finished {
        if let Some(trace) = &work.trace {
            trace.asked(&self.identity.name, Usage::default());
        }
        let whose = Whose::of(&work);
        self.dead_letter(work.record, work.trace, whose, cause)
    }

    /// The end of a record, read at `received`, that is too large or no event, and whose it is as
    /// far as that can be read.
    pub(crate) fn undecoded(
        &self,
        record: SourceRecord,
        received: Instant,
        whose: Whose,
        cause: Cause,
    ) -> Finished {
        let trace = Trace::begin(&record, received);
        self.dead_letter(record, trace, whose, cause)
    }

    fn verdict(&self, work: Work, verdict: Verdict, cost: Cost, now_ms: i64) -> Finished {
        let (disposition, reason) = verdict.words();
        let headers = match &work.trace {
            None => Vec::new(),
            Some(trace) => trace.headers(),
        };
        let key = Some(Bytes::copy_from_slice(work.request.event_id.as_bytes()));
        let outbound = |kind, value| {
            Arc::new(Outbound {
                kind,
                key: key.clone(),
                value: Some(value),
                headers: headers.clone(),
            })
        };
        let whose = Whose::of(&work);
        let Work {
            record,
            event,
            request,
            trace,
            ..
        } = work;
        let source = position(&record);
        let mut correction = self.correction(&source, event, &request, verdict, cost, now_ms);
        let encoded = |correction: &Correction| {
            outbound(OutputKind::Correction, self.encoder.correction(correction))
        };
        let mut first = encoded(&correction);
        if first.bytes() > self.max_output_bytes && correction.proposal.take().is_some() {
            // What was not to be delivered makes no dead letter of an answer that can be.
            first = encoded(&correction);
        }
        let second = (disposition == Disposition::Corrected).then(|| {
            let value = self.encoder.pair(&pair(correction));
            outbound(OutputKind::Pair, value)
        });
        let outputs = Outputs(first, second);
        if let Some(large) = outputs
            .iter()
            .map(|output| output.bytes())
            .find(|bytes| *bytes > self.max_output_bytes)
        {
            let cause = Cause {
                stage: Stage::Encode,
                reason: dead_letter_reason::OUTPUT_TOO_LARGE,
                message: format!(
                    "an output of this record has {large} bytes, more than max_output_bytes {}: \
                     raise it together with the topic's max.message.bytes, or log shorter answers",
                    self.max_output_bytes
                ),
            };
            return self.dead_letter(record, trace, whose, cause);
        }
        if let Some(trace) = trace {
            trace.end(disposition, reason);
        }
        Finished {
            record,
            outputs,
            disposition,
            reason,
            whose,
            kept: None,
            refusals: 0,
        }
    }

    /// What is said of a verdict: the texts, and all that is needed to audit it or to make it again.
    fn correction(
        &self,
        source: &SourcePosition,
        event: AnswerEvent,
        request: &AlignRequest,
        verdict: Verdict,
        cost: Cost,
        now_ms: i64,
    ) -> Correction {
        let (disposition, reason) = verdict.words();
        let answer = request.answer.to_string();
        let (corrected, similarity, message, proposal) = match verdict {
            Verdict::Corrected {
                text, similarity, ..
            } => (text, similarity, None, None),
            Verdict::Unchanged => (answer.clone(), 1.0, None, None),
            Verdict::Bypassed(bypass, proposal) => {
                let message = bypass.message().map(str::to_owned);
                (answer.clone(), 1.0, message, proposal)
            }
        };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let id = &self.identity;
        let greedy = id.decoding.temperature <= 0.0;
        Correction {
            correction_id: correction_id(Some(source), &request.event_id, &id.revision),
            event_id: request.event_id.to_string(),
            question: text(request.question.to_string()),
            answer: text(answer),
            correction: text(corrected),
            disposition,
            reason: reason.map(str::to_owned),
            message,
            similarity: Some(similarity),
            unchanged_logprob: number(cost.confidence.and_then(|sure| sure.unchanged_logprob)),
            mean_logprob: number(cost.confidence.map(|sure| sure.mean_logprob)),
            upstream_model: event.upstream_model,
            conversation_id: event.conversation_id,
            user_id: event.user_id,
            metadata_json: event.metadata_json,
            created_at: event.created_at,
            aligner_name: id.name.clone(),
            aligner_revision: id.revision.clone(),
            template_hash: id.template_hash.clone(),
            max_new_tokens: i32::try_from(id.decoding.max_new_tokens).unwrap_or(i32::MAX),
            temperature: id.decoding.temperature,
            top_p: id.decoding.top_p,
            seed: (!greedy).then(|| {
                i64::try_from(id.decoding.seed)
                    .expect("settings refuse seeds beyond the record's signed integers")
            }),
            source_topic: Some(source.topic.to_string()),
            source_partition: Some(source.partition),
            source_offset: Some(source.offset),
            prompt_tokens: i32::try_from(cost.usage.prompt_tokens).unwrap_or(i32::MAX),
            correction_tokens: i32::try_from(cost.usage.correction_tokens).unwrap_or(i32::MAX),
            queue_ms: cost.queue_ms,
            inference_ms: cost.inference_ms,
            corrected_at: now_ms,
            proposal,
        }
    }
}

/// What a record's correction says.
enum Verdict {
    Corrected {
        text: String,
        similarity: f64,
        /// What was done to the answer, see [`edit`].
        edit: &'static str,
    },
    Unchanged,
    /// With what the guard did not let through, if that is why.
    Bypassed(Bypass, Option<String>),
}

impl Verdict {
    fn corrected(answer: &str, text: String) -> Self {
        let similarity = similarity(answer, &text);
        Self::Corrected {
            edit: edit::kind(answer, &text, similarity),
            text,
            similarity,
        }
    }

    fn words(&self) -> (Disposition, Option<&'static str>) {
        match self {
            Self::Corrected { edit, .. } => (Disposition::Corrected, Some(edit)),
            Self::Unchanged => (Disposition::Unchanged, None),
            Self::Bypassed(bypass, _) => (Disposition::Bypassed, Some(bypass.word)),
        }
    }
}

/// The pair of a correction of an answer that was changed.
fn pair(correction: Correction) -> PreferencePair {
    let corrected = correction.correction.unwrap_or_default();
    let rejected = correction.answer.unwrap_or_default();
    let chosen = between_ends_of(&rejected, &corrected);
    let similarity = match correction.similarity {
        Some(measured) if chosen == corrected => measured,
        _ => similarity(&rejected, &chosen),
    };
    PreferencePair {
        correction_id: correction.correction_id,
        event_id: correction.event_id,
        prompt: correction.question.unwrap_or_default(),
        chosen,
        rejected,
        similarity,
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

/// A text without the white space at its ends, between that of an answer. Models end texts as they
/// learnt to, and a trainer would learn from the pairs to end with a line feed.
fn between_ends_of(answer: &str, text: &str) -> String {
    let (start, rest) = answer.split_at(answer.len() - answer.trim_start().len());
    let end = &rest[rest.trim_end().len()..];
    [start, text.trim(), end].concat()
}

/// JSON has no infinity, which a server's number may become in single precision.
fn number(logprob: Option<f32>) -> Option<f64> {
    logprob.filter(|logprob| logprob.is_finite()).map(f64::from)
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
