//! A correction for people who look for what was changed; JSON has all of it.
//!
//! Nothing but what is shown is read, by its name, so that a row of a warehouse does as well as a record:
//! columns that it has besides, or that say the time in another way, are passed over. The texts are other
//! people's: nothing in them drives a terminal, and no error repeats any.

use aligner::reason::because;
use aligner_records::Disposition;
use serde_json::{Map, Value};

use crate::{
    commands,
    diff::{self, Paint},
};

/// How corrections are shown.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    paint: Paint,
    /// With whose answer it was, how near the Aligner was to leaving it alone, and the whole question.
    is_record: bool,
    /// Whether answers that were left alone are shown, and not only named.
    shows_unchanged: bool,
}

impl Look {
    /// As results that come one after the other, to somebody who knows what went in. Among texts without
    /// changes nobody would find those that have some.
    pub fn of_results(paint: Paint) -> Self {
        Self {
            paint,
            is_record: false,
            shows_unchanged: false,
        }
    }

    /// As records of a log, to somebody who is to judge them, with the texts of answers that were left
    /// alone if those are asked for.
    pub fn of_records(paint: Paint, shows_unchanged: bool) -> Self {
        Self {
            paint,
            is_record: true,
            shows_unchanged,
        }
    }
}

/// What is shown of a correction.
#[derive(Debug)]
pub struct Shown {
    /// What became of the answer.
    pub disposition: Disposition,
    event_id: String,
    /// The word that explains it.
    pub reason: Option<String>,
    message: Option<String>,
    question: Option<String>,
    answer: Option<String>,
    correction: Option<String>,
    proposal: Option<String>,
    upstream_model: Option<String>,
    conversation_id: Option<String>,
    user_id: Option<String>,
    unchanged_logprob: Option<f64>,
}

impl Shown {
    /// Reads a correction that is JSON.
    ///
    /// # Errors
    /// What it is instead, or which field is not as it should be.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let line = line
            .strip_prefix(commands::beginning::BYTE_ORDER_MARK)
            .unwrap_or(line);
        if line.starts_with(&[0]) {
            // The first byte of the registry's wire format.
            return Err("this looks like Avro: only JSON is shown".to_owned());
        }
        let mut record = match serde_json::from_slice(line) {
            Ok(Value::Object(record)) => record,
            Ok(Value::Null) => return Err("a tombstone, which holds no correction".to_owned()),
            Ok(_) => return Err("no JSON object, so no correction".to_owned()),
            // At its end there is nothing that could be wrong.
            Err(error) if error.is_eof() => return Err("this JSON is cut off".to_owned()),
            Err(error) => return Err(format!("no JSON from column {} on", error.column())),
        };
        let disposition =
            text(&mut record, "disposition")?.ok_or_else(|| without_disposition(&record))?;
        let disposition = Disposition::try_from(disposition).map_err(|error| error.to_string())?;
        let mut field = |name| text(&mut record, name);
        Ok(Self {
            disposition,
            event_id: field("event_id")?.ok_or_else(|| lacks("event_id"))?,
            reason: field("reason")?,
            message: field("message")?,
            question: field("question")?,
            answer: field("answer")?,
            correction: field("correction")?,
            proposal: field("proposal")?,
            upstream_model: field("upstream_model")?,
            conversation_id: field("conversation_id")?,
            user_id: field("user_id")?,
            // It is said beside: a figure that cannot be read is not worth the correction.
            unchanged_logprob: record.get("unchanged_logprob").and_then(Value::as_f64),
        })
    }

    /// This one, if it has the texts that were compared, which a row of a warehouse may lack: one of two
    /// would be shown as taken out or put in. What was bypassed for having no text has none.
    ///
    /// # Errors
    /// Which text is missing.
    pub fn whole(self) -> Result<Self, String> {
        let is_corrected = self.disposition == Disposition::Corrected;
        let is_compared = is_corrected || self.proposal.is_some();
        if is_compared && self.answer.is_none() {
            return Err(lacks("answer"));
        }
        if is_corrected && self.correction.is_none() {
            return Err(lacks("correction"));
        }
        Ok(self)
    }

    /// What a person sees of it; without the end of its last line.
    pub fn text(&self, look: Look) -> String {
        let mut text = self.head(look);
        if self.disposition == Disposition::Unchanged && !look.shows_unchanged {
            return text;
        }
        let question = self
            .question
            .as_deref()
            .map(|question| match look.is_record {
                true => format!("Q: {}", diff::harmless(question.trim())),
                false => commands::question_line(question),
            });
        for part in [self.because(), question, self.body(look.paint)] {
            let Some(part) = part else { continue };
            text.push_str("\n  ");
            text.push_str(&part.replace('\n', "\n  "));
        }
        text.push('\n');
        text
    }

    fn head(&self, look: Look) -> String {
        let mut head = format!("{} {}", self.disposition.as_str(), word(&self.event_id));
        if let Some(reason) = &self.reason {
            head.push_str(&format!(" ({})", word(reason)));
        }
        if look.is_record {
            for (name, id) in [
                ("model", &self.upstream_model),
                ("user", &self.user_id),
                ("conversation", &self.conversation_id),
            ] {
                if let Some(id) = id {
                    head.push_str(&format!(" {name}={}", word(id)));
                }
            }
            if let Some(logprob) = self.unchanged_logprob {
                // No -0.00 beside 0.00.
                let logprob = (logprob * 100.0).round() / 100.0 + 0.0;
                head.push_str(&format!(" unchanged_logprob={logprob:.2}"));
            }
        }
        head
    }

    /// Why it was bypassed; records of earlier versions have the word alone.
    fn because(&self) -> Option<String> {
        if self.disposition != Disposition::Bypassed {
            return None;
        }
        let told = || self.reason.as_deref().and_then(because);
        self.message.as_deref().or_else(told).map(diff::harmless)
    }

    fn body(&self, paint: Paint) -> Option<String> {
        let answer = self.answer.as_deref().unwrap_or_default();
        match (self.disposition, &self.proposal) {
            (Disposition::Corrected, _) => {
                let corrected = self.correction.as_deref().unwrap_or_default();
                Some(diff::words(answer, corrected, paint))
            }
            (Disposition::Bypassed, Some(proposal)) => Some(format!(
                "not delivered: {}",
                diff::words(answer, proposal, paint)
            )),
            (Disposition::Bypassed | Disposition::Unchanged, _) => Some(diff::harmless(answer)),
            (Disposition::DeadLettered, _) => {
                let texts = [self.message.as_deref(), self.answer.as_deref()];
                let texts: Vec<_> = texts.into_iter().flatten().map(diff::harmless).collect();
                (!texts.is_empty()).then(|| texts.join("\n"))
            }
        }
    }
}

/// A short text on the line of others.
fn word(text: &str) -> String {
    diff::harmless(text).replace('\n', " ")
}

/// A text that may be null, or not there at all.
fn text(record: &mut Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match record.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("no correction: its \"{name}\" is no text")),
    }
}

fn lacks(name: &str) -> String {
    format!("no correction: it has no \"{name}\"")
}

/// What an object is that does not say what became of the answer.
fn without_disposition(record: &Map<String, Value>) -> String {
    if record.contains_key("chosen") && record.contains_key("rejected") {
        return "a preference pair, no correction: those are in topics.corrections".to_owned();
    }
    let other_case = |key: &String| key.eq_ignore_ascii_case("disposition");
    if record.keys().any(other_case) {
        return "no correction: names are in lower case, \"disposition\" and the others".to_owned();
    }
    lacks("disposition")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(record: &Value, look: Look) -> String {
        let shown = Shown::read(record.to_string().as_bytes()).expect("a correction");
        shown.text(look)
    }

    #[test]
    fn records_are_shown_with_their_origin_and_results_without() {
        let record = json!({
            "event_id": "e1", "disposition": "corrected", "question": "why?", "answer": "so",
            "correction": "thus", "upstream_model": "big-7b", "unchanged_logprob": -9.504,
        });
        assert_eq!(
            shown(&record, Look::of_records(Paint::Plain, false)),
            "corrected e1 model=big-7b unchanged_logprob=-9.50\n  Q: why?\n  [-so-]{+thus+}\n"
        );
        assert_eq!(
            shown(&record, Look::of_results(Paint::Plain)),
            "corrected e1\n  Q: why?\n  [-so-]{+thus+}\n"
        );
    }

    #[test]
    fn what_the_guard_rejected_is_marked_as_not_delivered() {
        let mut record = json!({
            "event_id": "e1", "disposition": "bypassed", "reason": "low_confidence",
            "answer": "so it is", "correction": "so it is", "proposal": "thus it is",
        });
        let sentence = because("low_confidence").expect("it has one");
        let look = Look::of_results(Paint::Plain);
        assert_eq!(
            shown(&record, look),
            format!(
                "bypassed e1 (low_confidence)\n  {sentence}\n  not delivered: [-so-]{{+thus+}} it is\n"
            )
        );
        record["proposal"] = Value::Null;
        record["message"] = "because".into();
        assert_eq!(
            shown(&record, look),
            "bypassed e1 (low_confidence)\n  because\n  so it is\n"
        );
    }

    #[test]
    fn an_unchanged_answer_is_a_name_unless_somebody_asks_for_such() {
        let record = json!({"event_id": "e1", "disposition": "unchanged", "answer": "so"});
        for (look, expected) in [
            (Look::of_records(Paint::Plain, false), "unchanged e1"),
            (Look::of_records(Paint::Plain, true), "unchanged e1\n  so\n"),
        ] {
            assert_eq!(shown(&record, look), expected);
        }
    }

    #[test]
    fn a_figure_that_cannot_be_read_costs_no_correction() {
        let record = json!({
            "event_id": "e1", "disposition": "unchanged", "unchanged_logprob": "-14.1",
        });
        let look = Look::of_records(Paint::Plain, false);
        assert_eq!(shown(&record, look), "unchanged e1");
    }

    #[test]
    fn no_field_drives_the_terminal_or_breaks_the_first_line() {
        let evil = "a\n\u{1b}[2J";
        let record = json!({
            "event_id": evil, "disposition": "bypassed", "reason": evil, "message": evil,
            "question": evil, "answer": evil, "proposal": evil, "upstream_model": evil,
        });
        let text = shown(&record, Look::of_records(Paint::Plain, true));
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let first = text.lines().next();
        let expected = "bypassed a \u{fffd}[2J (a \u{fffd}[2J) model=a \u{fffd}[2J";
        assert_eq!(first, Some(expected));
    }

    #[test]
    fn what_is_no_correction_is_told_by_its_cause_and_never_repeated() {
        for (line, cause) in [
            ("canary", "no JSON from column 1 on"),
            ("{\"event_id\": \"canary", "cut off"),
            ("[\"canary\"]", "no JSON object"),
            ("\"canary\"", "no JSON object"),
            ("null", "a tombstone"),
            ("\0\0\0\0\u{7}canary", "looks like Avro"),
            ("{\"answer\": \"canary\"}", "it has no \"disposition\""),
            (
                "{\"chosen\": \"canary\", \"rejected\": \"so\"}",
                "a preference pair",
            ),
            (
                "{\"disposition\": \"canary\", \"event_id\": \"e\"}",
                "a disposition is corrected, unchanged, bypassed or dead_lettered",
            ),
            ("{\"DISPOSITION\": \"canary\"}", "names are in lower case"),
            (
                "{\"disposition\": \"dead_lettered\", \"answer\": \"canary\"}",
                "it has no \"event_id\"",
            ),
            (
                "{\"disposition\": \"corrected\", \"event_id\": \"e\", \"correction\": \"canary\"}",
                "it has no \"answer\"",
            ),
            (
                "{\"disposition\": \"corrected\", \"event_id\": \"e\", \"answer\": \"canary\", \"correction\": null}",
                "it has no \"correction\"",
            ),
            (
                "{\"disposition\": \"bypassed\", \"event_id\": \"e\", \"proposal\": \"canary\"}",
                "it has no \"answer\"",
            ),
            (
                "{\"disposition\": \"unchanged\", \"event_id\": \"e\", \"answer\": [\"canary\"]}",
                "its \"answer\" is no text",
            ),
        ] {
            let told = Shown::read(line.as_bytes()).and_then(Shown::whole);
            let told = told.expect_err("no correction");
            assert!(told.contains(cause), "{line:?}: {told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }
}
