//! Why an answer was bypassed: one stable word, and one sentence for each of them, since whoever reads a
//! record has no manual at hand. `docs/operations.md` has the same words, with more about them.

/// The prompt or the answer is longer than the profile or the context allows.
pub const TOO_LONG: &str = "too_long";
/// The log holds no text for the question or the answer, as for a message that only calls tools.
pub const NO_TEXT: &str = "no_text";
/// `max_new_tokens` was reached before the end-of-sequence token.
pub const LENGTH_LIMIT: &str = "length_limit";
/// The answer's words lie outside the model's vocabulary (another language, code, …).
pub const UNFAMILIAR_TEXT: &str = "unfamiliar_text";
/// The output holds words from nowhere: neither the question, the answer, nor a known phrase.
pub const INCONSISTENT_COPY: &str = "inconsistent_copy";
/// The model was not sure enough of the tokens it decoded.
pub const LOW_CONFIDENCE: &str = "low_confidence";
/// The output is empty.
pub const EMPTY_OUTPUT: &str = "empty_output";
/// The output gives back the question, or question and answer.
pub const ECHO: &str = "echo";
/// The output repeats a few tokens without end.
pub const REPETITION: &str = "repetition";
/// The model's logits were no finite numbers.
pub const NOT_FINITE: &str = "not_finite";
/// The output is much longer or shorter than the answer.
pub const LENGTH_RATIO: &str = "length_ratio";

/// Why one answer is bypassed: the word, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bypass {
    /// One of this module's words, stable and snake_case.
    pub word: &'static str,
    /// A sentence that names the limit that was met and what exceeded it, never a text; none where the
    /// word's own says all there is.
    pub found: Option<String>,
}

impl Bypass {
    /// With a sentence about what was found.
    pub fn found(word: &'static str, found: String) -> Self {
        Self {
            word,
            found: Some(found),
        }
    }

    /// One sentence for whoever reads the record.
    pub fn message(&self) -> Option<&str> {
        self.found.as_deref().or_else(|| because(self.word))
    }
}

impl From<&'static str> for Bypass {
    fn from(word: &'static str) -> Self {
        Self { word, found: None }
    }
}

/// Every word, and why the model was not asked, or its output not taken.
const SENTENCES: [(&str, &str); 11] = [
    (
        NO_TEXT,
        "the question or the answer has no text, so there is nothing to correct",
    ),
    (
        TOO_LONG,
        "longer than pipeline.max_question_chars, pipeline.max_answer_chars, the model's profile \
         (max_question_tokens, max_answer_tokens) or its context allows",
    ),
    (
        UNFAMILIAR_TEXT,
        "more tokens to a word than the model's profile allows, as in another language, code, markup, \
         emoji, addresses or numbers: the model was not asked",
    ),
    (
        LENGTH_LIMIT,
        "the output reached max_new_tokens, or the end of the model's context, unfinished: raise the \
         first, or take a model with a longer context",
    ),
    (EMPTY_OUTPUT, "the model wrote nothing"),
    (ECHO, "the model gave the question back"),
    (REPETITION, "the model wrote the same words again and again"),
    (
        NOT_FINITE,
        "the model computed no numbers: its weights or their precision are at fault",
    ),
    (
        LENGTH_RATIO,
        "the output is far shorter or longer than the answer",
    ),
    (
        INCONSISTENT_COPY,
        "the output has words that come from nowhere or from elsewhere, or half an address or number: \
         the model lost its place",
    ),
    (LOW_CONFIDENCE, "the model was not sure of what it wrote"),
];

/// The sentence for a word.
pub fn because(word: &str) -> Option<&'static str> {
    let told = SENTENCES.iter().find(|(known, _)| *known == word);
    told.map(|(_, sentence)| *sentence)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_word_that_is_documented_has_a_sentence_and_every_sentence_is_documented() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
        let operations = fs::read_to_string(path).expect("it is part of the repository");
        let documented: BTreeSet<&str> = operations
            .lines()
            .skip_while(|line| *line != "## Why an answer was bypassed")
            .skip(1)
            .take_while(|line| !line.starts_with("## "))
            .filter_map(|line| line.strip_prefix("| `")?.split('|').next())
            .flat_map(|cell| cell.split(['`', ',', ' ']))
            .filter(|word| !word.is_empty())
            .filter(|word| !matches!(*word, "reason" | "of" | "bypassed"))
            .collect();
        let told: BTreeSet<&str> = SENTENCES.iter().map(|(word, _)| *word).collect();
        assert_eq!(documented, told);
    }

    #[test]
    fn what_was_found_takes_the_place_of_the_words_sentence() {
        let bypass = Bypass::from(ECHO);
        assert_eq!(bypass.message(), because(ECHO));
        let bypass = Bypass::found(TOO_LONG, "of 9 tokens".to_owned());
        assert_eq!(bypass.message(), Some("of 9 tokens"));
    }

    #[test]
    fn each_word_has_its_own_sentence() {
        assert_eq!(because("echo"), Some("the model gave the question back"));
        assert_eq!(because("no_such_word"), None);
    }

    #[test]
    fn whatever_limit_may_have_been_met_is_named() {
        let too_long = [
            "max_question_chars",
            "max_answer_chars",
            "profile",
            "context",
        ];
        let limits: [(&str, &[&str]); 3] = [
            (TOO_LONG, &too_long),
            (LENGTH_LIMIT, &["max_new_tokens", "context"]),
            (UNFAMILIAR_TEXT, &["tokens to a word", "profile"]),
        ];
        for (word, limits) in limits {
            let sentence = because(word).expect("it has one");
            for limit in limits {
                assert!(sentence.contains(limit), "{limit}: {sentence}");
            }
        }
    }
}
