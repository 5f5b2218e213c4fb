//! Aligners without weights: for tests, benchmarks, and trying a deployment before a model.

use std::sync::LazyLock;

use futures::{StreamExt, stream};

use crate::{
    AlignRequest, Aligner, Alignment, Completion, Completions, Decoding, Identity, Outcome, Timing,
    Usage, prompt,
};

/// What a [`Builtin`] Aligner does to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Returns every answer unchanged.
    Identity,
    /// Appends [`MARK`] to every answer whose event id has an even CRC-32 (IEEE).
    Marker,
    /// Appends [`MARK`] to every answer.
    MarkerAll,
}

impl Rule {
    const ALL: [Self; 3] = [Self::Identity, Self::Marker, Self::MarkerAll];

    /// The name of the Aligner that follows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Marker => "marker",
            Self::MarkerAll => "marker-all",
        }
    }

    /// The rule of the Aligner that has this name, if one has.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// What the marking Aligners append.
pub const MARK: &str = " [marked]";

/// A deterministic Aligner that answers at once.
#[derive(Debug, Clone)]
pub struct Builtin {
    rule: Rule,
    identity: Identity,
}

impl Builtin {
    /// The Aligner that follows `rule`.
    pub fn new(rule: Rule) -> Self {
        static NO_TEMPLATE: LazyLock<String> = LazyLock::new(|| prompt::digest(""));
        let identity = Identity {
            name: rule.name().to_owned(),
            revision: "builtin-1".to_owned(),
            template_hash: NO_TEMPLATE.clone(),
            decoding: Decoding::default(),
        };
        Self { rule, identity }
    }

    fn marks(&self, event_id: &str) -> bool {
        match self.rule {
            Rule::Identity => false,
            Rule::Marker => crc32fast::hash(event_id.as_bytes()).is_multiple_of(2),
            Rule::MarkerAll => true,
        }
    }

    fn outcome(&self, request: &AlignRequest) -> Outcome {
        if self.marks(&request.event_id) {
            Outcome::Rewritten([&*request.answer, MARK].concat())
        } else {
            Outcome::Unchanged
        }
    }
}

impl Aligner for Builtin {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn align(&self, batch: Vec<AlignRequest>) -> Completions {
        let aligner = self.clone();
        stream::iter(batch.into_iter().enumerate())
            .map(move |(index, request)| Completion {
                index,
                result: Ok(Alignment {
                    outcome: aligner.outcome(&request),
                    usage: Usage::default(),
                    timing: Timing::default(),
                    confidence: None,
                }),
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    fn outcome(rule: Rule, event_id: &str) -> Outcome {
        let request = AlignRequest {
            event_id: event_id.into(),
            question: "q".into(),
            answer: "a".into(),
            waiting_since: std::time::Instant::now(),
        };
        let mut done = block_on(Builtin::new(rule).align(vec![request]).collect::<Vec<_>>());
        assert_eq!(done.len(), 1);
        done.remove(0)
            .result
            .expect("builtin aligners never fail")
            .outcome
    }

    #[test]
    fn marker_marks_exactly_the_events_with_an_even_crc() {
        // CRC-32/ISO-HDLC of "123456789" is the standard's check value 0xCBF43926, an even number.
        assert_eq!(
            outcome(Rule::Marker, "123456789"),
            Outcome::Rewritten("a [marked]".into())
        );
        // CRC-32 of "a" is 0xE8B7BE43, odd.
        assert_eq!(outcome(Rule::Marker, "a"), Outcome::Unchanged);
    }

    #[test]
    fn identity_changes_nothing_and_marker_all_changes_everything() {
        for id in ["a", "123456789", ""] {
            assert_eq!(outcome(Rule::Identity, id), Outcome::Unchanged);
            assert_eq!(
                outcome(Rule::MarkerAll, id),
                Outcome::Rewritten("a [marked]".into())
            );
        }
    }
}
