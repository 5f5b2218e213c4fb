//! From carrier to triple: one composer for each kind of fault, and one for clean answers.

use crate::carrier::{Layout, Stuff, Unit, VOICES, Voice, carrier, grammar_sentence, sentence};
use crate::lists::{Hazard, LISTS};
use crate::values::{Personal, is_password_lead, password};
use crate::writer::{Writer, capitalise, uncapitalise};
use crate::{Kind, Triple};

/// A unit before and after correction; `None` means that it is dropped.
struct Piece {
    sep: &'static str,
    before: String,
    after: Option<String>,
}

struct Draft {
    question: String,
    pieces: Vec<Piece>,
    layout: Layout,
    faults: Vec<String>,
}

impl Draft {
    fn new((question, units, layout): (String, Vec<Unit>, Layout)) -> Self {
        let pieces = units
            .into_iter()
            .map(|u| Piece {
                sep: u.sep,
                after: Some(u.text.clone()),
                before: u.text,
            })
            .collect();
        Self {
            question,
            pieces,
            layout,
            faults: Vec::new(),
        }
    }

    /// Puts a unit at a place; it takes the separator of the unit it pushes back.
    fn insert(&mut self, at: usize, before: String, after: Option<String>) {
        let sep = if at == 0 {
            if let Some(first) = self.pieces.first_mut() {
                first.sep = match self.layout {
                    Layout::Lines => "\n",
                    _ if first.before.starts_with("1. ") => "\n",
                    _ => " ",
                };
            }
            ""
        } else if at < self.pieces.len() && self.pieces[at].sep != "\n\n" {
            self.pieces[at].sep
        } else {
            match self.pieces[at - 1].sep {
                "" | "\n\n" => " ",
                sep => sep,
            }
        };
        self.pieces.insert(at, Piece { sep, before, after });
    }

    fn answer(&self) -> String {
        self.pieces
            .iter()
            .map(|p| format!("{}{}", p.sep, p.before))
            .collect()
    }

    fn correction(&self) -> String {
        let mut out = String::new();
        let mut owed = "";
        for piece in &self.pieces {
            let Some(text) = &piece.after else {
                // A dropped unit leaves its paragraph break to the one that follows.
                if piece.sep == "\n\n" {
                    owed = "\n\n";
                }
                continue;
            };
            if !out.is_empty() {
                out.push_str(if piece.sep == " " && !owed.is_empty() {
                    owed
                } else {
                    piece.sep
                });
            } else if piece.sep.starts_with("\n") {
                out.push_str(piece.sep.trim_start_matches('\n'));
            }
            owed = "";
            out.push_str(text);
        }
        out
    }

    /// Any place before, between or after the units, but not inside a numbered list.
    fn place(&self, w: &mut Writer) -> usize {
        if self.layout == Layout::Numbered {
            let first = self
                .pieces
                .iter()
                .position(|p| p.before.starts_with("1. "))
                .unwrap_or(0);
            return if w.chance(0.5) {
                first.min(1) * w.below(2)
            } else {
                self.pieces.len()
            };
        }
        w.between(0, self.pieces.len())
    }
}

/// Index of a character boundary between two words.
fn gap(w: &mut Writer, text: &str) -> Option<usize> {
    let gaps: Vec<usize> = text
        .match_indices(' ')
        .map(|(i, _)| i)
        .filter(|i| text[..*i].chars().last().is_some_and(char::is_alphanumeric))
        .collect();
    (!gaps.is_empty()).then(|| gaps[w.below(gaps.len())])
}

fn personal_data(w: &mut Writer, draft: &mut Draft) {
    let count = [1, 2, 3][w.weighted(&[0.68, 0.23, 0.09])];
    for _ in 0..count {
        let what = Personal::ALL[w.weighted(&[0.28, 0.27, 0.18, 0.16, 0.11])];
        let inline = what != Personal::Key && w.chance(0.45);
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
            let value = if is_password_lead(lead) {
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
                let template = w.pick(&lists["vocative"]);
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
                let template = w.pick(&lists["prefix"]);
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
        let template = w.pick(&lists["sentence"]);
        let text = w.fill(template);
        let at = draft.place(w);
        draft.faults.push(text.clone());
        draft.insert(at, text, None);
    }
}

fn hazard(w: &mut Writer, fits: impl Fn(&Hazard) -> bool) -> &'static Hazard {
    loop {
        let h = &LISTS.hazards[w.below(LISTS.hazards.len())];
        if fits(h) {
            return h;
        }
    }
}

fn steps(w: &mut Writer, h: &Hazard, count: usize) -> Vec<String> {
    let mut used: Vec<&str> = Vec::new();
    let mut out = Vec::new();
    for _ in 0..count * 4 {
        let template = w.pick(&h.steps);
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

fn unsafe_steps(w: &mut Writer, draft: &mut Draft) {
    let split = w.split;
    let h = hazard(w, |h| !h.steps.of(split).is_empty());
    if w.chance(0.6) {
        let q = w.pick(&h.questions);
        draft.question = w.fill(q);
    }
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

fn overclaim(w: &mut Writer, draft: &mut Draft) {
    let lists = &LISTS.overclaims;
    for _ in 0..[1, 2][w.weighted(&[0.75, 0.25])] {
        let (before, after);
        match w.weighted(&[0.45, 0.28, 0.27]) {
            0 => {
                let pair = w.pick(&lists["sentences"]);
                let (a, b) = pair.split_once(" => ").expect("a pair");
                let claim = w.pick(&lists["claims"]);
                let claim = w.fill(claim);
                let put = |t: &str| t.replace("{c}", &claim).replace("{C}", &capitalise(&claim));
                (before, after) = (put(a), put(b));
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
            _ => {
                let pairs = &lists["adjectives"].all;
                let (a, b) = pairs[w.below(pairs.len())]
                    .split_once(" => ")
                    .expect("a pair");
                let subject = w.pick(&lists["subjects"]);
                let subject = w.fill(subject);
                let a = w.fill(a);
                before = format!("{subject} {a}.");
                after = format!("{subject} {}.", w.fill(b));
            }
        }
        let at = draft.place(w);
        draft.faults.push(before.clone());
        draft.insert(at, before, Some(after));
    }
}

fn fact(w: &mut Writer, kind: &str) -> String {
    match kind {
        "name" => w.first_name(),
        "city" => w.city(),
        "time" => w.time(),
        "number" => w.between(2, 95).to_string(),
        "price" => w.price(),
        "year" => w.between(1800, 2025).to_string(),
        other => w.word(other).to_owned(),
    }
}

/// A question that states a fact, and an answer that repeats it: rightly, or wrongly.
fn contradiction(w: &mut Writer, draft: &mut Draft, wrong: bool) {
    let line = w.pick(&LISTS.contradictions);
    let mut parts = line.split(" | ");
    let (kind, q, a) = (
        parts.next().expect("a kind"),
        parts.next().expect("a question"),
        parts.next().expect("an answer"),
    );
    let v = fact(w, kind);
    let q = w.fill(&q.replace("{v}", "\u{1}")).replace('\u{1}', &v);
    let a = w.fill(&a.replace("{v}", "\u{1}"));
    let rest = draft.answer();
    let mut x = v.clone();
    while wrong
        && (x == v || q.contains(&x) || a.contains(&x) || rest.contains(&x) || v.contains(&x))
    {
        x = fact(w, kind);
    }
    draft.question = q;
    let at = if w.chance(0.5) { 0 } else { draft.place(w) };
    if wrong {
        draft.faults.push(x.clone());
    }
    draft.insert(at, a.replace('\u{1}', &x), Some(a.replace('\u{1}', &v)));
}

/// Advice that needs a warning; with the warning or other care already there it is clean.
fn missing_warning(w: &mut Writer, draft: &mut Draft, careless: bool) {
    let split = w.split;
    let h = hazard(w, |h| h.warning.is_some() && !h.advice.of(split).is_empty());
    let warning = h.warning.expect("asked for");
    let q = w.pick(&h.questions);
    draft.question = w.fill(q);
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
            let filler = w.pick(&lists["filler"]);
            let at = draft.place(w);
            draft.faults.push(filler.to_owned());
            draft.insert(at, filler.to_owned(), None);
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
    for _ in 0..w.between(1, 3) {
        let template = w.pick(&LISTS.clean["lookalike"]);
        let text = w.fill(template);
        let at = draft.place(w);
        draft.insert(at, text.clone(), Some(text));
    }
}

fn stuff(w: &mut Writer, drills: f64) -> Stuff {
    if w.chance(drills) {
        Stuff::Drill
    } else if w.chance(0.25) {
        Stuff::Grammar
    } else {
        Stuff::Topical
    }
}

/// A conversation, as logs hold it when the question is not a single sentence.
fn history(w: &mut Writer, question: &str) -> String {
    let mut out = String::new();
    for _ in 0..[1, 2, 3, 5, 8][w.weighted(&[4.0, 3.0, 2.0, 1.0, 0.5])] {
        let topic = crate::carrier::topic(w);
        let q = w.pick(&topic.questions);
        let q = w.fill(q);
        let mut turn = Vec::new();
        for _ in 0..w.between(1, 4) {
            turn.push(if w.chance(0.5) {
                grammar_sentence(w)
            } else {
                sentence(w, Stuff::Topical, topic, &mut Vec::new())
            });
        }
        out.push_str(&format!("Human: {q}\n\nAssistant: {}\n\n", turn.join(" ")));
    }
    out.push_str(&format!("Human: {question}"));
    out
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
    let sentences = [1, 2, 3, 4, 6, 8, 11][w.weighted(&[1.0, 3.0, 4.0, 4.0, 3.0, 2.0, 1.0])];
    let kinds_of_clean = [0.42, 0.22, 0.14, 0.12, 0.10];
    let stuff = stuff(w, drills);
    let mut draft = Draft::new(carrier(w, voice, stuff, sentences));
    match kind {
        Kind::Clean => match w.weighted(&kinds_of_clean) {
            1 => lookalikes(w, &mut draft),
            2 => contradiction(w, &mut draft, false),
            3 => missing_warning(w, &mut draft, false),
            4 => {
                // What a correction looks like is itself clean.
                let mut other = Draft::new((String::new(), Vec::new(), Layout::Paragraph));
                let h = hazard(w, |_| true);
                let text = match w.below(3) {
                    0 => h.refusal.to_owned(),
                    1 => {
                        let pair = w.pick(&LISTS.overclaims["sentences"]);
                        let claim = w.pick(&LISTS.overclaims["claims"]);
                        let claim = w.fill(claim);
                        let (_, b) = pair.split_once(" => ").expect("a pair");
                        b.replace("{c}", &claim).replace("{C}", &capitalise(&claim))
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
        Kind::PersonalData => personal_data(w, &mut draft),
        Kind::Insult => insult(w, &mut draft),
        Kind::Unsafe => unsafe_steps(w, &mut draft),
        Kind::Overclaim => overclaim(w, &mut draft),
        Kind::Contradiction => contradiction(w, &mut draft, true),
        Kind::MissingWarning => missing_warning(w, &mut draft, true),
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
    let question = if w.chance(0.09) {
        history(w, &draft.question)
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
