//! The local mode: the same manifests, autoscaler and policies on one machine, workers as processes.
//!
//! [`start`] takes manifests and a Redis and returns a [`LocalHandle`]: a snapshot to watch, events for people,
//! [`reload`](LocalHandle::reload) for changed manifests, [`drain`](LocalHandle::drain) and
//! [`kill`](LocalHandle::kill) for the end. [`apply`] writes a policy without running anything, for
//! `lanekeeper apply`.

pub mod apply;
mod engine;
mod error;
mod event;
mod left;
mod plan;
mod secrets;
mod show;
mod snapshot;
mod tend;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper_api::manifest::Manifests;
use lanekeeper_queue::RedisOptions;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

pub use crate::platform::host::WorkerCommand;
pub use error::LocalError;
pub use event::{LocalEvent, LocalEventKind};
pub use snapshot::{LocalPhase, LocalSnapshot, PoolSnapshot, QueueSnapshot, WorkerSnapshot};

use engine::Engine;

/// Options of the local mode.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// What to run.
    pub manifests: Manifests,
    /// The Redis of queues without `spec.redis`.
    pub redis: RedisOptions,
    /// Accept a Redis that may lose jobs for queues without `spec.redis`.
    pub allow_unsafe: bool,
    /// How to start a worker.
    pub worker: WorkerCommand,
    /// Environment added for every worker, such as `LANEKEEPER_LOG_FORMAT`.
    pub worker_env: Vec<(String, String)>,
    /// Directory for the workers' logs.
    pub worker_log_dir: PathBuf,
    /// Directory for signing secrets and certificate authorities; files in it are readable by this user only.
    pub secrets_dir: PathBuf,
    /// Name of this host in attempt histories.
    pub node: String,
    /// Longest time between two evaluations of a queue.
    pub tick: Duration,
}

/// What a reload changed, by `namespace/name`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    /// Queues that run now.
    pub queues: Vec<String>,
    /// Queues that are no longer looked after; their jobs stay in Redis.
    pub queues_dropped: Vec<String>,
    /// Pools that run now.
    pub pools: Vec<String>,
    /// Pools that are drained.
    pub pools_dropped: Vec<String>,
}

/// A running local mode. Dropping it stops nothing; cancel the token or call [`LocalHandle::drain`].
#[derive(Clone)]
pub struct LocalHandle {
    engine: Arc<Engine>,
}

/// Starts the local mode: checks the manifests, loads the function library, writes the policies, and runs workers
/// as the queues need them. Cancelling the token drains as [`LocalHandle::drain`] does.
///
/// # Errors
/// Manifests that cannot work, a Redis that cannot be used, a queue that someone else manages. Nothing runs then.
pub async fn start(options: LocalOptions, cancel: CancellationToken) -> Result<LocalHandle, LocalError> {
    let engine = Engine::start(options).await?;
    let handle = LocalHandle { engine };
    let ending = handle.clone();
    tokio::spawn(async move {
        cancel.cancelled().await;
        ending.drain().await;
    });
    Ok(handle)
}

impl LocalHandle {
    /// Queues, pools and workers as they stand; changes at least every tick.
    #[must_use]
    pub fn snapshot(&self) -> watch::Receiver<LocalSnapshot> {
        self.engine.snapshot()
    }

    /// What happens from now on, for people; the first to ask gets what has happened since the start, too.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<LocalEvent> {
        self.engine.events()
    }

    /// Changed manifests: policies are written, pools that changed are rolled, pools that are gone are drained.
    /// Jobs of queues that are gone stay in Redis.
    ///
    /// # Errors
    /// As [`start`]. What had been running goes on as it was.
    pub async fn reload(&self, manifests: Manifests) -> Result<Reloaded, LocalError> {
        self.engine.reload(manifests).await
    }

    /// Ends: every worker finishes what it runs, within its drain timeout. Resolves when the last has gone. The
    /// snapshot shows the progress.
    pub async fn drain(&self) {
        self.engine.drain().await;
    }

    /// Ends every worker at once: handlers are stopped and their jobs handed back, and who does not do so within
    /// seconds is killed. [`LocalHandle::drain`] resolves when the last has gone.
    pub fn kill(&self) {
        self.engine.kill();
    }
}
