//! An answer that an upstream model gave, as it was logged.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The years 1 to 9999 in epoch milliseconds: what warehouses take for a timestamp. Today in
/// microseconds lies beyond.
pub const INSTANTS: RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// One logged (question, answer).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerEvent {
    /// The producer's id; where absent the source position stands in for it.
    #[serde(default)]
    pub event_id: Option<String>,
    /// What the user asked. Empty only where somebody else's log has no text for it.
    pub question: String,
    /// What the upstream model answered. Empty as `question`.
    pub answer: String,
    /// Name of the upstream model.
    #[serde(default)]
    pub upstream_model: Option<String>,
    /// When the answer was given, epoch milliseconds.
    #[serde(default)]
    pub created_at: Option<i64>,
    /// Conversation that the answer belongs to.
    #[serde(default)]
    pub conversation_id: Option<String>,
    /// User who asked.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Anything else, as a JSON text.
    #[serde(default)]
    pub metadata_json: Option<String>,
}
