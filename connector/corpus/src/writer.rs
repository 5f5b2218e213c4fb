//! A seeded writer: picks from lists, fills slots, invents words and values.

use std::collections::HashMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::Split;
use crate::lists::{LISTS, List, split_of_value};

pub(crate) struct Writer {
    rng: ChaCha8Rng,
    pub(crate) split: Split,
    /// The share of an answer's sentences that have nothing to do with its topic.
    pub(crate) digressions: f64,
    /// The share of faults that anybody would think of first.
    pub(crate) plain: f64,
    slots: HashMap<String, String>,
}

impl Writer {
    /// The writer of triple `index`: its own stream, so that triple 7 is the same whether or not
    /// the six before it were asked for.
    pub(crate) fn new(seed: u64, split: Split, index: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index * 3 + split as u64);
        Self {
            rng,
            split,
            digressions: 0.0,
            plain: 0.0,
            slots: HashMap::new(),
        }
    }

    /// Forgets the slots of a discarded attempt.
    pub(crate) fn forget(&mut self) {
        self.slots.clear();
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    pub(crate) fn between(&mut self, low: usize, high: usize) -> usize {
        self.rng.random_range(low..=high)
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.rng.random_bool(p)
    }

    pub(crate) fn one<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// An item of the part of the list that belongs to this split.
    pub(crate) fn pick(&mut self, list: &List) -> &'static str {
        let part = list.of(self.split);
        part[self.below(part.len())]
    }

    /// An item of a closed vocabulary, shared by the splits.
    pub(crate) fn word(&mut self, list: &str) -> &'static str {
        let all = &LISTS.word(list).all;
        all[self.below(all.len())]
    }

    /// Index drawn with the given weights.
    pub(crate) fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        let mut x = self.rng.random_range(0.0..total);
        for (i, w) in weights.iter().enumerate() {
            if x < *w {
                return i;
            }
            x -= w;
        }
        weights.len() - 1
    }

    /// Draws until the value belongs to this split.
    pub(crate) fn own(&mut self, mut draw: impl FnMut(&mut Self) -> String) -> String {
        loop {
            let value = draw(self);
            if split_of_value(&value) == self.split {
                return value;
            }
        }
    }

    pub(crate) fn digits(&mut self, n: usize) -> String {
        (0..n)
            .map(|_| char::from(b'0' + self.below(10) as u8))
            .collect()
    }

    pub(crate) fn random_chars(&mut self, alphabet: &str, n: usize) -> String {
        let chars: Vec<char> = alphabet.chars().collect();
        (0..n).map(|_| chars[self.below(chars.len())]).collect()
    }

    /// A pronounceable word that is in no dictionary.
    pub(crate) fn pseudo(&mut self) -> String {
        const ONSET: &[&str] = &[
            "b", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h",
            "j", "k", "l", "m", "n", "p", "ph", "pl", "pr", "qu", "r", "s", "sc", "sh", "sk", "sl",
            "sm", "sn", "sp", "st", "str", "sw", "t", "th", "tr", "v", "w", "wh", "x", "y", "z",
            "",
        ];
        const NUCLEUS: &[&str] = &[
            "a", "e", "i", "o", "u", "ai", "ea", "ee", "ie", "oo", "ou", "y", "au", "io", "oi",
        ];
        const CODA: &[&str] = &[
            "", "", "", "b", "ck", "d", "ft", "g", "l", "ld", "ll", "lt", "m", "mp", "n", "nd",
            "ng", "nk", "nt", "p", "r", "rd", "rk", "rm", "rn", "rt", "s", "sh", "sk", "ss", "st",
            "t", "th", "x",
        ];
        const SUFFIX: &[&str] = &[
            "", "", "", "", "s", "ed", "er", "ing", "ly", "tion", "ment", "ness", "able", "ous",
            "ity", "al", "ic", "ize", "ful", "less", "est", "ive", "ance", "ology", "ism", "ist",
        ];
        let mut out = String::new();
        for _ in 0..self.weighted(&[0.0, 4.0, 4.0, 1.5]) {
            out.push_str(self.one(ONSET));
            out.push_str(self.one(NUCLEUS));
            out.push_str(self.one(CODA));
        }
        out.push_str(self.one(SUFFIX));
        out
    }

    /// A string of letters and digits without meaning.
    pub(crate) fn gibberish(&mut self) -> String {
        let n = self.between(2, 10);
        let alphabet = *[
            "abcdefghijklmnopqrstuvwxyz",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "abcdefghijklmnopqrstuvwxyz-_.",
            "àáâäãåçèéêëìíîïñòóôöõùúûüýßøæœčšžłğ",
            "абвгдежзиклмнопрстуфхцчшыэюя",
            "αβγδεζηθικλμνξοπρστυφχψω",
            "的一是在不了有和人这中大为上个国我以要他时来用们",
            "あいうえおかきくけこさしすせそたちつてと",
        ]
        .get(self.weighted(&[6.0, 1.0, 2.0, 1.0, 1.0, 0.4, 0.4, 0.2, 0.2]))
        .expect("as many weights as alphabets");
        self.random_chars(alphabet, n)
    }

    /// How often a name is an invented word: names must be copied, not known.
    fn invented(&self) -> f64 {
        if self.split == Split::Train {
            0.2
        } else {
            0.03
        }
    }

    pub(crate) fn first_name(&mut self) -> String {
        if self.chance(self.invented()) {
            capitalise(&self.own(Self::pseudo))
        } else {
            self.pick(LISTS.word("first")).to_owned()
        }
    }

    pub(crate) fn last_name(&mut self) -> String {
        if self.chance(self.invented()) {
            capitalise(&self.own(Self::pseudo))
        } else {
            self.pick(LISTS.word("last")).to_owned()
        }
    }

    pub(crate) fn city(&mut self) -> String {
        if self.chance(self.invented()) {
            capitalise(&self.own(Self::pseudo))
        } else {
            self.pick(LISTS.word("city")).to_owned()
        }
    }

    pub(crate) fn price(&mut self) -> String {
        let n = self.between(2, 950);
        match self.weighted(&[4.0, 3.0, 2.0, 2.0, 1.0, 1.0]) {
            0 => format!("${n}"),
            1 => format!("{n} euros"),
            2 => format!("£{n}"),
            3 => format!("${n}.{}", self.digits(2)),
            4 => format!("${},{}", self.between(1, 99), self.digits(3)),
            _ => format!("{n} dollars"),
        }
    }

    pub(crate) fn time(&mut self) -> String {
        let minute = self.below(12) * 5;
        match self.weighted(&[3.0, 2.0, 1.0, 1.0]) {
            0 => format!("{}:{minute:02}", self.between(6, 23)),
            1 => format!("{} {}", self.between(1, 12), self.one(&["am", "pm"])),
            2 => format!(
                "{}:{minute:02} {}",
                self.between(1, 12),
                self.one(&["am", "pm", "a.m.", "p.m."])
            ),
            _ => format!("{} o'clock", self.between(1, 12)),
        }
    }

    fn draw(&mut self, slot: &str) -> String {
        // A trailing 2 asks for another value of the same kind.
        match slot.trim_end_matches('2') {
            "name" => self.first_name(),
            "last" => self.last_name(),
            "title" => self.one(&["Mr", "Ms", "Mrs", "Dr", "Professor"]).to_owned(),
            "city" => self.city(),
            "n" => self.between(3, 90).to_string(),
            "N" => {
                if self.chance(0.6) {
                    format!("{},{}", self.between(1, 900), self.digits(3))
                } else {
                    self.between(100, 90_000).to_string()
                }
            }
            "d" => self.between(2, 9).to_string(),
            "pct" => match self.below(3) {
                0 => format!("{}.{}%", self.between(0, 99), self.below(10)),
                1 => format!("{} percent", self.between(2, 99)),
                _ => format!("{}%", self.between(1, 99)),
            },
            "price" => self.price(),
            "year" => self.between(1710, 2026).to_string(),
            "time" => self.time(),
            "word" => self.pseudo(),
            "hex" => {
                let n = self.between(6, 8);
                self.random_chars("0123456789abcdef", n)
            }
            "hex6" => self.random_chars("0123456789ABCDEF", 6),
            "order" => {
                let n = self.between(4, 6);
                let digits = self.digits(n);
                match self.below(5) {
                    0 => format!("#{digits}"),
                    1 => format!(
                        "{}-{digits}",
                        self.random_chars("ABCDEFGHKLMNPRSTUVWXYZ", 2)
                    ),
                    2 => format!("no. {digits}"),
                    _ => digits,
                }
            }
            "code" => format!(
                "{}{}",
                self.random_chars("ABCDEFGHKLMNPRSTUVWXYZ", 2),
                self.between(10, 9999)
            ),
            "quoted" => format!(
                "\"The {} {}\"",
                capitalise(self.word("adj")),
                capitalise(self.word("noun"))
            ),
            "Noun" => capitalise(self.word("noun")),
            "topicword" => {
                if self.chance(0.2) {
                    self.pseudo()
                } else {
                    self.word("noun").to_owned()
                }
            }
            // A thing one can own, carry or clean makes sense nearly everywhere.
            "noun" if self.split != Split::Train || self.chance(0.5) => {
                self.word("thing").to_owned()
            }
            "noun" => {
                if self.chance(0.07) {
                    self.pseudo()
                } else {
                    self.word("noun").to_owned()
                }
            }
            "color_cap" => capitalise(self.word("color")),
            "Iadj" => capitalise(self.word("iadj")),
            "street" => self.word("street").to_owned(),
            other => self.word(other).to_owned(),
        }
    }

    /// Fills a template: one of its `(several|wordings)` each, and its `{slots}`.
    pub(crate) fn fill(&mut self, template: &str) -> String {
        let chosen = self.choose(template);
        self.fill_slots(&chosen)
    }

    /// One of each group of alternatives.
    fn choose(&mut self, template: &str) -> String {
        let mut out = String::new();
        let mut end = 0;
        for (at, group) in alternatives(template) {
            out.push_str(&template[end..at]);
            let choices: Vec<&str> = group.split('|').collect();
            out.push_str(self.one(&choices));
            end = at + group.len() + "()".len();
        }
        out.push_str(&template[end..]);
        out
    }

    /// Within one triple a slot keeps its value, so that question and answer speak of the same
    /// thing; nouns and numbers are drawn afresh half the time.
    fn fill_slots(&mut self, template: &str) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            go_on(&mut out, before);
            let (slot, tail) = after.split_once('}').unwrap_or((after, ""));
            rest = tail;
            // Code samples hold braces that are no slots.
            let known = !slot.is_empty() && slot.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !known {
                out.push('{');
                if let Some(inner) = slot.find('{') {
                    // Within such a brace there may be slots.
                    out.push_str(&slot[..inner]);
                    rest = &after[inner..];
                } else {
                    out.push_str(slot);
                    out.push('}');
                }
                continue;
            }
            let fresh = matches!(
                slot,
                "noun"
                    | "noun2"
                    | "thing"
                    | "thing2"
                    | "n"
                    | "n2"
                    | "d"
                    | "d2"
                    | "word"
                    | "inoun"
                    | "iadj"
                    | "adj"
            ) && self.chance(0.6);
            if fresh {
                self.slots.remove(slot);
            }
            let value = match self.slots.get(slot) {
                Some(v) => v.clone(),
                None => {
                    let twin = slot.trim_end_matches('2').to_owned();
                    let mut v = self.draw(slot);
                    for _ in 0..20 {
                        if slot == twin || self.slots.get(&twin) != Some(&v) {
                            break;
                        }
                        v = self.draw(slot);
                    }
                    self.slots.insert(slot.to_owned(), v.clone());
                    v
                }
            };
            append(&mut out, &value);
        }
        go_on(&mut out, rest);
        out.replace("\\n", "\n")
    }
}

/// The groups of alternatives of a template, without their parentheses, and where they begin.
fn alternatives(template: &str) -> impl Iterator<Item = (usize, &str)> {
    template.match_indices('(').filter_map(|(at, _)| {
        let group = template[at + 1..].split([')', '(']).next()?;
        let closed = template[at + 1 + group.len()..].starts_with(')');
        (closed && group.contains('|')).then_some((at, group))
    })
}

/// How many lines a template stands for when one is picked: as many as it has alternatives, which a
/// plain list would have as lines of their own.
pub(crate) fn wordings(template: &str) -> usize {
    1 + alternatives(template)
        .map(|(_, group)| group.matches('|').count())
        .sum::<usize>()
}

/// Appends a value; "a" before a vowel becomes "an".
fn append(out: &mut String, value: &str) {
    let article = out.ends_with(" a ") || out == "A " || out.ends_with(" A ");
    if article && value.starts_with(['a', 'e', 'i', 'o', 'A', 'E', 'I', 'O']) {
        out.insert(out.len() - 1, 'n');
    }
    out.push_str(value);
}

/// Appends what follows a value; a sentence that ends with "p.m." has one full stop.
fn go_on(out: &mut String, text: &str) {
    let ended = out.ends_with('.') && text.starts_with('.') && !text.starts_with("..");
    out.push_str(if ended { &text[1..] } else { text });
}

/// The text with the value at each mark.
pub(crate) fn insert(text: &str, mark: char, value: &str) -> String {
    let mut pieces = text.split(mark);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        append(&mut out, value);
        go_on(&mut out, piece);
    }
    out
}

/// The text with its first letter in upper case.
pub(crate) fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(c) => c.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// The text with its first letter in lower case, unless the first word is a name or "I".
pub(crate) fn uncapitalise(text: &str) -> Option<String> {
    let first = text.split(|c: char| !c.is_alphabetic()).next()?;
    let lower = first.to_lowercase();
    let common = ["noun", "verb", "adj", "adv", "function"]
        .iter()
        .any(|l| LISTS.word(l).all.contains(&lower.as_str()));
    if !common || first == "I" || first.len() < 2 {
        return None;
    }
    Some(format!("{lower}{}", &text[first.len()..]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_template_gives_every_combination_of_its_alternatives() {
        let template = "(Keep|Store) it dry(|, always) (really).";
        let mut w = Writer::new(1, Split::Train, 0);
        let texts: BTreeSet<String> = (0..200).map(|_| w.fill(template)).collect();
        let wanted = [
            "Keep it dry (really).",
            "Keep it dry, always (really).",
            "Store it dry (really).",
            "Store it dry, always (really).",
        ];
        assert_eq!(texts, wanted.map(str::to_owned).into());
        assert_eq!(wordings(template), 3);
    }

    #[test]
    fn what_is_no_group_of_alternatives_stays_as_it_is() {
        let mut w = Writer::new(1, Split::Train, 0);
        for text in ["Two (2) cups.", "a | b", "(open|", ":)", "f(x) | g(y)"] {
            assert_eq!(w.fill(text), text);
            assert_eq!(wordings(text), 1);
        }
    }
}
