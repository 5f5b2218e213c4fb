//! The coordinator: one task that owns all state, and one loop over one kind of event.
//!
//! Calls of the Aligner and deliveries run beside it, as tasks that report back; nothing is shared
//! with them. After each event the coordinator does whatever has become possible: decode, batch,
//! call, deliver. So there is one order of things to reason about, and every wait has a deadline.
//!
//! The end has stages. At the request to stop, records that were not begun are left to whoever
//! comes next, and those that were begun have `drain_timeout`. Then, or when the Aligner cannot go
//! on, what is finished is delivered, within `close_timeout`. What is left was not committed, so it
//! will be read again: nothing is lost, and nothing twice.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aligner::Aligner;
use aligner_records::Stage;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet, yield_now},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    align::{CallContext, Report},
    calls::{Calls, Ended},
    decode::Decoder,
    delivery::{Answer, Deliveries, Haste, Settled},
    encode::{Cause, Encoder, Encoding, WallClock},
    flow::FlowControl,
    gate::Gate,
    intake::{Decoded, Intake, Received},
    metrics::Instruments,
    offsets::{Offsets, Ticket},
    progress::{Gauge, Outcome, Progress, State},
    settings::Settings,
    sink::{Delivery, Sink},
    source::{Source, SourceError, SourceEvent},
    work::{Finished, Work},
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
    Source(#[from] SourceError),
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

/// Everything that can happen.
enum Event {
    Shutdown,
    Delivered(Option<Answer>),
    Report(Report),
    TaskEnded(Result<(), JoinError>),
    DecoderFetched(Result<(), String>),
    Source(Option<Result<SourceEvent, SourceError>>),
    Tick,
}

/// Stages of a pipeline's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// The source has ended on its own; what was read is still worked through.
    Finishing,
    /// Asked to stop; what was begun has until then.
    Draining(Instant),
    /// Only what is finished is delivered, until then.
    Closing(Instant),
}

/// Records decoded before other events have their turn.
const DECODE_SLICE: usize = 256;
/// Reports that may wait for the coordinator.
const REPORTS: usize = 256;
/// The coordinator turns at least this often, so that a probe can tell whether it does.
const HEARTBEAT: Duration = Duration::from_secs(1);

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
        let instruments = Instruments::register(&progress);
        let encoding = Encoding {
            encoder: parts.encoder,
            identity: parts.aligner.identity().clone(),
            connector: parts.connector,
            task: parts.task,
            max_output_bytes: parts.settings.max_output_bytes,
            wall_clock: parts.wall_clock,
        };
        let context = CallContext {
            aligner: Arc::clone(&parts.aligner),
            encoding: encoding.clone(),
            instruments: instruments.clone(),
            record_timeout: Duration::from_millis(parts.settings.record_timeout_ms),
        };
        let close_timeout = Duration::from_millis(parts.settings.close_timeout_ms);
        let mut coordinator = Coordinator {
            flow: FlowControl::new(
                parts.settings.max_tokens_in_flight,
                parts.settings.max_bytes_in_flight,
                Duration::from_millis(parts.settings.pause_after_ms),
            ),
            gate: Gate::new(&parts.settings),
            intake: Intake::new(parts.decoder, &parts.settings),
            calls: Calls::new(&parts.settings, context, reports_tx),
            deliveries: Deliveries::new(&parts.settings, sink_tx),
            offsets: Offsets::default(),
            aligner: parts.aligner,
            settings: parts.settings,
            encoding,
            instruments,
            progress: progress.clone(),
            phase: Phase::Running,
            source_over: false,
            aborted_while_closing: false,
            error: None,
        };
        progress.enter(State::Running);

        tokio::pin!(shutdown);
        let mut asked_to_stop = false;
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
                answer = answers.recv() => Event::Delivered(answer),
                Some(report) = reports.recv() => Event::Report(report),
                ended = coordinator.calls.joined() => Event::TaskEnded(ended),
                fetched = coordinator.intake.fetched() => Event::DecoderFetched(fetched),
                () = yield_now(), if more => Event::Tick,
                event = source.next(), if listens => Event::Source(event),
                () = sleep_until(until) => Event::Tick,
            };
            asked_to_stop |= matches!(event, Event::Shutdown);
            coordinator.handle(event, &mut source, Instant::now());
        }

        let summary = coordinator.summary();
        let error = coordinator.error.take();
        // Without its sender the sink closes; it must be closed before the source leaves.
        drop(coordinator);
        match timeout(close_timeout, sink.join_next()).await {
            Ok(Some(Err(_))) => tracing::error!("the sink's task panicked"),
            Ok(_) => {}
            Err(_) => tracing::warn!("the sink did not close within close_timeout_ms"),
        }
        if timeout(close_timeout, source.close()).await.is_err() {
            tracing::warn!("the source did not close within close_timeout_ms");
        }
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

struct Coordinator {
    settings: Settings,
    aligner: Arc<dyn Aligner>,
    encoding: Encoding,
    gate: Gate,
    flow: FlowControl,
    offsets: Offsets<Finished>,
    intake: Intake,
    calls: Calls,
    deliveries: Deliveries,
    instruments: Instruments,
    progress: Progress,
    phase: Phase,
    source_over: bool,
    aborted_while_closing: bool,
    error: Option<PipelineError>,
}

impl Coordinator {
    fn handle(&mut self, event: Event, source: &mut impl Source, now: Instant) {
        match event {
            Event::Shutdown => self.drain(source, now),
            Event::Delivered(Some(answer)) => self.delivered(answer, source, now),
            Event::Delivered(None) => {
                let cause = "the sink's task ended unexpectedly".to_owned();
                self.stop(PipelineError::Task(cause), source, now);
            }
            Event::Report(report) => self.report(report, source, now),
            Event::TaskEnded(Err(error)) if error.is_panic() => {
                // The payload of a panic may quote a text, so it stays out.
                let cause = "a call's task panicked".to_owned();
                self.stop(PipelineError::Task(cause), source, now);
            }
            Event::TaskEnded(_) | Event::Tick => {}
            Event::DecoderFetched(result) => self.intake.note(result, now),
            Event::Source(Some(Ok(event))) => self.source_event(event, now),
            Event::Source(Some(Err(error))) => {
                self.source_over = true;
                self.stop(error.into(), source, now);
            }
            Event::Source(None) => {
                self.source_over = true;
                if self.phase == Phase::Running {
                    self.phase = Phase::Finishing;
                    self.progress.enter(State::Draining);
                }
            }
        }
    }

    /// Does whatever has become possible. Returns whether more could be done at once.
    fn advance(&mut self, source: &mut impl Source, now: Instant) -> bool {
        if let Phase::Draining(deadline) = self.phase
            && deadline <= now
        {
            tracing::warn!(
                unfinished = self.offsets.held().unfinished,
                "drain_timeout_ms is over; unfinished records will be read again"
            );
            self.close(now);
        }
        let more = self.decode(now);
        let flush = self.phase != Phase::Running;
        let calls = self.calls.submit(&self.offsets, flush, now);
        let haste = self.haste();
        if self.deliveries.step(&mut self.offsets, haste, now) {
            self.calls.abandon_lost(&self.offsets);
        }
        let held = self.offsets.held();
        let paused = self.flow.paused_since();
        if let Some(flow) = self.flow.observe(held.tokens, held.bytes, now)
            && !self.source_over
        {
            source.flow(flow);
        }
        self.publish(calls, paused, now);
        more
    }

    /// Decodes records for as long as the Aligner has room for them.
    fn decode(&mut self, now: Instant) -> bool {
        for _ in 0..DECODE_SLICE {
            let held = self.offsets.held();
            if held.tokens >= self.settings.max_tokens_in_flight || self.calls.has_backlog() {
                return false;
            }
            match self.intake.decode(&self.offsets, now) {
                None => return false,
                Some(Decoded::Event(received, event)) => {
                    let Received { ticket, record, at } = *received;
                    let bypass = self.gate.bypass(&event);
                    let mut work = Work::new(ticket, record, event, at);
                    if let Some(reason) = bypass {
                        let finished = self.encoding.bypassed(work, reason, now);
                        self.finish(ticket, finished);
                        continue;
                    }
                    work.tokens = self.aligner.estimate_tokens(&work.request);
                    self.offsets.weigh(ticket, u64::from(work.tokens));
                    self.calls.push(work, now);
                }
                Some(Decoded::Invalid {
                    received,
                    reason,
                    message,
                }) => {
                    let cause = Cause {
                        stage: Stage::ValueConverter,
                        reason,
                        message,
                    };
                    let finished = self.encoding.dead_letter(received.record, cause);
                    self.finish(received.ticket, finished);
                }
            }
        }
        !self.intake.is_empty()
    }

    fn finish(&mut self, ticket: Ticket, finished: Finished) {
        let bytes = finished.outputs.bytes();
        // What comes back belongs to a tenure that has ended: it is not ours to deliver.
        let _ = self.offsets.finish(ticket, finished, bytes);
    }

    fn source_event(&mut self, event: SourceEvent, now: Instant) {
        match event {
            SourceEvent::Assigned(partitions) => {
                for partition in partitions {
                    self.offsets.open(partition);
                }
            }
            SourceEvent::Records(records) => {
                if matches!(self.phase, Phase::Draining(_) | Phase::Closing(_)) {
                    return;
                }
                if self.offsets.held().unfinished == 0 {
                    self.progress.set_moment(Gauge::ProgressAt, now);
                }
                let accepted = self.intake.accept(records, &mut self.offsets, now);
                self.progress.add(Gauge::Received, accepted);
            }
            SourceEvent::Revoking {
                partitions,
                deadline,
                release,
            } => self.deliveries.end(partitions, deadline, release),
            SourceEvent::Lost(partitions) => {
                self.offsets.forget(&partitions);
                self.calls.abandon_lost(&self.offsets);
            }
        }
    }

    fn report(&mut self, report: Report, source: &mut impl Source, now: Instant) {
        match report {
            Report::Finished(results) => {
                self.calls.answered(results.len());
                for (ticket, finished) in results {
                    self.finish(ticket, finished);
                }
                self.progress.set_moment(Gauge::ProgressAt, now);
            }
            Report::Ended {
                call,
                asked,
                unanswered,
            } => {
                let Ended {
                    dead,
                    retries,
                    stop,
                } = self
                    .calls
                    .ended(call, asked, unanswered, &self.offsets, now);
                for (work, cause) in dead {
                    let ticket = work.ticket;
                    let finished = self.encoding.failed(work, cause);
                    self.finish(ticket, finished);
                }
                self.progress.add(Gauge::Retries, retries as u64);
                if let Some(cause) = stop {
                    self.stop(PipelineError::Aligner(cause), source, now);
                }
            }
        }
    }

    fn delivered(&mut self, answer: Answer, source: &mut impl Source, now: Instant) {
        let failed = answer.is_err();
        let ended = matches!(&answer, Ok(ended) if !ended.is_empty());
        let settled = self.deliveries.settle(
            answer,
            &mut self.offsets,
            &self.encoding,
            &self.progress,
            &self.instruments,
            now,
        );
        if ended {
            self.calls.abandon_lost(&self.offsets);
        }
        if let Phase::Closing(_) = self.phase {
            self.aborted_while_closing |= failed;
        }
        if let Settled::Stop(cause) = settled {
            self.stop(PipelineError::Sink(cause), source, now);
        }
    }

    /// Asked to stop.
    fn drain(&mut self, source: &mut impl Source, now: Instant) {
        if matches!(self.phase, Phase::Closing(_)) {
            return;
        }
        if !self.source_over {
            source.stop();
        }
        self.intake.clear();
        let drain = Duration::from_millis(self.settings.drain_timeout_ms);
        self.phase = Phase::Draining(now + drain);
        self.progress.enter(State::Draining);
    }

    /// Something cannot go on: delivers what is finished, unless it is the log itself.
    fn stop(&mut self, error: PipelineError, source: &mut impl Source, now: Instant) {
        if self.error.is_some() {
            return;
        }
        if !self.source_over {
            source.stop();
        }
        self.aborted_while_closing = !matches!(error, PipelineError::Aligner(_));
        self.error = Some(error);
        self.close(now);
    }

    fn close(&mut self, now: Instant) {
        self.intake.clear();
        self.calls.clear();
        self.phase = Phase::Closing(now + Duration::from_millis(self.settings.close_timeout_ms));
        self.progress.enter(State::Draining);
    }

    fn is_over(&self, now: Instant) -> bool {
        let delivered = self.offsets.held().ready == 0;
        let idle = !self.deliveries.in_flight();
        match self.phase {
            Phase::Running => false,
            Phase::Finishing | Phase::Draining(_) => {
                self.intake.is_empty() && self.calls.is_empty() && delivered && idle
            }
            Phase::Closing(deadline) => {
                deadline <= now || (idle && (delivered || self.aborted_while_closing))
            }
        }
    }

    fn listens(&self) -> bool {
        !self.source_over && self.flow.listens()
    }

    fn haste(&self) -> Haste {
        let nearly_full = self.offsets.held().bytes >= self.settings.max_bytes_in_flight / 5 * 4;
        if self.phase != Phase::Running || nearly_full {
            Haste::Urgent
        } else {
            Haste::Paced
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            Phase::Draining(deadline) | Phase::Closing(deadline) => Some(deadline),
            Phase::Running | Phase::Finishing => None,
        };
        let ready = self.offsets.held().ready;
        [
            phase,
            self.calls.deadline(),
            self.intake.deadline(),
            self.deliveries.deadline(self.haste(), ready),
            self.flow.deadline(),
        ]
        .into_iter()
        .flatten()
        .fold(now + HEARTBEAT, Instant::min)
    }

    fn publish(&self, calls: u64, paused: Option<Instant>, now: Instant) {
        let held = self.offsets.held();
        let progress = &self.progress;
        progress.set(Gauge::Partitions, self.offsets.tenures() as u64);
        progress.set(Gauge::Unfinished, held.unfinished as u64);
        progress.set(Gauge::Undelivered, held.finished as u64);
        progress.set(Gauge::Tokens, held.tokens);
        progress.set(Gauge::Bytes, held.bytes);
        progress.add(Gauge::Batches, calls);
        progress.set(Gauge::BatchesInFlight, self.calls.in_flight() as u64);
        progress.set(Gauge::DecoderWaits, u64::from(self.intake.waits()));
        match self.offsets.oldest() {
            Some(oldest) => progress.set_moment(Gauge::OldestSince, oldest),
            None => progress.set(Gauge::OldestSince, 0),
        }
        match (paused, self.flow.paused_since()) {
            (None, Some(since)) => progress.set_moment(Gauge::PausedSince, since),
            (Some(since), None) => {
                progress.set(Gauge::PausedSince, 0);
                let pause = u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX);
                progress.add(Gauge::PausedMs, pause);
            }
            _ => {}
        }
        progress.set_moment(Gauge::HeartbeatAt, now);
    }

    fn summary(&self) -> Summary {
        let held = self.offsets.held();
        let snapshot = self.progress.snapshot();
        Summary {
            received: snapshot.received,
            outcomes: snapshot.outcomes,
            left: (held.unfinished + held.finished) as u64,
        }
    }
}
