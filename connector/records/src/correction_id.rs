//! Ids of corrections: the same input and the same Aligner always give the same id.

use sha2::{Digest, Sha256};

use crate::SourcePosition;

/// The id of the correction of one input record by one Aligner revision.
///
/// The first 128 bits, in hex, of the SHA-256 of these lines joined by line feeds: `kafka`, topic,
/// partition, offset, Aligner revision. Outside Kafka, where there is no position: `event`,
/// Aligner revision, event id. Anybody can compute it again:
///
/// ```sh
/// printf 'kafka\nllm.answers\n3\n42\nREVISION' | sha256sum | cut -c 1-32
/// ```
///
/// A record that is delivered twice has one id, so that a reader can drop the second; two records
/// with one event id are two inputs and have two.
pub fn correction_id(
    source: Option<&SourcePosition>,
    event_id: &str,
    aligner_revision: &str,
) -> String {
    let lines = match source {
        Some(SourcePosition {
            topic,
            partition,
            offset,
        }) => format!("kafka\n{topic}\n{partition}\n{offset}\n{aligner_revision}"),
        None => format!("event\n{aligner_revision}\n{event_id}"),
    };
    const HEX: &[u8; 16] = b"0123456789abcdef";
    Sha256::digest(lines.as_bytes())[..16]
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(HEX[usize::from(nibble)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(partition: i32, offset: i64) -> SourcePosition {
        SourcePosition {
            topic: "llm.answers".into(),
            partition,
            offset,
        }
    }

    #[test]
    fn ids_never_change_from_release_to_release() {
        // printf 'kafka\nllm.answers\n3\n42\nrev-1' | sha256sum
        assert_eq!(
            correction_id(Some(&position(3, 42)), "e", "rev-1"),
            "a0a155bacd845384101e30e8f9367d9e"
        );
        // printf 'event\nrev-1\nline-7' | sha256sum
        assert_eq!(
            correction_id(None, "line-7", "rev-1"),
            "edeaf04dd63f3a586eb1d4998760c9d5"
        );
    }

    #[test]
    fn within_kafka_the_position_and_the_revision_decide_and_the_event_id_does_not() {
        let id = |partition, offset, event, revision| {
            correction_id(Some(&position(partition, offset)), event, revision)
        };
        assert_eq!(id(3, 42, "a", "r"), id(3, 42, "b", "r"));
        assert_ne!(id(3, 42, "a", "r"), id(3, 43, "a", "r"));
        assert_ne!(id(3, 42, "a", "r"), id(34, 2, "a", "r"));
        assert_ne!(id(3, 42, "a", "r"), id(3, 42, "a", "s"));
    }
}
