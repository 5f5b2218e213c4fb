//! A pipeline from its parts to its end: the loop that waits for the next event, and the tasks
//! beside it.
//!
//! What an event leads to is the coordinator's business; see there. Calls of the Aligner and
//! deliveries run as tasks that report back, and nothing is shared with them. The sink has a task of
//! its own, so that it works while the next delivery is being prepared, and is closed before the
//! source leaves its group.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aligner::Aligner;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    align::CallContext,
    coordinator::{Coordinator, Event, Outlets},
    decode::Decoder,
    delivery::Answer,
    encode::{Encoder, Encoding, WallClock},
    metrics::Instruments,
    progress::{Outcome, Progress, State},
    settings::Settings,
    sink::{Delivery, Sink},
    source::{Source, SourceError},
};

/// What a pipeline is made of.
pub struct Parts<S, K> {
    /// Where records come from.
    pub source: S,
    /// Where results go.
    pub sink: K,
    /// Who corrects.
    pub aligner: Arc<dyn Aligner>,
    /// Reads answer events.
    pub decoder: Arc<dyn Decoder>,
    /// Writes corrections and pairs.
    pub encoder: Arc<dyn Encoder>,
    /// All limits.
    pub settings: Settings,
    /// The connector's name, as dead letters give it.
    pub connector: String,
    /// The number of its task, as dead letters give it.
    pub task: u32,
    /// The time in records; [`system_clock`] outside tests.
    pub wall_clock: WallClock,
}

/// The system's wall clock.
pub fn system_clock() -> WallClock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    })
}

/// What a pipeline has done when it ends well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Records read.
    pub received: u64,
    /// Records delivered, by disposition and reason.
    pub outcomes: Vec<Outcome>,
    /// Records read but not delivered. They will be read again.
    pub left: u64,
}

/// Why a pipeline ended badly. Nothing is lost: what was not delivered will be read again.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The source cannot go on.
    #[error("source: {0}")]
    Source(SourceError),
    /// The sink cannot go on.
    #[error("sink: {0}")]
    Sink(String),
    /// The Aligner cannot go on.
    #[error("{0}")]
    Aligner(String),
    /// A task of the pipeline panicked: a bug.
    #[error("a task of the pipeline ended unexpectedly: {0}")]
    Task(String),
}

/// A pipeline that is ready to run.
pub struct Pipeline<S, K> {
    parts: Parts<S, K>,
    progress: Progress,
}

/// Reports that may wait for the coordinator.
const REPORTS: usize = 256;

impl<S: Source, K: Sink> Pipeline<S, K> {
    /// Puts a pipeline together.
    pub fn new(parts: Parts<S, K>) -> Self {
        Self {
            parts,
            progress: Progress::default(),
        }
    }

    /// A handle to what it is doing.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Runs until `shutdown` is ready, the source ends, or something cannot go on. Sink and
    /// source are closed before it returns.
    ///
    /// # Errors
    /// If source, sink or Aligner cannot go on. Records without a delivered result will be read
    /// again.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<Summary, PipelineError> {
        let Self { parts, progress } = self;
        let (sink_tx, sink_rx) = mpsc::channel(1);
        let (answers_tx, mut answers) = mpsc::channel(1);
        let (reports_tx, mut reports) = mpsc::channel(REPORTS);
        // Dropping the set, as when this future is dropped, ends the task.
        let mut sink = JoinSet::new();
        sink.spawn(serve_sink(parts.sink, sink_rx, answers_tx));

        let mut source = parts.source;
        let encoding = Encoding {
            encoder: parts.encoder,
            identity: parts.aligner.identity().clone(),
            connector: parts.connector,
            task: parts.task,
            max_output_bytes: parts.settings.max_output_bytes,
            wall_clock: parts.wall_clock,
        };
        let context = CallContext {
            aligner: parts.aligner,
            encoding,
            instruments: Instruments::register(&progress),
        };
        let close_timeout = Duration::from_millis(parts.settings.close_timeout_ms);
        let mut coordinator = Coordinator::new(
            parts.settings,
            parts.decoder,
            context,
            Outlets {
                reports: reports_tx,
                sink: sink_tx,
            },
            progress.clone(),
        );
        progress.enter(State::Running);

        tokio::pin!(shutdown);
        let mut asked_to_stop = false;
        let mut sink_answers = true;
        loop {
            let now = Instant::now();
            let more = coordinator.advance(&mut source, now);
            if coordinator.is_over(now) {
                break;
            }
            let listens = coordinator.listens();
            let until = coordinator.deadline(now);
            let event = tokio::select! {
                biased;
                () = &mut shutdown, if !asked_to_stop => Event::Shutdown,
                answer = answers.recv(), if sink_answers => Event::Delivered(answer),
                Some(report) = reports.recv() => Event::Report(report),
                ended = coordinator.calls.joined() => Event::TaskEnded(ended),
                fetched = coordinator.intake.fetched() => Event::DecoderFetched(fetched),
                () = yield_now(), if more => Event::Tick,
                event = source.next(), if listens => Event::Source(event),
                () = sleep_until(until) => Event::Tick,
            };
            asked_to_stop |= matches!(event, Event::Shutdown);
            sink_answers &= !matches!(event, Event::Delivered(None));
            coordinator.handle(event, &mut source, Instant::now());
        }

        coordinator.deliveries.tell_rest();
        let summary = coordinator.summary();
        let error = coordinator.error.take();
        // Without its sender the sink closes.
        drop(coordinator);
        close(sink, source, close_timeout).await;
        progress.enter(State::Stopped);
        error.map_or(Ok(summary), Err)
    }
}

/// Owns the sink: delivers what it is given, and closes it at the end.
async fn serve_sink<K: Sink>(
    mut sink: K,
    mut deliveries: mpsc::Receiver<Vec<Delivery>>,
    answers: mpsc::Sender<Answer>,
) {
    while let Some(next) = deliveries.recv().await {
        let answer = sink.deliver(next).await;
        if answers.send(answer).await.is_err() {
            break;
        }
    }
    sink.close().await;
}

/// Waits until both are closed: the sink must be before the source leaves. They have this time
/// together, the source some of it in any case.
async fn close(mut sink: JoinSet<()>, source: impl Source, timeout: Duration) {
    let until = Instant::now() + timeout;
    match timeout_at(until - timeout / 4, sink.join_next()).await {
        Ok(Some(Err(_))) => tracing::error!("the sink's task panicked"),
        Ok(_) => {}
        Err(_) => tracing::warn!("the sink did not close within close_timeout_ms"),
    }
    if timeout_at(until, source.close()).await.is_err() {
        tracing::warn!("the source did not close within close_timeout_ms");
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use aligner::builtin::{Builtin, Rule};

    use super::*;
    use crate::{
        decode::JsonDecoder,
        encode::JsonEncoder,
        source::{Flow, SourceEvent},
    };

    /// A log that never answers, not even when it is closed.
    struct Stuck;

    impl Source for Stuck {
        async fn next(&mut self) -> Option<Result<SourceEvent, SourceError>> {
            pending().await
        }

        fn flow(&mut self, _: Flow) {}

        fn stop(&mut self) {}

        async fn close(self) {
            pending::<()>().await;
        }
    }

    impl Sink for Stuck {
        async fn deliver(&mut self, _: Vec<Delivery>) -> Answer {
            pending().await
        }

        async fn close(self) {
            pending::<()>().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sink_and_source_that_do_not_close_are_waited_for_once_and_not_each() {
        let settings = Settings::default();
        let timeout = Duration::from_millis(settings.close_timeout_ms);
        let pipeline = Pipeline::new(Parts {
            source: Stuck,
            sink: Stuck,
            aligner: Arc::new(Builtin::new(Rule::Identity)),
            decoder: Arc::new(JsonDecoder::default()),
            encoder: Arc::new(JsonEncoder),
            settings,
            connector: "test".to_owned(),
            task: 0,
            wall_clock: system_clock(),
        });
        let begin = Instant::now();
        let ended = pipeline.run(ready(())).await;
        ended.expect("a shutdown is no error");
        assert_eq!(begin.elapsed().as_secs(), timeout.as_secs());
    }
}
