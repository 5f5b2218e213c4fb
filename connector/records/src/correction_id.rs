//! Ids of corrections: the same input and the same Aligner always give the same id.

use sha2::{Digest, Sha256};

use crate::SourcePosition;

/// The id of the correction of one input record by one Aligner revision.
///
/// The first 128 bits, in hex, of the SHA-256 of these lines joined by line feeds: `kafka`, topic,
/// partition, offset, Aligner revision. Where there is no position, an id tells the event from all
/// others: `event`, Aligner revision, that id (see [`event_correction_id`]). Anybody can compute it
/// again:
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
    hex(&Sha256::digest(lines.as_bytes())[..16])
}

/// The id of the correction of an event that lies in no log, such as a line of a file.
///
/// Its event id may be no more than the number of the line, which every file has, so its texts count
/// as well: this is [`correction_id`] without a position, and with three lines as the id, which are
/// the SHA-256 of the question in hex, that of the answer, and the event id:
///
/// ```sh
/// sum() { printf %s "$1" | sha256sum | cut -c 1-64; }
/// printf 'event\nREVISION\n%s\n%s\nline-1' "$(sum 'QUESTION')" "$(sum 'ANSWER')" |
///   sha256sum | cut -c 1-32
/// ```
pub fn event_correction_id(
    event_id: &str,
    question: &str,
    answer: &str,
    aligner_revision: &str,
) -> String {
    // The event id comes last: of the three it alone may hold line feeds.
    let [question, answer] = [question, answer].map(|text| hex(&Sha256::digest(text)));
    let id = format!("{question}\n{answer}\n{event_id}");
    correction_id(None, &id, aligner_revision)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
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
        // The second command above, with these texts.
        assert_eq!(
            event_correction_id("line-7", "What is the answer?", "Some answer", "rev-1"),
            "b543d6a13bf3e10ca42739651942f800"
        );
        assert_eq!(
            event_correction_id("line-7", "", "", "rev-1"),
            "aaa307c620e126d087efeced1ea85a61"
        );
    }

    #[test]
    fn without_a_position_id_texts_and_revision_decide_and_do_not_run_into_each_other() {
        let ids = [
            ("line-1", "q", "a", "r"),
            ("line-2", "q", "a", "r"),
            ("line-1", "other", "a", "r"),
            ("line-1", "q", "other", "r"),
            ("line-1", "a", "q", "r"),
            ("line-1", "qa", "", "r"),
            ("line-1", "", "qa", "r"),
            ("line-1", "q\na", "", "r"),
            ("line-1", "q", "a", "s"),
        ]
        .map(|(id, question, answer, revision)| {
            event_correction_id(id, question, answer, revision)
        });
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
        assert_eq!(event_correction_id("line-1", "q", "a", "r"), ids[0]);
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
