//! Batches that are in the log and cannot be read.
//!
//! A batch whose checksum is wrong, or that does not unpack, is an error beside the records. librdkafka
//! goes on all the same: over a wrong checksum to the next batch, so that its records would be missing
//! without a word, and at one that does not unpack it asks for the same batch for ever. Neither is ours
//! to decide. What came before it is delivered, and the process ends: a person looks at the batch, and
//! says where the group goes on.

use rdkafka::error::RDKafkaErrorCode;

/// Whether an error of the consumer is about a batch and not about a connection.
pub(crate) fn is_about_a_batch(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BadMessage
            | RDKafkaErrorCode::BadCompression
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::NotImplemented
    )
}

/// What librdkafka says comes with an offset and without a partition: those of ours that such an offset
/// can belong to, each with where it stands. One that stands exactly there is it.
pub(crate) fn candidates<P: Clone>(reason: &str, standings: &[(P, Option<i64>)]) -> Vec<P> {
    let offset = offset_in(reason);
    let exact = |at: Option<i64>| offset.is_some() && at == offset;
    let possible = |at: Option<i64>| offset.is_none_or(|offset| at.is_none_or(|at| at <= offset));
    let those = |is_one: &dyn Fn(Option<i64>) -> bool| -> Vec<P> {
        let found = standings.iter().filter(|(_, at)| is_one(*at));
        found.map(|(partition, _)| partition.clone()).collect()
    };
    let found = those(&exact);
    if found.is_empty() {
        those(&possible)
    } else {
        found
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
    fn the_partition_is_the_one_that_stands_there_or_one_that_may_have_come_there_over_a_gap() {
        let standings = |at: [Option<i64>; 3]| [("a", at[0]), ("b", at[1]), ("c", at[2])];
        for (reason, at, expected) in [
            (CHECKSUM, [Some(17), Some(3), None], &["a"][..]),
            (UNPACKING, [Some(18), Some(17), Some(16)], &["b"]),
            (CHECKSUM, [Some(18), Some(3), None], &["b", "c"]),
            (
                "Invalid message",
                [Some(18), Some(3), None],
                &["a", "b", "c"],
            ),
        ] {
            assert_eq!(
                candidates(reason, &standings(at)),
                expected,
                "{reason} {at:?}"
            );
        }
    }
}
