//! Offsets that a log does not hold, where librdkafka goes on elsewhere.
//!
//! Retention may delete records before they are read, and a log that was cut or made anew may end before
//! the offset that is asked for. librdkafka then goes on with the oldest record that is left, and says so
//! in its log alone. A broker that does not hold an offset does not say what it holds instead, so that
//! this line rarely names where reading goes on: that is asked for beside it ([`crate::ends`]).
//!
//! What lies between is counted in offsets. How many records there were, nobody can tell any more: the end
//! of a transaction takes an offset, too, and so does what was aborted.

use aligner_pipeline::Partition;

/// Where librdkafka names the position that it gives up.
const GIVEN_UP: &str = ": offset reset (at offset ";
/// Where it names an offset that it knows already to be the first.
const KNOWN: &str = ") to cached BEGINNING offset offset ";

/// A position that was given up for the beginning of its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reset {
    pub(crate) partition: Partition,
    /// The offset that the log does not hold.
    pub(crate) wanted: i64,
    /// Where reading goes on, where librdkafka knows it.
    pub(crate) begins: Option<i64>,
}

impl Reset {
    /// Reads librdkafka's line about one: "[thrd:main]: answers [0]: offset reset (at offset 50 (leader
    /// epoch 3), broker 1) to offset BEGINNING (leader epoch -1): …". Other lines, and those about a
    /// position that was none, are none.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (place, behind) = line.split_once(GIVEN_UP)?;
        let (topic, number) = place.strip_suffix(']')?.rsplit_once(" [")?;
        let topic = topic.rsplit(' ').next()?;
        let begins = behind.split_once(KNOWN).and_then(|(_, at)| offset(at));
        Some(Self {
            partition: Partition {
                topic: topic.into(),
                number: number.parse().ok()?,
            },
            wanted: offset(behind)?,
            begins,
        })
    }
}

/// The offset that a text begins with.
fn offset(text: &str) -> Option<i64> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text[..end.unwrap_or(text.len())].parse().ok()
}

/// How many offsets were passed over by going on where the log begins. None where it begins no later than
/// at the offset that was wanted, which then lay beyond its end.
pub(crate) fn skipped(wanted: i64, begins: i64) -> Option<u64> {
    u64::try_from(begins - wanted)
        .ok()
        .filter(|offsets| *offsets > 0)
}

/// Says it in the log, with where reading goes on, if that is known.
pub(crate) fn tell(partition: &Partition, wanted: i64, begins: Option<i64>) {
    let Some(begins) = begins else {
        tracing::error!(
            %partition,
            wanted,
            "offset out of range, and where the log begins was not to be had: what lay between is \
             missed; see \"Records that were deleted before they were read\" in docs/operations.md"
        );
        return;
    };
    match skipped(wanted, begins) {
        Some(skipped) => tracing::error!(
            %partition,
            wanted,
            offset = begins,
            skipped,
            "offset out of range: what lay there was deleted before it was read, and reading goes on with \
             the oldest record that is left; see \"Records that were deleted before they were read\" in \
             docs/operations.md"
        ),
        None => tracing::error!(
            %partition,
            wanted,
            offset = begins,
            "offset out of range: it lies beyond the end of the log, which was cut or made anew and is \
             read from its beginning; see \"Offsets that go back\" in docs/operations.md"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_about_a_reset_is_read_and_others_are_not() {
        let because = "fetch failed due to requested offset not available on the broker: Broker: Offset \
                       out of range";
        let reset = |topic: &str, number, wanted, begins| {
            let topic = topic.into();
            Some(Reset {
                partition: Partition { topic, number },
                wanted,
                begins,
            })
        };
        for (line, read) in [
            (
                "[thrd:main]: llm.answers [0]: offset reset (at offset 50 (leader epoch 3), broker 1) to \
                 offset BEGINNING (leader epoch -1)",
                reset("llm.answers", 0, 50, None),
            ),
            (
                "[thrd:main]: a [12]: offset reset (at offset 7 (leader epoch -1), broker 2) to cached \
                 BEGINNING offset offset 120 (leader epoch -1)",
                reset("a", 12, 7, Some(120)),
            ),
            // Without the name of a thread, as with `log.thread.name: false`.
            (
                "a_b-c [3]: offset reset (at offset 9000000000 (leader epoch 0), broker 1) to offset \
                 BEGINNING (leader epoch -1)",
                reset("a_b-c", 3, 9_000_000_000, None),
            ),
            // A question about where the log begins that failed.
            (
                "[thrd:main]: a [0]: offset reset (at offset BEGINNING (leader epoch -1), broker 1) to \
                 offset BEGINNING (leader epoch -1)",
                None,
            ),
            ("[thrd:main]: a [0]: something else at offset 50", None),
            ("", None),
        ] {
            assert_eq!(Reset::read(&format!("{line}: {because}")), read, "{line}");
        }
    }

    #[test]
    fn only_what_lies_before_the_log_was_skipped() {
        for (wanted, begins, expected) in [
            (50, 120, Some(70)),
            (119, 120, Some(1)),
            (0, 120, Some(120)),
            // A log that was made anew, or that lost its end: the offset lay behind it.
            (200, 0, None),
            (200, 120, None),
            // It had grown up to there when it was asked for.
            (120, 120, None),
        ] {
            assert_eq!(skipped(wanted, begins), expected, "{wanted} {begins}");
        }
    }
}
