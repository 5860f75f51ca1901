//! Jobs as they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AttemptError, CheckpointLeft, DeadReason, ProgressTold, Review};

/// State of a job as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Not due yet: delayed, or waiting for a retry.
    Scheduled,
    /// Due; some worker may start it.
    Ready,
    /// A worker holds a lease.
    Running,
    /// Done.
    Succeeded,
    /// Will not be tried again until a person or a replay says so.
    Dead,
    /// Called off before it finished.
    Cancelled,
    /// Dead, and somebody decided that it will not be replayed.
    Discarded,
}

impl JobState {
    /// The name as stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Scheduled,
            Self::Ready,
            Self::Running,
            Self::Succeeded,
            Self::Dead,
            Self::Cancelled,
            Self::Discarded,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }
}

/// One finished or interrupted attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// Start, server time ms.
    pub started_ms: u64,
    /// End, server time ms.
    pub ended_ms: u64,
    /// Worker's name.
    pub worker: String,
    /// Node or host.
    pub node: String,
    /// Lease token.
    pub token: u64,
    /// Policy version that decided the outcome.
    pub policy_version: u64,
    /// `success`, `retry`, `dead`, `release`, `snooze`, `cancel`. Some mark what a person (`worker`) did, are no attempts and have
    /// no token: `cancel` of a job that waited; `acknowledge`, `discard` and `replay` of a dead one, the reason in `error.message`.
    pub outcome: String,
    /// What went wrong, or why it was handed back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
}

impl Attempt {
    /// Whether the job ran, rather than that a person did something to it.
    #[must_use]
    pub fn ran(&self) -> bool {
        self.token > 0
    }
}

/// A job as `lk_get` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Id.
    pub id: String,
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Lane by the present policy; absent when the type is no longer in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// State.
    pub state: JobState,
    /// 0..=9.
    pub priority: u8,
    /// Enqueued, server time ms.
    pub enqueued_ms: u64,
    /// Due since or due at, server time ms.
    pub due_ms: u64,
    /// End, server time ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<u64>,
    /// Tries spent.
    pub tries: u32,
    /// Attempts lost to crashes.
    pub crashes: u32,
    /// Starts in all.
    pub attempts: u32,
    /// Idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Strings given at enqueue.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// How far it is, as its handler told last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressTold>,
    /// What the next attempt will be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointLeft>,
    /// Present lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// Why it is dead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<DeadReason>,
    /// The error that it died of, in short: equal for errors that differ in numbers, ids and quoted parts only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// What people decided about it since it died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<Review>,
    /// Finished attempts, oldest first; the middle of a very long history is dropped and counted.
    pub history: Vec<Attempt>,
    /// How many entries the history left out.
    #[serde(default)]
    pub history_dropped: u32,
    /// Size of the payload in bytes.
    pub payload_bytes: u64,
    /// The handler's answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The payload; `lk_get` returns it only when asked.
    #[serde(skip)]
    pub payload: Option<Vec<u8>>,
    /// Size in bytes of the payload that it was enqueued with, where a replay replaced that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_bytes: Option<u64>,
    /// That payload.
    #[serde(skip)]
    pub original: Option<Vec<u8>>,
}

/// A lease as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// Worker's name.
    pub worker: String,
    /// Its pool.
    pub pool: String,
    /// Its node.
    pub node: String,
    /// Fencing token.
    pub token: u64,
    /// Start of the attempt, server time ms.
    pub since_ms: u64,
    /// Expiry, server time ms.
    pub expires_ms: u64,
    /// Who asked for the job's cancellation, which its worker has been told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_by: Option<String>,
}

/// Where a ready job stands in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Jobs of the lane that go first.
    pub ahead: u64,
    /// Jobs of the lane that wait in all.
    pub waiting: u64,
}

/// What bounds the concurrency key of a ready job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyStanding {
    /// The key, rendered.
    pub key: String,
    /// Jobs of the key that run.
    pub running: u64,
    /// Most that may.
    pub limit: Option<u64>,
    /// Until when a dependency asked for patience, server time ms.
    pub held_until_ms: Option<u64>,
    /// When its next job may start, server time ms, where its rate is spent.
    pub rate_opens_ms: Option<u64>,
    /// Jobs of the key that go first.
    pub ahead: u64,
}
