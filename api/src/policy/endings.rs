//! What a taken key and a death mean for other jobs, and what becomes of the dead.

use serde::{Deserialize, Serialize};

/// What becomes of a job whose idempotency key has an owner already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnConflict {
    /// `duplicate`, with the owner's id.
    #[default]
    Existing,
    /// It takes the place of an owner of its type that has not been started.
    Replace,
    /// `rejected:key-conflict`.
    Reject,
}

impl OnConflict {
    /// Whether it is the default.
    #[must_use]
    pub fn is_existing(&self) -> bool {
        *self == Self::Existing
    }
}

/// Jobs of one key that come close together become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Debounce {
    /// Due this long after the last enqueue.
    pub wait_ms: u64,
    /// But no later than this after the first.
    pub most_ms: u64,
}

/// The job that a death brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnDead {
    /// Its job type.
    pub r#type: String,
}

/// What becomes of dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    /// How long one is kept after somebody discarded it; absent: for ever. No other is ever removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_reviewed_for_ms: Option<u64>,
}

impl DeadLetters {
    /// Whether nothing is said of them.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
