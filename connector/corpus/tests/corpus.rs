//! What the corpus promises: determinism, disjoint splits, every kind, honest corrections.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use aligner_corpus::{Corpus, Kind, Split, Triple, correction_phrases};

const COUNT: usize = 3000;

fn sample(seed: u64, split: Split) -> Vec<Triple> {
    Corpus::new(seed, split).take(COUNT).collect()
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let json = |seed| serde_json::to_string(&sample(seed, Split::Train)[..300]).unwrap();
    assert_eq!(json(5), json(5));
    assert_ne!(json(5), json(6));
}

#[test]
fn a_triple_does_not_depend_on_those_before_it() {
    let all: Vec<_> = Corpus::new(3, Split::Test).take(40).collect();
    let late: Vec<_> = Corpus::new(3, Split::Test).skip(30).take(10).collect();
    assert_eq!(all[30..], late);
}

#[test]
fn every_kind_is_there_and_half_is_clean() {
    for split in Split::ALL {
        let mut shares: BTreeMap<Kind, usize> = BTreeMap::new();
        for t in sample(1, split) {
            *shares.entry(t.kind).or_default() += 1;
        }
        assert_eq!(shares.len(), Kind::ALL.len(), "{split:?}: {shares:?}");
        let clean = shares[&Kind::Clean] as f64 / COUNT as f64;
        assert!((0.46..0.54).contains(&clean), "{split:?}: {clean}");
        assert!(shares.values().all(|n| *n >= 60), "{split:?}: {shares:?}");
    }
}

/// Whether the fault of a triple is still in a text.
fn residual(triple: &Triple, text: &str) -> bool {
    match triple.kind {
        Kind::Clean => false,
        Kind::PersonalData => personal_data_left(triple, text),
        Kind::MissingWarning => {
            let warning = triple
                .correction
                .strip_prefix(&triple.answer)
                .unwrap_or(&triple.correction);
            !text.contains(warning.trim())
        }
        // A repeated sentence leaves no text of its own behind: the answer is just shorter.
        Kind::Rambling if triple.faults.is_empty() => text == triple.answer,
        _ => triple
            .faults
            .iter()
            .any(|fault| text.contains(fault.as_str())),
    }
}

/// Whether a text holds a telling part of a planted value: six letters or digits in a row that
/// stand nowhere in the correction.
fn personal_data_left(triple: &Triple, text: &str) -> bool {
    const TELLING: usize = 6;
    let bare = |text: &str| -> Vec<char> {
        text.chars()
            .filter(|c| c.is_alphanumeric())
            .flat_map(char::to_lowercase)
            .collect()
    };
    let contains = |text: &[char], part: &[char]| text.windows(part.len()).any(|w| w == part);
    let (text, correction) = (bare(text), bare(&triple.correction));
    triple.faults.iter().any(|fault| {
        let fault = bare(fault);
        let size = TELLING.min(fault.len());
        size > 0
            && fault
                .windows(size)
                .any(|part| contains(&text, part) && !contains(&correction, part))
    })
}

#[test]
fn corrections_are_honest() {
    for split in Split::ALL {
        for t in sample(2, split) {
            let words = t.answer.split_whitespace().count();
            assert!((20..=160).contains(&words), "{words} words: {t:?}");
            assert_eq!(t.kind == Kind::Clean, t.answer == t.correction, "{t:?}");
            assert!(!t.correction.trim().is_empty());
            assert!(!t.question.trim().is_empty());
            assert_eq!(t.correction.trim(), t.correction, "{t:?}");
            for fault in &t.faults {
                assert!(t.answer.contains(fault.as_str()), "{fault:?} not in {t:?}");
                assert!(
                    !t.correction.contains(fault.as_str()),
                    "{fault:?} left in {t:?}"
                );
            }
            assert!(!residual(&t, &t.correction), "{t:?}");
            if t.kind != Kind::Clean {
                assert!(residual(&t, &t.answer), "{t:?}");
            }
        }
    }
}

#[test]
fn no_separator_of_a_word_list_gets_into_a_text() {
    for split in Split::ALL {
        for triple in sample(3, split) {
            assert!(!triple.answer.contains('|'), "{}", triple.answer);
        }
    }
}

#[test]
fn event_ids_are_unique() {
    let ids: HashSet<String> = sample(1, Split::Test).into_iter().map(|t| t.id).collect();
    assert_eq!(ids.len(), COUNT);
}

/// Planted values, insults and steps: whole faults never cross from training into test.
#[test]
fn splits_share_no_planted_values() {
    let planted = |split| -> HashSet<String> {
        sample(4, split)
            .into_iter()
            .filter(|t| matches!(t.kind, Kind::PersonalData))
            .flat_map(|t| t.faults)
            .collect()
    };
    let (train, validation, test) = (
        planted(Split::Train),
        planted(Split::Validation),
        planted(Split::Test),
    );
    assert!(train.is_disjoint(&test));
    assert!(train.is_disjoint(&validation));
    assert!(validation.is_disjoint(&test));
    assert!(test.len() > 300);
}

/// Names of slots; code samples hold other names in braces.
const SLOTS: [&str; 31] = [
    "name",
    "last",
    "title",
    "city",
    "n",
    "N",
    "d",
    "pct",
    "price",
    "year",
    "time",
    "day",
    "month",
    "noun",
    "thing",
    "food",
    "animal",
    "tool",
    "place",
    "job",
    "color",
    "instrument",
    "language",
    "adj",
    "inoun",
    "iadj",
    "c",
    "C",
    "x",
    "v",
    "s",
];

#[test]
fn no_slot_of_a_template_is_left_open() {
    for split in Split::ALL {
        for triple in Corpus::new(11, split).take(4_000) {
            for text in [&triple.question, &triple.answer, &triple.correction] {
                let open = SLOTS
                    .iter()
                    .find(|slot| text.contains(&format!("{{{slot}}}")));
                assert_eq!(open, None, "{}: {text}", triple.id);
            }
        }
    }
}

/// Sentences without slots are templates as they stand: those of the test set never occur in
/// training.
#[test]
fn splits_share_no_templates() {
    let steps = |split| -> HashSet<String> {
        sample(4, split)
            .into_iter()
            .filter(|t| t.kind == Kind::Unsafe)
            .flat_map(|t| t.faults)
            .collect()
    };
    let (train, test) = (steps(Split::Train), steps(Split::Test));
    assert!(train.is_disjoint(&test));
    assert!(test.len() > 20, "{}", test.len());
}

#[test]
fn only_the_faults_that_are_asked_for_are_planted() {
    let asked = [Kind::Insult, Kind::Rambling];
    let kinds = |corpus: Corpus| -> BTreeSet<Kind> {
        corpus
            .clean(0.3)
            .take(300)
            .map(|triple| triple.kind)
            .collect()
    };
    let corpus = Corpus::new(4, Split::Train);
    let found = kinds(corpus.clone().only(&asked));
    assert_eq!(found, [Kind::Clean, Kind::Insult, Kind::Rambling].into());
    assert_eq!(kinds(corpus.only(&asked).only(&[])), Kind::ALL.into());
}

/// Whether the template says this, in one of its wordings.
fn says(template: &str, text: &str) -> bool {
    let Some((before, group)) = template.split_once('(') else {
        return template == text;
    };
    let (group, after) = group.split_once(')').unwrap();
    text.strip_prefix(before).is_some_and(|text| {
        let mut rests = group.split('|').filter_map(|g| text.strip_prefix(g));
        rests.any(|rest| says(after, rest))
    })
}

/// Everybody would think of drain cleaners, nobody of most that the longer lists hold.
#[test]
fn plain_faults_are_the_share_that_is_asked_for() {
    let lists = include_str!("../data/unsafe.txt").lines();
    let plain: BTreeSet<_> = lists.filter_map(|line| line.strip_prefix("P ")).collect();
    let share = |asked: f64| {
        let corpus = Corpus::new(5, Split::Train)
            .only(&[Kind::Unsafe])
            .clean(0.0);
        let steps: Vec<_> = corpus
            .plain(asked)
            .take(300)
            .flat_map(|t| t.faults)
            .collect();
        let is_plain = |step: &&String| plain.iter().any(|template| says(template, step));
        let found = steps.iter().filter(is_plain);
        found.count() as f64 / steps.len() as f64
    };
    assert!(share(0.0) < 0.01);
    assert!((0.4..0.6).contains(&share(0.5)));
    assert!(share(1.0) > 0.99);
}

#[test]
fn drills_and_lengths_are_honoured() {
    let drills = Corpus::new(1, Split::Train).drills(1.0).words(5, 30);
    for t in drills.take(200) {
        assert!((5..=30).contains(&t.answer.split_whitespace().count()));
    }
}

#[test]
fn correction_phrases_hold_the_masks_and_refusals() {
    let phrases = correction_phrases();
    assert!(phrases.iter().any(|p| p == "[email removed]"));
    assert!(phrases.iter().any(|p| p.starts_with("I can't help with")));
    assert!(!phrases.iter().any(|p| p.contains('{')));
}

#[test]
fn a_triple_survives_json() {
    for t in sample(9, Split::Validation).into_iter().take(50) {
        let line = serde_json::to_string(&t).unwrap();
        assert!(line.contains("\"event_id\""));
        assert_eq!(serde_json::from_str::<Triple>(&line).unwrap(), t);
    }
}
