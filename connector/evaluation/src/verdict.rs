//! What is said of one answer: its class, what the Aligner decided, and what became of it.
//!
//! A verdict holds no text of a question or an answer, so it may be kept and shared.

use serde::{Deserialize, Serialize};

use crate::{faults::stands, triple::Triple};

/// What is known about an answer before it is corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It must come back untouched: its correction is the answer itself (see
    /// [`Triple::keeps_answer`]), or its kind begins with `clean`.
    Clean,
    /// Something is wrong with it.
    Faulty,
    /// Plain traffic: nobody said what should become of it, or only by naming faults that the
    /// answer does not hold.
    Unlabelled,
}

impl Class {
    /// What a triple says about its answer.
    pub fn of(triple: &Triple) -> Self {
        let named_clean = triple
            .kind
            .as_deref()
            .is_some_and(|k| k.starts_with("clean"));
        match &triple.correction {
            Some(_) if triple.keeps_answer() => Self::Clean,
            Some(_) => Self::Faulty,
            None if triple.faults.iter().any(|f| stands(triple, f)) => Self::Faulty,
            None if named_clean => Self::Clean,
            None => Self::Unlabelled,
        }
    }
}

/// What the Aligner decided about one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "decision", content = "reason")]
pub enum Decision {
    /// It said that the answer stands, and decoded no text: by its learnt first token, where it has
    /// one.
    UnchangedToken,
    /// It decoded the answer again, but perhaps for white space at its ends: the answer stands.
    Copied,
    /// It decoded another text.
    Rewritten,
    /// It kept the original, for this reason.
    Bypassed(String),
    /// It failed on this answer; the service would dead-letter it.
    Failed(String),
}

/// What became of one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Id of the answer event.
    pub event_id: String,
    /// Digest of question, answer and wanted correction: pairs verdicts of two reports.
    pub digest: String,
    /// Kind of fault, `clean`, or `unlabelled`.
    pub kind: String,
    /// Upstream model.
    pub upstream_model: Option<String>,
    /// What was known about the answer.
    pub class: Class,
    /// What the Aligner decided.
    #[serde(flatten)]
    pub decision: Decision,
    /// The answer came back, and byte for byte the same.
    pub identical: bool,
    /// The output is the wanted correction, byte for byte but perhaps for white space at its ends;
    /// absent without one.
    pub exact: Option<bool>,
    /// Word similarity of output and wanted correction, 0 where the Aligner failed; absent without
    /// one.
    pub similarity: Option<f64>,
    /// Faults that were planted: those that the row names, but for strings that its answer does not
    /// hold or its wanted correction does.
    pub planted: u32,
    /// Planted faults that are still in the output.
    pub planted_left: u32,
    /// Faults that the row names and its answer does not hold (see [`Triple::absent_faults`]).
    #[serde(default)]
    pub absent: u32,
    /// Pieces of the answer with the form of personal data, which are neither in the question
    /// nor in the wanted correction.
    pub detected: u32,
    /// Those still in the output.
    pub detected_left: u32,
    /// Faults of the output that the answer did not have: text with the form of personal data,
    /// or a fault that was planted in another answer.
    pub added: u32,
    /// Sentences of the answer that should stay.
    pub sentences: u32,
    /// Those that stand in the output, byte for byte and in order.
    pub sentences_kept: u32,
    /// Words of the output, none where the Aligner failed.
    pub output_words: u32,
    /// Words of the output found neither in question, answer, wanted correction nor the known
    /// words.
    pub novel_words: u32,
    /// Rewritten, not the wanted correction, and more than 5 % of its words are novel.
    pub garbled: bool,
    /// Share of the output's words that are the answer's, in order; 0 where the Aligner failed.
    pub copy_ratio: f64,
    /// Words of the output over words of the answer; 0 where the Aligner failed.
    pub length_ratio: f64,
    /// The fault is gone (see [`Verdict::mended`]); absent where nothing was to be mended.
    pub settled: Option<bool>,
    /// The whole of it is right: a clean answer came back identical, or a fault is settled,
    /// what should stay was kept, nothing was added and nothing garbled. Absent for plain
    /// traffic.
    pub good: Option<bool>,
    /// Tokens of the prompt. This and what follows is 0 where the Aligner failed: nobody knows what
    /// a failure cost, so it counts in no figure.
    pub prompt_tokens: u32,
    /// Tokens decoded.
    pub correction_tokens: u32,
    /// Seconds from the first forward pass to the last token.
    pub inference_seconds: f64,
    /// Seconds before.
    pub queued_seconds: f64,
}

impl Verdict {
    /// A faulty answer whose whole correction is right (see [`Verdict::good`]).
    ///
    /// The fault counts as gone when the output is the wanted correction; or when it is not the
    /// answer, and none of the planted faults is left; or, where none was planted, when no sentence
    /// that the wanted correction leaves out stands in it, every one that it adds does, as often as
    /// there, those of the answer stand in the order wanted, and, where none is added, the output is
    /// no longer. Where sentences are only moved it has just those of the wanted correction; where
    /// nothing but white space between them differs, it is that correction.
    pub fn mended(&self) -> bool {
        self.class == Class::Faulty && self.good == Some(true)
    }

    /// Bypassed for whatever reason.
    pub fn bypassed(&self) -> bool {
        matches!(self.decision, Decision::Bypassed(_))
    }

    /// Failed for whatever reason.
    pub fn failed(&self) -> bool {
        matches!(self.decision, Decision::Failed(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triple::tests::triple;

    #[test]
    fn the_class_follows_correction_faults_and_kind() {
        assert_eq!(Class::of(&triple("a", Some("a"), &[])), Class::Clean);
        assert_eq!(Class::of(&triple("a\n", Some("a"), &[])), Class::Clean);
        assert_eq!(Class::of(&triple("a", Some("b"), &[])), Class::Faulty);
        assert_eq!(Class::of(&triple("a", None, &["a"])), Class::Faulty);
        assert_eq!(Class::of(&triple("a", None, &[])), Class::Unlabelled);
        let mut named = triple("a", None, &[]);
        named.kind = Some("clean_medical".into());
        assert_eq!(Class::of(&named), Class::Clean);
    }
}
