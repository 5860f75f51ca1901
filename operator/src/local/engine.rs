//! Holds the local mode together: what is desired, the host platform, the fleet of loops.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lanekeeper_api::manifest::Manifests;
use lanekeeper_queue::types::Configured;
use lanekeeper_queue::{QueueName, Safety, redacted};
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::apply::{Applied, apply};
use super::plan::{Desired, DesiredQueue, plan};
use super::{
    LocalError, LocalEvent, LocalEventKind, LocalOptions, LocalPhase, LocalSnapshot, Reloaded, secrets, show,
    tend,
};
use crate::autoscale::{Fleet, QueueTarget, Settings};
use crate::platform::host::{Host, HostOptions};

/// Longest time between two snapshots.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// The running local mode.
pub(super) struct Engine {
    options: LocalOptions,
    pub(super) host: Arc<Host>,
    pub(super) fleet: Arc<Fleet<Host>>,
    desired: RwLock<Arc<Desired>>,
    shown: watch::Sender<LocalSnapshot>,
    events: broadcast::Sender<LocalEvent>,
    /// One change at a time: reloads, and the drain that ends them.
    changing: Mutex<()>,
    phase: watch::Sender<LocalPhase>,
    /// Ends the loops, when no worker is left.
    cancel: CancellationToken,
}

impl Engine {
    /// Checks everything, writes the policies, and starts the loops.
    pub(super) async fn start(options: LocalOptions) -> Result<Arc<Self>, LocalError> {
        let desired = plan(&options.manifests, &options)?;
        secrets::write(&desired.files)?;
        let host = Arc::new(Host::new(HostOptions {
            command: options.worker.clone(),
            log_dir: options.worker_log_dir.clone(),
            node: options.node.clone(),
        }));
        let cancel = CancellationToken::new();
        let settings = Settings {
            tick: options.tick,
            sweeper: format!("local-{}", std::process::id()),
            node: options.node.clone(),
        };
        let engine = Arc::new(Self {
            fleet: Fleet::new(Arc::clone(&host), settings, cancel.clone()),
            options,
            host,
            desired: RwLock::default(),
            shown: watch::Sender::new(LocalSnapshot::default()),
            events: broadcast::channel(1_024).0,
            changing: Mutex::new(()),
            phase: watch::Sender::new(LocalPhase::Starting),
            cancel,
        });
        engine.take(desired).await?;
        engine.spawn_loops();
        Ok(engine)
    }

    pub(super) fn snapshot(&self) -> watch::Receiver<LocalSnapshot> {
        self.shown.subscribe()
    }

    pub(super) fn events(&self) -> broadcast::Receiver<LocalEvent> {
        self.events.subscribe()
    }

    pub(super) async fn reload(&self, manifests: Manifests) -> Result<Reloaded, LocalError> {
        let desired = plan(&manifests, &self.options)?;
        secrets::write(&desired.files)?;
        self.take(desired).await
    }

    pub(super) async fn drain(&self) {
        {
            let _changing = self.changing.lock().await;
            if *self.phase.borrow() != LocalPhase::Stopped {
                self.phase.send_replace(LocalPhase::Draining);
            }
            for pool in self.desired().pools.keys() {
                self.fleet.remove_pool(pool);
            }
        }
        self.host.drain().await;
        self.phase.send_replace(LocalPhase::Stopped);
        self.cancel.cancel();
        self.fleet.ended().await;
        self.show();
    }

    pub(super) fn kill(&self) {
        self.host.kill();
    }

    pub(super) fn desired(&self) -> Arc<Desired> {
        Arc::clone(&self.desired.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn tell(&self, event: LocalEvent) {
        // No receiver is no error: nobody listens.
        let _ = self.events.send(event);
    }

    /// Writes one queue's policy and hands the queue to the fleet.
    pub(super) async fn apply(&self, name: &QueueName, queue: &DesiredQueue) -> Result<(), LocalError> {
        let applied = apply(&queue.redis, name, &queue.policy, queue.allow_unsafe, false).await;
        let Applied { policy, configured, safety } = applied.map_err(|source| LocalError::Redis {
            queue: name.to_string(),
            redis: redacted(&queue.redis.url),
            source,
        })?;
        match configured {
            Configured::Foreign { owner } => {
                return Err(LocalError::Foreign { queue: name.to_string(), owner });
            }
            Configured::Applied { version } => {
                let message = format!("policy version {version} is in {}", redacted(&queue.redis.url));
                self.tell(LocalEvent::now(LocalEventKind::PolicyApplied, name, message));
            }
            Configured::Unchanged { .. } | Configured::Stale { .. } => {}
        }
        match safety {
            Safety::Unsafe { why } if policy.closed.is_some() => {
                let message = format!("closed to workers, because this Redis may lose jobs: {why}");
                self.tell(LocalEvent::now(LocalEventKind::RedisUnsafe, name, message));
            }
            Safety::Unsafe { why } | Safety::Unknown { why } => {
                tracing::warn!(queue = %name, %why, "this Redis may lose jobs");
            }
            Safety::Safe => {}
        }
        self.fleet.set_queue(name, QueueTarget { redis: queue.redis.clone(), policy: Arc::new(policy) });
        Ok(())
    }

    /// Makes what is desired what runs. A queue that cannot be applied leaves everything as it was, but for the
    /// queues applied before it.
    async fn take(&self, desired: Desired) -> Result<Reloaded, LocalError> {
        let _changing = self.changing.lock().await;
        let before = self.desired();
        let names = |keys: Vec<String>| keys;
        let mut reloaded = Reloaded::default();
        if matches!(*self.phase.borrow(), LocalPhase::Draining | LocalPhase::Stopped) {
            return Ok(reloaded);
        }
        for (name, queue) in &desired.queues {
            self.apply(name, queue).await?;
        }
        for (pool, wanted) in &desired.pools {
            self.host.set_pool(pool, wanted.setup.clone());
            self.fleet.set_pool(wanted.spec.clone());
        }
        for pool in before.pools.keys().filter(|p| !desired.pools.contains_key(p)) {
            self.fleet.remove_pool(pool);
            self.host.remove_pool(pool);
            reloaded.pools_dropped.push(pool.to_string());
        }
        for name in before.queues.keys().filter(|q| !desired.queues.contains_key(q)) {
            self.fleet.remove_queue(name);
            reloaded.queues_dropped.push(name.to_string());
        }
        reloaded.queues = names(desired.queues.keys().map(ToString::to_string).collect());
        reloaded.pools = names(desired.pools.keys().map(ToString::to_string).collect());
        *self.desired.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(desired);
        Ok(reloaded)
    }

    fn spawn_loops(self: &Arc<Self>) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let cancel = engine.cancel.clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = async { tokio::join!(engine.forward(), engine.keep_showing(), tend::run(&engine)); } => {}
            }
        });
    }

    /// Passes on what the fleet and the host tell.
    async fn forward(&self) {
        let mut scaled = self.fleet.changes();
        let mut workers = self.host.events();
        loop {
            // A receiver that lags has missed events for people only; the senders live as long as we do.
            tokio::select! {
                event = scaled.recv() => if let Ok(event) = event { self.tell(event.into()) },
                event = workers.recv() => if let Ok(event) = event { self.tell(event.into()) },
            }
        }
    }

    async fn keep_showing(&self) {
        loop {
            self.show();
            tokio::select! {
                () = tokio::time::sleep(SHOW_EVERY) => {}
                () = self.host.changed() => {}
            }
        }
    }

    fn show(&self) {
        let now = show::snapshot(self);
        if now.phase == LocalPhase::Running {
            self.phase.send_if_modified(|phase| {
                let first = *phase == LocalPhase::Starting;
                if first {
                    *phase = LocalPhase::Running;
                }
                first
            });
        }
        self.shown.send_if_modified(|shown| {
            let changed = *shown != now;
            *shown = now;
            changed
        });
    }

    pub(super) fn phase(&self) -> LocalPhase {
        *self.phase.borrow()
    }
}
