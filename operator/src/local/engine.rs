//! Holds the local mode together: what is desired, the host platform, the fleet of loops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as Lock, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use lanekeeper_api::manifest::Manifests;
use lanekeeper_queue::types::Configured;
use lanekeeper_queue::{QueueName, Restarts, Safety, redacted, safety};
use tokio::sync::{Mutex, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::apply::{Applied, apply};
use super::plan::{Desired, DesiredQueue, plan};
use super::verdict::Verdict;
use super::{
    LocalError, LocalEvent, LocalEventKind, LocalOptions, LocalPhase, LocalSnapshot, Reloaded, left, secrets,
    show, tend,
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
    /// What was told before anyone could ask for it, for the first who asks.
    early: Lock<Option<broadcast::Receiver<LocalEvent>>>,
    /// What the Redis of each queue promised when its policy was last applied.
    verdicts: Lock<BTreeMap<QueueName, Verdict>>,
    /// Runs of Redis whose files were seen to.
    restarts: Restarts,
    /// One change at a time: reloads, and the drain that ends them.
    changing: Mutex<()>,
    phase: watch::Sender<LocalPhase>,
    /// The end has begun.
    ending: CancellationToken,
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
        let (events, early) = broadcast::channel(1_024);
        let engine = Arc::new(Self {
            fleet: Fleet::new(Arc::clone(&host), settings, cancel.clone()),
            options,
            host,
            desired: RwLock::default(),
            shown: watch::Sender::new(LocalSnapshot::default()),
            events,
            early: Lock::new(Some(early)),
            verdicts: Lock::default(),
            restarts: Restarts::default(),
            changing: Mutex::new(()),
            phase: watch::Sender::new(LocalPhase::Starting),
            ending: CancellationToken::new(),
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
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        early.unwrap_or_else(|| self.events.subscribe())
    }

    pub(super) async fn reload(&self, manifests: Manifests) -> Result<Reloaded, LocalError> {
        let desired = plan(&manifests, &self.options)?;
        secrets::write(&desired.files)?;
        self.take(desired).await
    }

    pub(super) async fn drain(&self) {
        // A policy that is being written to a Redis that is away must not hold up the end.
        self.ending.cancel();
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

    /// Writes the policy of a queue again if it is still desired; nothing once the end has begun.
    pub(super) async fn apply_again(&self, name: &QueueName) -> Result<(), LocalError> {
        let applying = async {
            // A reload meanwhile must not be undone with what was desired before it.
            let _changing = self.changing.lock().await;
            match self.desired().queues.get(name) {
                Some(queue) => self.apply(name, queue).await,
                None => Ok(()),
            }
        };
        tokio::select! {
            biased;
            () = self.ending.cancelled() => Ok(()),
            applied = applying => applied,
        }
    }

    /// Whether a queue's Redis promises something else than when its policy was applied. One that cannot be asked
    /// has not changed: that it cannot be read is told elsewhere.
    pub(super) async fn promises_otherwise(&self, name: &QueueName, queue: &DesiredQueue) -> bool {
        let asked = async {
            let mut conn = queue.redis.connect().await?;
            if let Err(error) = self.restarts.tidy(&mut conn).await {
                tracing::warn!(queue = %name, %error, "the append-only file was not rewritten after the start of Redis");
            }
            safety(&mut conn).await
        };
        match asked.await {
            Ok(safety) => {
                let now = Verdict::new(&queue.redis, safety, queue.allow_unsafe);
                self.verdicts().get(name).is_some_and(|before| *before != now)
            }
            Err(error) => {
                tracing::debug!(queue = %name, %error, "safety not known");
                false
            }
        }
    }

    /// Writes one queue's policy and hands the queue to the fleet.
    async fn apply(&self, name: &QueueName, queue: &DesiredQueue) -> Result<(), LocalError> {
        let applied = apply(&queue.redis, name, &queue.policy, queue.allow_unsafe, false).await;
        let applied = applied.map_err(|source| LocalError::Redis {
            queue: name.to_string(),
            redis: redacted(&queue.redis.url),
            source,
        })?;
        if let Configured::Foreign { owner } = applied.configured {
            return Err(LocalError::Foreign { queue: name.to_string(), owner });
        }
        let changed = matches!(applied.configured, Configured::Applied { .. });
        let first = !self.verdicts().contains_key(name);
        for (kind, message) in applied.news(&redacted(&queue.redis.url), first) {
            self.tell(LocalEvent::now(kind, name, message));
        }
        let Applied { policy, safety, .. } = applied;
        self.judge(name, queue, safety);
        if changed || first {
            for (kind, warning) in left::of_applied(name, &queue.redis, first).await {
                self.tell(LocalEvent::now(kind, name, warning));
            }
        }
        self.fleet.set_queue(name, QueueTarget { redis: queue.redis.clone(), policy: Arc::new(policy) });
        Ok(())
    }

    /// Takes note of what a Redis promises and tells what is new.
    fn judge(&self, name: &QueueName, queue: &DesiredQueue, safety: Safety) {
        let verdict = Verdict::new(&queue.redis, safety, queue.allow_unsafe);
        let before = self.verdicts().insert(name.clone(), verdict.clone());
        if let Some((kind, message)) = verdict.news(before.as_ref()) {
            self.tell(LocalEvent::now(kind, name, message));
        }
    }

    fn verdicts(&self) -> MutexGuard<'_, BTreeMap<QueueName, Verdict>> {
        // One insertion or removal at a time: a panic elsewhere leaves nothing half done.
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
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
        for (name, queue) in before.queues.iter().filter(|(q, _)| !desired.queues.contains_key(q)) {
            self.fleet.remove_queue(name);
            self.verdicts().remove(name);
            if let Some(warning) = left::of_queue(name, &queue.redis).await {
                self.tell(LocalEvent::now(LocalEventKind::JobsLeft, name, warning));
            }
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
