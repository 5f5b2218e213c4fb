//! Lines of text as a source: one partition, whose offsets are line numbers.

use std::{io::BufRead, sync::Arc, time::Duration};

use aligner_pipeline::{
    Decoder, Flow, JsonDecoder, Partition, PartitionEpoch, Source, SourceError, SourceEvent,
    SourceRecord, Undecoded,
};
use aligner_records::AnswerEvent;
use tokio::{sync::mpsc, time::timeout};

use super::Input;

/// Lines that are read ahead of the pipeline.
const READ_AHEAD: usize = 256;
/// Most lines in one event.
const CHUNK: usize = 64;

/// The id of the event on a line where it brings none.
pub fn event_id(line: i64) -> String {
    format!("line-{line}")
}

/// Reads lines on a thread of its own, since stdin blocks.
#[derive(Debug)]
pub struct LineSource {
    lines: mpsc::Receiver<Result<SourceRecord, SourceError>>,
    assigned: Option<Arc<PartitionEpoch>>,
    stopped: bool,
}

impl LineSource {
    /// A source of the lines of `input`; empty lines are skipped, but counted.
    pub fn new(input: Input) -> Self {
        let partition = Arc::new(PartitionEpoch {
            partition: Partition {
                topic: "line".into(),
                number: 0,
            },
            epoch: 0,
        });
        let (sender, lines) = mpsc::channel(READ_AHEAD);
        let tenure = Arc::clone(&partition);
        std::thread::spawn(move || read(input, &tenure, &sender));
        Self {
            lines,
            assigned: Some(partition),
            stopped: false,
        }
    }
}

fn read(
    mut input: Input,
    partition: &Arc<PartitionEpoch>,
    lines: &mpsc::Sender<Result<SourceRecord, SourceError>>,
) {
    let mut offset = 0;
    loop {
        offset += 1;
        let mut line = Vec::new();
        let record = match input.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                while line
                    .last()
                    .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
                {
                    line.pop();
                }
                if line.is_empty() {
                    continue;
                }
                Ok(SourceRecord {
                    partition: Arc::clone(partition),
                    offset,
                    key: None,
                    value: Some(line.into()),
                    headers: Vec::new(),
                    timestamp: None,
                })
            }
            Err(error) => Err(SourceError {
                message: format!("reading line {offset}: {error}"),
            }),
        };
        let failed = record.is_err();
        // The receiver is gone when the command is over.
        if lines.blocking_send(record).is_err() || failed {
            return;
        }
    }
}

impl Source for LineSource {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        if let Some(partition) = self.assigned.take() {
            return Some(Ok(SourceEvent::Assigned(vec![partition])));
        }
        if self.stopped {
            return None;
        }
        let first = match self.lines.recv().await? {
            Ok(record) => record,
            Err(error) => return Some(Err(error)),
        };
        let mut records = vec![first];
        while records.len() < CHUNK {
            match self.lines.try_recv() {
                Ok(Ok(record)) => records.push(record),
                // An error ends the source at its next call: what was read before it counts.
                Ok(Err(error)) => {
                    tracing::error!(%error, "the input ended early");
                    self.stopped = true;
                    break;
                }
                Err(_) => break,
            }
        }
        Some(Ok(SourceEvent::Records(records)))
    }

    /// The pipeline does not ask while it has enough, and the channel is short.
    fn flow(&mut self, _: Flow) {}

    fn stop(&mut self) {
        self.stopped = true;
    }

    async fn close(mut self) {
        self.lines.close();
        // Lets a reader that waits for room see that nobody listens.
        let _ = timeout(Duration::from_millis(1), self.lines.recv()).await;
    }
}

/// Reads JSON lines; an event without an id is called by its line.
#[derive(Debug, Default)]
pub struct LineDecoder {
    json: JsonDecoder,
}

impl Decoder for LineDecoder {
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
        let mut event = self.json.decode(record)?;
        event
            .event_id
            .get_or_insert_with(|| event_id(record.offset));
        Ok(event)
    }

    fn make_ready<'a>(
        &'a self,
        record: &'a SourceRecord,
    ) -> futures::future::BoxFuture<'a, Result<(), String>> {
        self.json.make_ready(record)
    }
}
