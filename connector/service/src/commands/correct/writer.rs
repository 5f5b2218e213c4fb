//! Corrections as lines, in the order of the input.

use std::sync::{Arc, mpsc};

use aligner::Identity;
use aligner_pipeline::{
    Delivery, DeliveryError, Encoder, JsonEncoder, Outbound, OutputKind, PartitionEpoch, Sink,
    VALUE_OMITTED_HEADER,
};
use aligner_records::{
    AnswerEvent, Correction, Disposition, FieldMap, MESSAGE_HEADER, PreferencePair, REASON_HEADER,
    event_correction_id, json,
};
use bytes::Bytes;
use indicatif::ProgressBar;

use super::lines::{self, TOO_LONG};
use crate::{
    cli::OutputFormat,
    commands::{
        self,
        line::MAX_LINE_BYTES,
        line_output::{LineOutput, Unwritten},
        shown::{Look, Shown},
    },
    diff::Paint,
};

/// Writes corrections that came from no topic.
#[derive(Debug)]
pub struct LineEncoder {
    revision: String,
}

impl LineEncoder {
    /// An encoder for the Aligner of this revision.
    pub fn new(revision: &str) -> Self {
        Self {
            revision: revision.to_owned(),
        }
    }
}

impl Encoder for LineEncoder {
    fn correction(&self, correction: &Correction) -> Bytes {
        let correction_id = event_correction_id(
            &correction.event_id,
            correction.question.as_deref().unwrap_or_default(),
            correction.answer.as_deref().unwrap_or_default(),
            &self.revision,
        );
        JsonEncoder.correction(&Correction {
            correction_id,
            source_topic: None,
            source_partition: None,
            source_offset: None,
            ..correction.clone()
        })
    }

    fn pair(&self, pair: &PreferencePair) -> Bytes {
        let correction_id =
            event_correction_id(&pair.event_id, &pair.prompt, &pair.rejected, &self.revision);
        JsonEncoder.pair(&PreferencePair {
            correction_id,
            source_topic: None,
            source_partition: None,
            source_offset: None,
            ..pair.clone()
        })
    }
}

/// How a run ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// Lines of which everything was written.
    pub lines: u64,
    /// Lines that could not be corrected.
    pub dead_lettered: u64,
    /// Why writing stopped, if it did.
    pub unwritten: Option<Unwritten>,
}

/// Tells how the sink ended, once it was closed.
#[derive(Debug)]
pub struct EndingHandle(mpsc::Receiver<Ending>);

impl EndingHandle {
    /// Waits for the sink's end.
    pub fn wait(self) -> Ending {
        self.0.recv().unwrap_or_default()
    }
}

/// A sink of lines.
pub struct LineSink {
    output: LineOutput,
    pairs: Option<LineOutput>,
    format: OutputFormat,
    look: Look,
    identity: Identity,
    fields: Option<FieldMap>,
    progress: ProgressBar,
    ending: Ending,
    tell: mpsc::SyncSender<Ending>,
}

impl LineSink {
    /// A sink that writes to `output`, and pairs to `pairs`; the handle tells how it ended.
    pub fn new(
        output: LineOutput,
        pairs: Option<LineOutput>,
        format: OutputFormat,
        paint: Paint,
        identity: Identity,
        fields: Option<FieldMap>,
        progress: ProgressBar,
    ) -> (Self, EndingHandle) {
        let (tell, handle) = mpsc::sync_channel(1);
        let ending = Ending::default();
        let sink = Self {
            output,
            pairs,
            format,
            look: Look::of_results(paint),
            identity,
            fields,
            progress,
            ending,
            tell,
        };
        (sink, EndingHandle(handle))
    }

    /// Writes an output of a delivery whose last record has this offset.
    fn write(&mut self, outbound: &Outbound, last_offset: i64) -> Result<(), Unwritten> {
        let correction = match outbound.kind {
            OutputKind::Pair => return self.write_pair(outbound),
            OutputKind::Correction => outbound.value.clone().unwrap_or_default(),
            OutputKind::DeadLetter => {
                self.ending.dead_lettered += 1;
                let value = outbound.value.as_deref().unwrap_or_default();
                let fields = self.fields.as_ref();
                let mut event = json::remains(value, fields);
                let event_id = event.event_id.take().unwrap_or_else(|| {
                    let line = outbound.source_offset().unwrap_or(last_offset);
                    lines::name(value, fields, line)
                });
                json::encode(&dead_letter(outbound, event_id, event, &self.identity)).into()
            }
        };
        self.progress.inc(1);
        match self.format {
            OutputFormat::Json => self.output.line(&correction)?,
            OutputFormat::Text => {
                let shown =
                    Shown::read(&correction).expect("what this process encoded is a correction");
                self.output.line(shown.text(self.look).as_bytes())?;
            }
        }
        self.ending.lines += 1;
        Ok(())
    }

    fn write_pair(&mut self, outbound: &Outbound) -> Result<(), Unwritten> {
        let Some(pairs) = &mut self.pairs else {
            return Ok(());
        };
        let written = pairs.line(outbound.value.as_deref().unwrap_or_default());
        if written.is_err() {
            // It was counted with its correction, which stands before its pair.
            self.ending.lines -= 1;
        }
        written
    }
}

impl Sink for LineSink {
    async fn deliver(
        &mut self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Arc<PartitionEpoch>>, DeliveryError> {
        let written = commands::may_block(|| {
            deliveries.iter().try_for_each(|delivery| {
                let mut outputs = delivery.outputs.iter();
                outputs.try_for_each(|outbound| self.write(outbound, delivery.next_offset - 1))
            })
        });
        written.map(|()| Vec::new()).map_err(|error| {
            let cause = error.to_string();
            self.ending.unwritten = Some(error);
            DeliveryError::Stopped(cause)
        })
    }

    async fn close(mut self) {
        self.progress.finish_and_clear();
        // Nobody waits for it if the command failed elsewhere.
        let _ = self.tell.send(std::mem::take(&mut self.ending));
    }
}

/// The record that stands in a dead-lettered line's place, with what is left of its event.
fn dead_letter(
    outbound: &Outbound,
    event_id: String,
    event: AnswerEvent,
    identity: &Identity,
) -> Correction {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let (question, answer) = (text(event.question), text(event.answer));
    // A line without both is told from others by all that it holds.
    let whole = String::from_utf8_lossy(outbound.value.as_deref().unwrap_or_default());
    let told_by = match (&question, &answer) {
        (Some(question), Some(answer)) => (question.as_str(), answer.as_str()),
        _ => ("", &*whole),
    };
    let decoding = &identity.decoding;
    Correction {
        correction_id: event_correction_id(&event_id, told_by.0, told_by.1, &identity.revision),
        event_id,
        question,
        answer,
        // Nobody looked at it: not to be read on as one that was.
        correction: None,
        disposition: Disposition::DeadLettered,
        reason: outbound.header(REASON_HEADER).map(str::to_owned),
        message: message(outbound).map(str::to_owned),
        similarity: None,
        unchanged_logprob: None,
        mean_logprob: None,
        upstream_model: event.upstream_model,
        conversation_id: event.conversation_id,
        user_id: event.user_id,
        metadata_json: event.metadata_json,
        created_at: event.created_at,
        aligner_name: identity.name.clone(),
        aligner_revision: identity.revision.clone(),
        template_hash: identity.template_hash.clone(),
        max_new_tokens: i32::try_from(decoding.max_new_tokens).unwrap_or(i32::MAX),
        temperature: decoding.temperature,
        top_p: decoding.top_p,
        seed: (decoding.temperature > 0.0).then(|| decoding.seed.cast_signed()),
        source_topic: None,
        source_partition: None,
        source_offset: None,
        prompt_tokens: 0,
        correction_tokens: 0,
        queue_ms: 0,
        inference_ms: 0,
        corrected_at: commands::now_ms(),
        proposal: None,
    }
}

/// Why it is dead-lettered. The pipeline knows its own limit alone, and no higher one helps a line
/// that was cut off when it was read.
fn message(outbound: &Outbound) -> Option<&str> {
    let omitted = || -> Option<usize> { outbound.header(VALUE_OMITTED_HEADER)?.parse().ok() };
    let bytes = outbound.value.as_ref().map(Bytes::len).or_else(omitted);
    if bytes.is_some_and(|bytes| bytes > MAX_LINE_BYTES) {
        return Some(TOO_LONG);
    }
    outbound.header(MESSAGE_HEADER)
}
