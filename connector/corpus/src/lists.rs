//! The word and template lists, and how each list is cut into train, validation and test.
//!
//! Everything here was written for this corpus. The files under `data/` are plain text so that a
//! template can be added without touching code.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::Split;
use crate::writer::wordings;

/// FNV-1a: stable for ever, unlike the standard library's hasher, so a template never changes
/// its split between releases.
pub(crate) fn stable_hash(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // FNV's low bits mix poorly on short strings.
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 7
}

/// The split a free value (a name, an address, a number) belongs to.
pub(crate) fn split_of_value(value: &str) -> Split {
    match stable_hash(value) % 10 {
        0 => Split::Validation,
        1 => Split::Test,
        _ => Split::Train,
    }
}

/// One list, whole and per split.
pub(crate) struct List {
    pub(crate) all: Vec<&'static str>,
    by_split: [Vec<&'static str>; 3],
}

impl List {
    /// A list of templates or values that are cut 8 : 1 : 1 by their own hash, so that adding one
    /// moves no other. A split's part of a short list may be empty. A template of many wordings is
    /// for training, and is there as often as it has alternatives: a test split that held it would
    /// ask the same thing many times.
    fn open(all: Vec<&'static str>) -> Self {
        let by_split = Split::ALL.map(|split| {
            all.iter()
                .copied()
                .filter(|item| match wordings(item) {
                    1 => split_of_value(item) == split,
                    _ => split == Split::Train,
                })
                .flat_map(|item| std::iter::repeat_n(item, wordings(item)))
                .collect()
        });
        Self { all, by_split }
    }

    /// A short list is closed vocabulary and shared by the splits; a longer one is open.
    fn new(all: Vec<&'static str>) -> Self {
        const CLOSED: usize = 30;
        if all.len() >= CLOSED {
            return Self::open(all);
        }
        Self::shared(all)
    }

    fn shared(all: Vec<&'static str>) -> Self {
        let by_split = Split::ALL.map(|_| all.clone());
        Self { all, by_split }
    }

    pub(crate) fn of(&self, split: Split) -> &[&'static str] {
        &self.by_split[split as usize]
    }
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with("# "))
}

/// `[name]` sections; in one-line sections items are separated by `|` or, without one, by spaces.
fn sections(text: &'static str, words: bool) -> HashMap<&'static str, List> {
    let mut found: HashMap<&'static str, Vec<&'static str>> = HashMap::new();
    let mut name = "";
    for line in lines(text) {
        if let Some(title) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']'))
            && !title.contains(' ')
        {
            name = title;
        } else if name.is_empty() {
        } else if words && line.contains('|') {
            found.entry(name).or_default().extend(line.split('|'));
        } else if words {
            found
                .entry(name)
                .or_default()
                .extend(line.split_whitespace());
        } else {
            found.entry(name).or_default().push(line);
        }
    }
    found.into_iter().map(|(k, v)| (k, List::new(v))).collect()
}

/// A topic of harmless conversation.
pub(crate) struct Topic {
    pub(crate) questions: List,
    pub(crate) sentences: List,
    /// Claims about it that can be made too boldly.
    pub(crate) claims: Vec<&'static str>,
    /// Overclaims with their hedges.
    pub(crate) overclaims: Vec<&'static str>,
    /// Kind of fact, question that states one, and sentence that repeats it.
    pub(crate) facts: Vec<&'static str>,
}

impl Topic {
    /// Questions and sentences are cut into splits one by one.
    fn open(block: &mut HashMap<char, Vec<&'static str>>) -> Self {
        Self {
            questions: List::open(block.remove(&'Q').unwrap_or_default()),
            sentences: List::open(block.remove(&'S').unwrap_or_default()),
            claims: Vec::new(),
            overclaims: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// The topic belongs to a split as a whole.
    fn whole(block: &mut HashMap<char, Vec<&'static str>>) -> Self {
        let mut take = |tag| block.remove(&tag).unwrap_or_default();
        Self {
            questions: List::shared(take('Q')),
            sentences: List::shared(take('S')),
            claims: take('C'),
            overclaims: take('O'),
            facts: take('F'),
        }
    }

    /// What may be said around a danger. The dangers' own sentences are cut into splits, this is not.
    fn around(questions: Vec<&'static str>, context: Vec<&'static str>) -> Self {
        Self {
            questions: List::new(questions),
            sentences: List::shared(context),
            claims: Vec::new(),
            overclaims: Vec::new(),
            facts: Vec::new(),
        }
    }
}

/// A field of danger: unsafe steps and their refusal, advice and the warning it needs.
pub(crate) struct Hazard {
    pub(crate) refusal: &'static str,
    pub(crate) warning: Option<&'static str>,
    pub(crate) questions: List,
    pub(crate) steps: List,
    /// Those that anybody would think of first.
    pub(crate) plain_steps: List,
    pub(crate) advice: List,
    pub(crate) care: List,
    pub(crate) around: Topic,
}

fn blocks(text: &'static str) -> Vec<(&'static str, HashMap<char, Vec<&'static str>>)> {
    let mut out: Vec<(&'static str, HashMap<char, Vec<&'static str>>)> = Vec::new();
    for line in lines(text) {
        if line.starts_with('[') {
            break;
        }
        let (tag, rest) = line.split_at(1);
        let (tag, rest) = (tag.chars().next().expect("a tag"), rest.trim_start());
        if tag == '=' {
            out.push((rest, HashMap::new()));
        } else if let Some((_, block)) = out.last_mut() {
            block.entry(tag).or_default().push(rest);
        }
    }
    out
}

/// All lists, parsed once.
pub(crate) struct Lists {
    pub(crate) words: HashMap<&'static str, List>,
    /// Topics whose sentences are filled with any words: for training only.
    pub(crate) topics: Vec<Topic>,
    /// Topics that make sense, by split.
    pub(crate) subjects: [Vec<Topic>; 3],
    pub(crate) hazards: Vec<Hazard>,
    pub(crate) leads: HashMap<&'static str, List>,
    pub(crate) insults: HashMap<&'static str, List>,
    pub(crate) overclaims: HashMap<&'static str, List>,
    pub(crate) rambling: HashMap<&'static str, List>,
    pub(crate) clean: HashMap<&'static str, List>,
    /// Harmless sentences about anything.
    pub(crate) sentences: List,
    pub(crate) contradictions: List,
}

impl Lists {
    pub(crate) fn word(&self, name: &str) -> &List {
        self.words
            .get(name)
            .unwrap_or_else(|| panic!("no word list named {name}"))
    }
}

pub(crate) static LISTS: LazyLock<Lists> = LazyLock::new(|| {
    let mut words = sections(include_str!("../data/words.txt"), true);
    let unsafe_text = include_str!("../data/unsafe.txt");
    words.extend(sections(unsafe_text, true));
    let overclaims_text = include_str!("../data/overclaims.txt");
    let mut overclaims = sections(overclaims_text, false);
    for name in ["subjects", "predicates", "claims"] {
        let joined = &overclaims[name].all;
        let items: Vec<&'static str> = joined.iter().flat_map(|l| l.split('|')).collect();
        overclaims.insert(name, List::new(items));
    }
    let take = |block: &mut HashMap<char, Vec<&'static str>>, tag| {
        List::new(block.remove(&tag).unwrap_or_default())
    };
    let mut subjects: [Vec<Topic>; 3] = Default::default();
    for (name, mut block) in blocks(include_str!("../data/subjects.txt")) {
        subjects[split_of_value(name) as usize].push(Topic::whole(&mut block));
    }
    Lists {
        words,
        topics: blocks(include_str!("../data/topics.txt"))
            .into_iter()
            .map(|(_, mut b)| Topic::open(&mut b))
            .collect(),
        subjects,
        hazards: blocks(unsafe_text)
            .into_iter()
            .map(|(_, mut b)| Hazard {
                around: Topic::around(b[&'Q'].clone(), b.remove(&'C').unwrap_or_default()),
                refusal: b[&'!'][0],
                warning: b.get(&'W').map(|w| w[0]),
                questions: take(&mut b, 'Q'),
                steps: take(&mut b, 'S'),
                plain_steps: take(&mut b, 'P'),
                advice: List::open(b.remove(&'A').unwrap_or_default()),
                care: take(&mut b, 'K'),
            })
            .collect(),
        leads: sections(include_str!("../data/leads.txt"), false),
        insults: sections(include_str!("../data/insults.txt"), false),
        overclaims,
        rambling: sections(include_str!("../data/rambling.txt"), false),
        clean: sections(include_str!("../data/clean.txt"), false),
        sentences: List::open(lines(include_str!("../data/sentences.txt")).collect()),
        contradictions: List::new(lines(include_str!("../data/contradictions.txt")).collect()),
    }
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_of_many_wordings_is_for_training_as_often_as_it_has_alternatives() {
        let list = List::open(vec!["(Keep|Store|Put) it dry(|, always)."]);
        assert_eq!(Split::ALL.map(|split| list.of(split).len()), [4, 0, 0]);
    }

    /// A composer loops until it finds a list with something in it: there has to be one.
    #[test]
    fn every_split_has_templates_of_every_sort() {
        for split in Split::ALL {
            let advice = LISTS
                .hazards
                .iter()
                .filter(|h| h.warning.is_some() && !h.advice.of(split).is_empty());
            assert!(advice.count() >= 1, "{split:?} has no risky advice");
            let steps = LISTS
                .hazards
                .iter()
                .filter(|h| !h.steps.of(split).is_empty());
            assert!(steps.count() >= 5, "{split:?} has too few unsafe steps");
            let subjects = &LISTS.subjects[split as usize];
            assert!(subjects.len() >= 4, "{split:?} has too few subjects");
            for sections in [
                &LISTS.leads,
                &LISTS.insults,
                &LISTS.overclaims,
                &LISTS.rambling,
                &LISTS.clean,
            ] {
                for (name, list) in sections {
                    assert!(!list.of(split).is_empty(), "{split:?} has no {name}");
                }
            }
        }
    }
}
