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
    /// Paused, by the policy or by hand.
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
    /// Damage met so far, whatever became of it: index entries that were lost and put back, or had no readable record and were dropped,
    /// keys that something else overwrote. It only rises; which jobs cannot be read, events tell.
    #[serde(default)]
    pub damaged: u64,
    /// Live workers (heartbeat within three leases).
    pub workers: Vec<WorkerInfo>,
    /// What holds due jobs back at this moment.
    #[serde(default)]
    pub gates: Vec<ClosedGate>,
    /// Jobs whose records stand, completed ones included.
    #[serde(default)]
    pub records: u64,
    /// Bytes of those records, estimated from a sample; only where the policy bounds them, and not before the first sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The queue's capacity is used up: new jobs are refused.
    #[serde(default)]
    pub full: bool,
}

/// A kind of gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    /// Someone paused the queue or the lane.
    Paused,
    /// A dependency asked for patience (`Retry-After`).
    Hold,
    /// Too many failures in a row: the lane waits for a probe.
    Circuit,
    /// As many of the lane run as may.
    Concurrency,
    /// The lane's rate is spent.
    Rate,
}

impl Gate {
    /// By the name it has in Redis.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "paused" => Self::Paused,
            "hold" => Self::Hold,
            "circuit" => Self::Circuit,
            "concurrency" => Self::Concurrency,
            "rate" => Self::Rate,
            _ => return None,
        })
    }
}

/// A gate that lets nothing through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClosedGate {
    /// The lane; absent: the whole queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<String>,
    /// Which gate.
    pub gate: Gate,
    /// When it opens, server time ms, where time opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Since when it has been closed, server time ms, where that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// Who paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why it was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ClosedGate {
    /// Whether it is a circuit that lets the next job through, as a probe.
    #[must_use]
    pub fn next_probes(&self, now_ms: u64) -> bool {
        self.gate == Gate::Circuit && self.until_ms.is_some_and(|until| until <= now_ms)
    }
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
