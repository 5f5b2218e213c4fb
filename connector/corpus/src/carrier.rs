//! Harmless text for faults to sit in: topical sentences, sentences of a small grammar, and drills.

use crate::Split;
use crate::lists::{LISTS, Topic};
use crate::writer::{Writer, capitalise};

/// A unit of an answer: what precedes it, and its text.
pub(crate) struct Unit {
    pub(crate) sep: &'static str,
    pub(crate) text: String,
}

/// How the carrier's sentences come about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stuff {
    /// Sentences about one topic.
    Topical,
    /// Grammatical sentences about nothing in particular.
    Grammar,
    /// Beginnings of sentences with ends of others, never met before.
    Spliced,
    /// Words, invented words and strings in random order: copying must not lean on meaning.
    Drill,
}

/// How sentences are set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Paragraph,
    Paragraphs,
    Bullets,
    Numbered,
    Lines,
}

/// A manner of answering, tied to the upstream model's name.
pub(crate) struct Voice {
    pub(crate) model: &'static str,
    opener: f64,
    closer: f64,
    layouts: [f64; 5],
    lower: f64,
    curly: f64,
}

/// The upstream models of the corpus. Invented names.
pub(crate) const VOICES: [Voice; 4] = [
    Voice {
        model: "atlas-7b",
        opener: 0.2,
        closer: 0.15,
        layouts: [6.0, 2.0, 0.5, 0.5, 0.5],
        lower: 0.0,
        curly: 0.0,
    },
    Voice {
        model: "birch-chat",
        opener: 0.7,
        closer: 0.6,
        layouts: [5.0, 3.0, 1.0, 0.5, 0.5],
        lower: 0.0,
        curly: 0.3,
    },
    Voice {
        model: "cobalt-instruct",
        opener: 0.4,
        closer: 0.3,
        layouts: [3.0, 3.0, 3.0, 2.0, 1.0],
        lower: 0.0,
        curly: 0.05,
    },
    Voice {
        model: "dune-mini",
        opener: 0.2,
        closer: 0.1,
        layouts: [8.0, 1.0, 0.3, 0.2, 1.0],
        lower: 0.3,
        curly: 0.0,
    },
];

pub(crate) fn topic(w: &mut Writer) -> &'static Topic {
    // Nonsense is good for training: copying must not lean on meaning.
    if w.split != Split::Train || w.chance(0.65) {
        let subjects = &LISTS.subjects[w.split as usize];
        return &subjects[w.below(subjects.len())];
    }
    // A topic needs a question of this split; sentences can be borrowed.
    loop {
        let topic = &LISTS.topics[w.below(LISTS.topics.len())];
        if !topic.questions.of(w.split).is_empty() {
            return topic;
        }
    }
}

fn noun_phrase(w: &mut Writer) -> String {
    match w.below(9) {
        0 => format!("the {}", w.fill("{noun}")),
        1 => format!("the {} {}", w.word("adj"), w.fill("{noun}")),
        2 => format!("my {}", w.fill("{noun}")),
        3 => w.first_name(),
        4 => format!("every {} {}", w.word("adj"), w.fill("{noun}")),
        5 => format!("the {} of the {}", w.fill("{noun}"), w.word("noun")),
        6 => format!("your {} {}", w.word("adj"), w.fill("{noun}")),
        7 => format!("{} {}s", w.fill("{n}"), w.word("noun")),
        _ => w
            .one(&[
                "it",
                "this",
                "that",
                "she",
                "he",
                "we",
                "they",
                "you",
                "someone",
                "everything",
            ])
            .to_owned(),
    }
}

/// A sentence of the small grammar.
pub(crate) fn grammar_sentence(w: &mut Writer) -> String {
    const PREP: &[&str] = &[
        "in", "on", "under", "near", "behind", "with", "without", "for", "after", "before",
        "inside", "between", "from", "along", "against", "during",
    ];
    const MODAL: &[&str] = &[
        "can", "will", "may", "should", "must", "could", "might", "would", "cannot", "does not",
        "did not", "used to", "has to", "wants to", "tries to",
    ];
    const LINK: &[&str] = &[
        "because", "while", "although", "when", "if", "so that", "unless", "and", "but", "until",
        "as", "since",
    ];
    let a = noun_phrase(w);
    let b = noun_phrase(w);
    let verb = w.word("verb");
    let verb2 = w.word("verb");
    let body = match w.below(16) {
        0 => format!("{a} {} {verb} {b}", w.one(MODAL)),
        1 => format!("{a} {} {} {verb} {b}", w.one(MODAL), w.word("adv")),
        2 => format!("{a} is {} {}", w.word("adv"), w.word("adj")),
        3 => format!(
            "{a} is {} than {b}",
            w.one(&[
                "larger",
                "smaller",
                "older",
                "slower",
                "better",
                "worse",
                "heavier",
                "cheaper",
                "more useful"
            ])
        ),
        4 => format!(
            "{verb} {b} and {verb2} it {} {}",
            w.one(PREP),
            noun_phrase(w)
        ),
        5 => format!("{a} {} {verb} {} {b}", w.one(MODAL), w.one(PREP)),
        6 => format!(
            "there is {} {} {} {b}",
            w.one(&["a", "no", "another", "one", "hardly any"]),
            w.word("noun"),
            w.one(PREP)
        ),
        7 => format!(
            "{} {a} {} {verb}, {b} {} {verb2}",
            w.one(&[
                "when", "if", "because", "although", "before", "after", "while"
            ]),
            w.one(MODAL),
            w.one(MODAL)
        ),
        8 => format!(
            "{a} {} {verb} {} {b} {} {verb2}",
            w.one(MODAL),
            w.one(LINK),
            w.one(MODAL)
        ),
        9 => format!("it is {} to {verb} {b}", w.word("adj")),
        10 => format!("{}, {a} {} {verb} {b}", w.word("adv"), w.one(MODAL)),
        11 => format!(
            "{}, {} and {} belong to {b}",
            w.word("noun"),
            w.word("noun"),
            w.word("noun")
        ),
        12 => format!(
            "some people {verb} {} {a}, others {verb2} {} {b}",
            w.one(PREP),
            w.one(PREP)
        ),
        13 => format!(
            "to {verb} {b}, {verb2} the {} {}",
            w.word("noun"),
            w.one(&[
                "first",
                "twice",
                "slowly",
                "at night",
                "with care",
                "by hand"
            ])
        ),
        14 => format!(
            "{a} was {} in {}",
            w.one(&[
                "made", "found", "lost", "built", "sold", "seen", "written", "opened"
            ]),
            w.fill("{year}")
        ),
        _ => format!(
            "{a} {} {b} {} {}",
            w.one(&[
                "needs", "has", "likes", "takes", "gives", "knows", "keeps", "finds", "sees",
                "follows"
            ]),
            w.one(PREP),
            noun_phrase(w)
        ),
    };
    let end = match w.weighted(&[12.0, 1.0, 1.0]) {
        0 => ".",
        1 => "!",
        _ => "?",
    };
    format!("{}{end}", capitalise(&body))
}

/// Words in random order, of random kinds.
pub(crate) fn drill_sentence(w: &mut Writer) -> String {
    let n = w.between(3, 16);
    let invented = *[0.1, 0.4, 0.8].get(w.below(3)).expect("three shares");
    let mut out = String::new();
    for i in 0..n {
        let mut word = if w.chance(invented) {
            if w.chance(0.7) {
                w.pseudo()
            } else {
                w.gibberish()
            }
        } else {
            let list = w.one(&[
                "noun", "verb", "adj", "adv", "function", "common", "common", "common",
            ]);
            w.word(list).to_owned()
        };
        match w.weighted(&[20.0, 2.0, 0.6, 0.5, 0.5, 0.5, 0.3]) {
            1 => word = capitalise(&word),
            2 => word = word.to_uppercase(),
            3 => {
                let k = w.between(1, 4);
                word = w.digits(k);
            }
            4 => word = format!("\"{word}\""),
            5 => word = format!("({word})"),
            6 => word = format!("**{word}**"),
            _ => {}
        }
        if i == 0 && w.chance(0.8) {
            word = capitalise(&word);
        }
        if i > 0 {
            out.push(' ');
        }
        out.push_str(&word);
        if i + 1 < n {
            match w.weighted(&[24.0, 2.0, 0.4, 0.4, 0.3]) {
                1 => out.push(','),
                2 => out.push(';'),
                3 => out.push_str(" -"),
                4 => out.push(':'),
                _ => {}
            }
        }
    }
    out.push_str(w.one(&[".", ".", ".", ".", ".", "!", "?", "...", "…"]));
    out
}

/// The beginning of one sentence and the end of another.
fn spliced_sentence(w: &mut Writer, topic: &Topic) -> String {
    let mut part = |begins: bool| {
        let whole = sentence(w, Stuff::Topical, topic, &mut Vec::new());
        let gaps: Vec<usize> = whole.match_indices(' ').map(|(at, _)| at).collect();
        match (gaps.is_empty(), begins) {
            (true, _) => whole,
            (_, true) => whole[..gaps[w.below(gaps.len())]].to_owned(),
            (_, false) => whole[gaps[w.below(gaps.len())] + 1..].to_owned(),
        }
    };
    let begin = part(true);
    format!("{begin} {}", part(false))
}

pub(crate) fn sentence(
    w: &mut Writer,
    stuff: Stuff,
    topic: &Topic,
    used: &mut Vec<&'static str>,
) -> String {
    match stuff {
        Stuff::Topical => {
            // A sentence is used once; when the topic has run dry, another one helps out.
            for attempt in 0.. {
                let topic = if attempt < 12 { topic } else { self::topic(w) };
                let list = if w.chance(w.digressions) {
                    &LISTS.sentences
                } else {
                    &topic.sentences
                };
                if list.of(w.split).is_empty() {
                    continue;
                }
                let template = w.pick(list);
                if !used.contains(&template) {
                    used.push(template);
                    return w.fill(template);
                }
            }
            unreachable!("the topics of a split have more sentences than an answer")
        }
        Stuff::Grammar => grammar_sentence(w),
        Stuff::Spliced => spliced_sentence(w, topic),
        Stuff::Drill => drill_sentence(w),
    }
}

/// A carrier of `sentences` sentences in the voice's manner, and the question that it answers.
pub(crate) fn carrier(
    w: &mut Writer,
    voice: &Voice,
    topic: &Topic,
    stuff: Stuff,
    sentences: usize,
) -> (String, Vec<Unit>, Layout) {
    let question = match stuff {
        Stuff::Topical => w.pick(&topic.questions),
        _ if w.chance(0.5) => w.pick(&topic.questions),
        _ => "",
    };
    let question = if question.is_empty() {
        let q = if stuff == Stuff::Drill {
            drill_sentence(w)
        } else {
            grammar_sentence(w)
        };
        format!("{}?", q.trim_end_matches(['.', '!', '?', '…']))
    } else {
        w.fill(question)
    };
    let layout = [
        Layout::Paragraph,
        Layout::Paragraphs,
        Layout::Bullets,
        Layout::Numbered,
        Layout::Lines,
    ][w.weighted(&voice.layouts)];
    let mut used = Vec::new();
    let mut units: Vec<Unit> = Vec::new();
    if w.chance(voice.opener) {
        let opener = w.pick(&LISTS.clean["opener"]);
        units.push(Unit {
            sep: "",
            text: opener.to_owned(),
        });
    }
    let list = matches!(layout, Layout::Bullets | Layout::Numbered);
    if list && w.chance(0.8) {
        let intro = w.pick(&LISTS.clean["intro"]);
        units.push(Unit {
            sep: " ",
            text: intro.to_owned(),
        });
    }
    let mark = w.one(&["\n- ", "\n* ", "\n• "]);
    let bold = list && stuff != Stuff::Topical && w.chance(0.3);
    for i in 0..sentences {
        let mut text = sentence(w, stuff, topic, &mut used);
        if bold {
            text = format!("**{}**: {text}", capitalise(w.word("noun")));
        }
        let sep = match layout {
            Layout::Paragraph => " ",
            Layout::Paragraphs if i > 0 && w.chance(0.35) => "\n\n",
            Layout::Paragraphs => " ",
            Layout::Bullets => mark,
            Layout::Numbered => "\n",
            Layout::Lines => "\n",
        };
        if layout == Layout::Numbered {
            text = format!("{}. {text}", i + 1);
        }
        units.push(Unit { sep, text });
    }
    if w.chance(voice.closer) {
        let closer = w.pick(&LISTS.clean["closer"]);
        let sep = if list { "\n\n" } else { " " };
        units.push(Unit {
            sep,
            text: closer.to_owned(),
        });
    }
    if w.chance(voice.lower) {
        for unit in &mut units {
            unit.text = unit.text.to_lowercase();
        }
    } else if w.chance(voice.curly) {
        for unit in &mut units {
            unit.text = unit.text.replace('\'', "’");
        }
    }
    if w.chance(0.06) {
        let face = w.one(&["🙂", "👍", "😀", "🎉", "🌱", ":)", "❤️"]);
        let at = w.below(units.len());
        units[at].text = format!("{} {face}", units[at].text);
    }
    units[0].sep = "";
    (question, units, layout)
}
