//! An Avro datum as a document for pointers to walk, in which nothing that the datum says is lost.
//!
//! Values go with their schema, since where the point of a decimal stands is said there alone.

use apache_avro::{
    Duration,
    schema::{Names, RecordField, Schema},
    types::Value,
};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use num_bigint::BigInt;

use super::timestamp;
use crate::codec::{draft::Kind, tree::Tree};

/// Most bits of a decimal that is written with its digits, some 10,000 of them: finding those takes
/// time that grows with the square of their number.
const MAX_DECIMAL_BITS: u64 = 1 << 15;
/// Most zeros that a decimal gets between its point and its digits. Its scale may be of any size.
const MAX_ZEROS: usize = 32;

/// A value that was written with `schema`; `names` holds every type that this names.
pub(super) fn tree(
    value: Value,
    schema: &Schema,
    namespace: Option<&str>,
    names: &Names,
) -> Tree<'static> {
    match (value, schema) {
        (value, Schema::Ref { name }) => {
            let name = name.fully_qualified_name(namespace);
            let named = names
                .get(name.as_ref())
                .expect("the reader has checked that every type is defined");
            tree(value, named, name.namespace(), names)
        }
        (Value::Union(index, value), Schema::Union(union)) => {
            let variant = union
                .get_variant(index as usize)
                .expect("the value was read as one of the union's variants");
            tree(*value, variant, namespace, names)
        }
        (Value::Array(items), Schema::Array(array)) => {
            let item = |item| tree(item, &array.items, namespace, names);
            Tree::Array(items.into_iter().map(item).collect())
        }
        (Value::Map(entries), Schema::Map(map)) => {
            // A map has no order: the same record gives the same text each time.
            let mut entries: Vec<_> = entries.into_iter().collect();
            entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let member = |(name, value): (String, Value)| {
                (name.into(), tree(value, &map.types, namespace, names))
            };
            Tree::Object(entries.into_iter().map(member).collect())
        }
        (Value::Record(members), Schema::Record(record)) => {
            let own = record.name.fully_qualified_name(namespace);
            let members = members.into_iter().zip(&record.fields);
            let member = |((name, value), field): ((String, Value), &RecordField)| {
                (
                    name.into(),
                    tree(value, &field.schema, own.namespace(), names),
                )
            };
            Tree::Object(members.map(member).collect())
        }
        (Value::Decimal(unscaled), Schema::Decimal(decimal)) => {
            let scale = i64::try_from(decimal.scale).unwrap_or(i64::MAX);
            self::decimal(&unscaled.into(), scale)
        }
        (value, _) => leaf(value),
    }
}

/// A value that says all of itself.
fn leaf(value: Value) -> Tree<'static> {
    match value {
        Value::Null => Tree::Null,
        Value::Boolean(value) => Tree::Bool(value),
        Value::Int(number) => Tree::integer(number.into()),
        Value::Long(number) => Tree::integer(number),
        Value::Float(number) => Tree::number(number.into()),
        Value::Double(number) => Tree::number(number),
        Value::String(text) | Value::Enum(_, text) => Tree::Text(text.into()),
        Value::Uuid(uuid) => Tree::Text(uuid.to_string().into()),
        Value::Bytes(bytes) => String::from_utf8(bytes).map_or_else(
            |error| binary(error.as_bytes()),
            |text| Tree::Text(text.into()),
        ),
        Value::Fixed(_, bytes) => binary(&bytes),
        Value::Date(number) | Value::TimeMillis(number) => no_instant(number.into()),
        Value::TimeMicros(number) => no_instant(number),
        Value::Duration(duration) => span(duration),
        Value::BigDecimal(number) => {
            let (unscaled, scale) = number.into_bigint_and_scale();
            decimal(&unscaled, scale)
        }
        other => match timestamp(&other) {
            Some((number, unit)) => Tree::Instant(number, unit),
            None => unreachable!("other values hold values, or have schemas that say more"),
        },
    }
}

/// Bytes that are no text.
fn binary(bytes: &[u8]) -> Tree<'static> {
    Tree::foreign(
        Kind::Bytes,
        Tree::Text(BASE64_STANDARD.encode(bytes).into()),
    )
}

/// A day, or a time of some day: a number that is no instant, whatever it counts.
fn no_instant(number: i64) -> Tree<'static> {
    Tree::foreign(Kind::Number, Tree::integer(number))
}

fn span(duration: Duration) -> Tree<'static> {
    let part = |number: u32| Tree::integer(number.into());
    Tree::Object(vec![
        ("months".into(), part(duration.months().into())),
        ("days".into(), part(duration.days().into())),
        ("milliseconds".into(), part(duration.millis().into())),
    ])
}

/// A decimal with all of its digits, those behind the point too if they are zeros.
fn decimal(unscaled: &BigInt, scale: i64) -> Tree<'static> {
    let written = if unscaled.bits() > MAX_DECIMAL_BITS {
        let bytes = BASE64_STANDARD.encode(unscaled.to_signed_bytes_be());
        Tree::Object(vec![
            ("unscaled".into(), Tree::Text(bytes.into())),
            ("scale".into(), Tree::integer(scale)),
        ])
    } else {
        Tree::Number(pointed(&unscaled.to_string(), scale).into())
    };
    Tree::foreign(Kind::Number, written)
}

/// An integer with so many of its digits behind a point, as JSON writes it.
fn pointed(integer: &str, scale: i64) -> String {
    let (sign, digits) = match integer.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", integer),
    };
    match usize::try_from(scale) {
        Ok(0) => integer.to_owned(),
        Ok(scale) if scale < digits.len() => {
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            format!("{sign}{whole}.{fraction}")
        }
        Ok(scale) if scale <= digits.len() + MAX_ZEROS => format!("{sign}0.{digits:0>scale$}"),
        _ => format!("{integer}e{}", -i128::from(scale)),
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::{BigDecimal, Days, Decimal, Millis, Months, schema::ResolvedSchema};

    use super::*;

    /// What a value of a type becomes as JSON.
    fn written(schema: &str, value: Value) -> String {
        let schema = Schema::parse_str(schema).expect("a schema");
        let resolved = ResolvedSchema::new(&schema).expect("its names are its own");
        let names = crate::codec::avro::owned(resolved.get_names());
        serde_json::to_string(&tree(value, &schema, None, &names)).expect("a tree")
    }

    fn unscaled(number: i64) -> Value {
        Value::Decimal(Decimal::from(number.to_be_bytes()))
    }

    #[test]
    fn a_decimal_has_its_digits_and_its_point() {
        for (scale, number, expected) in [
            (0, 1250, "1250"),
            (2, 1250, "12.50"),
            (2, -1250, "-12.50"),
            (2, 5, "0.05"),
            (2, -5, "-0.05"),
            (4, 1250, "0.1250"),
            (2, 0, "0.00"),
            (18, i64::MAX, "9.223372036854775807"),
            (40, 12, "12e-40"),
        ] {
            let schema = format!(
                r#"{{"type":"bytes","logicalType":"decimal","precision":40,"scale":{scale}}}"#
            );
            assert_eq!(written(&schema, unscaled(number)), expected);
        }
    }

    #[test]
    fn a_decimal_is_found_in_all_that_holds_values_and_by_its_types_name() {
        let price = r#"{"type":"fixed","size":8,"name":"Price","logicalType":"decimal",
                        "precision":18,"scale":2}"#;
        let schema = format!(
            r#"{{"type":"record","name":"Log","namespace":"shop","fields":[
                {{"name":"list","type":{{"type":"array","items":["null",{price}]}}}},
                {{"name":"map","type":{{"type":"map","values":"Price"}}}},
                {{"name":"item","type":{{"type":"record","name":"Item","fields":[
                    {{"name":"price","type":"Price"}}]}}}}]}}"#
        );
        let list = vec![
            Value::Union(0, Box::new(Value::Null)),
            Value::Union(1, Box::new(unscaled(199))),
        ];
        let value = Value::Record(vec![
            ("list".into(), Value::Array(list)),
            ("map".into(), Value::Map([("a".into(), unscaled(5))].into())),
            (
                "item".into(),
                Value::Record(vec![("price".into(), unscaled(-1))]),
            ),
        ]);
        assert_eq!(
            written(&schema, value),
            r#"{"list":[null,1.99],"map":{"a":0.05},"item":{"price":-0.01}}"#
        );
    }

    #[test]
    fn a_decimal_of_any_scale_is_written_and_one_of_too_many_digits_as_its_bytes() {
        let schema = r#"{"type":"bytes","logicalType":"big-decimal"}"#;
        let big = |number: BigInt, scale| {
            written(schema, Value::BigDecimal(BigDecimal::new(number, scale)))
        };
        assert_eq!(big(BigInt::from(-1250), 2), "-12.50");
        assert_eq!(big(BigInt::from(12), -3), "12e3");
        assert_eq!(big(BigInt::from(12), i64::MIN), "12e9223372036854775808");
        assert_eq!(big(BigInt::from(12), i64::MAX), "12e-9223372036854775807");
        let huge = BigInt::from(1) << MAX_DECIMAL_BITS;
        let expected = BASE64_STANDARD.encode(huge.to_signed_bytes_be());
        assert_eq!(
            big(huge, 2),
            format!(r#"{{"unscaled":"{expected}","scale":2}}"#)
        );
    }

    #[test]
    fn what_json_has_no_type_for_keeps_all_that_it_says() {
        let fixed = r#"{"type":"fixed","name":"F","size":3}"#;
        let duration = r#"{"type":"fixed","name":"D","size":12,"logicalType":"duration"}"#;
        let time = Duration::new(Months::new(1), Days::new(2), Millis::new(u32::MAX));
        for (schema, value, expected) in [
            (r#""bytes""#, Value::Bytes(b"text".into()), r#""text""#),
            (r#""bytes""#, Value::Bytes(vec![0xff, 0xfe]), r#""//4=""#),
            (fixed, Value::Fixed(3, b"abc".into()), r#""YWJj""#),
            (
                duration,
                Value::Duration(time),
                r#"{"months":1,"days":2,"milliseconds":4294967295}"#,
            ),
            (
                r#"{"type":"long","logicalType":"timestamp-micros"}"#,
                Value::TimestampMicros(1_766_000_068_280_999),
                "1766000068280999",
            ),
            (
                r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
                Value::TimestampNanos(1_766_000_068_280_999_999),
                "1766000068280999999",
            ),
            (
                r#"{"type":"int","logicalType":"date"}"#,
                Value::Date(20_440),
                "20440",
            ),
        ] {
            assert_eq!(written(schema, value), expected, "{schema}");
        }
    }
}
