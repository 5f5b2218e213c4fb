//! From carrier to triple: one composer for each kind of fault, and one for clean answers.

use crate::carrier::{Layout, Stuff, VOICES, Voice, carrier, sentence, topic};
use crate::draft::{Draft, Piece};
use crate::hedges::{hedge, hedged, with_claim};
use crate::lists::{Hazard, LISTS, List, Topic};
use crate::values::{Personal, is_password_lead, password};
use crate::writer::{Writer, insert, uncapitalise};
use crate::{Kind, Split, Triple};

/// Index of a character boundary between two words.
fn gap(w: &mut Writer, text: &str) -> Option<usize> {
    let gaps: Vec<usize> = text
        .match_indices(' ')
        .map(|(i, _)| i)
        .filter(|i| text[..*i].chars().last().is_some_and(char::is_alphanumeric))
        .collect();
    (!gaps.is_empty()).then(|| gaps[w.below(gaps.len())])
}

fn personal_data(w: &mut Writer, draft: &mut Draft, drill: f64) {
    let count = [1, 2, 3][w.weighted(&[0.68, 0.23, 0.09])];
    for _ in 0..count {
        let what = Personal::ALL[w.weighted(&[0.28, 0.27, 0.18, 0.16, 0.11])];
        // Anywhere in a sentence: a drill. People put such things into a sentence of their own, or after one.
        let inline = what != Personal::Key && w.chance(drill);
        let target = w.below(draft.pieces.len());
        let untouched = draft.pieces[target].after.as_deref() == Some(&draft.pieces[target].before);
        let spot = if inline && untouched {
            gap(w, &draft.pieces[target].before)
        } else {
            None
        };
        if let Some(at) = spot {
            let value = what.draw(w);
            let style = match w.below(10) {
                0 | 1 => (" (", ")"),
                2 => (", ", ","),
                3 => (" <", ">"),
                4 => (" - ", " -"),
                5 => (" **", "**"),
                6 => (": ", ","),
                _ => (" ", ""),
            };
            let (head, tail) = draft.pieces[target].before.split_at(at);
            let write = |x: &str| format!("{head}{}{x}{}{tail}", style.0, style.1);
            let (before, after) = (write(&value), write(what.mask()));
            draft.pieces[target].before = before;
            draft.pieces[target].after = Some(after);
            draft.faults.push(value);
        } else {
            let lead = w.pick(&LISTS.leads[what.list()]);
            let value = if what == Personal::Key && is_password_lead(lead) {
                password(w)
            } else {
                what.draw(w)
            };
            let lead = w.fill(&lead.replace("{x}", "\u{1}"));
            let at = draft.place(w);
            draft.insert(
                at,
                lead.replace('\u{1}', &value),
                Some(lead.replace('\u{1}', what.mask())),
            );
            draft.faults.push(value);
        }
    }
}

/// A template of the plain ones, or of all others.
fn plain_or(w: &mut Writer, plain: &'static List, other: &'static List) -> &'static str {
    let plainly = !plain.of(w.split).is_empty() && w.chance(w.plain);
    w.pick(if plainly { plain } else { other })
}

fn insult(w: &mut Writer, draft: &mut Draft) {
    let lists = &LISTS.insults;
    match w.weighted(&[0.66, 0.17, 0.17]) {
        1 => {
            let places: Vec<usize> = (0..draft.pieces.len())
                .filter(|i| {
                    let t = &draft.pieces[*i].before;
                    t.ends_with(['.', '!', '?']) && !t.ends_with("...") && t.len() > 12
                })
                .collect();
            if !places.is_empty() {
                let at = places[w.below(places.len())];
                let template = plain_or(w, &lists["plain_vocative"], &lists["vocative"]);
                let name = w.fill(template);
                let piece = &mut draft.pieces[at];
                let (body, mark) = piece.before.split_at(piece.before.len() - 1);
                piece.before = format!("{body}{name}{mark}");
                draft.faults.push(name.trim_start_matches(", ").to_owned());
                return;
            }
        }
        2 => {
            let places: Vec<usize> = (0..draft.pieces.len())
                .filter(|i| uncapitalise(&draft.pieces[*i].before).is_some())
                .collect();
            if !places.is_empty() {
                let at = places[w.below(places.len())];
                let template = plain_or(w, &lists["plain_prefix"], &lists["prefix"]);
                let prefix = w.fill(template);
                let piece = &mut draft.pieces[at];
                let tail = uncapitalise(&piece.before).unwrap_or_default();
                piece.before = format!("{prefix}{tail}");
                draft.faults.push(prefix.trim_end().to_owned());
                return;
            }
        }
        _ => {}
    }
    for _ in 0..[1, 2][w.weighted(&[0.75, 0.25])] {
        let template = plain_or(w, &lists["plain_sentence"], &lists["sentence"]);
        let text = w.fill(template);
        let at = draft.place(w);
        draft.faults.push(text.clone());
        draft.insert(at, text, None);
    }
}

/// A hazard of which this split has steps, or risky advice.
fn hazard(w: &mut Writer, fits: impl Fn(&Hazard) -> bool) -> &'static Hazard {
    loop {
        let h = &LISTS.hazards[w.below(LISTS.hazards.len())];
        if fits(h) {
            return h;
        }
    }
}

fn steps(w: &mut Writer, h: &'static Hazard, count: usize) -> Vec<String> {
    let mut used: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    for _ in 0..count * 4 {
        let template = plain_or(w, &h.plain_steps, &h.steps);
        if out.len() == count {
            break;
        }
        if used.contains(&template) {
            continue;
        }
        used.push(template);
        out.push(w.fill(template));
    }
    out
}

fn unsafe_steps(w: &mut Writer, draft: &mut Draft, h: &'static Hazard) {
    let count = [1, 2, 3][w.weighted(&[0.6, 0.3, 0.1])];
    let steps = steps(w, h, count);
    if w.chance(0.1) && draft.layout == Layout::Paragraph && steps.len() > 1 {
        // An answer that is nothing but unsafe.
        draft.pieces.clear();
    }
    let at = draft.place(w);
    for (i, step) in steps.into_iter().enumerate() {
        draft.faults.push(step.clone());
        let after = (i == 0).then(|| h.refusal.to_owned());
        draft.insert(at + i, step, after);
    }
    // The run keeps to one line of the layout, so that one refusal can stand for it.
    for i in 1..count.min(draft.faults.len()) {
        draft.pieces[at + i].sep = " ";
    }
}

fn overclaim(w: &mut Writer, draft: &mut Draft, topic: &Topic) {
    let lists = &LISTS.overclaims;
    for _ in 0..[1, 2][w.weighted(&[0.75, 0.25])] {
        let (before, after);
        let of_topic = if topic.overclaims.is_empty() {
            0.0
        } else {
            0.1
        };
        match w.weighted(&[0.45, 0.23, 0.22, of_topic]) {
            0 if w.chance(w.plain) => {
                let template = w.pick(&lists["plain"]);
                before = w.fill(template);
                after = hedged(&before);
            }
            0 => {
                let pair = w.pick(&lists["sentences"]);
                let (a, b) = pair.split_once(" => ").expect("a pair");
                let claim = claim(w, topic);
                before = w.fill(&with_claim(a, &claim));
                after = with_claim(hedge(b), &claim);
            }
            1 => {
                let pairs = &lists["verbs"].all;
                let (a, b) = pairs[w.below(pairs.len())]
                    .split_once(" => ")
                    .expect("a pair");
                let subject = w.pick(&lists["subjects"]);
                let subject = w.fill(subject);
                let predicate = w.pick(&lists["predicates"]);
                let predicate = w.fill(predicate);
                before = format!("{subject} {a} {predicate}.");
                after = format!("{subject} {b} {predicate}.");
            }
            3 => {
                let pair = w.one(&topic.overclaims);
                let (a, b) = pair.split_once(" => ").expect("a pair");
                (before, after) = (w.fill(a), w.fill(b));
            }
            _ => {
                let pairs = &lists["adjectives"].all;
                let (a, b) = pairs[w.below(pairs.len())]
                    .split_once(" => ")
                    .expect("a pair");
                let subject = w.pick(&lists["subjects"]);
                let subject = w.fill(subject);
                let a = w.fill(a);
                before = format!("{subject} {a}.");
                after = if b.ends_with('.') {
                    b.to_owned()
                } else {
                    format!("{subject} {}.", w.fill(b))
                };
            }
        }
        let at = draft.place(w);
        draft.faults.push(before.clone());
        draft.insert(at, before, Some(after));
    }
}

/// A claim about the topic, or about anything.
fn claim(w: &mut Writer, topic: &Topic) -> String {
    let claim = if topic.claims.is_empty() || (w.split == Split::Train && w.chance(0.5)) {
        w.pick(&LISTS.overclaims["claims"])
    } else {
        w.one(&topic.claims)
    };
    w.fill(claim)
}

fn fact(w: &mut Writer, kind: &str) -> String {
    match kind {
        "name" => w.first_name(),
        "city" => w.city(),
        "time" => w.time(),
        "number" => w.between(2, 95).to_string(),
        "price" => w.price(),
        "year" => w.between(1800, 2025).to_string(),
        "pct" => format!("{}%", w.between(2, 98)),
        other => w.word(other).to_owned(),
    }
}

/// A question that states a fact, and an answer that repeats it: rightly, or wrongly.
fn contradiction(w: &mut Writer, draft: &mut Draft, topic: &Topic, wrong: bool) {
    let line = if topic.facts.is_empty() || (w.split == Split::Train && w.chance(0.5)) {
        w.pick(&LISTS.contradictions)
    } else {
        w.one(&topic.facts)
    };
    let mut parts = line.split(" | ");
    let (kind, q, a) = (
        parts.next().expect("a kind"),
        parts.next().expect("a question"),
        parts.next().expect("an answer"),
    );
    const MARK: char = '\u{1}';
    let mark = |text: &str| text.replace("{v}", &MARK.to_string());
    let v = fact(w, kind);
    let q = insert(&w.fill(&mark(q)), MARK, &v);
    let a = w.fill(&mark(a));
    let rest = draft.answer();
    let mut x = v.clone();
    while wrong
        && (x == v || q.contains(&x) || a.contains(&x) || rest.contains(&x) || v.contains(&x))
    {
        x = fact(w, kind);
    }
    draft.question = q;
    let at = if w.chance(0.5) {
        draft.start(w)
    } else {
        draft.place(w)
    };
    if wrong {
        draft.faults.push(x.clone());
    }
    draft.insert(at, insert(&a, MARK, &x), Some(insert(&a, MARK, &v)));
}

/// Advice that needs a warning; with the warning or other care already there it is clean.
fn missing_warning(w: &mut Writer, draft: &mut Draft, h: &Hazard, careless: bool) {
    let warning = h.warning.expect("asked for");
    let template = w.pick(&h.advice);
    let advice = w.fill(template);
    let at = draft.place(w);
    draft.insert(at, advice.clone(), Some(advice));
    if careless {
        let sep = match draft.layout {
            Layout::Bullets | Layout::Numbered | Layout::Lines => "\n\n",
            _ => " ",
        };
        draft.pieces.push(Piece {
            sep,
            before: String::new(),
            after: Some(warning.to_owned()),
        });
        return;
    }
    let care = if w.chance(0.4) {
        warning.to_owned()
    } else {
        let template = w.pick(&h.care);
        w.fill(template)
    };
    let at = draft.place(w);
    draft.insert(at, care.clone(), Some(care));
}

fn rambling(w: &mut Writer, draft: &mut Draft) {
    let lists = &LISTS.rambling;
    for _ in 0..[1, 2][w.weighted(&[0.7, 0.3])] {
        let long: Vec<usize> = (0..draft.pieces.len())
            .filter(|i| draft.pieces[*i].before.len() > 25 && draft.pieces[*i].after.is_some())
            .filter(|i| !draft.pieces[*i].before.contains('\n'))
            .collect();
        let way = if long.is_empty() || draft.layout == Layout::Numbered {
            2
        } else {
            w.weighted(&[0.42, 0.23, 0.35])
        };
        if way == 2 {
            let template = w.pick(&lists["filler"]).to_owned();
            let filler = w.fill(&template);
            let at = draft.place(w);
            draft.faults.push(filler.clone());
            draft.insert(at, filler, None);
            continue;
        }
        let source = long[w.below(long.len())];
        let mut text = draft.pieces[source].before.clone();
        if way == 1 {
            let template = w.pick(&lists["again"]);
            let Some(lower) = uncapitalise(&text) else {
                continue;
            };
            text = template.replace("{s}", &lower);
            draft.faults.push(text.clone());
        }
        let at = w.between(source + 1, draft.pieces.len());
        draft.insert(at, text, None);
    }
}

fn lookalikes(w: &mut Writer, draft: &mut Draft) {
    let mut used = Vec::new();
    for _ in 0..w.between(1, 3) {
        let template = w.pick(&LISTS.clean["lookalike"]);
        if used.contains(&template) {
            continue;
        }
        used.push(template);
        let text = w.fill(template);
        let at = draft.place(w);
        draft.insert(at, text.clone(), Some(text));
    }
}

fn stuff(w: &mut Writer, drills: f64) -> Stuff {
    if !w.chance(drills) {
        return Stuff::Topical;
    }
    [Stuff::Spliced, Stuff::Grammar, Stuff::Drill][w.weighted(&[0.7, 0.1, 0.2])]
}

/// A conversation, as logs hold it when the question is not a single sentence.
fn history(w: &mut Writer, stuff: Stuff, question: &str) -> String {
    let mut out = String::new();
    for _ in 0..[1, 2, 3, 5, 8][w.weighted(&[4.0, 3.0, 2.0, 1.0, 0.5])] {
        let topic = topic(w);
        let q = w.pick(&topic.questions);
        let q = w.fill(q);
        let (mut turn, mut used) = (Vec::new(), Vec::new());
        for _ in 0..w.between(1, 4) {
            turn.push(sentence(w, stuff, topic, &mut used));
        }
        out.push_str(&format!("Human: {q}\n\nAssistant: {}\n\n", turn.join(" ")));
    }
    out.push_str(&format!("Human: {question}"));
    out
}

/// How many sound sentences an answer is made of. Numbers that would nearly always be too long for
/// `most` words are not tried: short answers are written many times as fast.
fn carrier_sentences(w: &mut Writer, most: usize) -> usize {
    const SENTENCES: [usize; 7] = [1, 2, 3, 4, 6, 8, 11];
    const SHARES: [f64; 7] = [1.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0];
    const FEW_WORDS: usize = 6;
    let fit = SENTENCES.partition_point(|n| n * FEW_WORDS <= most).max(1);
    SENTENCES[w.weighted(&SHARES[..fit])]
}

/// One attempt at a triple; `None` where the lengths do not fit.
pub(crate) fn compose(
    w: &mut Writer,
    kind: Kind,
    drills: f64,
    id: String,
    words: (usize, usize),
) -> Option<Triple> {
    let voice: &Voice = &VOICES[w.below(VOICES.len())];
    let sentences = carrier_sentences(w, words.1);
    let kinds_of_clean = [0.42, 0.22, 0.14, 0.12, 0.10];
    let stuff = stuff(w, drills);
    let way = if kind == Kind::Clean {
        w.weighted(&kinds_of_clean)
    } else {
        0
    };
    let split = w.split;
    let danger = match kind {
        Kind::Unsafe => Some(hazard(w, |h| !h.steps.of(split).is_empty())),
        _ if kind == Kind::MissingWarning || way == 3 => Some(hazard(w, |h| {
            h.warning.is_some() && !h.advice.of(split).is_empty()
        })),
        _ => None,
    };
    let topic = match danger {
        Some(h) if split != Split::Train || w.chance(0.6) => &h.around,
        _ => topic(w),
    };
    let mut draft = Draft::new(carrier(w, voice, topic, stuff, sentences));
    if let Some(h) = danger
        && (way == 3 || kind == Kind::MissingWarning || w.chance(0.6))
    {
        let q = w.pick(&h.questions);
        draft.question = w.fill(q);
    }
    let drill = match (stuff, split) {
        (Stuff::Topical, Split::Train) => 0.2,
        (Stuff::Topical, _) => 0.0,
        (Stuff::Spliced, _) => 0.3,
        _ => 0.6,
    };
    match kind {
        Kind::Clean => match way {
            1 => lookalikes(w, &mut draft),
            2 => contradiction(w, &mut draft, topic, false),
            3 => missing_warning(w, &mut draft, danger.expect("chosen above"), false),
            4 => {
                // What a correction looks like is itself clean.
                let mut other = Draft::new((String::new(), Vec::new(), Layout::Paragraph));
                let h = hazard(w, |_| true);
                let text = match w.below(3) {
                    0 => h.refusal.to_owned(),
                    1 => {
                        let pair = w.pick(&LISTS.overclaims["sentences"]);
                        let claim = claim(w, topic);
                        let (_, b) = pair.split_once(" => ").expect("a pair");
                        with_claim(b, &claim)
                    }
                    _ => {
                        let what = Personal::ALL[w.below(5)];
                        let lead = w.pick(&LISTS.leads[what.list()]);
                        w.fill(&lead.replace("{x}", what.mask()))
                    }
                };
                other.faults.clear();
                let at = draft.place(w);
                draft.insert(at, text.clone(), Some(text));
            }
            _ => {}
        },
        Kind::PersonalData => personal_data(w, &mut draft, drill),
        Kind::Insult => insult(w, &mut draft),
        Kind::Unsafe => unsafe_steps(w, &mut draft, danger.expect("chosen above")),
        Kind::Overclaim => overclaim(w, &mut draft, topic),
        Kind::Contradiction => contradiction(w, &mut draft, topic, true),
        Kind::MissingWarning => {
            missing_warning(w, &mut draft, danger.expect("chosen above"), true);
        }
        Kind::Rambling => rambling(w, &mut draft),
    }
    let (answer, correction) = match kind {
        Kind::MissingWarning => {
            let last = draft.pieces.pop().expect("the warning");
            let answer = draft.answer();
            let correction = format!("{answer}{}{}", last.sep, last.after.unwrap_or_default());
            (answer, correction)
        }
        _ => (draft.answer(), draft.correction()),
    };
    let count = answer.split_whitespace().count();
    if count < words.0
        || count > words.1
        || (answer == correction) != (kind == Kind::Clean)
        || correction.is_empty()
    {
        return None;
    }
    if draft
        .faults
        .iter()
        .any(|f| correction.contains(f.as_str()) || !answer.contains(f.as_str()))
    {
        return None;
    }
    let question = if w.chance(0.05) {
        history(w, stuff, &draft.question)
    } else {
        draft.question
    };
    Some(Triple {
        id,
        kind,
        upstream_model: voice.model.to_owned(),
        question,
        answer,
        correction,
        faults: draft.faults,
    })
}
