//! Lines about dead letters. A connector with a wrong pointer dead-letters all that it reads and is
//! well otherwise, so its log has to say so: at the first dead letter of each reason, and then at most
//! once a minute, with the number since.
//!
//! The words are those of the dead letter itself, which hold no text of its record. Reasons are a
//! closed list, so this is bounded.

use std::{collections::BTreeMap, time::Duration};

use aligner_records::{MESSAGE_HEADER, OFFSET_HEADER, PARTITION_HEADER, TOPIC_HEADER};
use tokio::time::Instant;

use crate::{sink::Outbound, throttle::Throttle};

/// The target of these lines, for those who tell of dead letters in another way.
pub const DEAD_LETTER_TARGET: &str = "aligner_pipeline::dead_letters";

/// Least time between two lines about one reason.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// What was delivered and not told yet, by reason.
#[derive(Debug, Default)]
pub(crate) struct Notices(BTreeMap<&'static str, Notice>);

#[derive(Debug)]
struct Notice {
    throttle: Throttle,
    latest: Latest,
}

/// The latest dead letter of a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Latest {
    /// Topic, partition and offset of its record.
    record: String,
    message: String,
}

impl Latest {
    fn of(letter: &Outbound) -> Self {
        let told = |key: &str| letter.header(key).unwrap_or("?");
        Self {
            record: format!(
                "{}-{}-{}",
                told(TOPIC_HEADER),
                told(PARTITION_HEADER),
                told(OFFSET_HEADER)
            ),
            message: told(MESSAGE_HEADER).to_owned(),
        }
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    reason: &'static str,
    /// Since the last line about this reason.
    records: u64,
    latest: &'a Latest,
}

impl Line<'_> {
    fn log(&self) {
        tracing::warn!(
            target: DEAD_LETTER_TARGET,
            reason = self.reason,
            records = self.records,
            latest = self.latest.record,
            "records could not be corrected and are dead letters now; of the latest: {}",
            self.latest.message
        );
    }
}

impl Notices {
    /// So many dead letters of a reason are delivered; this is the latest.
    pub(crate) fn delivered(
        &mut self,
        reason: &'static str,
        records: u64,
        latest: &Outbound,
        now: Instant,
    ) {
        if let Some(line) = self.add(reason, records, Latest::of(latest), now) {
            line.log();
        }
    }

    /// Tells what has waited long enough.
    pub(crate) fn tell(&mut self, now: Instant) {
        for line in self.due(now) {
            line.log();
        }
    }

    /// Tells what is left at the end.
    pub(crate) fn tell_rest(&mut self) {
        for line in self.rest() {
            line.log();
        }
    }

    fn add(
        &mut self,
        reason: &'static str,
        records: u64,
        latest: Latest,
        now: Instant,
    ) -> Option<Line<'_>> {
        let notice = self.0.entry(reason).or_insert_with(|| Notice {
            throttle: Throttle::every(BETWEEN_LINES),
            latest: latest.clone(),
        });
        notice.latest = latest;
        let records = notice.throttle.add(records, now.into_std())?;
        Some(Line {
            reason,
            records,
            latest: &notice.latest,
        })
    }

    fn due(&mut self, now: Instant) -> impl Iterator<Item = Line<'_>> {
        self.0.iter_mut().filter_map(move |(&reason, notice)| {
            Some(Line {
                reason,
                records: notice.throttle.due(now.into_std())?,
                latest: &notice.latest,
            })
        })
    }

    fn rest(&mut self) -> impl Iterator<Item = Line<'_>> {
        self.0
            .iter_mut()
            .map(|(&reason, notice)| Line {
                reason,
                records: notice.throttle.rest(),
                latest: &notice.latest,
            })
            .filter(|line| line.records > 0)
    }
}

#[cfg(test)]
mod tests {
    use aligner_records::{DeadLetter, SourcePosition, Stage, reason};

    use super::*;
    use crate::{sink::OutputKind, source::Header};

    fn latest(offset: i64) -> Latest {
        Latest {
            record: format!("llm.answers-0-{offset}"),
            message: "nothing stands at input.fields.question".to_owned(),
        }
    }

    #[test]
    fn each_reason_is_told_at_once_then_once_a_minute_with_its_number_and_the_latest() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let (question, json) = (reason::MISSING_QUESTION, reason::INVALID_JSON);
        let mut notices = Notices::default();
        for (second, reason, records, offset, told) in [
            (0, question, 2, 1, Some(2)),
            (1, json, 1, 2, Some(1)),
            (2, question, 400, 402, None),
            (59, question, 50, 452, None),
            (60, question, 1, 453, Some(451)),
            (61, json, 1, 454, Some(1)),
            (62, json, 5, 459, None),
        ] {
            let line = notices.add(reason, records, latest(offset), at(second));
            let expected = latest(offset);
            let expected = told.map(|records| Line {
                reason,
                records,
                latest: &expected,
            });
            assert_eq!(line, expected, "second {second}");
        }
        let told = |second, notices: &mut Notices| -> Vec<_> {
            let lines = notices.due(at(second));
            lines.map(|line| (line.reason, line.records)).collect()
        };
        // Without another one, what is untold does not wait for ever.
        assert_eq!(told(120, &mut notices), []);
        assert_eq!(told(121, &mut notices), [(json, 5)]);
        assert_eq!(told(900, &mut notices), []);
        notices.add(json, 3, latest(500), at(901));
        notices.add(json, 4, latest(501), at(902));
        let rest: Vec<_> = notices.rest().map(|line| line.records).collect();
        assert_eq!(rest, [4]);
    }

    #[test]
    fn a_line_has_the_words_of_the_dead_letter_whatever_headers_its_record_had() {
        let letter = DeadLetter {
            source: SourcePosition {
                topic: "llm.answers".into(),
                partition: 0,
                offset: 7,
            },
            logged_at: None,
            event_id: None,
            upstream_model: None,
            stage: Stage::ValueConverter,
            reason: reason::MISSING_QUESTION,
            message: latest(7).message,
        };
        let header = |(key, value): (String, Vec<u8>)| Header {
            key,
            value: Some(value.into()),
        };
        // The record was a dead letter before, and has come again.
        let own = (OFFSET_HEADER.to_owned(), b"1".to_vec());
        let headers = [own].into_iter().chain(letter.headers("moderation", 0));
        let outbound = Outbound {
            kind: OutputKind::DeadLetter,
            key: None,
            value: None,
            headers: headers.map(header).collect(),
        };
        assert_eq!(Latest::of(&outbound), latest(7));
    }
}
