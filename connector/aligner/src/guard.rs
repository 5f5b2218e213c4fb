//! The competence guard: knowing what the model does not know.
//!
//! A guard never edits text. It only chooses between the model's output and the original, with
//! a stable reason (see [`crate::reason`]): before inference by what it would have to read, and
//! after by what it wrote.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    Outcome, is_same_text,
    reason::{self, Bypass},
};

/// Limits of what a model is fit for; a limit that is absent does not apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Most tokens of a question.
    pub max_question_tokens: Option<u32>,
    /// Most tokens of an answer.
    pub max_answer_tokens: Option<u32>,
    /// Most tokens per whitespace-separated word of an answer, beyond eight for free: a
    /// byte-level vocabulary spends many tokens on words that it never saw. Of an answer that has more it is
    /// enough if it has no more [`without_long_pieces`].
    pub max_tokens_per_word: Option<f32>,
    /// Largest share of the output's words that stand in neither the question, the answer, nor
    /// `known_words`. What was cut out of a longer piece of the answer, such as half an e-mail
    /// address, counts as well.
    pub max_novel_words: Option<f32>,
    /// Largest share of the output's words that are not the answer's in order: what their longest
    /// common subsequence leaves over, both without the `known_words`.
    pub max_displaced_words: Option<f32>,
    /// Words that the model may use of itself, in lower case.
    pub known_words: KnownWords,
    /// Least mean log probability of the decoded tokens.
    pub min_mean_logprob: Option<f32>,
    /// Least log probability of any decoded token.
    pub min_token_logprob: Option<f32>,
    /// Most log probability that leaving the answer as it is may have had, where the model tells: a
    /// correction that nearly was none is the likeliest to be wrong.
    pub max_unchanged_logprob: Option<f32>,
    /// Least characters of the output for each of the answer.
    pub min_length_ratio: Option<f32>,
    /// Most characters of the output for each of the answer, beyond [`FREE_CHARACTERS`].
    pub max_length_ratio: Option<f32>,
}

/// What an output may be longer than its answer whatever the ratio: about two sentences, which
/// is what a refusal or a pointer to help adds to a short answer.
pub const FREE_CHARACTERS: u32 = 220;

/// Tokens of an answer that [`Guard::max_tokens_per_word`] does not count.
const FREE_TOKENS: f32 = 8.0;

/// Characters from which on a key or an address is no word among others.
const LONG_PIECE: usize = 16;

/// Digits from which on a number is none: a phone number without its area code.
const LONG_NUMBER: usize = 7;

/// An answer without its keys, long numbers and e-mail addresses, if it has some. They are many tokens and one word,
/// and nothing in them is to be understood: whether a model is fit for the answer is told by the rest.
pub fn without_long_pieces(answer: &str) -> Option<String> {
    let mut words: Vec<&str> = answer.split_whitespace().collect();
    let all = words.len();
    words.retain(|word| !is_long_piece(word));
    (words.len() < all).then(|| words.join(" "))
}

/// Whether a word is a key, a number or an e-mail address: without the punctuation around it long, of the letters
/// that these are made of alone, and with a digit or an @ in it. Web addresses are none: they have a colon, and tell of
/// prose that was made for other readers.
fn is_long_piece(word: &str) -> bool {
    let piece = word.trim_matches(|c: char| c.is_ascii_punctuation());
    let is_of_keys = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+/@".contains(&byte);
    let is_key = piece.len() >= LONG_PIECE
        && piece.bytes().all(is_of_keys)
        && piece
            .bytes()
            .any(|byte| byte == b'@' || byte.is_ascii_digit())
        && !piece.starts_with("www.");
    is_key || is_long_number(piece)
}

/// Whether it is digits, in groups or not, and many of them.
fn is_long_number(piece: &str) -> bool {
    let digits = piece.bytes().filter(u8::is_ascii_digit).count();
    let is_of_numbers = |byte: u8| byte.is_ascii_digit() || b"-./".contains(&byte);
    digits >= LONG_NUMBER && piece.bytes().all(is_of_numbers)
}

/// A set of words, written as a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct KnownWords(HashSet<String>);

impl Extend<String> for KnownWords {
    fn extend<T: IntoIterator<Item = String>>(&mut self, words: T) {
        self.0
            .extend(words.into_iter().map(|word| word.to_lowercase()));
    }
}

impl From<Vec<String>> for KnownWords {
    fn from(words: Vec<String>) -> Self {
        let mut known = Self::default();
        known.extend(words);
        known
    }
}

impl From<KnownWords> for Vec<String> {
    fn from(words: KnownWords) -> Self {
        // Sorted, because a revision is a digest of it.
        let mut words: Self = words.0.into_iter().collect();
        words.sort_unstable();
        words
    }
}

/// How sure the model was of the tokens it decoded. Probabilities are those at temperature 1, after
/// the checkpoint's repetition penalty, if it has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    /// Mean natural log probability of the decoded tokens, end of sequence included.
    pub mean_logprob: f32,
    /// The least of them.
    pub min_logprob: f32,
    /// Natural log probability of the learnt *unchanged* token as the first, whichever came;
    /// none where the model has no such token or does not tell.
    pub unchanged_logprob: Option<f32>,
}

impl Guard {
    /// Whether [`Self::admit`] looks at token counts, which cost an encoding each.
    pub fn counts_tokens(&self) -> bool {
        self.max_question_tokens.is_some()
            || self.max_answer_tokens.is_some()
            || self.max_tokens_per_word.is_some()
    }

    /// Before inference: whether the model is fit for this question and answer, of so many
    /// tokens each.
    ///
    /// # Errors
    /// Why to bypass it.
    pub fn admit(
        &self,
        answer: &str,
        question_tokens: u32,
        answer_tokens: u32,
    ) -> Result<(), Bypass> {
        let limits = [
            ("question", question_tokens, self.max_question_tokens),
            ("answer", answer_tokens, self.max_answer_tokens),
        ];
        for (text, tokens, most) in limits {
            if let Some(most) = most.filter(|most| tokens > *most) {
                return Err(Bypass::found(
                    reason::TOO_LONG,
                    format!(
                        "the {text} has {tokens} tokens, and max_{text}_tokens of the model's profile is {most}"
                    ),
                ));
            }
        }
        let words = answer.split_whitespace().count();
        if let Some(most) = self
            .max_tokens_per_word
            .filter(|most| answer_tokens as f32 > most * words.max(1) as f32 + FREE_TOKENS)
        {
            return Err(Bypass::found(
                reason::UNFAMILIAR_TEXT,
                format!(
                    "the answer has {answer_tokens} tokens in {words} words, as in another language, code, \
                     markup, emoji, addresses or numbers, and max_tokens_per_word of the model's profile is {most}: \
                     the model was not asked"
                ),
            ));
        }
        Ok(())
    }

    /// After inference: whether the output can stand in the answer's place. An Aligner that
    /// does not know its tokens' probabilities passes `None`, and those limits do not apply.
    ///
    /// # Errors
    /// Why to bypass it.
    pub fn accept(
        &self,
        question: &str,
        answer: &str,
        output: &str,
        confidence: Option<Confidence>,
    ) -> Result<(), Bypass> {
        if output.trim().is_empty() {
            return Err(reason::EMPTY_OUTPUT.into());
        }
        if is_same_text(output, answer) {
            return Ok(());
        }
        if is_echo(question, answer, output) {
            return Err(reason::ECHO.into());
        }
        self.accept_length(answer, output)?;
        self.accept_words(question, answer, output)?;
        confidence.map_or(Ok(()), |confidence| self.accept_confidence(confidence))
    }

    /// After inference: what comes of a model's whole output.
    pub fn outcome(
        &self,
        question: &str,
        answer: &str,
        output: &str,
        confidence: Option<Confidence>,
    ) -> Outcome {
        match self.accept(question, answer, output, confidence) {
            Ok(()) => Outcome::Rewritten(output.to_owned()),
            // Nothing is proposed by it.
            Err(bypass) if bypass.word == reason::EMPTY_OUTPUT => Outcome::Bypassed(bypass),
            Err(bypass) => Outcome::Rejected {
                bypass,
                proposal: output.to_owned(),
            },
        }
    }

    fn accept_length(&self, answer: &str, output: &str) -> Result<(), Bypass> {
        let (answer, output) = (answer.chars().count(), output.chars().count());
        let per_character = |characters| characters as f32 / answer.max(1) as f32;
        let ratio = per_character(output);
        let free = per_character(FREE_CHARACTERS as usize);
        let is_short = self.min_length_ratio.filter(|least| ratio < *least);
        let is_long = self.max_length_ratio.filter(|most| ratio > most + free);
        let (limit, bound) = match (is_short, is_long) {
            (Some(least), _) => ("min_length_ratio", least),
            (None, Some(most)) => ("max_length_ratio", most),
            (None, None) => return Ok(()),
        };
        Err(Bypass::found(
            reason::LENGTH_RATIO,
            format!(
                "the output has {output} characters and the answer {answer}, and {limit} of the model's \
                 profile is {bound}"
            ),
        ))
    }

    fn accept_words(&self, question: &str, answer: &str, output: &str) -> Result<(), Bypass> {
        if self.max_novel_words.is_none() && self.max_displaced_words.is_none() {
            return Ok(());
        }
        let (answer_words, output_words) = (words(answer), words(output));
        let lost = |share: f32, whose, limit, most| {
            Err(Bypass::found(
                reason::INCONSISTENT_COPY,
                format!(
                    "{share:.2} of the output's words {whose}, and {limit} of the model's profile is \
                     {most}: the model lost its place"
                ),
            ))
        };
        if let Some(most) = self.max_novel_words {
            let cut = self.cut_pieces(answer, output);
            let share = self.novel_words(&words(question), &answer_words, &output_words, cut);
            if share > most {
                let whose = "come from nowhere, or are half an address or number";
                return lost(share, whose, "max_novel_words", most);
            }
        }
        if let Some(most) = self.max_displaced_words {
            let share = self.displaced_words(&answer_words, &output_words);
            if share > most {
                let whose = "stand elsewhere in the answer, or not in it";
                return lost(share, whose, "max_displaced_words", most);
            }
        }
        Ok(())
    }

    fn accept_confidence(&self, confidence: Confidence) -> Result<(), Bypass> {
        let is_below: fn(&f32, &f32) -> bool = f32::lt;
        let limits = [
            (
                "the mean log probability of its tokens",
                Some(confidence.mean_logprob),
                is_below,
                ("min_mean_logprob", self.min_mean_logprob),
            ),
            (
                "the log probability of its least sure token",
                Some(confidence.min_logprob),
                is_below,
                ("min_token_logprob", self.min_token_logprob),
            ),
            (
                "the log probability of leaving the answer as it is",
                confidence.unchanged_logprob,
                f32::gt,
                ("max_unchanged_logprob", self.max_unchanged_logprob),
            ),
        ];
        for (whose, value, is_beyond, (limit, bound)) in limits {
            let known = value.zip(bound);
            if let Some((value, bound)) = known.filter(|(value, bound)| is_beyond(value, bound)) {
                // As many digits as tell it from the bound.
                let told = |digits: usize| format!("{value:.digits$}");
                let digits = (3..9).find(|&digits| told(digits) != format!("{bound:.digits$}"));
                let value = told(digits.unwrap_or(9));
                return Err(Bypass::found(
                    reason::LOW_CONFIDENCE,
                    format!(
                        "the model was not sure of what it wrote: {whose} is {value}, \
                         and {limit} of its profile is {bound}"
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Share of the output's words that come from nowhere, with so many that were cut; 0 where it
    /// has no words.
    fn novel_words(
        &self,
        question: &[String],
        answer: &[String],
        output: &[String],
        cut: usize,
    ) -> f32 {
        let given: HashSet<&String> = question.iter().chain(answer).collect();
        let novel = |word: &&String| !given.contains(*word) && !self.known_words.0.contains(*word);
        (output.iter().filter(novel).count() + cut) as f32 / output.len().max(1) as f32
    }

    /// How many pieces of the output, between white spaces, are a part of a piece of the answer
    /// that was to be copied or left out as a whole: of an address, a number, an emoji.
    fn cut_pieces(&self, answer: &str, output: &str) -> usize {
        let whole: HashSet<&str> = answer.split_whitespace().map(bare).collect();
        let cut = |piece: &&str| {
            !whole.contains(*piece)
                && !self.known_words.0.contains(&piece.to_lowercase())
                && whole
                    .iter()
                    .any(|found| is_compound(found) && found.contains(*piece))
        };
        let pieces = output.split_whitespace().map(bare);
        pieces.filter(|piece| !piece.is_empty()).filter(cut).count()
    }

    /// Share of the output's words that do not stand where the answer has them. Known words may
    /// stand anywhere: where a phrase takes the place of others, as many of them may have gone.
    fn displaced_words(&self, answer: &[String], output: &[String]) -> f32 {
        let own = |word: &&String| !self.known_words.0.contains(*word);
        let from: Vec<&String> = answer.iter().filter(own).collect();
        let to: Vec<&String> = output.iter().filter(own).collect();
        let left_over = to.len() - common_subsequence(&from, &to);
        left_over as f32 / output.len().max(1) as f32
    }
}

/// Shorter questions stand in outputs by chance.
const ECHOED_BYTES: usize = 16;

/// Whether an output gives back what it was asked.
fn is_echo(question: &str, answer: &str, output: &str) -> bool {
    let (question, answer, output) = (question.trim(), answer.trim(), output.trim());
    if output == question {
        return true;
    }
    let asked = question.len() >= ECHOED_BYTES && !answer.is_empty() && !answer.contains(question);
    asked
        && output
            .split_once(question)
            .is_some_and(|(_, rest)| rest.contains(answer))
}

/// A piece of text without the punctuation around it.
fn bare(piece: &str) -> &str {
    piece.trim_matches(|c: char| c.is_ascii_punctuation())
}

/// Whether a piece without punctuation around it is more than one word.
fn is_compound(piece: &str) -> bool {
    piece.chars().any(|c| !c.is_alphanumeric())
}

/// The words of a text as the guard counts them, in lower case: runs of letters, digits and
/// underscores.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Length of the longest common subsequence of two lists of words.
fn common_subsequence(a: &[&String], b: &[&String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut before = 0;
        for (j, y) in b.iter().enumerate() {
            let keep = row[j + 1];
            row[j + 1] = if x == y {
                before + 1
            } else {
                row[j + 1].max(row[j])
            };
            before = keep;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(json: &str) -> Guard {
        serde_json::from_str(json).expect("a valid guard")
    }

    fn word(judged: Result<(), Bypass>) -> Result<(), &'static str> {
        judged.map_err(|bypass| bypass.word)
    }

    #[test]
    fn an_output_that_gives_back_the_prompt_is_an_echo_and_one_that_quotes_it_is_not() {
        let guard = Guard::default();
        let (question, answer) = ("What is the capital of France?", "It is Lyon.");
        let accept = |output: &str| word(guard.accept(question, answer, output, None));
        assert_eq!(accept(question), Err(reason::ECHO));
        assert_eq!(
            accept(&format!("{question}\n{answer} It is Paris.")),
            Err(reason::ECHO)
        );
        assert_eq!(
            accept("What is the capital of France? It is Paris."),
            Ok(())
        );
        assert_eq!(accept("It is Lyon. No, it is Paris."), Ok(()));
        assert_eq!(
            guard.accept("Hi", "Hello.", "Hi! Hello. How are you?", None),
            Ok(())
        );
    }

    #[test]
    fn an_output_that_differs_in_white_space_at_its_ends_alone_is_no_correction_to_judge() {
        let strict = guard(r#"{"min_length_ratio": 1.1, "min_mean_logprob": -0.1}"#);
        let unsure = Confidence {
            min_logprob: -9.0,
            mean_logprob: -9.0,
            unchanged_logprob: None,
        };
        for output in ["Hi.", "Hi.\n", " Hi."] {
            // The question as well, which would be an echo.
            let accepted = strict.accept("Hi.", "Hi.\n", output, Some(unsure));
            assert_eq!(accepted, Ok(()), "{output:?}");
        }
    }

    #[test]
    fn a_guard_without_limits_lets_everything_but_emptiness_pass() {
        let none = Guard::default();
        assert!(!none.counts_tokens());
        assert_eq!(none.admit("ä", 9_999, 9_999), Ok(()));
        assert_eq!(none.accept("q", "a", "whatever else", None), Ok(()));
        assert_eq!(
            word(none.accept("q", "a", " \n", None)),
            Err(reason::EMPTY_OUTPUT)
        );
    }

    #[test]
    fn length_comes_before_familiarity() {
        let limits = guard(
            r#"{"max_question_tokens": 10, "max_answer_tokens": 20, "max_tokens_per_word": 4}"#,
        );
        assert!(limits.counts_tokens());
        assert_eq!(limits.admit("two words", 10, 16), Ok(()));
        assert_eq!(
            word(limits.admit("two words", 11, 8)),
            Err(reason::TOO_LONG)
        );
        assert_eq!(
            word(limits.admit("two words", 1, 21)),
            Err(reason::TOO_LONG)
        );
        assert_eq!(
            word(limits.admit("two words", 1, 17)),
            Err(reason::UNFAMILIAR_TEXT)
        );
        assert_eq!(word(limits.admit("", 1, 13)), Err(reason::UNFAMILIAR_TEXT));
    }

    #[test]
    fn a_limit_that_was_met_is_named_with_what_exceeded_it_and_no_text() {
        let limits = guard(
            r#"{"max_question_tokens": 10, "max_answer_tokens": 20, "max_tokens_per_word": 4.5,
                "min_length_ratio": 0.5, "max_length_ratio": 2, "max_novel_words": 0.1,
                "max_displaced_words": 0.3, "min_mean_logprob": -0.02, "min_token_logprob": -1.6,
                "max_unchanged_logprob": -3}"#,
        );
        let answer = "one two three four five six";
        let sure = |mean_logprob, min_logprob, unchanged: f32| {
            Some(Confidence {
                mean_logprob,
                min_logprob,
                unchanged_logprob: Some(unchanged),
            })
        };
        let accept = |output: &str| limits.accept("q", answer, output, None);
        let doubt = |confidence| limits.accept("q", answer, "one two three four five", confidence);
        let found = [
            limits.admit(answer, 11, 8),
            limits.admit(answer, 1, 21),
            limits.admit("word", 1, 13),
            accept("one two"),
            accept(&answer.repeat(11)),
            accept("one two three four secret"),
            accept("four five six one two three"),
            doubt(sure(-0.5, -0.6, -4.0)),
            doubt(sure(-0.01, -3.256, -4.0)),
            doubt(sure(-0.01, -0.1, -2.5)),
        ];
        let said = found.map(|found| {
            found
                .expect_err("it exceeds a limit")
                .found
                .unwrap_or_default()
        });
        let numbers = [
            "question has 11 tokens, and max_question_tokens of the model's profile is 10",
            "answer has 21 tokens, and max_answer_tokens of the model's profile is 20",
            "13 tokens in 1 words, as in another language, code, markup, emoji, addresses or numbers, \
             and max_tokens_per_word of the model's profile is 4.5",
            "7 characters and the answer 27, and min_length_ratio of the model's profile is 0.5",
            "297 characters and the answer 27, and max_length_ratio of the model's profile is 2",
            "0.20 of the output's words",
            "0.50 of the output's words stand elsewhere in the answer, or not in it, and \
             max_displaced_words of the model's profile is 0.3",
            "mean log probability of its tokens is -0.500, and min_mean_logprob of its profile is -0.02",
            "its least sure token is -3.256, and min_token_logprob of its profile is -1.6",
            "leaving the answer as it is is -2.500, and max_unchanged_logprob of its profile is -3",
        ];
        for (said, numbers) in said.iter().zip(numbers) {
            assert!(said.contains(numbers), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn without_its_keys_and_addresses_an_answer_is_judged_by_its_words() {
        for (answer, rest) in [
            ("Set it to sk-proj-4f9aB7c2D8e1.", Some("Set it to")),
            ("(9f1c2b7e-58aa-4d0c-9d1e-0f6a7b8c9d0e)", Some("")),
            (
                "Ask <ann.lee@example.org>, or 4111111111111111",
                Some("Ask or"),
            ),
            ("It is AbCdEfGh1jKl/MnOpQr+StUv== now", Some("It is now")),
            ("Call +1-555-010-4477, or 555.0199!", Some("Call or")),
            ("Привет ann.lee@example.org", Some("Привет")),
            // Few tokens anyway, words, and what is neither key nor address.
            ("It is 4f9aB7c2D8, on 2026-11.", None),
            ("It is 1,234,567.", None),
            ("internationalisation of misunderstandings", None),
            ("日本語の長い文章ですがここに1があります", None),
            ("See https://example.com/a1 and www.example.com/page1", None),
            (r#"{"a1":[1,2,3],"b":{"c":4}}"#, None),
            ("for(i=0;i<10;i++){f(i)}", None),
            ("", None),
        ] {
            assert_eq!(without_long_pieces(answer).as_deref(), rest, "{answer}");
        }
    }

    #[test]
    fn words_from_nowhere_are_counted_without_case_and_known_ones_are_not() {
        let limits = guard(r#"{"max_novel_words": 0.2, "known_words": ["Please", "contact"]}"#);
        let accept = |output| word(limits.accept("Who is it?", "It is Ada, 42.", output, None));
        assert_eq!(accept("Please contact (ADA) - it is 42"), Ok(()));
        assert_eq!(accept("It is Ada Lovelace 42"), Ok(()), "one of five");
        assert_eq!(
            accept("It is Bob 42"),
            Err(reason::INCONSISTENT_COPY),
            "one of four"
        );
        assert_eq!(accept("..."), Ok(()), "no words at all");
    }

    #[test]
    fn low_confidence_and_odd_lengths_have_their_own_reasons() {
        let limits = guard(
            r#"{"min_mean_logprob": -0.5, "min_token_logprob": -3,
                "min_length_ratio": 0.5, "max_length_ratio": 2}"#,
        );
        let sure = Confidence {
            mean_logprob: -0.1,
            min_logprob: -2.0,
            unchanged_logprob: None,
        };
        let accept =
            |output: &str, confidence| word(limits.accept("q", "abcd", output, confidence));
        assert_eq!(accept("abcé", Some(sure)), Ok(()));
        assert_eq!(accept("a", Some(sure)), Err(reason::LENGTH_RATIO));
        assert_eq!(accept(&"a".repeat(228), Some(sure)), Ok(()));
        assert_eq!(
            accept(&"a".repeat(229), Some(sure)),
            Err(reason::LENGTH_RATIO)
        );
        let vague = Confidence {
            mean_logprob: -0.6,
            ..sure
        };
        assert_eq!(accept("abce", Some(vague)), Err(reason::LOW_CONFIDENCE));
        let slip = Confidence {
            min_logprob: -3.5,
            ..sure
        };
        assert_eq!(accept("abce", Some(slip)), Err(reason::LOW_CONFIDENCE));
        assert_eq!(
            accept("abce", None),
            Ok(()),
            "unknown probabilities are not low ones"
        );
        assert_eq!(
            accept("abcd", Some(vague)),
            Ok(()),
            "an identical answer cannot be wrong"
        );
    }

    #[test]
    fn half_an_address_a_number_or_an_emoji_is_no_copy() {
        let limits = guard(r#"{"max_novel_words": 0, "known_words": ["email", "removed"]}"#);
        let accept = |answer: &str, output: &str| word(limits.accept("Who?", answer, output, None));
        for (answer, output) in [
            ("Write to ann.lee@example.com.", "Write to ann.lee@example."),
            ("Write to ann.lee@example.com.", "Write to ann."),
            ("Call +1 555-123-4567 now.", "Call +1 555-123 now."),
            ("Hi 👩\u{200D}👩\u{200D}👧 there.", "Hi 👩\u{200D}👧 there."),
            ("Hi 👩\u{200D}👩\u{200D}👧 there.", "Hi 👩 there."),
        ] {
            assert_eq!(
                accept(answer, output),
                Err(reason::INCONSISTENT_COPY),
                "{output}"
            );
        }
        for (answer, output) in [
            ("Write to ann.lee@example.com.", "Write to [email removed]."),
            ("Write to email@example.com.", "Write to [email removed]."),
            (
                "Write to (ann.lee@example.com), ann.",
                "Write to ann.lee@example.com.",
            ),
            ("It is a well-known, safe way.", "It is a well-known way."),
            ("Two minutes, at most.", "Two minutes."),
        ] {
            assert_eq!(accept(answer, output), Ok(()), "{output}");
        }
    }

    #[test]
    fn words_out_of_place_are_displaced_unless_they_are_known() {
        let limits = guard(r#"{"max_displaced_words": 0.25, "known_words": ["please", "stop"]}"#);
        let accept = |output| word(limits.accept("q", "one two three four", output, None));
        assert_eq!(
            accept("One two, four!"),
            Ok(()),
            "left out is not displaced"
        );
        assert_eq!(accept("one two four three"), Ok(()), "one of four");
        assert_eq!(accept("four three two one"), Err(reason::INCONSISTENT_COPY));
        assert_eq!(
            accept("Please stop one two three"),
            Ok(()),
            "known words are free"
        );
        let polite = |output| word(limits.accept("q", "please please one", output, None));
        assert_eq!(polite("stop one"), Ok(()), "however many of them have gone");
        assert_eq!(
            accept("one two three six five"),
            Err(reason::INCONSISTENT_COPY)
        );
    }

    #[test]
    fn known_words_are_written_in_a_stable_order() {
        let limits = guard(r#"{"known_words": ["b", "C", "a"]}"#);
        let again = serde_json::to_string(&limits.known_words).expect("serialises");
        assert_eq!(again, r#"["a","b","c"]"#);
    }
}
