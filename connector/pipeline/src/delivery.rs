//! What is being delivered, when the next delivery begins, and how a tenure ends.
//!
//! One delivery at a time. Its results stay with [`Offsets`] until it succeeds: an aborted one is
//! simply the next one's beginning. What a tenure that is about to end has finished goes before all
//! else, in as many deliveries as it takes and as there is time for; then the tenure is forgotten.

use std::sync::Arc;

use aligner_records::Disposition;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    encode::Encoding,
    metrics::Instruments,
    notices::Notices,
    offsets::{Budget, Offsets, Portion},
    pacing::Pacing,
    progress::{Gauge, Progress},
    settings::{Backoff, Settings},
    sink::{Delivery, DeliveryError, Outbound},
    source::PartitionEpoch,
    work::Finished,
};

/// The sink's answer to one delivery.
pub(crate) type Answer = Result<Vec<Arc<PartitionEpoch>>, DeliveryError>;

/// Most refusals of one record's outputs: the outputs, the dead letter, the one without its value,
/// the one without its headers. The last try is without its key, too, whatever the first was.
const MAX_REFUSALS: u32 = 4;

struct InFlight {
    portions: Vec<Portion>,
    /// How the records of each portion ended: a tenure may be forgotten while it is delivered.
    ends: Vec<Vec<End>>,
    records: usize,
    since: Instant,
}

impl InFlight {
    /// Leaves the records whose outputs are among the first so many of their partition.
    fn cut(&mut self, outputs: &[(Arc<PartitionEpoch>, usize)]) {
        for (portion, ends) in self.portions.iter().zip(&mut self.ends) {
            let own = outputs.iter().find(|(of, _)| *of == portion.partition);
            let most = own.map_or(0, |(_, outputs)| *outputs);
            let mut seen = 0;
            let whole = ends.iter().take_while(|end| {
                seen += end.outputs;
                seen <= most
            });
            let records = whole.count();
            ends.truncate(records);
        }
    }
}

/// How a record ended.
struct End {
    outcome: (Disposition, Option<&'static str>),
    outputs: usize,
    /// Where it is a dead letter.
    letter: Option<Arc<Outbound>>,
}

/// Records of a portion that ended with one disposition and reason.
struct Alike {
    outcome: (Disposition, Option<&'static str>),
    records: u64,
    /// The last of them, where they are dead letters.
    letter: Option<Arc<Outbound>>,
}

/// Tenures that end.
struct Ending {
    partitions: Vec<Arc<PartitionEpoch>>,
    deadline: Instant,
    /// Its drop tells the source that they are forgotten.
    _release: oneshot::Sender<()>,
}

/// How a delivery came out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// All is well, or will be tried again.
    GoOn,
    /// Nothing can be delivered any more.
    Stop(String),
}

/// Why deliveries should not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// They grow with the backlog.
    Paced,
    /// What is ready goes as soon as the log is ready: a budget is full, or we are leaving.
    Urgent,
}

/// The deliveries of one pipeline.
pub(crate) struct Deliveries {
    to_sink: mpsc::Sender<Vec<Delivery>>,
    budget: Budget,
    /// Most records of the next delivery. An abort halves it, since a log that is starved may not
    /// take as many in one transaction's time; a refusal leaves as many as came before what was
    /// refused, so that the next one is written once and stands; a success doubles it, up to the
    /// budget.
    records: usize,
    pacing: Pacing,
    backoff: Backoff,
    in_flight: Option<InFlight>,
    /// Aborted deliveries in a row, and when to try again.
    aborts: u32,
    not_before: Option<Instant>,
    /// When the first of those deliveries began that failed since one succeeded.
    failing_since: Option<Instant>,
    endings: Vec<Ending>,
    notices: Notices,
}

impl Deliveries {
    pub(crate) fn new(settings: &Settings, to_sink: mpsc::Sender<Vec<Delivery>>) -> Self {
        use std::time::Duration;
        Self {
            to_sink,
            budget: settings.delivery_budget(),
            records: settings.max_delivery_records,
            pacing: Pacing::new(
                Duration::from_millis(settings.commit_interval_min_ms),
                Duration::from_millis(settings.commit_interval_max_ms),
            ),
            backoff: settings.delivery_backoff(),
            in_flight: None,
            aborts: 0,
            not_before: None,
            failing_since: None,
            endings: Vec::new(),
            notices: Notices::default(),
        }
    }

    /// These tenures end at `deadline`, or when `release` is dropped.
    pub(crate) fn end(
        &mut self,
        partitions: Vec<Arc<PartitionEpoch>>,
        deadline: Instant,
        release: oneshot::Sender<()>,
    ) {
        self.endings.push(Ending {
            partitions,
            deadline,
            _release: release,
        });
    }

    /// Begins a delivery if it is time, and forgets tenures that have ended. Returns whether any
    /// tenure was forgotten.
    pub(crate) fn step(
        &mut self,
        offsets: &mut Offsets<Finished>,
        haste: Haste,
        now: Instant,
    ) -> bool {
        self.notices.tell(now);
        // A tenure without results left waits for the delivery that is under way all the same: a
        // group that changes meanwhile would abort it.
        let idle = self.in_flight.is_none();
        let forgot = self.forget(offsets, |ending, offsets| {
            ending.deadline <= now || (idle && !offsets.is_ready(&ending.partitions))
        });
        let ready = offsets.held().ready;
        if idle && ready == 0 {
            // What failed is others' now.
            self.failing_since = None;
        }
        if idle
            && ready > 0
            && !self.to_sink.is_closed()
            && self
                .earliest(haste, ready)
                .is_none_or(|moment| moment <= now)
        {
            let ending: Vec<_> = self
                .endings
                .iter()
                .flat_map(|ending| ending.partitions.iter().cloned())
                .collect();
            let only = (!ending.is_empty()).then_some(&*ending);
            let portions = offsets.portions(self.next_budget(), only);
            self.begin(portions, offsets, now);
        }
        forgot
    }

    /// When to step again though nothing happened.
    pub(crate) fn deadline(&self, haste: Haste, ready: usize) -> Option<Instant> {
        let ending = self.endings.iter().map(|ending| ending.deadline).min();
        let next = (self.in_flight.is_none() && ready > 0)
            .then(|| self.earliest(haste, ready))
            .flatten();
        [ending, next].into_iter().flatten().min()
    }

    fn earliest(&self, haste: Haste, ready: usize) -> Option<Instant> {
        let is_awaited = haste == Haste::Urgent || !self.endings.is_empty();
        let paced = if is_awaited || ready >= self.records {
            self.pacing.earliest_urgent()
        } else {
            self.pacing.earliest()
        };
        paced.max(self.not_before)
    }

    fn begin(&mut self, portions: Vec<Portion>, offsets: &Offsets<Finished>, now: Instant) {
        let mut ends = Vec::with_capacity(portions.len());
        let deliveries = portions
            .iter()
            .map(|portion| {
                let mut outputs = Vec::with_capacity(2 * portion.records);
                let mut ended = Vec::with_capacity(portion.records);
                for result in offsets.results(portion) {
                    let before = outputs.len();
                    outputs.extend(result.outputs.iter().cloned());
                    ended.push(End {
                        outcome: (result.disposition, result.reason),
                        outputs: outputs.len() - before,
                        letter: (result.disposition == Disposition::DeadLettered)
                            .then(|| Arc::clone(&result.outputs.0)),
                    });
                }
                ends.push(ended);
                Delivery {
                    partition: Arc::clone(&portion.partition),
                    next_offset: portion.next_offset,
                    outputs,
                }
            })
            .collect();
        self.pacing.begins(now, offsets.held().ready);
        // One delivery at a time, and a place for it; a sink that ends just now is reported.
        let _ = self.to_sink.try_send(deliveries);
        self.in_flight = Some(InFlight {
            records: portions.iter().map(|portion| portion.records).sum(),
            portions,
            ends,
            since: now,
        });
    }

    /// Nobody will answer the delivery that is under way.
    pub(crate) fn without_a_sink(&mut self) {
        self.in_flight = None;
    }

    fn next_budget(&self) -> Budget {
        Budget {
            records: self.records,
            ..self.budget
        }
    }

    /// The sink has answered.
    pub(crate) fn settle(
        &mut self,
        answer: Answer,
        offsets: &mut Offsets<Finished>,
        encoding: &Encoding,
        progress: &Progress,
        instruments: &Instruments,
        now: Instant,
    ) -> Settled {
        let Some(mut in_flight) = self.in_flight.take() else {
            return Settled::GoOn;
        };
        self.pacing.ends(now);
        match answer {
            Ok(ended) => {
                self.delivered(&in_flight, &ended, offsets, progress, instruments, now);
                self.aborts = 0;
                self.records = self.records.saturating_mul(2).min(self.budget.records);
                self.not_before = None;
                self.failing_since = None;
                Settled::GoOn
            }
            Err(DeliveryError::Aborted(cause)) => {
                progress.add(Gauge::Aborted, 1);
                self.records = (in_flight.records / 2).max(1);
                self.failing_since.get_or_insert(in_flight.since);
                self.retry(&cause, now);
                Settled::GoOn
            }
            Err(DeliveryError::Refused {
                delivery,
                output,
                cause,
            }) => {
                progress.add(Gauge::Refused, 1);
                let portions = &in_flight.portions;
                self.refused(portions, delivery, output, &cause, offsets, encoding, now)
            }
            Err(DeliveryError::Stopped(cause)) => Settled::Stop(cause),
            Err(DeliveryError::StoppedWithin { delivered, cause }) => {
                in_flight.cut(&delivered);
                self.delivered(&in_flight, &[], offsets, progress, instruments, now);
                Settled::Stop(cause)
            }
        }
    }

    /// All that is in flight is in the log, except what belongs to tenures that had ended.
    fn delivered(
        &mut self,
        in_flight: &InFlight,
        ended: &[Arc<PartitionEpoch>],
        offsets: &mut Offsets<Finished>,
        progress: &Progress,
        instruments: &Instruments,
        now: Instant,
    ) {
        offsets.forget(ended);
        for (portion, ends) in in_flight.portions.iter().zip(&in_flight.ends) {
            if !ended.contains(&portion.partition) {
                offsets.settle(portion, ends.len());
                let counted = counted(ends);
                progress.count(counted.iter().map(|alike| (alike.outcome, alike.records)));
                self.notice(&counted, now);
            }
        }
        instruments.delivered(now - in_flight.since);
        progress.add(Gauge::Deliveries, 1);
        progress.set_moment(Gauge::ProgressAt, now);
    }

    fn notice(&mut self, delivered: &[Alike], now: Instant) {
        for alike in delivered {
            if let (Some(letter), Some(reason)) = (&alike.letter, alike.outcome.1) {
                self.notices.delivered(reason, alike.records, letter, now);
            }
        }
    }

    /// Nothing is delivered any more: tells what was not told of dead letters.
    pub(crate) fn tell_rest(&mut self) {
        self.notices.tell_rest();
    }

    fn retry(&mut self, cause: &str, now: Instant) {
        self.aborts = self.aborts.saturating_add(1);
        let pause = self.backoff.pause(self.aborts);
        self.not_before = Some(now + pause);
        // The pauses grow, so these lines become rare on their own.
        tracing::warn!(
            cause,
            aborts = self.aborts,
            again_in_ms = pause.as_millis(),
            "a delivery was aborted; its results are kept and tried again"
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one refusal")]
    fn refused(
        &mut self,
        portions: &[Portion],
        delivery: usize,
        output: usize,
        cause: &str,
        offsets: &mut Offsets<Finished>,
        encoding: &Encoding,
        now: Instant,
    ) -> Settled {
        let Some((portion, index)) = portions
            .get(delivery)
            .and_then(|portion| Some((portion, record_of(portion, output, offsets)?)))
        else {
            // The tenure has ended meanwhile, or the sink miscounts: the next try will tell.
            self.retry(cause, now);
            return Settled::GoOn;
        };
        let before: usize = portions[..delivery]
            .iter()
            .map(|portion| portion.records)
            .sum();
        self.records = (before + index).max(1);
        offsets.begin_again(portions);
        let mut refusals = 0;
        offsets.revise(portion, index, |finished| {
            let revised = encoding.refused(finished, cause);
            refusals = revised.refusals;
            revised
        });
        if refusals > MAX_REFUSALS {
            return Settled::Stop(format!(
                "not even a dead letter without key and value is taken for a record of {}: {cause}",
                portion.partition.partition
            ));
        }
        Settled::GoOn
    }

    /// Forgets the tenures of some endings and releases them.
    fn forget(
        &mut self,
        offsets: &mut Offsets<Finished>,
        over: impl Fn(&Ending, &Offsets<Finished>) -> bool,
    ) -> bool {
        let before = self.endings.len();
        self.endings.retain(|ending| {
            let over = over(ending, offsets);
            if over {
                offsets.forget(&ending.partitions);
            }
            !over
        });
        self.endings.len() < before
    }

    /// Since when deliveries fail, none having succeeded.
    pub(crate) fn failing_since(&self) -> Option<Instant> {
        self.failing_since
    }

    /// Whether the sink is at work.
    pub(crate) fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }
}

/// The records of a portion, by how they ended.
fn counted(ends: &[End]) -> Vec<Alike> {
    let mut counted: Vec<Alike> = Vec::new();
    for End {
        outcome, letter, ..
    } in ends
    {
        match counted.iter_mut().find(|alike| alike.outcome == *outcome) {
            Some(alike) => {
                alike.records += 1;
                alike.letter.clone_from(letter);
            }
            None => counted.push(Alike {
                outcome: *outcome,
                records: 1,
                letter: letter.clone(),
            }),
        }
    }
    counted
}

/// The record of a portion that an output belongs to.
fn record_of(portion: &Portion, output: usize, offsets: &Offsets<Finished>) -> Option<usize> {
    let mut end = 0;
    offsets.results(portion).position(|result| {
        end += result.outputs.iter().count();
        output < end
    })
}
