//! Why a pool has the replicas it has: named constants with one sentence each.

use std::fmt;

use super::decide::LimitedBy;
use super::need::Need;
use super::sample::{Sample, ScalePolicy};

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
    /// All that waits is held back by its lane (paused, `Retry-After`, open circuit): it needs no workers.
    HeldBack,
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
            Self::HeldBack => "HeldBack",
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

/// The sentence of a frozen pool.
#[must_use]
pub fn frozen(replicas: u32) -> String {
    format!("Redis cannot be read; replicas stay at {replicas} until it can")
}

/// The sentence of a pool that a person scales.
#[must_use]
pub fn manual(replicas: u32) -> String {
    format!("scaling is manual: spec.replicas is {replicas}")
}

/// One sentence with the figures that the reason rests on.
#[must_use]
pub fn sentence(
    reason: Reason,
    limited_by: Option<LimitedBy>,
    policy: &ScalePolicy,
    sample: &Sample,
    need: &Need,
) -> String {
    let Need { due, running, soon, oldest_age_ms, .. } = *need;
    let mut text = match reason {
        Reason::Idle => "nothing waits or runs".to_owned(),
        Reason::Backlog => format!(
            "{due} due, the oldest for {} (target {}), {running} running",
            span(oldest_age_ms),
            span(policy.oldest_age_ms)
        ),
        Reason::Throughput => {
            format!("the rate of arrivals keeps {:.1} replicas busy", need.terms.throughput)
        }
        Reason::Depth => format!("{due} due at {} per replica", policy.depth_per_replica.unwrap_or(1)),
        Reason::Running => format!("{running} running on {} workers", sample.busy),
        Reason::Scheduled => format!("{soon} due before a worker started now could take it"),
        Reason::Minimum => format!("minReplicas is {}", policy.min),
        Reason::CoolingDown => {
            format!("{due} due, {running} running: fewer are needed, but not for long enough")
        }
        Reason::Paused => "the queue is paused; waiting jobs need no workers".to_owned(),
        Reason::Closed => "the queue is closed; waiting jobs need no workers".to_owned(),
        Reason::HeldBack => {
            "the lanes of the waiting jobs are held back (paused, Retry-After or an open circuit): more workers do not \
             help"
                .to_owned()
        }
        Reason::RedisUnreachable => return frozen(sample.replicas),
        Reason::Manual => "scaling is manual".to_owned(),
    };
    match limited_by {
        Some(LimitedBy::MaxReplicas) => text.push_str(&format!("; maxReplicas is {}", policy.max)),
        Some(LimitedBy::BusyWorkers) => text.push_str(&format!("; {} workers are busy", sample.busy)),
        Some(LimitedBy::IdleAfter) => {
            text.push_str(&format!("; the last replica goes after {} of quiet", span(policy.idle_after_ms)));
        }
        Some(LimitedBy::MinReplicas | LimitedBy::Stabilization) | None => {}
    }
    text
}

/// A span of time in its two greatest units: `3m20s`.
#[must_use]
pub fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3_600 if s.is_multiple_of(60) => format!("{}m", s / 60),
        60..3_600 => format!("{}m{}s", s / 60, s % 60),
        3_600..86_400 if s % 3_600 < 60 => format!("{}h", s / 3_600),
        3_600..86_400 => format!("{}h{}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3_600),
    }
}
