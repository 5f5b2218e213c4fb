//! Personal data in the many shapes people write it. All values are invented.

use crate::writer::{Writer, capitalise};

/// What kind of personal data a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Personal {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// A payment card number.
    Card,
    /// A street address.
    Address,
    /// An access key, token or password.
    Key,
}

impl Personal {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Email,
        Self::Phone,
        Self::Card,
        Self::Address,
        Self::Key,
    ];

    /// What stands in the correction in its place.
    pub fn mask(self) -> &'static str {
        match self {
            Self::Email => "[email removed]",
            Self::Phone => "[phone removed]",
            Self::Card => "[card removed]",
            Self::Address => "[address removed]",
            Self::Key => "[key removed]",
        }
    }

    pub(crate) fn list(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Card => "card",
            Self::Address => "address",
            Self::Key => "key",
        }
    }

    pub(crate) fn draw(self, w: &mut Writer) -> String {
        w.own(|w| match self {
            Self::Email => email(w),
            Self::Phone => phone(w),
            Self::Card => card(w),
            Self::Address => address(w),
            Self::Key => key(w),
        })
    }
}

fn email(w: &mut Writer) -> String {
    let ascii = |s: &str| -> String {
        s.chars()
            .filter(char::is_ascii_alphanumeric)
            .collect::<String>()
            .to_lowercase()
    };
    let first = ascii(&w.first_name());
    let last = ascii(&w.last_name());
    let word = ascii(w.word("noun"));
    let initial = first.chars().next().unwrap_or('x');
    let mut local = match w.below(13) {
        0 | 1 => format!("{first}.{last}"),
        2 => format!("{initial}{last}"),
        3 => format!("{first}_{last}"),
        4 => format!("{first}{}", w.between(1, 2010)),
        5 => format!("{first}-{last}"),
        6 => format!("{initial}.{last}"),
        7 => format!("{word}{}", w.between(1, 999)),
        8 => format!("{word}.{last}"),
        9 => w.pseudo(),
        10 => {
            let n = w.between(4, 12);
            w.random_chars("abcdefghijklmnopqrstuvwxyz0123456789", n)
        }
        11 => first,
        _ => w
            .one(&[
                "info", "support", "sales", "contact", "hello", "admin", "office", "billing",
                "help", "team", "me", "press", "jobs", "service",
            ])
            .to_owned(),
    };
    if w.chance(0.06) {
        local = format!("{local}+{}", ascii(w.word("noun")));
    }
    if w.chance(0.05) {
        local = capitalise(&local);
    }
    let name = match w.below(6) {
        0 => ascii(w.word("noun")),
        1 => ascii(&w.pseudo()),
        2 => format!("{}-{}", w.word("noun"), ascii(&w.pseudo())),
        _ => w.word("domain").to_owned(),
    };
    let name = if w.chance(0.15) {
        format!(
            "{}.{name}",
            w.one(&["mail", "corp", "uk", "dev", "staff", "students", "cs", "eu"])
        )
    } else {
        name
    };
    let tld = w.word("tld");
    let all = format!("{local}@{name}.{tld}");
    if w.chance(0.03) {
        all.to_uppercase()
    } else {
        all
    }
}

fn phone(w: &mut Writer) -> String {
    let area = w.between(201, 989).to_string();
    let mid = if w.chance(0.4) {
        "555".to_owned()
    } else {
        w.between(200, 999).to_string()
    };
    let last = w.digits(4);
    match w.below(22) {
        0 | 1 => format!("{area}-{mid}-{last}"),
        2 | 3 => format!("({area}) {mid}-{last}"),
        4 => format!("{area}.{mid}.{last}"),
        5 => format!("{area} {mid} {last}"),
        6 => format!("+1 {area} {mid} {last}"),
        7 => format!("+1-{area}-{mid}-{last}"),
        8 => format!("+1 ({area}) {mid}-{last}"),
        9 => format!("{mid}-{last}"),
        10 => format!("1-{}-{mid}-{last}", w.one(&["800", "888", "877", "866"])),
        11 => format!("{area}{mid}{last}"),
        12 => format!("+44 20 {} {}", w.digits(4), w.digits(4)),
        13 => format!("+44 7{} {}", w.digits(3), w.digits(6)),
        14 => format!("07{} {}", w.digits(3), w.digits(6)),
        15 => format!(
            "0{}{} {} {}",
            w.between(1, 2),
            w.digits(2),
            w.digits(3),
            w.digits(4)
        ),
        16 => format!(
            "+49 {} {}",
            w.between(30, 999),
            w.between(10_000, 99_999_999)
        ),
        17 => format!(
            "+33 {} {} {} {} {}",
            w.between(1, 9),
            w.digits(2),
            w.digits(2),
            w.digits(2),
            w.digits(2)
        ),
        18 => format!(
            "0{} {} {} {} {}",
            w.between(1, 9),
            w.digits(2),
            w.digits(2),
            w.digits(2),
            w.digits(2)
        ),
        19 => format!("0{}/{}", w.between(30, 9999), w.between(10_000, 9_999_999)),
        20 => format!(
            "{area}-{mid}-{last} {} {}",
            w.one(&["ext.", "x", "ext", "extension"]),
            w.between(2, 999)
        ),
        _ => {
            // Any country: a code and groups of two to four digits.
            let mark = w.one(&[" ", "-", ".", " "]);
            let mut out = format!("+{}", w.between(20, 998));
            for _ in 0..w.between(3, 4) {
                let n = w.between(2, 4);
                out = format!("{out}{mark}{}", w.digits(n));
            }
            out
        }
    }
}

fn card(w: &mut Writer) -> String {
    if w.chance(0.12) {
        let amex = format!("3{}{}", w.one(&["4", "7"]), w.digits(13));
        return match w.below(2) {
            0 => amex,
            _ => format!("{} {} {}", &amex[..4], &amex[4..10], &amex[10..]),
        };
    }
    let number = format!("{}{}", w.one(&["4", "4", "5", "5", "2", "6"]), w.digits(15));
    let mark = match w.below(8) {
        0 | 1 => return number,
        2 | 3 => "-",
        4 => ".",
        _ => " ",
    };
    [&number[..4], &number[4..8], &number[8..12], &number[12..]].join(mark)
}

fn address(w: &mut Writer) -> String {
    let number = match w.below(8) {
        0 => format!("{}{}", w.between(1, 300), w.random_chars("ABCabc", 1)),
        1 | 2 => w.between(1000, 9999).to_string(),
        _ => w.between(1, 999).to_string(),
    };
    let name = if w.chance(0.3) {
        capitalise(&w.pseudo())
    } else {
        w.word("street").to_owned()
    };
    let name = match w.below(12) {
        0 => format!(
            "{} {name}",
            w.one(&[
                "North", "South", "East", "West", "N.", "S.", "Old", "New", "Upper", "Saint"
            ])
        ),
        1 => format!("{name} {}", w.word("street")),
        _ => name,
    };
    let suffix = w.word("suffix");
    let street = match w.below(14) {
        0 => {
            let base = w.word("street");
            format!(
                "{base}{} {number}",
                w.one(&["straße", "weg", "gasse", "strasse", "platz"])
            )
        }
        1 => format!(
            "{number} {} {name}",
            w.one(&["rue", "Rue", "avenue", "place", "rue de", "Via", "Calle"])
        ),
        2 => format!(
            "{} {name} {number}",
            w.one(&["Via", "Calle", "Rua", "Piazza", "Avenida"])
        ),
        3 => format!("P.O. Box {}", w.between(10, 9999)),
        _ => format!("{number} {name} {suffix}"),
    };
    let unit = match w.below(10) {
        0 => format!(", Apt {}", w.between(1, 99)),
        1 => format!(
            ", Apartment {}{}",
            w.between(1, 30),
            w.random_chars("ABCD", 1)
        ),
        2 => format!(", Flat {}", w.between(1, 30)),
        3 => format!(" #{}", w.between(1, 400)),
        4 => format!(", Unit {}", w.between(1, 60)),
        _ => String::new(),
    };
    let place = match w.below(9) {
        0 | 1 => format!(", {}", w.city()),
        2 => format!(
            ", {}, {} {}",
            w.city(),
            w.word("state"),
            w.between(10_000, 99_999)
        ),
        3 => format!(", {}, {}", w.city(), w.word("state")),
        4 => format!(", {} {}", w.between(10_000, 99_999), w.city()),
        5 => {
            let post = format!(
                "{}{} {}{}",
                w.random_chars("BCDEGLMNSW", 1),
                w.between(1, 20),
                w.between(1, 9),
                w.random_chars("ABDEFGHJ", 2)
            );
            format!(", {} {post}", w.city())
        }
        _ => String::new(),
    };
    format!("{street}{unit}{place}")
}

const ALNUM: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

fn key(w: &mut Writer) -> String {
    let long = w.between(16, 40);
    match w.below(13) {
        0 | 1 => format!("sk-{}", w.random_chars(ALNUM, long)),
        2 => format!("sk_live_{}", w.random_chars(ALNUM, 24)),
        3 => format!("pk_test_{}", w.random_chars(ALNUM, 24)),
        4 => format!("AKIA{}", w.random_chars(UPPER, 16)),
        5 => format!("ghp_{}", w.random_chars(ALNUM, 36)),
        6 => format!("xoxb-{}-{}", w.digits(10), w.random_chars(ALNUM, 16)),
        7 => format!("AIza{}", w.random_chars(ALNUM, 35)),
        8 => w.random_chars(HEX, 32),
        9 => w.random_chars(ALNUM, long),
        10 => format!(
            "eyJ{}.{}",
            w.random_chars(ALNUM, 14),
            w.random_chars(ALNUM, 18)
        ),
        11 => format!(
            "{}_{}",
            w.one(&["key", "token", "tok", "api", "glpat", "secret"]),
            w.random_chars(ALNUM, 20)
        ),
        _ => format!("sk-proj-{}", w.random_chars(ALNUM, long)),
    }
}

/// A password as people choose them; only told apart from a word by what leads to it.
pub(crate) fn password(w: &mut Writer) -> String {
    w.own(|w| {
        let base = if w.chance(0.5) {
            capitalise(w.word("noun"))
        } else {
            w.pseudo()
        };
        match w.below(4) {
            0 => format!("{base}{}", w.between(1, 9999)),
            1 => format!(
                "{base}{}{}",
                w.between(1, 2026),
                w.one(&["!", "?", "#", "$", "*"])
            ),
            2 => format!("{}-{}-{}", base, w.word("noun"), w.between(1, 99)),
            _ => w.random_chars(
                "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!#$%&*",
                10,
            ),
        }
    })
}

/// Whether the lead sentence speaks of a password rather than a key.
pub(crate) fn is_password_lead(lead: &str) -> bool {
    lead.to_lowercase().contains("password")
}

/// What stands in place of personal data.
pub(crate) fn masks() -> Vec<&'static str> {
    Personal::ALL.iter().map(|p| p.mask()).collect()
}
