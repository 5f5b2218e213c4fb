//! What the Aligner made of one answer, with everything needed to audit it or to make it again.

use serde::{Deserialize, Serialize};

use crate::Disposition;

/// One correction record: exactly one for each valid input record.
///
/// Every field is always written, `null` where it has no value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Correction {
    /// Deterministic: derived from source position and Aligner revision, so that even an
    /// at-least-once reader can drop duplicates. Outside Kafka from id and texts of the event.
    pub correction_id: String,
    /// Id of the answer event: the producer's, or its source position.
    pub event_id: String,
    /// What the user asked; null where there is no text.
    pub question: Option<String>,
    /// What the upstream model answered.
    pub answer: Option<String>,
    /// The better answer; equal to `answer` where nothing was changed.
    pub correction: Option<String>,
    /// `corrected`, `unchanged`, `bypassed` or `dead_lettered`.
    pub disposition: Disposition,
    /// A stable snake_case word that explains the disposition.
    pub reason: Option<String>,
    /// One sentence about a bypassed or dead-lettered event that a person can act on; never its text.
    pub message: Option<String>,
    /// Share of words and of white space between them that answer and correction have in common, 0
    /// to 1; 1 where nothing was changed. Long texts may be compared without the order of their
    /// words.
    pub similarity: Option<f64>,
    /// Natural logarithm of the probability that the Aligner gave, as its first token, to leaving the
    /// answer as it is; null where it has no such token or does not tell.
    pub unchanged_logprob: Option<f64>,
    /// Mean natural logarithm of the probabilities of the decoded tokens, end of sequence included;
    /// null where it is not known.
    pub mean_logprob: Option<f64>,
    /// Name of the upstream model.
    pub upstream_model: Option<String>,
    /// Conversation that the answer belongs to.
    pub conversation_id: Option<String>,
    /// User who asked.
    pub user_id: Option<String>,
    /// The event's metadata, as it came.
    pub metadata_json: Option<String>,
    /// When the answer was given, epoch milliseconds; where the event does not say, the timestamp
    /// of its Kafka record.
    pub created_at: Option<i64>,
    /// Name of the Aligner.
    pub aligner_name: String,
    /// Digest of its weights and of everything else that decides its output.
    pub aligner_revision: String,
    /// Hex SHA-256 of the prompt template.
    pub template_hash: String,
    /// Most tokens that could be decoded.
    pub max_new_tokens: i32,
    /// Decoding temperature; 0 is greedy.
    pub temperature: f64,
    /// Nucleus sampling threshold.
    pub top_p: Option<f64>,
    /// Seed of the sampler; null when greedy.
    pub seed: Option<i64>,
    /// Kafka topic of the answer event.
    pub source_topic: Option<String>,
    /// Its partition.
    pub source_partition: Option<i32>,
    /// Its offset.
    pub source_offset: Option<i64>,
    /// Tokens of the prompt.
    pub prompt_tokens: i32,
    /// Tokens decoded.
    pub correction_tokens: i32,
    /// Milliseconds from reading the event to the first forward pass.
    pub queue_ms: i64,
    /// Milliseconds from the first forward pass to the last token.
    pub inference_ms: i64,
    /// When the correction was made, epoch milliseconds.
    pub corrected_at: i64,
    /// What the Aligner wrote and its profile's guard did not let through; null where the guard had
    /// nothing to reject, and where the record would be too large with it.
    pub proposal: Option<String>,
}
