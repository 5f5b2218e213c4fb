//! The coordinator: owns all state, and turns each event into whatever has become possible:
//! decode, batch, call, deliver.
//!
//! Nothing else changes state, so there is one order of things to reason about, and every wait has
//! a deadline.
//!
//! The end has stages. At the request to stop, records that were not begun are left to whoever
//! comes next, and those that were begun have `drain_timeout`. Then, or when the Aligner cannot go
//! on, what is finished is delivered, within `close_timeout`. What is left was not committed, so it
//! will be read again: nothing is lost, and nothing twice.

use std::{sync::Arc, time::Duration};

use aligner::Aligner;
use aligner_records::Stage;
use tokio::{sync::mpsc, task::JoinError, time::Instant};

use crate::{
    align::{CallContext, Report},
    calls::{Calls, Ended},
    decode::Decoder,
    delivery::{Answer, Deliveries, Haste, Settled},
    encode::{Cause, Encoding},
    flow::FlowControl,
    gate::Gate,
    intake::{Decoded, Intake, Received},
    metrics::Instruments,
    offsets::{Offsets, Ticket},
    progress::{Gauge, Progress, State},
    retry::Failure,
    run::{PipelineError, Summary},
    settings::Settings,
    sink::{Delivery, DeliveryError},
    source::{Source, SourceError, SourceEvent},
    work::{Finished, Work},
};

/// Everything that can happen.
pub(crate) enum Event {
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
pub(crate) enum Phase {
    Running,
    /// The source has ended on its own; what was read is still worked through. If it cannot read on,
    /// that has until then: what is left is read again.
    Finishing(Option<Instant>),
    /// Asked to stop; what was begun has until then.
    Draining(Instant),
    /// Only what is finished is delivered.
    Closing {
        until: Instant,
        /// Whether another delivery may succeed where the last one did not.
        tries_again: bool,
    },
}

/// Records decoded before other events have their turn.
const DECODE_SLICE: usize = 256;
/// The coordinator turns at least this often, so that a probe can tell whether it does.
const HEARTBEAT: Duration = Duration::from_secs(1);

pub(crate) struct Coordinator {
    settings: Settings,
    aligner: Arc<dyn Aligner>,
    encoding: Encoding,
    gate: Gate,
    flow: FlowControl,
    offsets: Offsets<Finished>,
    pub intake: Intake,
    pub calls: Calls,
    pub deliveries: Deliveries,
    instruments: Instruments,
    progress: Progress,
    phase: Phase,
    /// The source has nothing more to report.
    source_over: bool,
    /// It has no more records to hand out.
    records_over: bool,
    pub error: Option<PipelineError>,
}

/// Where the coordinator's tasks are spoken to.
pub(crate) struct Outlets {
    /// For calls of the Aligner to report to.
    pub reports: mpsc::Sender<Report>,
    /// To the task that owns the sink.
    pub sink: mpsc::Sender<Vec<Delivery>>,
}

impl Coordinator {
    pub(crate) fn new(
        settings: Settings,
        decoder: Arc<dyn Decoder>,
        context: CallContext,
        outlets: Outlets,
        progress: Progress,
    ) -> Self {
        Self {
            flow: FlowControl::new(
                settings.max_tokens_in_flight,
                settings.max_bytes_in_flight,
                Duration::from_millis(settings.pause_after_ms),
            ),
            gate: Gate::new(&settings),
            intake: Intake::new(decoder, &settings),
            deliveries: Deliveries::new(&settings, outlets.sink),
            offsets: Offsets::default(),
            aligner: Arc::clone(&context.aligner),
            encoding: context.encoding.clone(),
            instruments: context.instruments.clone(),
            calls: Calls::new(&settings, context, outlets.reports),
            settings,
            progress,
            phase: Phase::Running,
            source_over: false,
            records_over: false,
            error: None,
        }
    }

    pub(crate) fn handle(&mut self, event: Event, source: &mut impl Source, now: Instant) {
        match event {
            Event::Shutdown => self.drain(source, now),
            Event::Delivered(Some(answer)) => self.delivered(answer, source, now),
            Event::Delivered(None) => {
                self.deliveries.without_a_sink();
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
                self.stop(PipelineError::Source(error), source, now);
            }
            Event::Source(None) => {
                self.source_over = true;
                self.finish_what_was_read(None);
            }
        }
    }

    /// Does whatever has become possible. Returns whether more could be done at once.
    pub(crate) fn advance(&mut self, source: &mut impl Source, now: Instant) -> bool {
        if let Phase::Draining(deadline) | Phase::Finishing(Some(deadline)) = self.phase
            && deadline <= now
        {
            tracing::warn!(
                unfinished = self.offsets.held().unfinished,
                "drain_timeout_ms is over; unfinished records will be read again"
            );
            self.close(true, now);
        }
        let mut more = self.decode(now);
        if self.calls.give_up_silent(now) {
            self.progress.set_moment(Gauge::AlignerSpokeAt, now);
        }
        let flush = self.phase != Phase::Running;
        let calls = self.calls.submit(&self.offsets, flush, now);
        let haste = self.haste();
        if self.deliveries.step(&mut self.offsets, haste, now) {
            self.abandon_lost(now);
            // What all others waited behind may have gone.
            more |= !self.intake.is_empty();
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
            if held.tokens >= self.settings.max_tokens_in_flight
                || self.calls.has_backlog()
                || self.outputs_fill_the_budget()
            {
                return false;
            }
            match self.intake.decode(&self.offsets, now) {
                None => return false,
                Some(Decoded::Event(received, event)) => {
                    let Received { ticket, record, at } = *received;
                    let bypass = self.gate.bypass(&event);
                    let mut work = Work::new(ticket, record, event, at);
                    if let Some(bypass) = bypass {
                        let finished = self.encoding.bypassed(work, bypass, now);
                        self.finish(ticket, finished);
                        continue;
                    }
                    work.tokens = self.aligner.estimate_tokens(&work.request);
                    self.offsets.weigh(ticket, u64::from(work.tokens));
                    if self.calls.is_empty() {
                        // An Aligner is not silent for the time in which it had nothing to answer,
                        // however long the record waited to be decoded.
                        self.progress.set_moment(Gauge::AlignerSpokeAt, now);
                    }
                    self.calls.push(work, now);
                }
                Some(Decoded::Invalid {
                    received,
                    whose,
                    reason,
                    message,
                }) => {
                    let cause = Cause {
                        stage: Stage::ValueConverter,
                        reason,
                        message,
                    };
                    let Received { ticket, record, at } = *received;
                    let finished = self.encoding.undecoded(record, at, whose, cause);
                    self.finish(ticket, finished);
                }
            }
        }
        !self.intake.is_empty()
    }

    /// Whether bytes are full, and that by results. Their delivery makes room, at the latest when
    /// there is no call left: then all that was decoded is finished. Records alone, however large, are no
    /// reason to wait: nothing else would ever make room.
    fn outputs_fill_the_budget(&self) -> bool {
        let held = self.offsets.held();
        let most = self.settings.max_bytes_in_flight;
        held.bytes >= most && held.bytes - held.outputs < most
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
                // Older tenures of these partitions have ended with that.
                self.abandon_lost(now);
            }
            SourceEvent::Records(records) => {
                if matches!(self.phase, Phase::Draining(_) | Phase::Closing { .. }) {
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
                self.abandon_lost(now);
            }
            SourceEvent::Unreadable(error) => {
                self.error.get_or_insert(PipelineError::Source(error));
                let drain = Duration::from_millis(self.settings.drain_timeout_ms);
                self.finish_what_was_read(Some(now + drain));
            }
            SourceEvent::Exhausted => self.records_over = true,
        }
    }

    fn finish_what_was_read(&mut self, until: Option<Instant>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Finishing(until);
            self.progress.enter(State::Draining);
        }
    }

    /// Drops what belongs to tenures that have ended: others read it now.
    fn abandon_lost(&mut self, now: Instant) {
        self.intake.abandon_lost(&self.offsets);
        self.calls.abandon_lost(&self.offsets, now);
    }

    fn report(&mut self, report: Report, source: &mut impl Source, now: Instant) {
        match report {
            Report::Answered { call, results } => {
                self.calls.answered(call, results.len(), now);
                self.progress.set_moment(Gauge::AlignerSpokeAt, now);
                if !results.is_empty() {
                    self.progress.set_moment(Gauge::ProgressAt, now);
                }
                for (ticket, finished) in results {
                    self.finish(ticket, finished);
                }
            }
            // Calls are over then: what a late one left unanswered is read again.
            Report::Ended { .. } if matches!(self.phase, Phase::Closing { .. }) => {}
            Report::Ended {
                call,
                asked,
                unanswered,
            } => {
                let timed_out =
                    |(_, failure): &(Work, Failure)| matches!(failure, Failure::TimedOut);
                // To be given up is no word of the Aligner; what it answered before was heard.
                if !unanswered.iter().any(timed_out) {
                    self.progress.set_moment(Gauge::AlignerSpokeAt, now);
                }
                let Ended {
                    dead,
                    retries,
                    stop,
                } = self
                    .calls
                    .ended(call, asked, unanswered, &self.offsets, now);
                if !dead.is_empty() {
                    // Whatever these were, they hold up nobody any more.
                    self.progress.set_moment(Gauge::AlignerSpokeAt, now);
                }
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
        // One that was refused has another try: what was refused is different then.
        let failed = matches!(
            answer,
            Err(DeliveryError::Aborted(_)
                | DeliveryError::Stopped(_)
                | DeliveryError::StoppedWithin { .. })
        );
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
            self.abandon_lost(now);
        }
        if failed && let Phase::Closing { tries_again, .. } = &mut self.phase {
            *tries_again = false;
        }
        if let Settled::Stop(cause) = settled {
            self.stop(PipelineError::Sink(cause), source, now);
        }
    }

    /// Asked to stop.
    fn drain(&mut self, source: &mut impl Source, now: Instant) {
        if matches!(self.phase, Phase::Closing { .. }) {
            return;
        }
        if !self.source_over {
            source.stop();
        }
        if self.settings.drain_timeout_ms == 0 {
            // Nothing is waited for, by choice and not for want of time.
            self.close(true, now);
            return;
        }
        self.intake.clear();
        let drain = Duration::from_millis(self.settings.drain_timeout_ms);
        self.phase = Phase::Draining(now + drain);
        self.progress.enter(State::Draining);
    }

    /// Something cannot go on: delivers what is finished, unless it is the log itself.
    fn stop(&mut self, error: PipelineError, source: &mut impl Source, now: Instant) {
        let log_is_well = matches!(error, PipelineError::Aligner(_));
        self.error.get_or_insert(error);
        if let Phase::Closing { tries_again, .. } = &mut self.phase {
            *tries_again &= log_is_well;
            return;
        }
        if !self.source_over {
            source.stop();
        }
        self.close(log_is_well, now);
    }

    fn close(&mut self, tries_again: bool, now: Instant) {
        self.intake.clear();
        self.calls.clear();
        self.phase = Phase::Closing {
            until: now + Duration::from_millis(self.settings.close_timeout_ms),
            tries_again,
        };
        self.progress.enter(State::Draining);
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let delivered = self.offsets.held().ready == 0;
        let idle = !self.deliveries.in_flight();
        match self.phase {
            Phase::Running => false,
            Phase::Finishing(_) | Phase::Draining(_) => {
                let taken = self.source_over
                    || self.records_over
                    || matches!(self.phase, Phase::Draining(_));
                taken && self.intake.is_empty() && self.calls.is_empty() && delivered && idle
            }
            Phase::Closing { until, tries_again } => {
                until <= now || (idle && (delivered || !tries_again))
            }
        }
    }

    pub(crate) fn listens(&self) -> bool {
        !self.source_over && self.flow.listens()
    }

    fn haste(&self) -> Haste {
        let nearly_full = self.flow.nearly_full(self.offsets.held().bytes);
        if self.phase != Phase::Running || nearly_full {
            Haste::Urgent
        } else {
            Haste::Paced
        }
    }

    pub(crate) fn deadline(&self, now: Instant) -> Instant {
        let phase = match self.phase {
            Phase::Draining(until)
            | Phase::Finishing(Some(until))
            | Phase::Closing { until, .. } => Some(until),
            Phase::Running | Phase::Finishing(None) => None,
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
        progress.set(Gauge::DecoderWaits, u64::from(self.intake.waits(now)));
        for (gauge, since) in [
            (Gauge::OldestSince, self.offsets.oldest()),
            (Gauge::FailingSince, self.deliveries.failing_since()),
            (Gauge::UnavailableSince, self.calls.unavailable_since()),
        ] {
            match since {
                Some(since) => progress.set_moment(gauge, since),
                None => progress.set(gauge, 0),
            }
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

    pub(crate) fn summary(&self) -> Summary {
        let held = self.offsets.held();
        let snapshot = self.progress.snapshot();
        Summary {
            received: snapshot.received,
            outcomes: snapshot.outcomes,
            left: (held.unfinished + held.finished) as u64,
        }
    }
}
