//! What an overclaim becomes: one hedge for each form.
//!
//! `data/overclaims.txt` gives each sentence the hedge that is nearest to it, thirty in all; which of them was meant nobody
//! could tell from a sentence not met before, and a model that wavers among them is one that its guard does not let
//! through. So the form alone counts: what certainty is claimed of stays, with the same few words everywhere.

use crate::lists::LISTS;
use crate::writer::capitalise;

/// What a boast that leaves no claim becomes.
const UNSURE: &str = "This is not certain.";
/// The fewest letters by which a form is told from a claim.
const TELLING: usize = 6;

/// The hedge that stands for this one of [sentences].
pub(crate) fn hedge(listed: &'static str) -> &'static str {
    if listed.contains("{C}") {
        "{C}, as far as I know."
    } else if listed.contains("{c}") {
        "It is likely that {c}."
    } else {
        UNSURE
    }
}

/// A plain boast hedged as one made of the lists would be: by its verb, or by the form around its claim.
pub(crate) fn hedged(boast: &str) -> String {
    by_verb(boast)
        .or_else(|| by_form(boast))
        .unwrap_or_else(|| UNSURE.to_owned())
}

fn by_verb(boast: &str) -> Option<String> {
    let verbs = &LISTS.overclaims["verbs"].all;
    let (verb, milder) = verbs
        .iter()
        .filter_map(|pair| pair.split_once(" => "))
        .filter(|(verb, _)| boast.contains(&format!(" {verb} ")))
        .max_by_key(|(verb, _)| verb.len())?;
    Some(boast.replacen(&format!(" {verb} "), &format!(" {milder} "), 1))
}

fn by_form(boast: &str) -> Option<String> {
    let sentences = &LISTS.overclaims["sentences"].all;
    let forms = sentences.iter().filter_map(|pair| {
        let (form, listed) = pair.split_once(" => ")?;
        let (before, after) = form.split_once("{c}").or_else(|| form.split_once("{C}"))?;
        let claim = boast.strip_prefix(before)?.strip_suffix(after)?;
        let hedge = hedge(listed);
        // A claim that began the sentence has its capital, and not every hedge begins with the claim.
        let in_place = form.contains("{c}") || hedge.starts_with("{C}");
        let size = before.len() + after.len();
        (size > TELLING && claim.contains(' ') && in_place).then_some((size, claim, hedge))
    });
    let (_, claim, hedge) = forms.max_by_key(|(size, ..)| *size)?;
    Some(with_claim(hedge, claim))
}

/// The form with the claim in its place, with a capital where it begins the sentence.
pub(crate) fn with_claim(form: &str, claim: &str) -> String {
    form.replace("{c}", claim)
        .replace("{C}", &capitalise(claim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_boast_keeps_its_claim_where_a_form_of_the_lists_does() {
        for (boast, after) in [
            (
                "The price will definitely rise by May.",
                "The price will probably rise by May.",
            ),
            (
                "I promise that the price rises by May.",
                "It is likely that the price rises by May.",
            ),
            (
                "The price rises by May, trust me.",
                "The price rises by May, as far as I know.",
            ),
            ("Nothing can go wrong with it.", "This is not certain."),
            (
                "The price rises by May, which everyone agrees on.",
                "This is not certain.",
            ),
        ] {
            assert_eq!(hedged(boast), after);
        }
    }
}
