//! A preference pair: the correction is preferred to the answer that it corrects.

use serde::{Deserialize, Serialize};

/// Written exactly for corrected answers; `prompt`, `chosen` and `rejected` are the names that
/// preference trainers read (huggingface/trl, `docs/source/dataset_formats.md`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreferencePair {
    /// The correction that this pair was made from.
    pub correction_id: String,
    /// Id of the answer event.
    pub event_id: String,
    /// What the user asked.
    pub prompt: String,
    /// The corrected answer; the white space at its ends is that of `rejected`, whatever the Aligner
    /// wrote there.
    pub chosen: String,
    /// The upstream model's answer.
    pub rejected: String,
    /// Share of words and of white space between them that chosen and rejected have in common, 0 to
    /// 1. Long texts may be compared without the order of their words.
    pub similarity: f64,
    /// Natural logarithm of the probability that the Aligner gave, as its first token, to leaving the
    /// answer as it is; null where it has no such token or does not tell.
    pub unchanged_logprob: Option<f64>,
    /// Mean natural logarithm of the probabilities of the decoded tokens, end of sequence included;
    /// null where it is not known.
    pub mean_logprob: Option<f64>,
    /// Name of the upstream model.
    pub upstream_model: Option<String>,
    /// Name of the Aligner.
    pub aligner_name: String,
    /// Its revision.
    pub aligner_revision: String,
    /// Hex SHA-256 of the prompt template.
    pub template_hash: String,
    /// Kafka topic of the answer event.
    pub source_topic: Option<String>,
    /// Its partition.
    pub source_partition: Option<i32>,
    /// Its offset.
    pub source_offset: Option<i64>,
    /// When the correction was made, epoch milliseconds.
    pub corrected_at: i64,
    /// Conversation that the answer belongs to.
    pub conversation_id: Option<String>,
    /// User who asked.
    pub user_id: Option<String>,
    /// When the answer was given, epoch milliseconds; where the event does not say, the timestamp of
    /// its Kafka record.
    pub created_at: Option<i64>,
}
