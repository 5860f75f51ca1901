//! What a run left behind.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::history::Event;
use crate::types::{Job, JobState};

/// One call of a handler, written down by the handler itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Job id.
    pub job: String,
    /// Token of the lease under which the handler was called.
    pub token: u64,
    /// Whether the handler answered success.
    pub success: bool,
}

/// What a run without a history left behind, once the queue is drained.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Ids that a reply accepted.
    pub accepted: Vec<String>,
    /// Every call of a handler.
    pub effects: Vec<Effect>,
    /// Every accepted job's record in Redis.
    pub jobs: HashMap<String, Job>,
    /// Successes that the queue counted.
    pub succeeded_total: u64,
}

/// What a run with a history left behind.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// What all clients did, in any order.
    pub events: Vec<Event>,
    /// Every call of a handler; absent when handlers wrote nothing down.
    pub effects: Option<Vec<Effect>>,
    /// What Redis held in the end.
    pub dump: Dump,
}

/// What Redis held when nobody wrote any more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    /// Redis time, ms.
    pub at_ms: u64,
    /// All records.
    pub records: Vec<Record>,
    /// All members of the indexes.
    pub entries: Vec<Entry>,
    /// Who owns which key; absent: not dumped.
    #[serde(default)]
    pub keys: Option<Vec<KeyOwner>>,
    /// Successes that the queue counted; absent: not known, or the history is not whole.
    #[serde(default)]
    pub succeeded_total: Option<u64>,
}

/// A job's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Job id.
    pub job: String,
    /// Its state; which of the live ones does not matter, the index tells.
    pub state: JobState,
    /// Due, ms.
    pub due_ms: u64,
    /// Attempts ended.
    pub attempts: u32,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Digest of its payload ([`digest`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<u64>,
}

impl From<&Job> for Record {
    fn from(job: &Job) -> Self {
        Self {
            job: job.id.clone(),
            state: job.state,
            due_ms: job.due_ms,
            attempts: job.attempts,
            key: job.key.clone(),
            payload: job.payload.as_deref().map(digest),
        }
    }
}

/// A kind of index. What only mirrors another (a lease beside its expiry, dead letters by type) is left out of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Index {
    /// Due and waiting.
    Ready,
    /// Not due yet.
    Scheduled,
    /// Leased.
    Running,
    /// Succeeded or cancelled.
    Finished,
    /// Dead letters.
    Dead,
}

/// One member of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Kind of the index.
    pub index: Index,
    /// Which one, for people.
    pub name: String,
    /// Job id.
    pub job: String,
}

/// One idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyOwner {
    /// The key.
    pub key: String,
    /// Id of the job that owns it.
    pub job: String,
}

/// Digest of a payload (64-bit FNV-1a): the same in every process, and short enough for a history of a million lines.
#[must_use]
pub fn digest(payload: &[u8]) -> u64 {
    payload
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
