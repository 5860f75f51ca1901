//! What a taken key and a death mean for other jobs: `onConflict`, `debounce`, `onDead`; and what becomes of
//! the dead.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::{self, Duration};

/// What becomes of a job whose idempotency key has an owner already.
#[derive(Serialize, Deserialize, JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflictSpec {
    /// It is answered 'duplicate' with the owner's id; nothing is stored.
    #[default]
    Existing,
    /// It takes the place and the id of an owner of its type that has not been started; else as Existing.
    Replace,
    /// It is rejected with 'key-conflict'.
    Reject,
}

/// Jobs of one key that come close together become one.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DebounceSpec {
    /// The job becomes due this long after the last enqueue of its key. An enqueue with a delay or a time of its own is
    /// not put off.
    #[schemars(schema_with = "duration::positive")]
    pub wait: Duration,
    /// But no later than this after the first.
    #[schemars(schema_with = "duration::positive")]
    pub at_most: Duration,
}

/// What a death brings.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
pub struct OnDeadSpec {
    /// A job that tells of it. Its payload: {job, type, key, reason, attempts, error: {class, code, message}, payload}, the
    /// last only where the dead job's payload is a JSON object and both fit into maxPayload. Keys of its type are made from
    /// the payload also where it is left out; where nothing gives one, the job comes without it ('news-unkeyed').
    pub enqueue: EnqueueSpec,
}

/// A job to enqueue.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, PartialEq, Eq)]
pub struct EnqueueSpec {
    /// Its job type, which has no onDead of its own.
    #[schemars(length(min = 1, max = 63))]
    pub r#type: String,
}

/// What becomes of dead letters. Nothing that nobody reviewed is ever removed.
#[derive(Serialize, Deserialize, KubeSchema, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeadLettersSpec {
    /// How long a dead letter is kept after somebody discarded it. Absent: for ever. Open and acknowledged ones are never
    /// removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "duration::positive")]
    pub keep_reviewed_for: Option<Duration>,
}

impl DeadLettersSpec {
    /// Whether nothing is said of them.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
