//! Batches that are in the log and cannot be read.
//!
//! A batch whose checksum is wrong, or that does not unpack, is an error beside the records. librdkafka
//! goes on all the same: over a wrong checksum to the next batch, so that its records would be missing
//! without a word, and at one that does not unpack it asks for the same batch for ever. Neither is ours
//! to decide. What came before it is delivered, and the process ends: a person looks at the batch, and
//! says where the group goes on.

use rdkafka::error::RDKafkaErrorCode;

use crate::listener::Listener;

/// Where the batch begins that an error of the client is about, and what is wrong with it.
pub(crate) fn told(listener: &Listener, code: RDKafkaErrorCode) -> Option<(i64, String)> {
    let fault = listener.fault().filter(|fault| fault.code == code)?;
    Some((batch(code, &fault.reason)?, fault.reason))
}

/// Where the batch begins that an error of the consumer is about. The same codes stand for a response
/// that is none of Kafka's, from whatever answers at a broker's address; those name no offset.
fn batch(code: RDKafkaErrorCode, reason: &str) -> Option<i64> {
    matches!(
        code,
        RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::NotImplemented
    )
    .then(|| offset_in(reason))?
}

/// Whose batch it is, in words. librdkafka names no partition: the only one that is ours, or most likely
/// one that stands exactly there. Another may stand within its own batch at that offset.
pub(crate) fn whose(offset: i64, standings: &[(String, Option<i64>)]) -> String {
    let names = |only: &dyn Fn(Option<i64>) -> bool| -> Vec<&str> {
        let found = standings.iter().filter(|(_, at)| only(*at));
        found.map(|(name, _)| name.as_str()).collect()
    };
    let (all, exact) = (names(&|_| true), names(&|at| at == Some(offset)));
    match (&*all, &*exact) {
        ([only], _) => (*only).to_owned(),
        (_, []) => format!("one of {}", all.join(" ")),
        (_, exact) => format!("{}, most likely, or of another", exact.join(" or ")),
    }
}

/// "MessageSet at offset 17 (…", "Decompression (codec 0x1) of message at 17 of …".
fn offset_in(reason: &str) -> Option<i64> {
    let behind = ["at offset ", "message at "]
        .into_iter()
        .find_map(|before| Some(reason.split_once(before)?.1))?;
    let digits = behind.find(|c: char| !c.is_ascii_digit());
    behind[..digits.unwrap_or(behind.len())].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKSUM: &str = "MessageSet at offset 17 (210 bytes) failed CRC32C check (original 0x1 != \
                            calculated 0x2)";
    const UNPACKING: &str =
        "Decompression (codec 0x1) of message at 17 of 210 bytes failed: Local: Bad compression";

    #[test]
    fn only_what_names_an_offset_is_about_a_batch() {
        let answer = "Receive failed: Invalid response size 1213486160 (0..100000000): increase";
        for (code, reason, expected) in [
            (RDKafkaErrorCode::BadMessage, CHECKSUM, Some(17)),
            (RDKafkaErrorCode::BadCompression, UNPACKING, Some(17)),
            (RDKafkaErrorCode::BadMessage, answer, None),
            (RDKafkaErrorCode::AllBrokersDown, CHECKSUM, None),
        ] {
            assert_eq!(batch(code, reason), expected, "{code:?}: {reason}");
        }
    }

    #[test]
    fn the_partition_is_the_only_one_or_likely_one_that_stands_there() {
        let standings = |at: &[Option<i64>]| -> Vec<(String, Option<i64>)> {
            ["a-0", "a-1", "a-2"]
                .map(str::to_owned)
                .into_iter()
                .zip(at.iter().copied())
                .collect()
        };
        for (at, expected) in [
            (&[Some(15)][..], "a-0"),
            (
                &[Some(17), Some(3), None],
                "a-0, most likely, or of another",
            ),
            (&[Some(18), Some(3), None], "one of a-0 a-1 a-2"),
        ] {
            assert_eq!(whose(17, &standings(at)), expected);
        }
    }
}
