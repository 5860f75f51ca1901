//! What happens in the local mode, for people.

use crate::autoscale::ScaleEvent;
use crate::clock;
use crate::platform::host::{HostEvent, HostEventKind};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalEvent {
    /// When, ms since the epoch.
    pub at_ms: u64,
    /// What.
    pub kind: LocalEventKind,
    /// `namespace/name` of the queue or pool.
    pub subject: String,
    /// One sentence.
    pub message: String,
}

/// Kinds of [`LocalEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum LocalEventKind {
    /// A policy is in Redis.
    PolicyApplied,
    /// A policy was not taken.
    PolicyRefused,
    /// A stored policy could not be read and was replaced.
    PolicyDamaged,
    /// The function library in a Redis is newer than this program.
    LibraryNewer,
    /// Workers that are not of this local mode serve a queue as well.
    OtherWorkers,
    /// A queue is closed to workers, because its Redis may lose jobs.
    RedisUnsafe,
    /// A queue is open to workers again, since its Redis keeps jobs now.
    RedisSafe,
    /// A Redis may lose jobs, which is accepted, or does not show whether it does.
    RedisDoubtful,
    /// Jobs wait that nothing in the manifests will run.
    JobsLeft,
    /// A queue's Redis cannot be read any more.
    RedisLost,
    /// It can be read again.
    RedisBack,
    /// More replicas.
    ScaledUp,
    /// Fewer replicas.
    ScaledDown,
    /// No replicas.
    ScaledToZero,
    /// A worker process started.
    WorkerStarted,
    /// A worker process ended after it had been asked to.
    WorkerLeft,
    /// A worker process ended unasked; it is started again.
    WorkerDied,
    /// A worker process did not end in time and was killed.
    WorkerKilled,
    /// A worker process could not be started.
    WorkerFailed,
}

impl LocalEvent {
    /// An event that happens now.
    #[must_use]
    pub fn now(kind: LocalEventKind, subject: impl ToString, message: impl Into<String>) -> Self {
        Self { at_ms: clock::wall_ms(), kind, subject: subject.to_string(), message: message.into() }
    }
}

impl From<ScaleEvent> for LocalEvent {
    fn from(event: ScaleEvent) -> Self {
        let kind = match event.to {
            0 => LocalEventKind::ScaledToZero,
            to if to > event.from => LocalEventKind::ScaledUp,
            _ => LocalEventKind::ScaledDown,
        };
        let ScaleEvent { pool, from, to, reason, message, at_ms } = event;
        Self {
            at_ms,
            kind,
            subject: pool.to_string(),
            message: format!("{from} → {to}: {reason}: {message}"),
        }
    }
}

impl From<HostEvent> for LocalEvent {
    fn from(event: HostEvent) -> Self {
        let worker = &event.worker;
        let (kind, message) = match event.what {
            HostEventKind::Started(pid) => {
                (LocalEventKind::WorkerStarted, format!("{worker}: process {pid}"))
            }
            HostEventKind::Left => (LocalEventKind::WorkerLeft, format!("{worker} has drained and left")),
            HostEventKind::Died(how) => (LocalEventKind::WorkerDied, format!("{worker} died: {how}")),
            HostEventKind::Killed => {
                (LocalEventKind::WorkerKilled, format!("{worker} did not end in time and was killed"))
            }
            HostEventKind::NotStarted(why) => (LocalEventKind::WorkerFailed, format!("{worker}: {why}")),
        };
        Self::now(kind, event.pool, message)
    }
}
