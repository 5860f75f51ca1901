//! The local mode at one moment, for tables, dashboards and files.

use std::collections::BTreeMap;
use std::sync::Arc;

use lanekeeper_queue::types::Stats;

use crate::autoscale::{LimitedBy, Reason};
use crate::platform::Problem;

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalSnapshot {
    /// Where the whole stands.
    pub phase: LocalPhase,
    /// Queues by `namespace/name`.
    pub queues: BTreeMap<String, QueueSnapshot>,
    /// Pools by `namespace/name`.
    pub pools: BTreeMap<String, PoolSnapshot>,
}

/// Where the local mode stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub enum LocalPhase {
    /// Not every queue has been read yet.
    #[default]
    Starting,
    /// At work.
    Running,
    /// Workers finish what they run.
    Draining,
    /// No worker is left.
    Stopped,
}

/// A queue.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueSnapshot {
    /// `namespace/name`.
    pub name: String,
    /// Its Redis, as the URL that reaches it.
    #[serde(skip)]
    pub redis_url: String,
    /// The last figures that could be read; absent before the first.
    pub stats: Option<Arc<Stats>>,
    /// When they were read, ms since the epoch.
    pub read_ms: u64,
    /// Why the latest attempt to read them failed; absent: they are fresh.
    pub error: Option<String>,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolSnapshot {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `namespace/name` of its queue.
    pub queue: String,
    /// Lanes in order.
    pub lanes: Vec<String>,
    /// Slots per worker.
    pub slots: u32,
    /// Most replicas.
    pub max: u32,
    /// Workers asked for.
    pub replicas: u32,
    /// Worker processes that run and are not on their way out.
    pub ready: u32,
    /// Workers that the last decision wants.
    pub desired: u32,
    /// Slots in use.
    pub busy: u32,
    /// Age of the oldest due job, ms.
    pub oldest_age_ms: Option<u64>,
    /// Why that many.
    pub reason: Option<Reason>,
    /// The same in one sentence.
    pub message: String,
    /// What limits the figure.
    pub limited_by: Option<LimitedBy>,
    /// Workers that do not come up, or do not stay up.
    pub problems: Vec<Problem>,
    /// When replicas last changed, ms since the epoch.
    pub last_scale_ms: Option<u64>,
    /// Worker processes, the draining ones included.
    pub workers: Vec<WorkerSnapshot>,
}

/// A worker process.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerSnapshot {
    /// Name, kept when the process is started again.
    pub name: String,
    /// Process id; absent while it waits to be started again.
    pub pid: Option<u32>,
    /// Slots in use by its last heartbeat.
    pub busy: u32,
    /// It takes no more jobs.
    pub draining: bool,
}
