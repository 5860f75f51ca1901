//! Figures.

use serde::{Deserialize, Serialize};

use super::WorkerInfo;

/// Figures of one queue at one moment. Rates come from the monotonic counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Server time, ms.
    pub now_ms: u64,
    /// Policy version.
    pub policy_version: u64,
    /// Paused by the policy.
    pub paused: bool,
    /// Why workers start nothing although nobody paused the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// Dead letters in all.
    pub dead: u64,
    /// When the next scheduled job becomes due, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_ms: Option<u64>,
    /// By lane, in policy order; types that no lane claims stand under the lane `""`.
    pub lanes: Vec<LaneStats>,
    /// Index entries met so far whose record was missing or damaged; they were dropped.
    #[serde(default)]
    pub damaged: u64,
    /// Live workers (heartbeat within three leases).
    pub workers: Vec<WorkerInfo>,
}

/// Figures of one lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneStats {
    /// Lane.
    pub name: String,
    /// By job type.
    pub types: Vec<TypeStats>,
}

/// Figures of one job type. Counters only rise while the queue exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypeStats {
    /// Job type.
    pub name: String,
    /// Due and waiting (due scheduled jobs included even if not yet promoted).
    pub ready: u64,
    /// Not due yet.
    pub scheduled: u64,
    /// Leased.
    pub running: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest due job became due, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_due_ms: Option<u64>,
    /// When its next scheduled job becomes due, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due_ms: Option<u64>,
    /// Jobs accepted.
    pub enqueued_total: u64,
    /// Jobs succeeded.
    pub succeeded_total: u64,
    /// Attempts that failed (retry or dead).
    pub failed_total: u64,
    /// Jobs that died.
    pub died_total: u64,
    /// Jobs cancelled.
    pub cancelled_total: u64,
    /// Attempts ended, however.
    pub attempts_total: u64,
    /// Sum of the durations of ended attempts, ms.
    pub busy_ms_total: u64,
}
