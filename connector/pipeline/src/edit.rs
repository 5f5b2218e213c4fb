//! What a correction did to an answer, as one word: its reason.
//!
//! An Aligner gives no reasons, so this is read off the texts alone: words were put in, taken out, or
//! put for others. It tells somebody who looks through corrections which of them to open first, and a
//! metric when they become of another kind. White space between words does not count.

/// All of the answer's words stayed, in their order, and others were put in: a warning, a step.
const EXTENDED: &str = "extended";
/// Words were taken out, and none put in: a repetition, an aside.
const SHORTENED: &str = "shortened";
/// Words were put for others, and at least half of the text stayed: a mask, a fact, a hedge.
const REWORDED: &str = "reworded";
/// Less than half of the text stayed: a refusal, another answer.
const REPLACED: &str = "replaced";
/// White space between words changed, and nothing else.
const RESPACED: &str = "respaced";

/// Below this [similarity](crate::similarity) a text counts as replaced.
const HALF: f64 = 0.5;

/// The word for what turned `answer` into `correction`, whose similarity is known.
pub(crate) fn kind(answer: &str, correction: &str, similarity: f64) -> &'static str {
    match (holds(correction, answer), holds(answer, correction)) {
        (true, true) => RESPACED,
        (true, false) => EXTENDED,
        (false, true) => SHORTENED,
        (false, false) if similarity < HALF => REPLACED,
        (false, false) => REWORDED,
    }
}

/// Whether a text has all words of another one, in their order.
fn holds(text: &str, other: &str) -> bool {
    let mut words = text.split_whitespace();
    other
        .split_whitespace()
        .all(|word| words.any(|candidate| candidate == word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::similarity::similarity;

    #[test]
    fn the_word_tells_what_was_put_in_taken_out_or_put_for_something_else() {
        let cases = [
            ("Take two. Rest.", "Take two. Rest. Ask a doctor.", EXTENDED),
            ("Take two.\n\nRest.", "Take two. Then\nRest.", EXTENDED),
            ("It is so. It is so. Done.", "It is so. Done.", SHORTENED),
            ("Well, go left.\nAlways.", "go left. Always.", SHORTENED),
            (
                "Write to a@b.example today.",
                "Write to [email removed] today.",
                REWORDED,
            ),
            ("You go left and right.", "You go left.", REWORDED),
            ("Mix this and that.", "I cannot help with this.", REPLACED),
            // However little it was that stayed.
            ("No.", "No. That is not so, and here is why.", EXTENDED),
            ("one two three four five six", "six", SHORTENED),
            ("a  b\nc", "a b c", RESPACED),
            ("a b c", "b a c", REWORDED),
        ];
        for (answer, correction, expected) in cases {
            let found = kind(answer, correction, similarity(answer, correction));
            assert_eq!(found, expected, "{answer:?} became {correction:?}");
        }
    }
}
