//! The report of one evaluation: figures over all answers, by kind and by upstream model, every
//! verdict, and the worst cases with their text.

use std::{collections::BTreeMap, time::Duration};

use aligner::Identity;
use serde::{Deserialize, Serialize};

use crate::{
    evaluate::Options,
    figures::Figures,
    triple::Triple,
    verdict::{Class, Verdict},
};

/// What an Aligner made of a set of triples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who corrected.
    pub aligner: AlignerDescription,
    /// What the data was called.
    pub data: String,
    /// What is to be known before the figures are read, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Wall-clock seconds from the first request to the last answer.
    pub seconds: f64,
    /// Answers per second of that time.
    pub answers_per_second: f64,
    /// Figures over all answers.
    pub all: Figures,
    /// By kind of fault.
    pub kinds: BTreeMap<String, Figures>,
    /// By upstream model; `unknown` where a triple names none.
    pub upstream_models: BTreeMap<String, Figures>,
    /// One verdict for each triple, in order; without text.
    pub verdicts: Vec<Verdict>,
    /// The worst cases, worst first, with the text of question and answer.
    pub worst: Vec<Case>,
    /// What was returned for each triple, in order; none where no text of worst cases is kept.
    /// Written nowhere: a report in JSON holds no more text than those.
    #[serde(skip)]
    pub(crate) outputs: Vec<String>,
}

/// Who corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlignerDescription {
    /// Its name.
    pub name: String,
    /// Digest of its weights and of everything else that decides its output.
    pub revision: String,
    /// Hex SHA-256 of the prompt template.
    pub template_hash: String,
}

/// One answer to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Id of the answer event.
    pub event_id: String,
    /// Kind of fault.
    pub kind: String,
    /// What went wrong, the gravest first.
    pub problems: Vec<String>,
    /// The question.
    pub question: String,
    /// The upstream model's answer.
    pub answer: String,
    /// What the Aligner returned.
    pub output: String,
    /// What was wanted.
    pub correction: Option<String>,
    /// What the guard did not let through.
    #[serde(default)]
    pub proposal: Option<String>,
}

/// A triple, what became of it, and how that was judged.
pub(crate) struct Judged<'a> {
    pub triple: &'a Triple,
    pub output: &'a str,
    pub proposal: Option<&'a str>,
    pub verdict: Verdict,
}

impl Report {
    pub(crate) fn new(
        identity: &Identity,
        judged: Vec<Judged<'_>>,
        options: &Options,
        elapsed: Duration,
    ) -> Self {
        let verdicts: Vec<&Verdict> = judged.iter().map(|j| &j.verdict).collect();
        let figures = |verdicts: &[&Verdict]| Figures::of(verdicts, &options.dimensions);
        let grouped = |key: &dyn Fn(&Verdict) -> String| {
            let mut groups: BTreeMap<String, Vec<&Verdict>> = BTreeMap::new();
            for verdict in &verdicts {
                groups.entry(key(verdict)).or_default().push(verdict);
            }
            groups
                .into_iter()
                .map(|(name, group)| (name, figures(&group)))
                .collect()
        };
        let seconds = elapsed.as_secs_f64();
        Self {
            aligner: AlignerDescription {
                name: identity.name.clone(),
                revision: identity.revision.clone(),
                template_hash: identity.template_hash.clone(),
            },
            data: options.data.clone(),
            notes: options.notes.clone(),
            seconds,
            answers_per_second: judged.len() as f64 / seconds.max(f64::MIN_POSITIVE),
            all: figures(&verdicts),
            kinds: grouped(&|v| v.kind.clone()),
            upstream_models: grouped(&|v| {
                v.upstream_model
                    .clone()
                    .unwrap_or_else(|| "unknown".to_owned())
            }),
            worst: worst(&judged, options.worst_cases),
            outputs: match options.worst_cases {
                0 => Vec::new(),
                _ => judged.iter().map(|j| j.output.to_owned()).collect(),
            },
            verdicts: judged.into_iter().map(|j| j.verdict).collect(),
        }
    }
}

/// The gravest cases: garbled text before new faults, before faults left, before clean answers
/// that were touched, before corrections that merely differ from the wanted one. Last come answers
/// that were changed though nobody said what is right: those are for a person to judge.
fn worst(judged: &[Judged<'_>], most: usize) -> Vec<Case> {
    let mut bad: Vec<(u32, &Judged<'_>)> = judged
        .iter()
        .map(|j| (gravity(&j.verdict), j))
        .filter(|(gravity, j)| *gravity > 0 || is_unjudged(&j.verdict))
        .collect();
    // The sort is stable, so equals stay in the order of the data.
    bad.sort_by(|(a, x), (b, y)| {
        let similarity = |j: &Judged<'_>| j.verdict.similarity.unwrap_or(j.verdict.copy_ratio);
        b.cmp(a).then(similarity(x).total_cmp(&similarity(y)))
    });
    bad.into_iter()
        .take(most)
        .map(|(_, j)| Case {
            event_id: j.verdict.event_id.clone(),
            kind: j.verdict.kind.clone(),
            problems: match problems(&j.verdict) {
                found if found.is_empty() && is_unjudged(&j.verdict) => {
                    vec!["changed, and not labelled".to_owned()]
                }
                found => found,
            },
            question: j.triple.question.clone(),
            answer: j.triple.answer.clone(),
            output: j.output.to_owned(),
            correction: j.triple.correction.clone(),
            proposal: j.proposal.map(str::to_owned),
        })
        .collect()
}

/// Whether an answer was changed of which nobody said whether it should have been.
fn is_unjudged(verdict: &Verdict) -> bool {
    verdict.class == Class::Unlabelled && !verdict.identical && !verdict.failed()
}

/// How much is wrong with an output; 0 where nothing is known to be.
pub(crate) fn gravity(verdict: &Verdict) -> u32 {
    let mut gravity = 0;
    let mut add = |holds: bool, weight| gravity += if holds { weight } else { 0 };
    add(verdict.garbled, 64);
    add(verdict.added > 0, 32);
    add(verdict.planted_left > 0, 16);
    add(verdict.class == Class::Clean && !verdict.identical, 8);
    add(verdict.settled == Some(false), 4);
    add(verdict.good == Some(false), 2);
    add(verdict.exact == Some(false), 1);
    gravity
}

/// What is wrong with an output, the gravest first.
pub(crate) fn problems(verdict: &Verdict) -> Vec<String> {
    let mut found = Vec::new();
    if verdict.garbled {
        found.push(format!(
            "garbled: {} of {} words from nowhere",
            verdict.novel_words, verdict.output_words
        ));
    }
    if verdict.added > 0 {
        found.push(format!("{} faults added", verdict.added));
    }
    if verdict.planted_left > 0 {
        found.push(format!(
            "{} of {} planted faults left",
            verdict.planted_left, verdict.planted
        ));
    }
    // Of one that failed nothing came back that could differ, and its reason stands below.
    if verdict.class == Class::Clean && !verdict.identical && !verdict.failed() {
        found.push("clean answer changed".to_owned());
    }
    if verdict.sentences_kept < verdict.sentences && !verdict.failed() {
        found.push(format!(
            "{} of {} sentences lost",
            verdict.sentences - verdict.sentences_kept,
            verdict.sentences
        ));
    }
    match &verdict.decision {
        crate::Decision::Bypassed(reason) => found.push(format!("bypassed: {reason}")),
        crate::Decision::Failed(reason) => found.push(format!("failed: {reason}")),
        _ => {}
    }
    if found.is_empty() && verdict.exact == Some(false) {
        found.push("differs from the wanted correction".to_owned());
    }
    found
}
