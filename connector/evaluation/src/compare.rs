//! Two Aligners on the same triples, side by side.
//!
//! Every measure is compared pair by pair: the interval is of the mean difference B − A under
//! resampled triples, so what makes a triple hard cancels out. A winner is named only where
//! the interval of the deciding measure leaves out zero, and only of ten pairs or more:
//! resampling a few that agree gives an interval of no width. The same holds for the few that
//! differ among many that do not. So where a measure holds or does not, an exact sign test on
//! those that differ must tell the two apart as well, at the same confidence. At 95 % fewer than six
//! never do, and of six all must lie to one side. The interval shows how large the difference is.
//!
//! Both are per kind, and not widened for looking at many kinds: of twenty kinds on which two
//! Aligners are equally good, one false winner at most is to be expected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    bootstrap,
    figures::mean,
    report::{AlignerDescription, Report},
    sign_test,
    verdict::{Class, Verdict},
};

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompareOptions {
    /// Resamples for each interval.
    pub resamples: u32,
    /// Confidence of the intervals and of the sign test, below 1.
    pub confidence: f64,
    /// Seed of the resampling.
    pub seed: u64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            resamples: 2000,
            confidence: 0.95,
            seed: 1,
        }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Right as a whole (see [`Verdict::good`]); decides the winner where answers are labelled.
    Good,
    /// The wanted correction, byte for byte but perhaps for white space at its ends. Of answers with
    /// something to correct, as in a [`Report`]: leaving a clean one alone is no skill of correcting.
    Exact,
    /// Word similarity to the wanted correction, of the same answers; 0 where the Aligner failed.
    Similarity,
    /// The fault is gone.
    Settled,
    /// The Aligner failed; less is better. Shown where either did. The measures that follow have no
    /// value for such an answer: failing often is no way to garble, to bypass or to take less.
    Failed,
    /// Garbled; less is better. Decides the winner in plain traffic, among the answers on which
    /// neither failed.
    Garbled,
    /// Left to the upstream model's answer by a limit or the guard; less is better.
    Bypassed,
    /// Seconds of inference: told, and not judged.
    Seconds,
}

/// Fewest pairs of which one Aligner may be called better.
pub(crate) const MIN_PAIRS: usize = 10;

/// Which Aligner is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
    /// The interval of the difference holds zero, or the pairs that differ (see
    /// [`Difference::alone`]) are too few, or too evenly shared, to tell.
    NoClearDifference,
    /// Fewer than ten pairs have the measure, which no interval makes up for.
    TooFew,
    /// The measure is told alone (see [`Measure::Seconds`]).
    NotJudged,
}

/// One measure over one group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What is compared.
    pub measure: Measure,
    /// Pairs that have the measure.
    pub pairs: u32,
    /// Mean of the first.
    pub a: f64,
    /// Mean of the second.
    pub b: f64,
    /// Mean of B − A.
    pub difference: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end of its interval.
    pub high: f64,
    /// Pairs of which one alone is better, where the measure holds or does not; absent for
    /// measures of degree.
    pub alone: Option<Alone>,
    /// Which is better by this measure.
    pub better: Side,
}

/// Pairs that differ in a measure which holds or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alone {
    /// Those of which the first is better.
    pub a: u32,
    /// Those of which the second is.
    pub b: u32,
}

impl Alone {
    /// Whether chance would rarely have so many lie to one side.
    fn tells(self, confidence: f64) -> bool {
        sign_test::p_value(self.a, self.b) <= 1.0 - confidence
    }
}

/// One group of answers: all, or a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupComparison {
    /// Answers in the group.
    pub answers: u32,
    /// Which is better by the deciding measure.
    pub winner: Side,
    /// Every measure that the group has.
    pub differences: Vec<Difference>,
}

/// Two Aligners side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first.
    pub a: AlignerDescription,
    /// The second.
    pub b: AlignerDescription,
    /// What the data was called.
    pub data: String,
    /// What is to be known before the figures are read, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Confidence of the intervals and of the sign test.
    pub confidence: f64,
    /// Over all answers.
    pub all: GroupComparison,
    /// By kind.
    pub kinds: BTreeMap<String, GroupComparison>,
}

/// Reports that cannot be compared.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompareError {
    /// They are of different data.
    #[error(
        "the reports are not of the same triples: {a} against {b} answers; evaluate both on one file"
    )]
    Count {
        /// Answers of the first.
        a: usize,
        /// Answers of the second.
        b: usize,
    },
    /// They differ at one triple.
    #[error(
        "the reports are not of the same triples: number {number} differs; evaluate both on one file"
    )]
    Triple {
        /// Its number, from 1.
        number: usize,
    },
}

/// Those of both, each once.
fn notes(a: &Report, b: &Report) -> Vec<String> {
    let of_b = b.notes.iter().filter(|note| !a.notes.contains(note));
    a.notes.iter().chain(of_b).cloned().collect()
}

/// Compares two reports of the same triples.
///
/// # Errors
/// If they are not of the same triples in the same order.
pub fn compare(
    a: &Report,
    b: &Report,
    options: &CompareOptions,
) -> Result<Comparison, CompareError> {
    if a.verdicts.len() != b.verdicts.len() {
        return Err(CompareError::Count {
            a: a.verdicts.len(),
            b: b.verdicts.len(),
        });
    }
    let pairs: Vec<(&Verdict, &Verdict)> = a.verdicts.iter().zip(&b.verdicts).collect();
    if let Some(at) = pairs.iter().position(|(a, b)| a.digest != b.digest) {
        return Err(CompareError::Triple { number: at + 1 });
    }
    let mut groups: BTreeMap<String, Vec<(&Verdict, &Verdict)>> = BTreeMap::new();
    for pair in &pairs {
        groups.entry(pair.0.kind.clone()).or_default().push(*pair);
    }
    Ok(Comparison {
        a: a.aligner.clone(),
        b: b.aligner.clone(),
        data: a.data.clone(),
        notes: notes(a, b),
        confidence: options.confidence,
        all: group(&pairs, options),
        kinds: groups
            .into_iter()
            .map(|(kind, pairs)| (kind, group(&pairs, options)))
            .collect(),
    })
}

const MEASURES: [Measure; 8] = [
    Measure::Good,
    Measure::Exact,
    Measure::Similarity,
    Measure::Settled,
    Measure::Failed,
    Measure::Garbled,
    Measure::Bypassed,
    Measure::Seconds,
];

impl Measure {
    /// Whether a difference tells one from the other. Seconds do not: whatever else the machine did at a time is in
    /// all answers of that time, so that they are no samples of their own, and a model would beat itself.
    fn is_judged(self) -> bool {
        self != Self::Seconds
    }

    /// Its value for one answer, if it has one.
    fn of(self, verdict: &Verdict) -> Option<f64> {
        let flag = |holds| f64::from(u8::from(holds));
        let returned = !verdict.failed();
        let is_faulty = verdict.class == Class::Faulty;
        match self {
            Self::Good => verdict.good.map(flag),
            Self::Exact => verdict.exact.filter(|_| is_faulty).map(flag),
            Self::Similarity => verdict.similarity.filter(|_| is_faulty),
            Self::Settled => verdict.settled.map(flag),
            Self::Failed => Some(flag(verdict.failed())),
            Self::Garbled => returned.then(|| flag(verdict.garbled)),
            Self::Bypassed => returned.then(|| flag(verdict.bypassed())),
            Self::Seconds => returned.then_some(verdict.inference_seconds),
        }
    }

    fn less_is_better(self) -> bool {
        matches!(
            self,
            Self::Failed | Self::Garbled | Self::Bypassed | Self::Seconds
        )
    }

    /// Of its values for pairs, those that differ; absent for a measure of degree.
    fn alone(self, values: &[(f64, f64)]) -> Option<Alone> {
        if matches!(self, Self::Similarity | Self::Seconds) {
            return None;
        }
        let count = |holds: fn(&&(f64, f64)) -> bool| {
            u32::try_from(values.iter().filter(holds).count()).unwrap_or(u32::MAX)
        };
        let (more, less) = (count(|(a, b)| a > b), count(|(a, b)| a < b));
        Some(if self.less_is_better() {
            Alone { a: less, b: more }
        } else {
            Alone { a: more, b: less }
        })
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Good => "right as a whole",
            Self::Exact => "corrections that match exactly",
            Self::Similarity => "edit similarity of corrections",
            Self::Settled => "fault gone",
            Self::Failed => "failed",
            Self::Garbled => "garbled",
            Self::Bypassed => "bypassed",
            Self::Seconds => "seconds of inference",
        }
    }
}

fn group(pairs: &[(&Verdict, &Verdict)], options: &CompareOptions) -> GroupComparison {
    let differences: Vec<Difference> = MEASURES
        .into_iter()
        .filter_map(|measure| difference(measure, pairs, options))
        .filter(|d| d.measure != Measure::Failed || d.a.max(d.b) > 0.0)
        .collect();
    // None has the deciding measure where no answer is left that both returned.
    let winner = differences
        .iter()
        .find(|d| matches!(d.measure, Measure::Good | Measure::Garbled))
        .map_or(Side::TooFew, |d| d.better);
    GroupComparison {
        answers: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        winner,
        differences,
    }
}

fn difference(
    measure: Measure,
    pairs: &[(&Verdict, &Verdict)],
    options: &CompareOptions,
) -> Option<Difference> {
    let values: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|(a, b)| Some((measure.of(a)?, measure.of(b)?)))
        .collect();
    let differences: Vec<f64> = values.iter().map(|(a, b)| b - a).collect();
    let (difference, low, high) = bootstrap::interval(
        &differences,
        options.resamples,
        options.confidence,
        options.seed,
    )?;
    let (worse, better) = if measure.less_is_better() {
        (Side::B, Side::A)
    } else {
        (Side::A, Side::B)
    };
    let alone = measure.alone(&values);
    let told = alone.is_none_or(|alone| alone.tells(options.confidence));
    Some(Difference {
        measure,
        pairs: u32::try_from(values.len()).unwrap_or(u32::MAX),
        a: mean(values.iter().map(|(a, _)| *a))?,
        b: mean(values.iter().map(|(_, b)| *b))?,
        difference,
        low,
        high,
        alone,
        better: if values.len() < MIN_PAIRS {
            Side::TooFew
        } else if !measure.is_judged() {
            Side::NotJudged
        } else if told && low > 0.0 {
            better
        } else if told && high < 0.0 {
            worse
        } else {
            Side::NoClearDifference
        },
    })
}
