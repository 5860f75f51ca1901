//! One loop per queue, for all its pools.
//!
//! Reconcilers and the local mode tell the fleet what exists; the fleet reads figures, decides, scales and
//! sweeps until it is cancelled. Telling it the same again changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::QueueName;
use lanekeeper_queue::RedisOptions;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::runner::{Outlets, Plan, Runner};
use super::sampler::PoolSpec;
use super::view::{QueueView, ScaleEvent};
use crate::metrics::LoopMetrics;
use crate::platform::{Platform, PoolRef};

/// How the loops run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Longest time between two evaluations of a queue.
    pub tick: Duration,
    /// Name under which this process sweeps.
    pub sweeper: String,
    /// Node or host of this process.
    pub node: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tick: Duration::from_secs(5), sweeper: "operator".to_owned(), node: String::new() }
    }
}

/// A queue to look after.
#[derive(Debug, Clone)]
pub struct QueueTarget {
    /// Its Redis, with rights on the queue's keys.
    pub redis: RedisOptions,
    /// Its policy as configured.
    pub policy: Arc<QueuePolicy>,
}

/// All loops of this process.
pub struct Fleet<P> {
    platform: Arc<P>,
    settings: Settings,
    cancel: CancellationToken,
    tasks: TaskTracker,
    changes: broadcast::Sender<ScaleEvent>,
    metrics: LoopMetrics,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    queues: BTreeMap<QueueName, Entry>,
    pools: BTreeMap<PoolRef, PoolSpec>,
}

struct Entry {
    redis: RedisOptions,
    plan: watch::Sender<Plan>,
    view: watch::Receiver<QueueView>,
    cancel: CancellationToken,
}

impl<P: Platform> Fleet<P> {
    /// A fleet without queues. Cancelling ends every loop; replicas stay as they are.
    #[must_use]
    pub fn new(platform: Arc<P>, settings: Settings, cancel: CancellationToken) -> Arc<Self> {
        Self::with_metrics(platform, settings, LoopMetrics::default(), cancel)
    }

    /// The same, counting in `metrics`.
    #[must_use]
    pub fn with_metrics(
        platform: Arc<P>,
        settings: Settings,
        metrics: LoopMetrics,
        cancel: CancellationToken,
    ) -> Arc<Self> {
        let (changes, _) = broadcast::channel(256);
        Arc::new(Self {
            platform,
            settings,
            cancel,
            tasks: TaskTracker::new(),
            changes,
            metrics,
            known: Mutex::default(),
        })
    }

    /// A queue exists, with this policy. Its loop starts anew only when its Redis is another.
    pub fn set_queue(&self, name: &QueueName, target: QueueTarget) {
        let mut known = self.known();
        let plan = Plan { policy: target.policy, pools: pools_of(&known.pools, name) };
        if let Some(entry) = known.queues.get(name)
            && same_redis(&entry.redis, &target.redis)
        {
            replace(&entry.plan, plan);
            return;
        }
        if let Some(old) = known.queues.remove(name) {
            old.cancel.cancel();
        }
        let entry = self.start(name, target.redis, plan);
        known.queues.insert(name.clone(), entry);
    }

    /// A queue is gone: its loop ends, its pools stay as they are until they are removed.
    pub fn remove_queue(&self, name: &QueueName) {
        if let Some(entry) = self.known().queues.remove(name) {
            entry.cancel.cancel();
        }
    }

    /// A pool exists. It is scaled as soon as its queue is known too.
    pub fn set_pool(&self, spec: PoolSpec) {
        let mut known = self.known();
        let before = known.pools.insert(spec.pool.clone(), spec.clone());
        known.replan(&spec.queue);
        if let Some(before) = before
            && before.queue != spec.queue
        {
            known.replan(&before.queue);
        }
    }

    /// A pool is gone, or must not be scaled.
    pub fn remove_pool(&self, pool: &PoolRef) {
        let mut known = self.known();
        if let Some(before) = known.pools.remove(pool) {
            known.replan(&before.queue);
        }
    }

    /// What a queue's loop sees; absent: the queue is not known.
    #[must_use]
    pub fn view(&self, name: &QueueName) -> Option<watch::Receiver<QueueView>> {
        self.known().queues.get(name).map(|entry| entry.view.clone())
    }

    /// The policy that a queue's loop follows; absent: the queue is not known.
    #[must_use]
    pub fn policy(&self, name: &QueueName) -> Option<Arc<QueuePolicy>> {
        self.known().queues.get(name).map(|entry| Arc::clone(&entry.plan.borrow().policy))
    }

    /// Every change of replicas from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<ScaleEvent> {
        self.changes.subscribe()
    }

    /// Resolves when every loop has ended; cancel first.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn start(&self, name: &QueueName, redis: RedisOptions, plan: Plan) -> Entry {
        let cancel = self.cancel.child_token();
        let (plan, plan_seen) = watch::channel(plan);
        let (shown, view) = watch::channel(QueueView::default());
        let runner = Runner::new(
            name.clone(),
            redis.clone(),
            Arc::clone(&self.platform),
            self.settings.clone(),
            Outlets { shown, changes: self.changes.clone(), metrics: self.metrics.clone() },
        );
        self.tasks.spawn(runner.run(plan_seen, cancel.clone()));
        Entry { redis, plan, view, cancel }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change under the lock is whole by itself, so a panic elsewhere leaves nothing half done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn replan(&self, name: &QueueName) {
        if let Some(entry) = self.queues.get(name) {
            let policy = Arc::clone(&entry.plan.borrow().policy);
            replace(&entry.plan, Plan { policy, pools: pools_of(&self.pools, name) });
        }
    }
}

fn replace(at: &watch::Sender<Plan>, plan: Plan) {
    at.send_if_modified(|present| {
        let changed = *present != plan;
        *present = plan;
        changed
    });
}

fn pools_of(pools: &BTreeMap<PoolRef, PoolSpec>, name: &QueueName) -> Vec<PoolSpec> {
    pools.values().filter(|p| p.queue == *name).cloned().collect()
}

fn same_redis(a: &RedisOptions, b: &RedisOptions) -> bool {
    a.url == b.url && a.ca_pem == b.ca_pem
}
