//! What corrections are made of: text that an Aligner may add though nothing in the answer says it.

/// The sentences and masks that corrections are made of, without what fills their slots: text that
/// an Aligner may add.
pub fn correction_phrases() -> Vec<String> {
    let lists = &crate::lists::LISTS;
    let mut phrases = crate::values::masks();
    for hazard in &lists.hazards {
        phrases.push(hazard.refusal);
        phrases.extend(hazard.warning);
    }
    for section in ["sentences", "verbs", "adjectives"] {
        for pair in &lists.overclaims[section].all {
            phrases.extend(pair.split_once(" => ").map(|(_, hedge)| hedge));
        }
    }
    let mut phrases: Vec<String> = phrases.into_iter().map(without_slots).collect();
    phrases.sort_unstable();
    phrases.dedup();
    phrases
}

fn without_slots(phrase: &str) -> String {
    let pieces = phrase.split('{').enumerate().map(|(i, piece)| match i {
        0 => piece,
        _ => piece.split_once('}').map_or(piece, |(_, tail)| tail),
    });
    pieces.collect::<String>().trim().to_owned()
}
