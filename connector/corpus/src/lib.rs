//! Question-answer-correction triples for training and judging an Aligner: seeded, and the same on
//! every machine.
//!
//! A triple is a question, the answer of an (invented) upstream model, and that answer corrected.
//! Half of the answers are clean and come back untouched; the others carry one [`Kind`] of fault,
//! planted so that the right correction is known exactly. Everything was written for this corpus.
//!
//! [`Split`]s share no templates (subjects, lead-ins, insults, unsafe steps, sentences of
//! overclaims) and no free values (e-mail addresses, numbers, keys, invented names). They do share
//! closed vocabulary (common words, colours, every list of fewer than thirty entries), the harmless
//! sentences around dangers, and the wording of the corrections themselves, which a model cannot
//! guess: with it the verbs and adjectives of overclaims.
//!
//! ```
//! use aligner_corpus::{Corpus, Split};
//!
//! let first: Vec<_> = Corpus::new(7, Split::Test).take(3).collect();
//! let again: Vec<_> = Corpus::new(7, Split::Test).take(3).collect();
//! assert_eq!(first, again);
//! ```

mod carrier;
mod compose;
mod draft;
mod hedges;
mod lists;
mod phrases;
mod values;
mod writer;

use serde::{Deserialize, Serialize};

pub use phrases::correction_phrases;
use writer::Writer;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Nothing: the answer comes back as it is, however risky its subject.
    Clean,
    /// Leaked personal data: masked, the rest is kept.
    PersonalData,
    /// Insults and contempt: taken out.
    Insult,
    /// Unsafe instructions: replaced by a short refusal with a safe alternative.
    Unsafe,
    /// Overclaims and false certainty: hedged.
    Overclaim,
    /// A fact that contradicts what the question states: set right.
    Contradiction,
    /// Risky advice without a warning: the warning is appended.
    MissingWarning,
    /// Repetition and filler: trimmed.
    Rambling,
}

impl Kind {
    /// Every kind, clean first.
    pub const ALL: [Self; 8] = [
        Self::Clean,
        Self::PersonalData,
        Self::Insult,
        Self::Unsafe,
        Self::Overclaim,
        Self::Contradiction,
        Self::MissingWarning,
        Self::Rambling,
    ];

    /// The name used in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::PersonalData => "personal_data",
            Self::Insult => "insult",
            Self::Unsafe => "unsafe",
            Self::Overclaim => "overclaim",
            Self::Contradiction => "contradiction",
            Self::MissingWarning => "missing_warning",
            Self::Rambling => "rambling",
        }
    }
}

/// The part of the corpus a triple belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training.
    Train,
    /// For choosing when to stop, and thresholds.
    Validation,
    /// For the figures that are reported.
    Test,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];
}

/// A question, an answer and its correction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triple {
    /// Unique within split and seed; an event id when the triple becomes traffic.
    #[serde(rename = "event_id")]
    pub id: String,
    /// What is wrong with the answer.
    pub kind: Kind,
    /// The invented model that gave the answer.
    pub upstream_model: String,
    /// What was asked.
    pub question: String,
    /// What was answered.
    pub answer: String,
    /// What should have been answered.
    pub correction: String,
    /// The planted faults, word for word; none of them is in the correction.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// An endless stream of triples.
#[derive(Clone, Debug)]
pub struct Corpus {
    seed: u64,
    split: Split,
    next: u64,
    drills: f64,
    digressions: f64,
    plain: f64,
    clean: f64,
    faulty: [f64; Kind::ALL.len() - 1],
    words: (usize, usize),
}

/// The shares of the kinds of fault among the answers that have one.
const FAULTY: [f64; Kind::ALL.len() - 1] = [0.30, 0.16, 0.14, 0.13, 0.10, 0.07, 0.10];

impl Corpus {
    /// The stream of a split under a seed.
    pub fn new(seed: u64, split: Split) -> Self {
        Self {
            seed,
            split,
            next: 0,
            drills: 0.0,
            digressions: 0.5,
            plain: 0.5,
            clean: 0.5,
            faulty: FAULTY,
            words: (20, 160),
        }
    }

    /// The share of answers whose harmless part makes no sense, for training: sentences spliced
    /// together, words in random order, invented words and strings. None by default.
    #[must_use]
    pub fn drills(mut self, share: f64) -> Self {
        self.drills = share;
        self
    }

    /// The share of an answer's sentences that have nothing to do with its topic, one half by
    /// default: so more sound text is met than the topics have. Without, answers read as people
    /// expect them to.
    #[must_use]
    pub fn digressions(mut self, share: f64) -> Self {
        self.digressions = share;
        self
    }

    /// The share of insults, dangers and overclaims that anybody would think of first, one half by
    /// default: lists that go ever further afield would make those rare among all the others, which
    /// they are not in what models answer.
    #[must_use]
    pub fn plain(mut self, share: f64) -> Self {
        self.plain = share;
        self
    }

    /// The only faults that are planted, in their shares; all by default, and where none is named.
    #[must_use]
    pub fn only(mut self, kinds: &[Kind]) -> Self {
        for (share, (kind, usual)) in self
            .faulty
            .iter_mut()
            .zip(Kind::ALL[1..].iter().zip(FAULTY))
        {
            let wanted = kinds.is_empty() || kinds.contains(kind);
            *share = if wanted { usual } else { 0.0 };
        }
        self
    }

    /// The share of clean answers; one half by default.
    #[must_use]
    pub fn clean(mut self, share: f64) -> Self {
        self.clean = share;
        self
    }

    /// The least and most words of an answer; 20 to 160 by default.
    #[must_use]
    pub fn words(mut self, least: usize, most: usize) -> Self {
        self.words = (least, most);
        self
    }

    fn kind(&self, w: &mut Writer) -> Kind {
        if w.chance(self.clean) {
            return Kind::Clean;
        }
        Kind::ALL[1 + w.weighted(&self.faulty)]
    }
}

impl Iterator for Corpus {
    type Item = Triple;

    fn next(&mut self) -> Option<Triple> {
        let index = self.next;
        self.next += 1;
        let mut w = Writer::new(self.seed, self.split, index);
        (w.digressions, w.plain) = (self.digressions, self.plain);
        let kind = self.kind(&mut w);
        let split = match self.split {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        };
        for _ in 0..10_000 {
            let id = format!("{split}-{}-{index}", self.seed);
            w.forget();
            if let Some(t) = compose::compose(&mut w, kind, self.drills, id, self.words) {
                return Some(t);
            }
        }
        panic!(
            "no {} of {:?} words can be composed",
            kind.name(),
            self.words
        )
    }
}
