//! What the loops show to the outside: figures of a queue, decisions of its pools, changes of replicas.

use std::collections::BTreeMap;
use std::sync::Arc;

use lanekeeper_queue::types::Stats;

use super::decide::Decision;
use super::reason::Reason;
use crate::platform::{Observed, PoolRef};

/// A queue at its last evaluation.
#[derive(Debug, Clone, Default)]
pub struct QueueView {
    /// The last figures that could be read. Never zeroes in place of figures.
    pub stats: Option<Arc<Stats>>,
    /// Why the latest attempt to read them failed; absent: `stats` is fresh.
    pub error: Option<String>,
    /// When `stats` were read, ms since the epoch.
    pub read_ms: u64,
    /// Pools by reference.
    pub pools: BTreeMap<PoolRef, PoolView>,
}

/// A pool at its last evaluation.
#[derive(Debug, Clone, Default)]
pub struct PoolView {
    /// Its workers; absent: the platform could not say.
    pub observed: Option<Observed>,
    /// Why the platform could not be asked or did not obey.
    pub error: Option<String>,
    /// The last decision.
    pub decision: Option<Decision>,
    /// Slots in use, by heartbeats.
    pub busy: u32,
    /// Age of the oldest due job of its lanes, ms.
    pub oldest_age_ms: Option<u64>,
    /// Time from asking for a worker to its readiness, as measured.
    pub startup_ms: u64,
    /// When replicas last changed, ms since the epoch.
    pub last_scale_ms: Option<u64>,
}

/// Replicas changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScaleEvent {
    /// Which pool.
    pub pool: PoolRef,
    /// Replicas before.
    pub from: u32,
    /// Replicas now.
    pub to: u32,
    /// Why.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
    /// When, ms since the epoch.
    pub at_ms: u64,
}
