//! What goes in: jobs and what became of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::JobState;

/// One job to enqueue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewJob {
    /// Opaque bytes, returned byte-identical to the handler.
    pub payload: Vec<u8>,
    /// The options, serialised to JSON for `lk_enqueue`.
    pub options: EnqueueOptions,
}

/// Options of `lk_enqueue`, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EnqueueOptions {
    /// Job type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Caller's id: used again it answers `duplicate` while that job's record stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Idempotency key, instead of the one rendered from the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// 0..=9, lower first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Start no earlier than this many ms from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<u64>,
    /// Start no earlier than this, ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<u64>,
    /// Strings carried to the handler; `traceparent` is one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
}

/// What became of one enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub enum Enqueued {
    /// Accepted and due, or accepted for later (`state` = scheduled).
    #[serde(rename_all = "camelCase")]
    Accepted {
        /// Its id.
        id: String,
        /// `ready` or `scheduled`.
        state: JobState,
    },
    /// The job of that id, which had not been started, is this one now.
    #[serde(rename_all = "camelCase")]
    Replaced {
        /// Its id.
        id: String,
        /// `ready` or `scheduled`.
        state: JobState,
    },
    /// The key or id is taken; nothing was stored.
    #[serde(rename_all = "camelCase")]
    Duplicate {
        /// The owner's id.
        id: String,
        /// The owner's state.
        state: JobState,
    },
    /// Refused; nothing was stored.
    #[serde(rename_all = "camelCase")]
    Rejected {
        /// `unknown-type`, `payload-too-large`, `invalid-options`, `key-field`, `queue-full`, `closed`, …
        reason: String,
        /// One sentence for people.
        message: String,
    },
}
