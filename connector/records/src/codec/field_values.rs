//! What values of somebody else's log say, where a field of an answer event is looked for.

use jiff::Timestamp;

use super::{
    draft::{Kind, OtherUnit, Slot},
    time_unit::TimeUnit,
    tree::Tree,
};

/// A text, which is all that some fields take.
pub(super) fn text(value: &Tree<'_>) -> Slot<String> {
    match value {
        Tree::Null => Slot::Null,
        Tree::Text(text) => Slot::Is(text.to_string()),
        other => Slot::Wrong(other.kind()),
    }
}

/// Whether a number has neither fraction nor exponent.
fn is_integer(number: &str) -> bool {
    !number.contains(['.', 'e', 'E'])
}

/// A text or an integer, since many logs number their rows.
pub(super) fn id(value: &Tree<'_>) -> Slot<String> {
    match value {
        Tree::Number(number) if is_integer(number) => Slot::Is(number.to_string()),
        Tree::Instant(number, _) => Slot::Is(number.to_string()),
        other => text(other),
    }
}

/// An instant: a number of some unit, also in a text, or a text as RFC 3339 has it.
pub(super) fn instant(value: &Tree<'_>, unit: Option<TimeUnit>) -> Slot<i64> {
    match value {
        Tree::Null => Slot::Null,
        Tree::Number(number) => counted(number, unit),
        Tree::Instant(number, unit) => Slot::typed(*number, *unit),
        Tree::Text(text) if is_number(text) => counted(text, unit),
        Tree::Text(text) => match text.parse::<Timestamp>() {
            Ok(at) => Slot::Is(at.as_millisecond()),
            Err(_) => Slot::NoInstant,
        },
        // As MongoDB writes an integer of 64 bits.
        Tree::Object(members) => match members.as_slice() {
            [(name, Tree::Text(text))] if name == "$numberLong" && is_number(text) => {
                counted(text, unit)
            }
            _ => Slot::Wrong(Kind::Object),
        },
        other => Slot::Wrong(other.kind()),
    }
}

/// Whether a text is a number in digits, with a fraction or without. Not every reader of JSON holds an
/// integer of 64 bits, so that OTLP writes those as texts.
fn is_number(text: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.strip_prefix('-').unwrap_or(text);
    match number.split_once('.') {
        None => is_digits(number),
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
    }
}

/// The instant of a number that counts what the map says, or else what it looks like.
fn counted(number: &str, said: Option<TimeUnit>) -> Slot<i64> {
    let taken = said.unwrap_or(if is_integer(number) {
        TimeUnit::Milliseconds
    } else {
        TimeUnit::Seconds
    });
    if let Some(other) = whole(number).and_then(|number| OtherUnit::of(number, taken)) {
        return Slot::OtherUnit(other);
    }
    match taken.millis(number) {
        None => Slot::OutOfRange,
        // Whoever names the unit means it, early in 1970 too.
        Some(millis) if said.is_none() && TimeUnit::Milliseconds.mistaken(millis).is_some() => {
            Slot::Early(millis)
        }
        Some(millis) => Slot::Is(millis),
    }
}

/// A number without its fraction, if an `i64` holds it.
fn whole(number: &str) -> Option<i64> {
    /// Nearly 2⁶³.
    const MOST: f64 = 9.2e18;
    number.parse().ok().or_else(|| {
        let number = number.parse::<f64>().ok()?;
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        (number.abs() < MOST).then_some(number as i64)
    })
}

/// Anything: a text as it is, and all else as JSON.
pub(super) fn metadata(value: &Tree<'_>) -> Slot<String> {
    match value {
        Tree::Null => Slot::Null,
        Tree::Foreign(_, written) => metadata(written),
        Tree::Text(text) => Slot::Is(text.to_string()),
        other => Slot::Is(
            serde_json::to_string(other).expect("a tree has text keys and no other way to fail"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnswerEvent, DecodeError, FieldMap, codec::json::decode_mapped, reason};

    fn map(json: &str) -> FieldMap {
        serde_json::from_str(json).expect("a field map")
    }

    fn read(map: &FieldMap, log: &str) -> Result<AnswerEvent, DecodeError> {
        decode_mapped(log.as_bytes(), map)
    }

    #[test]
    fn a_number_counts_the_unit_that_the_map_names_and_a_text_is_rfc_3339() {
        let mut map = map(r#"{"question":"/q","answer":"/a","created_at":"/t"}"#);
        let mut created_at = |unit, number: &str| {
            map.created_at_unit = unit;
            let log = format!(r#"{{"q":"Q","a":"A","t":{number}}}"#);
            read(&map, &log).map(|event| event.created_at)
        };
        for (unit, number, millis) in [
            (TimeUnit::Seconds, "1766000068", 1_766_000_068_000),
            (TimeUnit::Seconds, "1766000068.28", 1_766_000_068_280),
            (TimeUnit::Milliseconds, "1766000068280", 1_766_000_068_280),
            (
                TimeUnit::Microseconds,
                "1766000068280999",
                1_766_000_068_280,
            ),
            (
                TimeUnit::Nanoseconds,
                "1766000068280999999",
                1_766_000_068_280,
            ),
        ] {
            assert_eq!(created_at(Some(unit), number), Ok(Some(millis)), "{number}");
        }
        // Without one, integers are milliseconds and other numbers are seconds.
        assert_eq!(
            created_at(None, "1766000068280"),
            Ok(Some(1_766_000_068_280))
        );
        assert_eq!(
            created_at(None, "1766000068.0"),
            Ok(Some(1_766_000_068_000))
        );
        assert_eq!(created_at(None, "1.5e9"), Ok(Some(1_500_000_000_000)));
        assert_eq!(created_at(None, "null"), Ok(None));
        // A text says its unit itself.
        for text in [
            r#""2026-04-09T23:00:17.280Z""#,
            r#""2026-04-10T01:00:17.280999+02:00""#,
            r#""2026-04-09 23:00:17.28Z""#,
        ] {
            assert_eq!(
                created_at(Some(TimeUnit::Seconds), text),
                Ok(Some(1_775_775_617_280)),
                "{text}"
            );
        }
        for (unit, number, expected) in [
            (None, "1e300", reason::OUT_OF_RANGE),
            (None, "-1e400", reason::OUT_OF_RANGE),
            (None, "18446744073709551615", reason::OUT_OF_RANGE),
            (None, "1766000068", reason::OUT_OF_RANGE),
            (
                Some(TimeUnit::Milliseconds),
                "1766000068",
                reason::OUT_OF_RANGE,
            ),
            (
                Some(TimeUnit::Seconds),
                "1766000068280",
                reason::OUT_OF_RANGE,
            ),
            (None, r#""9 April 2026""#, reason::WRONG_TYPE),
            // Without an offset it is no instant.
            (None, r#""2026-04-09T23:00:17""#, reason::WRONG_TYPE),
            (None, r#""-000001-01-01T00:00:00Z""#, reason::OUT_OF_RANGE),
        ] {
            let error = created_at(unit, number).expect_err("no instant");
            assert_eq!(error.reason, expected, "{number}");
        }
        // Early in 1970, and said to be.
        assert_eq!(
            created_at(Some(TimeUnit::Seconds), "1766000"),
            Ok(Some(1_766_000_000))
        );
        assert_eq!(
            created_at(None, r#""1970-01-21T10:33:20Z""#),
            Ok(Some(1_766_000_000))
        );
        let error = created_at(None, "1766000068").expect_err("seconds");
        assert_eq!(
            error.message,
            "created_at (at /t) is 1766000068, most likely seconds: set input.created_at_unit to \
             seconds, or write epoch milliseconds, here 1766000068000"
        );
    }

    #[test]
    fn a_number_of_another_unit_than_the_map_names_is_refused_and_told_whatever_unit_that_is() {
        let mut map = map(r#"{"question":"/q","answer":"/a","created_at":"/t"}"#);
        let mut created_at = |unit, number: &str| {
            map.created_at_unit = unit;
            let log = format!(r#"{{"q":"Q","a":"A","t":{number}}}"#);
            read(&map, &log).map(|event| event.created_at)
        };
        let (millis, micros) = (Some(TimeUnit::Milliseconds), Some(TimeUnit::Microseconds));
        let (seconds, nanos) = (Some(TimeUnit::Seconds), Some(TimeUnit::Nanoseconds));
        for (unit, number, said) in [
            (micros, "1766000068280", "likely milliseconds and not micro"),
            (micros, "1766000068", "likely seconds and not microseconds"),
            (nanos, "1766000068280", "likely milliseconds and not nano"),
            (
                nanos,
                "1766000068280999",
                "likely microseconds and not nano",
            ),
            (seconds, "1766000068280", "likely milliseconds and not sec"),
            (
                seconds,
                "1766000068280.5",
                "likely milliseconds and not sec",
            ),
            (seconds, "1766000068280999999", "likely nanoseconds and not"),
            (millis, "1766000068280999", "likely microseconds: set"),
            // Taken for seconds, because of their fraction.
            (None, "1766000068280.5", "likely milliseconds and not sec"),
            (
                None,
                "1766000.5",
                "1766000.5, in seconds a time early in 1970",
            ),
        ] {
            let error = created_at(unit, number).expect_err("no likely instant");
            assert_eq!(error.reason, reason::OUT_OF_RANGE, "{number} {unit:?}");
            assert!(error.message.contains(said), "{number}: {}", error.message);
        }
        let error = created_at(micros, "1766000068280").expect_err("milliseconds");
        assert_eq!(
            error.message,
            "created_at (at /t) is 1766000068280, most likely milliseconds and not microseconds: \
             set input.created_at_unit to milliseconds, or write epoch microseconds, here \
             1766000068280000"
        );
        // No unit makes more of these.
        for unit in [None, millis, micros, nanos, seconds] {
            assert_eq!(created_at(unit, "0"), Ok(Some(0)), "{unit:?}");
        }
        assert_eq!(created_at(None, "-5"), Ok(Some(-5)));
        assert_eq!(created_at(None, "0.5"), Ok(Some(500)));
        assert_eq!(created_at(seconds, "-86400.5"), Ok(Some(-86_400_500)));
        assert_eq!(created_at(seconds, "1766000.5"), Ok(Some(1_766_000_500)));
    }

    #[test]
    fn a_number_in_a_text_counts_as_one() {
        let mut map = map(r#"{"question":"/q","answer":"/a","created_at":"/t"}"#);
        let mut created_at = |unit, at: &str| {
            map.created_at_unit = unit;
            let read = |at: &str| {
                let log = format!(r#"{{"q":"Q","a":"A","t":{at}}}"#);
                read(&map, &log).map(|event| event.created_at)
            };
            let of_text = read(&format!(r#""{at}""#));
            // One whose digits mean another instant, or none, is refused in the same words.
            assert_eq!(of_text, read(at), "{at}");
            let of_mongo = read(&format!(r#"{{"$numberLong":"{at}"}}"#));
            assert_eq!(of_text, of_mongo, "{at}");
            of_text
        };
        let (seconds, nanos) = (Some(TimeUnit::Seconds), Some(TimeUnit::Nanoseconds));
        assert_eq!(
            created_at(nanos, "1766000068281234567"),
            Ok(Some(1_766_000_068_281))
        );
        assert_eq!(
            created_at(None, "1766000068281"),
            Ok(Some(1_766_000_068_281))
        );
        assert_eq!(
            created_at(None, "1766000068.5"),
            Ok(Some(1_766_000_068_500))
        );
        assert_eq!(created_at(seconds, "-5"), Ok(Some(-5_000)));
        for (unit, number) in [
            (None, "1766000068"),
            (None, "1766000068281234567"),
            (seconds, "1766000068281"),
            (nanos, "1766000068281"),
            (None, "99999999999999999999"),
        ] {
            let error = created_at(unit, number).expect_err("another unit");
            assert_eq!(error.reason, reason::OUT_OF_RANGE, "{number}");
        }
        for no_number in [
            r#""""#,
            r#""-""#,
            r#""1766000068281ms""#,
            r#""1.""#,
            r#"".5""#,
            r#""1e9""#,
            r#""+1766000068281""#,
            r#"{"$numberLong":"soon"}"#,
            r#"{"$numberLong":"1766000068281","x":1}"#,
            r#"{"$date":"1766000068281"}"#,
        ] {
            let log = format!(r#"{{"q":"Q","a":"A","t":{no_number}}}"#);
            let error = read(&map, &log).expect_err("no number");
            assert_eq!(error.reason, reason::WRONG_TYPE, "{no_number}");
        }
    }

    #[test]
    fn a_number_that_no_float_holds_is_a_fault_only_where_its_field_takes_none() {
        let map = map(r#"{"question":"/q","answer":"/a","upstream_model":"/m"}"#);
        let event = read(&map, r#"{"q":"Q","a":"A","score":1e400,"n":[-1e999]}"#);
        assert_eq!(event.expect("valid").answer, "A");
        for log in [r#"{"q":"Q","a":1e400}"#, r#"{"q":"Q","a":"A","m":1e400}"#] {
            let error = read(&map, log).expect_err("no text");
            assert_eq!(error.reason, reason::WRONG_TYPE, "{log}");
            assert!(error.message.contains("is a number"), "{error}");
        }
    }

    #[test]
    fn numbers_in_metadata_and_ids_keep_their_digits() {
        let map =
            map(r#"{"question":"/q","answer":"/a","event_id":"/id","metadata_json":"/meta"}"#);
        let id = "123456789012345678901234567890";
        let meta = r#"{"n":[18446744073709551616,0.10000000000000000001,1E2,-0,1e400]}"#;
        let log = format!(r#"{{"q":"Q","a":"A","id":{id},"meta":{meta}}}"#);
        let event = read(&map, &log).expect("valid");
        assert_eq!(event.event_id.as_deref(), Some(id));
        assert_eq!(event.metadata_json.as_deref(), Some(meta));
    }
}
