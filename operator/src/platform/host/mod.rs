//! The host platform: every worker is a child process of this one.
//!
//! A pool holds *seats*. A seat keeps one worker running: its process is started again, with growing pauses,
//! when it dies unasked, under the same name, as a Pod's container would be. A seat that must go drains its
//! worker and disappears with it.

mod log;
mod seat;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, broadcast};
use tokio_util::task::TaskTracker;

use super::{Observed, Platform, PlatformError, PoolRef, Problem, Scale, Scaled};
use seat::{Phase, Seat, Stop};

/// Time a local process takes to its first claim, until it has been measured.
const STARTUP_PRIOR_MS: u64 = 500;
/// How long a worker may take beyond its drain timeout before it is killed.
const MARGIN: Duration = Duration::from_secs(10);

/// How to start a worker: a program and the arguments before any of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The program.
    pub exe: PathBuf,
    /// Its arguments, such as `worker` for the CLI's own binary.
    pub args: Vec<String>,
}

/// Options of the host platform.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// How to start a worker.
    pub command: WorkerCommand,
    /// Directory for the workers' logs, one file each.
    pub log_dir: PathBuf,
    /// Name of this host, as workers report it.
    pub node: String,
}

/// What all workers of a pool share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolSetup {
    /// Environment added to the inherited one, from which every `LANEKEEPER_*` is taken first.
    pub env: BTreeMap<String, String>,
    /// How long running jobs may take after SIGTERM.
    pub drain_timeout: Duration,
}

/// A worker process as people and tests see it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostWorker {
    /// Name, kept when the process is started again.
    pub name: String,
    /// Process id; absent while it waits to be started again.
    pub pid: Option<u32>,
    /// It has been asked to go.
    pub draining: bool,
    /// How often in a row it died soon after its start.
    pub failures: u32,
}

/// What happened to a worker process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEvent {
    /// Its pool.
    pub pool: PoolRef,
    /// Its name.
    pub worker: String,
    /// What happened.
    pub what: HostEventKind,
}

/// Kinds of [`HostEvent`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEventKind {
    /// Started, with this process id.
    Started(u32),
    /// Ended after it had been asked to.
    Left,
    /// Ended unasked; the text tells how, with the last line it wrote.
    Died(String),
    /// Did not end within its drain timeout and was killed.
    Killed,
    /// Could not be started.
    NotStarted(String),
}

/// The platform.
pub struct Host {
    options: HostOptions,
    shared: Arc<Shared>,
}

/// What seats and the platform share.
struct Shared {
    pools: Mutex<BTreeMap<PoolRef, Pool>>,
    /// Rises with every change that an observer could have missed.
    version: AtomicU64,
    events: broadcast::Sender<HostEvent>,
    /// Something about a seat changed.
    changed: Notify,
    tasks: TaskTracker,
}

struct Pool {
    setup: Arc<PoolSetup>,
    seats: Vec<Arc<Seat>>,
    /// It has been removed and only drains.
    removed: bool,
}

impl Host {
    /// A platform without pools.
    #[must_use]
    pub fn new(options: HostOptions) -> Self {
        let (events, _) = broadcast::channel(1_024);
        let shared = Shared {
            pools: Mutex::default(),
            version: AtomicU64::new(1),
            events,
            changed: Notify::new(),
            tasks: TaskTracker::new(),
        };
        Self { options, shared: Arc::new(shared) }
    }

    /// Sets a pool up, without workers when it is new. Workers of another setup are replaced: the new ones
    /// start at once, the old ones drain.
    pub fn set_pool(&self, pool: &PoolRef, setup: PoolSetup) {
        let mut pools = self.shared.pools();
        let entry = pools.entry(pool.clone()).or_insert_with(|| Pool {
            setup: Arc::new(setup.clone()),
            seats: Vec::new(),
            removed: false,
        });
        entry.removed = false;
        if *entry.setup == setup {
            return;
        }
        entry.setup = Arc::new(setup);
        let old: Vec<_> = entry.staying().cloned().collect();
        for seat in old {
            seat.stop(Stop::Drain);
            self.add_seat(pool, entry);
        }
        self.shared.bump();
    }

    /// Drains a pool's workers and forgets it when the last has gone.
    pub fn remove_pool(&self, pool: &PoolRef) {
        let mut pools = self.shared.pools();
        let Some(entry) = pools.get_mut(pool) else { return };
        entry.removed = true;
        for seat in &entry.seats {
            seat.stop(Stop::Drain);
        }
        if entry.seats.is_empty() {
            pools.remove(pool);
        }
        self.shared.bump();
    }

    /// Workers of a pool, the draining ones included.
    #[must_use]
    pub fn workers(&self, pool: &PoolRef) -> Vec<HostWorker> {
        self.shared.pools().get(pool).map(|p| p.seats.iter().map(|s| s.shown()).collect()).unwrap_or_default()
    }

    /// What happens to workers from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<HostEvent> {
        self.shared.events.subscribe()
    }

    /// Resolves at the next change of any worker.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Drains every pool and resolves when no worker is left.
    pub async fn drain(&self) {
        let pools: Vec<_> = self.shared.pools().keys().cloned().collect();
        for pool in pools {
            self.remove_pool(&pool);
        }
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Ends every worker at once: each may hand back what it runs, and is killed with its process group when it
    /// does not do so within seconds.
    pub fn kill(&self) {
        for pool in self.shared.pools().values_mut() {
            pool.removed = true;
            for seat in &pool.seats {
                seat.stop(Stop::Kill);
            }
        }
    }

    fn add_seat(&self, pool: &PoolRef, entry: &mut Pool) {
        let name = seat::name(&pool.name);
        let seat = Arc::new(Seat::new(pool.clone(), name, Arc::clone(&entry.setup)));
        entry.seats.push(Arc::clone(&seat));
        let shared = Arc::clone(&self.shared);
        let options = self.options.clone();
        self.shared.tasks.spawn(async move {
            seat.keep(&options, &shared).await;
            shared.forget(&seat);
        });
    }
}

impl Pool {
    /// Seats that have not been asked to go.
    fn staying(&self) -> impl Iterator<Item = &Arc<Seat>> {
        self.seats.iter().filter(|s| !s.leaving())
    }

    /// `count` seats to take away: those without a running process, then idle workers in the order given,
    /// then the youngest.
    fn victims(&self, idle: &[String], count: usize) -> Vec<Arc<Seat>> {
        let mut staying: Vec<_> = self.staying().cloned().collect();
        // Seats stand in the order of their creation; the youngest first.
        staying.reverse();
        staying.sort_by_key(|seat| {
            let rank = idle.iter().position(|name| name == seat.name());
            match (seat.phase(), rank) {
                (Phase::Running { .. }, Some(rank)) => 1 + rank,
                (Phase::Running { .. }, None) => usize::MAX,
                _ => 0,
            }
        });
        staying.truncate(count);
        staying
    }
}

impl Shared {
    fn pools(&self) -> MutexGuard<'_, BTreeMap<PoolRef, Pool>> {
        // Every change under the lock is whole by itself, so a panic elsewhere leaves nothing half done.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bump(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }

    fn tell(&self, seat: &Seat, what: HostEventKind) {
        let event = HostEvent { pool: seat.pool().clone(), worker: seat.name().to_owned(), what };
        // No receiver is no error: nobody listens.
        let _ = self.events.send(event);
        self.changed.notify_waiters();
    }

    fn forget(&self, seat: &Arc<Seat>) {
        let mut pools = self.pools();
        if let Some(pool) = pools.get_mut(seat.pool()) {
            pool.seats.retain(|s| !Arc::ptr_eq(s, seat));
            if pool.removed && pool.seats.is_empty() {
                pools.remove(seat.pool());
            }
        }
        drop(pools);
        self.changed.notify_waiters();
    }
}

impl Platform for Host {
    async fn observe(&self, pool: &PoolRef) -> Result<Observed, PlatformError> {
        let pools = self.shared.pools();
        let entry =
            pools.get(pool).filter(|p| !p.removed).ok_or_else(|| PlatformError::NoSuchPool(pool.clone()))?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let running = entry.staying().filter(|s| matches!(s.phase(), Phase::Running { .. })).count();
        let problems: Vec<Problem> = entry.staying().filter_map(|s| s.problem()).collect();
        Ok(Observed {
            replicas: count(entry.staying().count()),
            ready: count(running),
            terminating: count(entry.seats.len() - entry.staying().count()),
            problems,
            version: Some(self.shared.version.load(Ordering::Relaxed).to_string()),
        })
    }

    async fn scale(&self, pool: &PoolRef, scale: &Scale) -> Result<Scaled, PlatformError> {
        let mut pools = self.shared.pools();
        let entry = pools
            .get_mut(pool)
            .filter(|p| !p.removed)
            .ok_or_else(|| PlatformError::NoSuchPool(pool.clone()))?;
        let present = entry.staying().count();
        let version = self.shared.version.load(Ordering::Relaxed).to_string();
        let outdated = scale.version.as_ref().is_some_and(|seen| *seen != version);
        if outdated || present != scale.from as usize {
            return Ok(Scaled::Conflict);
        }
        let to = scale.to as usize;
        for _ in present..to {
            self.add_seat(pool, entry);
        }
        for seat in entry.victims(&scale.idle, present.saturating_sub(to)) {
            seat.stop(Stop::Drain);
        }
        self.shared.bump();
        Ok(Scaled::Done)
    }

    fn startup_prior_ms(&self) -> u64 {
        STARTUP_PRIOR_MS
    }
}
