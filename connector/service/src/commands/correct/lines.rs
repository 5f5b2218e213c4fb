//! Lines of text as a source: one partition, whose offsets are line numbers.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};

use aligner_pipeline::{
    Decoder, Flow, JsonDecoder, Partition, PartitionEpoch, Source, SourceError, SourceEvent,
    SourceRecord, Undecoded,
};
use aligner_records::{AnswerEvent, FieldMap, json};
use futures::executor::block_on;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

use crate::commands::line::{Input, read_line};

/// Why a longer one is none. Nothing tells how long it was, since the rest of it was skipped.
pub const TOO_LONG: &str =
    "the line is longer than 64 MiB, the most that correct takes: log shorter answers";
/// Most lines that are read ahead: some chunks, so that there is always one more.
const READ_AHEAD: usize = 256;
/// Most bytes of them, since lines may be long: as many as the pipeline holds by itself, which is
/// seconds of work. A longer line is read ahead alone.
const READ_AHEAD_BYTES: u32 = 32 << 20;
/// Most lines in one event.
const CHUNK: usize = 64;

/// What an event without `event_id` is called: in our own layout by its `id`, as `train` and `eval` do, so
/// that results can be joined with what they came from, and else by its line.
pub fn name(value: &[u8], fields: Option<&FieldMap>, line: i64) -> String {
    static BY_ID: LazyLock<FieldMap> = LazyLock::new(|| {
        let fields = ["question", "answer", "event_id"].map(str::to_owned);
        let pointers = ["/question", "/answer", "/id"].map(str::to_owned);
        FieldMap::try_from(BTreeMap::from_iter(fields.into_iter().zip(pointers)))
            .expect("pointers to three fields")
    });
    let id = match fields {
        None => json::remains(value, Some(&BY_ID)).event_id,
        Some(_) => None,
    };
    id.unwrap_or_else(|| format!("line-{line}"))
}

/// Reads lines on a thread of its own, since stdin blocks.
#[derive(Debug)]
pub struct LineSource {
    lines: mpsc::Receiver<io::Result<Ahead>>,
    assigned: Option<Arc<PartitionEpoch>>,
    stopped: bool,
    end: InputEnd,
}

/// A line that was read ahead, and the room that it has until it is handed out.
#[derive(Debug)]
struct Ahead {
    record: SourceRecord,
    _room: OwnedSemaphorePermit,
}

/// How the input ended, once the source is over; nothing if it was stopped before.
///
/// An input that cannot be read any further is no error of the source: the lines before it count.
#[derive(Debug, Clone, Default)]
pub struct InputEnd(Arc<OnceLock<io::Result<()>>>);

impl InputEnd {
    /// The end that was reached.
    pub fn reached(&self) -> Option<&io::Result<()>> {
        self.0.get()
    }
}

impl LineSource {
    /// A source of the lines of `input`, and how it will have ended; lines of white space are
    /// skipped, but counted.
    pub fn new(input: Input) -> (Self, InputEnd) {
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
        let end = InputEnd::default();
        let source = Self {
            lines,
            assigned: Some(partition),
            stopped: false,
            end: end.clone(),
        };
        (source, end)
    }

    /// The next lines; none after the last one that could be read. Dropping the future loses nothing.
    pub async fn next_lines(&mut self) -> Option<Vec<SourceRecord>> {
        if self.stopped {
            return None;
        }
        let first = match self.lines.recv().await {
            Some(Ok(line)) => line,
            None => {
                self.ended(Ok(()));
                return None;
            }
            Some(Err(error)) => {
                self.ended(Err(error));
                return None;
            }
        };
        // All of them keep their room until the last one is here.
        let mut lines = vec![first];
        while lines.len() < CHUNK {
            match self.lines.try_recv() {
                Ok(Ok(line)) => lines.push(line),
                Ok(Err(error)) => {
                    self.ended(Err(error));
                    break;
                }
                Err(_) => break,
            }
        }
        Some(lines.into_iter().map(|line| line.record).collect())
    }

    fn ended(&mut self, end: io::Result<()>) {
        self.stopped = true;
        // It ends once.
        let _ = self.end.0.set(end);
    }
}

fn read(
    mut input: Input,
    partition: &Arc<PartitionEpoch>,
    lines: &mpsc::Sender<io::Result<Ahead>>,
) {
    let room = Arc::new(Semaphore::new(READ_AHEAD_BYTES as usize));
    let mut offset = 0;
    loop {
        offset += 1;
        let line = match read_line(&mut input) {
            Ok(None) => return,
            Ok(Some(mut line)) => {
                while line
                    .last()
                    .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
                {
                    line.pop();
                }
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let bytes = u32::try_from(line.len()).unwrap_or(u32::MAX);
                let taken = Arc::clone(&room).acquire_many_owned(bytes.min(READ_AHEAD_BYTES));
                Ok(Ahead {
                    record: SourceRecord {
                        partition: Arc::clone(partition),
                        offset,
                        key: None,
                        value: Some(line.into()),
                        headers: Vec::new(),
                        timestamp: None,
                    },
                    // Lines that nobody will take any more give theirs back, too.
                    _room: block_on(taken).expect("nobody closes it"),
                })
            }
            Err(error) => Err(io::Error::new(
                error.kind(),
                format!("reading line {offset}: {error}"),
            )),
        };
        let failed = line.is_err();
        // The receiver is gone when the command is over.
        if lines.blocking_send(line).is_err() || failed {
            return;
        }
    }
}

impl Source for LineSource {
    async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
        if let Some(partition) = self.assigned.take() {
            return Some(Ok(SourceEvent::Assigned(vec![partition])));
        }
        let lines = self.next_lines().await?;
        Some(Ok(SourceEvent::Records(lines)))
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

/// Reads JSON lines; see [`name`] for events without an id.
#[derive(Debug)]
pub struct LineDecoder {
    json: JsonDecoder,
    fields: Option<FieldMap>,
}

impl LineDecoder {
    /// A decoder of our own layout, or of the one that `fields` describes.
    pub fn new(fields: Option<FieldMap>) -> Self {
        Self {
            json: JsonDecoder::new(fields.clone()),
            fields,
        }
    }
}

impl Decoder for LineDecoder {
    fn decode(&self, record: &SourceRecord) -> Result<AnswerEvent, Undecoded> {
        let mut event = self.json.decode(record)?;
        event.event_id.get_or_insert_with(|| {
            let value = record.value.as_deref().unwrap_or_default();
            name(value, self.fields.as_ref(), record.offset)
        });
        Ok(event)
    }

    fn make_ready<'a>(
        &'a self,
        record: &'a SourceRecord,
    ) -> futures::future::BoxFuture<'a, Result<(), String>> {
        self.json.make_ready(record)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufReader, Cursor, Read},
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// A disk that fails.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }

    async fn offsets(source: &mut LineSource) -> Vec<i64> {
        let mut offsets = Vec::new();
        while let Some(event) = source.next().await {
            if let SourceEvent::Records(records) = event.expect("the source itself does not fail") {
                offsets.extend(records.iter().map(|record| record.offset));
            }
        }
        offsets
    }

    #[tokio::test]
    async fn lines_before_a_failure_are_handed_out_and_the_failure_is_kept() {
        // The reader runs beside us, so that the failure is met by one call or the other.
        for lines in 0..200 {
            let text = "{}\n".repeat(lines);
            let input = BufReader::new(Cursor::new(text).chain(Broken));
            let (mut source, end) = LineSource::new(Box::new(input));
            let expected: Vec<i64> = (1..).take(lines).collect();
            assert_eq!(offsets(&mut source).await, expected);
            let error = end
                .reached()
                .and_then(|end| end.as_ref().err())
                .expect("it failed");
            assert!(error.to_string().contains(&format!("line {}", lines + 1)));
        }
    }

    /// Lines without end, each as long as the buffer that is to be filled.
    struct Endless(Arc<AtomicUsize>);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            *buffer.last_mut().expect("somebody wants to read") = b'\n';
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(buffer.len())
        }
    }

    #[tokio::test]
    async fn no_more_bytes_are_read_ahead_than_have_room_and_a_longer_line_alone() {
        let most = READ_AHEAD_BYTES as usize;
        for (line, ahead) in [(most / 2, 2), (most + 2, 1)] {
            let read = Arc::new(AtomicUsize::new(0));
            let input = BufReader::with_capacity(line, Endless(Arc::clone(&read)));
            let (mut source, _) = LineSource::new(Box::new(input));
            // Each takes its bytes of the room, and nothing follows while they keep it.
            let mut held = Vec::new();
            for _ in 0..ahead {
                let line = source.lines.recv().await.expect("it has no end");
                held.push(line.expect("it can be read"));
            }
            let room: usize = held.iter().map(|line| line._room.num_permits()).sum();
            let bytes = ahead * (line - 1);
            assert_eq!(room, bytes.min(most));
            assert!(source.lines.try_recv().is_err());
            // One more is read than is ahead: the one that waits for its room.
            assert!(read.load(Ordering::SeqCst) <= ahead + 1);
        }
    }

    #[tokio::test]
    async fn a_source_that_was_stopped_has_reached_no_end() {
        let (mut source, end) = LineSource::new(Box::new(Cursor::new("{}\n{}\n")));
        assert!(matches!(
            source.next().await,
            Some(Ok(SourceEvent::Assigned(_)))
        ));
        source.stop();
        assert!(source.next().await.is_none());
        assert!(end.reached().is_none());
        let (mut source, end) = LineSource::new(Box::new(Cursor::new("{}\n{}\n")));
        assert_eq!(offsets(&mut source).await, [1, 2]);
        assert!(matches!(end.reached(), Some(Ok(()))));
    }
}
