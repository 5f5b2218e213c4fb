//! The Confluent wire format: how a value names the schema that it was written with.
//!
//! A zero byte, the schema's id in the registry as four big-endian bytes, then the Avro datum
//! (confluentinc/schema-registry, `docs/serdes-develop`, "Wire format").

use super::error::{DecodeError, reason};

/// Bytes before the datum.
pub const HEADER_LEN: usize = 5;

/// Greatest id that a registry gives: to Confluent's, and to whatever speaks as it does, ids are
/// Java's `int`. They count from 1; 0 is asked for all the same, since a schema may be imported
/// under it (`AbstractSchemaRegistry.java`).
pub const MAX_ID: u32 = i32::MAX.unsigned_abs();

const MAGIC: u8 = 0;

/// The header of a value that was written with schema `id`.
pub fn header(id: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = id.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// Splits a value into the id of its schema and its datum.
///
/// # Errors
/// `invalid_avro` if the value is too short, does not begin with the magic byte, or names an id
/// that no registry gives.
pub fn split(value: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match value {
        [MAGIC, a, b, c, d, datum @ ..] => match u32::from_be_bytes([*a, *b, *c, *d]) {
            id @ ..=MAX_ID => Ok((id, datum)),
            id => Err(DecodeError::new(
                reason::INVALID_AVRO,
                format!(
                    "the value names schema id {id}, and registries give none above {MAX_ID}: \
                     write it with a Confluent serializer"
                ),
            )),
        },
        [MAGIC, ..] | [] => Err(DecodeError::new(
            reason::INVALID_AVRO,
            format!(
                "the value has {} bytes, too few for a schema id: write it with a Confluent serializer",
                value.len()
            ),
        )),
        [first, ..] => Err(DecodeError::new(
            reason::INVALID_AVRO,
            format!(
                "the value begins with byte {first}, not with the magic byte 0: write it with a \
                 Confluent serializer, or set formats.answers to json"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_splits_back_into_its_id() {
        for id in [0, 1, 258, MAX_ID] {
            let value = [&header(id)[..], b"datum"].concat();
            assert_eq!(split(&value), Ok((id, &b"datum"[..])));
        }
        assert_eq!(header(258), [0, 0, 0, 1, 2]);
    }

    #[test]
    fn a_value_without_a_header_is_invalid() {
        for value in [&b""[..], &[0, 0, 0, 1], b"{\"question\":1}"] {
            assert_eq!(
                split(value).expect_err("no header").reason,
                reason::INVALID_AVRO
            );
        }
    }

    #[test]
    fn an_id_that_no_registry_gives_is_none_and_is_named() {
        for id in [MAX_ID + 1, u32::MAX] {
            let value = [&header(id)[..], b"datum"].concat();
            let error = split(&value).expect_err("no id");
            assert_eq!(error.reason, reason::INVALID_AVRO);
            assert!(error.message.contains(&id.to_string()), "{error}");
        }
    }
}
