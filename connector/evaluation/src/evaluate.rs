//! Puts every triple through an Aligner and judges what comes back.
//!
//! At most `in_flight` requests are with the Aligner at any time, so that it can batch; a
//! request that failed with its batch is tried again on its own, up to `max_attempts`. Verdicts
//! stand in the order of the triples, whatever order they finished in.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use aligner::{
    AlignError, AlignRequest, Aligner, Alignment, Completions, NextStep, Outcome, reason::Bypass,
};
use futures::{
    StreamExt,
    stream::{BoxStream, SelectAll},
};
use thiserror::Error;

use crate::{
    judge::{Cost, Surroundings, judge},
    planted::Planted,
    proxies::Dimension,
    report::{Judged, Report},
    text,
    triple::Triple,
    verdict::{Decision, Verdict},
};

/// How to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What the report calls its data, such as the name of the file.
    pub data: String,
    /// What whoever reads the figures is to know of the data, a sentence each: it stands before them.
    pub notes: Vec<String>,
    /// Most requests that are with the Aligner at a time, at least 1.
    pub in_flight: usize,
    /// How often a request is tried whose failure may not be its own, at least 1.
    pub max_attempts: u32,
    /// Phrases that corrections may use: their words are never words from nowhere.
    pub known_phrases: Vec<String>,
    /// A word is known too when it stands in at least this many *other* rewritten outputs. So what
    /// an Aligner puts into every answer is known, whatever it is, as soon as there is one answer more
    /// than that.
    pub known_from_outputs: u32,
    /// Dimension of a kind whose name does not tell it (see [`Dimension::of_kind`]).
    pub dimensions: BTreeMap<String, Dimension>,
    /// How many of the worst cases the report keeps, with their text; 0 for a report without
    /// text of questions and answers.
    pub worst_cases: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data: "triples".to_owned(),
            notes: Vec::new(),
            in_flight: 64,
            max_attempts: 3,
            known_phrases: Vec::new(),
            known_from_outputs: 3,
            dimensions: BTreeMap::new(),
            worst_cases: 20,
        }
    }
}

/// How far an evaluation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Answers judged so far.
    pub done: usize,
    /// Answers in all.
    pub total: usize,
    /// Rewritten so far.
    pub rewritten: usize,
    /// Bypassed so far.
    pub bypassed: usize,
    /// Failed so far.
    pub failed: usize,
    /// Time since the start.
    pub elapsed: Duration,
}

/// Why there is no report.
#[derive(Debug, Error)]
pub enum EvaluationError {
    /// The Aligner cannot go on.
    #[error("evaluation ended after {done} of {total} answers")]
    Stopped {
        /// Answers that were done.
        done: usize,
        /// Answers in all.
        total: usize,
        /// What the Aligner says.
        source: AlignError,
    },
    /// There is nothing to evaluate.
    #[error("there are no triples to evaluate; give at least one")]
    NoTriples,
}

/// Evaluates `aligner` on `triples`; `progress` is called after every answer.
///
/// # Errors
/// If there are no triples, or the Aligner stopped for good. A failure on single answers is
/// counted in the report instead.
pub async fn evaluate(
    aligner: Arc<dyn Aligner>,
    triples: &[Triple],
    options: &Options,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Report, EvaluationError> {
    if triples.is_empty() {
        return Err(EvaluationError::NoTriples);
    }
    let started = Instant::now();
    let mut run = Run::new(&*aligner, triples, options);
    let mut seen = Progress {
        done: 0,
        total: triples.len(),
        rewritten: 0,
        bypassed: 0,
        failed: 0,
        elapsed: Duration::ZERO,
    };
    while let Some(index) = run
        .next()
        .await
        .map_err(|source| EvaluationError::Stopped {
            done: seen.done,
            total: triples.len(),
            source,
        })?
    {
        seen.done += 1;
        match run.answered[index].as_ref().map(|a| &a.decision) {
            Some(Decision::Rewritten) => seen.rewritten += 1,
            Some(Decision::Bypassed(_)) => seen.bypassed += 1,
            Some(Decision::Failed(_)) => seen.failed += 1,
            _ => {}
        }
        seen.elapsed = started.elapsed();
        progress(seen);
    }
    let elapsed = started.elapsed();
    let answered: Vec<Answered> = run
        .answered
        .into_iter()
        .map(|answered| answered.expect("the run ends when every triple is answered"))
        .collect();
    let verdicts = verdicts(triples, &answered, options);
    let judged = triples
        .iter()
        .zip(&answered)
        .zip(verdicts)
        .map(|((triple, answered), verdict)| Judged {
            triple,
            output: &answered.output,
            proposal: answered.proposal.as_deref(),
            verdict,
        })
        .collect();
    Ok(Report::new(aligner.identity(), judged, options, elapsed))
}

/// What came back for one triple.
struct Answered {
    decision: Decision,
    output: String,
    /// What its guard did not let through.
    proposal: Option<String>,
    cost: Cost,
}

impl Answered {
    fn from(triple: &Triple, alignment: Alignment) -> Self {
        let unchanged = || triple.answer.clone();
        let bypassed = |bypass: Bypass| Decision::Bypassed(bypass.word.to_owned());
        let (decision, output, proposal) = match alignment.outcome.normalized(&triple.answer) {
            Outcome::Rewritten(text) if text == triple.answer => (Decision::Copied, text, None),
            Outcome::Rewritten(text) => (Decision::Rewritten, text, None),
            Outcome::Unchanged => (Decision::UnchangedToken, unchanged(), None),
            Outcome::Bypassed(bypass) => (bypassed(bypass), unchanged(), None),
            Outcome::Rejected { bypass, proposal } => {
                (bypassed(bypass), unchanged(), Some(proposal))
            }
        };
        Self {
            decision,
            output,
            proposal,
            cost: Cost {
                prompt_tokens: alignment.usage.prompt_tokens,
                correction_tokens: alignment.usage.correction_tokens,
                inference_seconds: alignment.timing.inference.as_secs_f64(),
                queued_seconds: alignment.timing.queued.as_secs_f64(),
            },
        }
    }

    fn failed(triple: &Triple, reason: &str) -> Self {
        Self {
            decision: Decision::Failed(reason.to_owned()),
            output: triple.answer.clone(),
            proposal: None,
            cost: Cost::default(),
        }
    }
}

/// What became of a submitted request; nothing where the Aligner broke its contract and ended
/// the batch without an answer.
type Event = (usize, Option<Result<Alignment, AlignError>>);

/// One event for each request of a batch, whatever the Aligner does.
fn events(completions: Completions, indices: Vec<usize>) -> BoxStream<'static, Event> {
    let pending: Vec<Option<usize>> = indices.into_iter().map(Some).collect();
    futures::stream::unfold(
        (completions.fuse(), pending),
        |(mut completions, mut pending)| async move {
            loop {
                let (index, result) = match completions.next().await {
                    Some(completion) => {
                        let asked = pending.get_mut(completion.index).and_then(Option::take);
                        (asked, Some(completion.result))
                    }
                    None => (Some(pending.iter_mut().find_map(Option::take)?), None),
                };
                // A second answer to one request is ignored.
                if let Some(index) = index {
                    return Some(((index, result), (completions, pending)));
                }
            }
        },
    )
    .boxed()
}

/// The requests on their way.
struct Run<'a> {
    aligner: &'a dyn Aligner,
    triples: &'a [Triple],
    in_flight: usize,
    max_attempts: u32,
    fresh: usize,
    again: VecDeque<usize>,
    attempts: Vec<u32>,
    answered: Vec<Option<Answered>>,
    outstanding: usize,
    events: SelectAll<BoxStream<'static, Event>>,
}

impl<'a> Run<'a> {
    fn new(aligner: &'a dyn Aligner, triples: &'a [Triple], options: &Options) -> Self {
        Self {
            aligner,
            triples,
            in_flight: options.in_flight.max(1),
            max_attempts: options.max_attempts.max(1),
            fresh: 0,
            again: VecDeque::new(),
            attempts: vec![0; triples.len()],
            answered: std::iter::repeat_with(|| None)
                .take(triples.len())
                .collect(),
            outstanding: 0,
            events: SelectAll::new(),
        }
    }

    /// Fills up what may be in flight: failed requests alone, fresh ones a quarter at a time.
    fn submit(&mut self) {
        while self.outstanding < self.in_flight {
            if let Some(index) = self.again.pop_front() {
                self.send(vec![index]);
                continue;
            }
            let room = self.in_flight - self.outstanding;
            let left = self.triples.len() - self.fresh;
            let size = self.in_flight.div_ceil(4).min(left);
            if size == 0 || size > room {
                return;
            }
            self.send((self.fresh..self.fresh + size).collect());
            self.fresh += size;
        }
    }

    fn send(&mut self, indices: Vec<usize>) {
        let batch = indices
            .iter()
            .map(|&index| {
                self.attempts[index] += 1;
                let triple = &self.triples[index];
                AlignRequest {
                    event_id: triple.event_id.as_str().into(),
                    question: triple.question.as_str().into(),
                    answer: triple.answer.as_str().into(),
                    waiting_since: std::time::Instant::now(),
                }
            })
            .collect();
        self.outstanding += indices.len();
        self.events.push(events(self.aligner.align(batch), indices));
    }

    /// The next triple that is answered for good, or nothing when all are.
    async fn next(&mut self) -> Result<Option<usize>, AlignError> {
        loop {
            self.submit();
            let Some((index, result)) = self.events.next().await else {
                return Ok(None);
            };
            self.outstanding -= 1;
            if self.settle(index, result)? {
                return Ok(Some(index));
            }
        }
    }

    /// Whether the triple is answered for good.
    fn settle(
        &mut self,
        index: usize,
        result: Option<Result<Alignment, AlignError>>,
    ) -> Result<bool, AlignError> {
        let triple = &self.triples[index];
        let (again, word) = match result {
            Some(Ok(alignment)) => {
                self.answered[index] = Some(Answered::from(triple, alignment));
                return Ok(true);
            }
            Some(Err(error)) => match error.next_step() {
                NextStep::Stop => return Err(error),
                NextStep::Retry => (true, "unavailable"),
                NextStep::Isolate => (true, "batch_failed"),
                NextStep::DeadLetter => (false, "rejected"),
            },
            None => (false, "no_completion"),
        };
        if again && self.attempts[index] < self.max_attempts {
            self.again.push_back(index);
            return Ok(false);
        }
        self.answered[index] = Some(Answered::failed(triple, word));
        Ok(true)
    }
}

/// Judges all answers, once every output is known.
fn verdicts(triples: &[Triple], answered: &[Answered], options: &Options) -> Vec<Verdict> {
    let phrases = text::vocabulary(options.known_phrases.iter().map(String::as_str));
    let faults = triples.iter().flat_map(|triple| &triple.faults);
    let all_faults = Planted::new(faults.map(String::as_str));
    let mut outputs_with: HashMap<String, u32> = HashMap::new();
    for answer in answered {
        if answer.decision == Decision::Rewritten {
            for word in text::vocabulary([answer.output.as_str()]) {
                *outputs_with.entry(word).or_default() += 1;
            }
        }
    }
    triples
        .iter()
        .zip(answered)
        .map(|(triple, answer)| {
            let own = u32::from(answer.decision == Decision::Rewritten);
            let known = |word: &str| {
                let others = outputs_with
                    .get(word)
                    .copied()
                    .unwrap_or(0)
                    .saturating_sub(own);
                phrases.contains(word) || others >= options.known_from_outputs.max(1)
            };
            judge(
                triple,
                answer.decision.clone(),
                &answer.output,
                answer.cost,
                &Surroundings {
                    known: &known,
                    all_faults: &all_faults,
                },
            )
        })
        .collect()
}
