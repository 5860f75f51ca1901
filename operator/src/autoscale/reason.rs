//! Why a pool has the replicas it has: named constants with one sentence each.

use std::fmt;

/// The term that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub enum Reason {
    /// Nothing waits, runs or comes soon.
    Idle,
    /// Due jobs, with those that run, need these replicas to start in time.
    Backlog,
    /// Jobs keep coming at a rate that needs these replicas.
    Throughput,
    /// `depthPerReplica` asks for them.
    Depth,
    /// Running jobs keep their workers.
    Running,
    /// A scheduled job becomes due within the time a worker needs to start.
    Scheduled,
    /// `minReplicas`.
    Minimum,
    /// Work has gone, but not for long enough to take workers away.
    CoolingDown,
    /// The queue is paused: waiting jobs need no workers.
    Paused,
    /// The queue is closed: waiting jobs need no workers.
    Closed,
    /// Redis cannot be read: replicas stay as they are.
    RedisUnreachable,
    /// `scaling.mode: Manual`: `spec.replicas` counts.
    Manual,
}

impl Reason {
    /// The name, as `kubectl get wp` shows it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Backlog => "Backlog",
            Self::Throughput => "Throughput",
            Self::Depth => "Depth",
            Self::Running => "Running",
            Self::Scheduled => "Scheduled",
            Self::Minimum => "Minimum",
            Self::CoolingDown => "CoolingDown",
            Self::Paused => "Paused",
            Self::Closed => "Closed",
            Self::RedisUnreachable => "RedisUnreachable",
            Self::Manual => "Manual",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
