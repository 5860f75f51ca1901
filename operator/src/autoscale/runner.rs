//! The loop of one queue: read figures, observe pools, decide, scale.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::types::{Stats, WorkerIdentity};
use lanekeeper_queue::{Queue, QueueName, RedisOptions};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, State, decide};
use super::fleet::Settings;
use super::sampler::{self, PoolSpec};
use super::view::{PoolView, QueueView, ScaleEvent};
use super::{maintain, startup::Startup, wake};
use crate::clock;
use crate::metrics::LoopMetrics;
use crate::platform::{Observed, Platform, PlatformError, PoolRef, Scale, Scaled};

/// Wake messages within this of an evaluation share the next one: a queue that flickers between empty and
/// not must not keep its loop busy.
const WAKE_SPACING: Duration = Duration::from_millis(100);
/// Time between evaluations while workers start or go.
const UNSETTLED: Duration = Duration::from_secs(1);
/// Figures that take longer are no figures.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// A platform that takes longer must not keep a queue's other pools waiting.
const PLATFORM_TIMEOUT: Duration = Duration::from_secs(10);

/// What the loop looks after.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The queue's policy.
    pub(super) policy: Arc<QueuePolicy>,
    /// Its pools.
    pub(super) pools: Vec<PoolSpec>,
}

/// Where the loop shows what it sees and does.
pub(super) struct Outlets {
    pub(super) shown: watch::Sender<QueueView>,
    pub(super) changes: broadcast::Sender<ScaleEvent>,
    pub(super) metrics: LoopMetrics,
}

/// The loop of one queue.
pub(super) struct Runner<P> {
    name: QueueName,
    redis: RedisOptions,
    platform: Arc<P>,
    settings: Settings,
    out: Outlets,
    pools: BTreeMap<PoolRef, Memory>,
}

/// What the loop remembers of a pool.
struct Memory {
    state: State,
    startup: Startup,
    last_scale_ms: Option<u64>,
}

/// One look at one pool.
struct Turn<'a> {
    spec: &'a PoolSpec,
    plan: &'a Plan,
    stats: Option<&'a Stats>,
    observed: &'a Observed,
    now_ms: u64,
}

impl<P: Platform> Runner<P> {
    /// A loop that has not started.
    #[must_use]
    pub(super) fn new(
        name: QueueName,
        redis: RedisOptions,
        platform: Arc<P>,
        settings: Settings,
        out: Outlets,
    ) -> Self {
        Self { name, redis, platform, settings, out, pools: BTreeMap::new() }
    }

    /// Runs until cancelled.
    pub(super) async fn run(mut self, mut plan: watch::Receiver<Plan>, cancel: CancellationToken) {
        let woken = Arc::new(Notify::new());
        let listening =
            wake::listen(self.redis.clone(), self.name.wake_channel(), Arc::clone(&woken), cancel.clone());
        let sweeping = maintain::run(
            self.redis.clone(),
            self.name.clone(),
            self.sweeper(),
            plan.clone(),
            self.out.metrics.clone(),
            cancel.clone(),
        );
        let looping = async {
            let mut queue = None;
            loop {
                let now = plan.borrow_and_update().clone();
                let next = self.evaluate(&mut queue, &now).await;
                tokio::time::sleep(WAKE_SPACING).await;
                tokio::select! {
                    () = woken.notified() => {}
                    () = tokio::time::sleep(next) => {}
                    changed = plan.changed() => if changed.is_err() { return },
                }
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = async { tokio::join!(looping, listening, sweeping); } => {}
        }
    }

    fn sweeper(&self) -> WorkerIdentity {
        WorkerIdentity {
            name: self.settings.sweeper.clone(),
            boot: format!("{:016x}", rand::random::<u64>()),
            pool: String::new(),
            node: self.settings.node.clone(),
        }
    }

    /// One evaluation of every pool; answers the time until the next.
    async fn evaluate(&mut self, queue: &mut Option<Queue>, plan: &Plan) -> Duration {
        let started = Instant::now();
        let read = self.read(queue).await;
        let stats = read.as_ref().ok().map(Arc::clone);
        self.pools.retain(|pool, _| plan.pools.iter().any(|spec| spec.pool == *pool));
        let mut views = BTreeMap::new();
        let mut unsettled = read.is_err();
        for spec in &plan.pools {
            let view = self.pool(spec, plan, stats.as_deref()).await;
            unsettled |= view.error.is_some()
                || view.observed.as_ref().is_some_and(|o| o.ready != o.replicas || o.terminating > 0);
            views.insert(spec.pool.clone(), view);
        }
        self.out.metrics.evaluated(started.elapsed(), read.is_ok());
        self.show(read, views);
        if unsettled { self.settings.tick.min(UNSETTLED) } else { self.settings.tick }
    }

    fn show(&self, read: Result<Arc<Stats>, String>, pools: BTreeMap<PoolRef, PoolView>) {
        self.out.shown.send_modify(|shown| {
            shown.pools = pools;
            match read {
                Ok(stats) => {
                    shown.stats = Some(stats);
                    shown.read_ms = clock::wall_ms();
                    shown.error = None;
                }
                Err(error) => shown.error = Some(error),
            }
        });
    }

    async fn read(&self, queue: &mut Option<Queue>) -> Result<Arc<Stats>, String> {
        let reading = async {
            let connected = match queue {
                Some(queue) => queue,
                None => queue.insert(Queue::connect(&self.redis, self.name.clone()).await?),
            };
            connected.stats().await
        };
        match tokio::time::timeout(READ_TIMEOUT, reading).await {
            Ok(Ok(stats)) => Ok(Arc::new(stats)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("redis: no answer within {} s", READ_TIMEOUT.as_secs())),
        }
    }

    async fn pool(&mut self, spec: &PoolSpec, plan: &Plan, stats: Option<&Stats>) -> PoolView {
        let mut view = PoolView {
            busy: stats.map_or(0, |s| sampler::busy_slots(s, &spec.pool)),
            oldest_age_ms: stats.and_then(|s| sampler::oldest_age_ms(s, spec)),
            ..PoolView::default()
        };
        let observed = match within(spec, "observe", self.platform.observe(&spec.pool)).await {
            Ok(observed) => observed,
            Err(error) => {
                self.out.metrics.platform_failed();
                view.error = Some(error.to_string());
                return view;
            }
        };
        let turn = Turn { spec, plan, stats, observed: &observed, now_ms: clock::mono_ms() };
        let (decision, error) = self.turn(&turn).await;
        let memory = self.memory(&spec.pool);
        view.startup_ms = memory.startup.ms();
        view.last_scale_ms = memory.last_scale_ms;
        view.error = error;
        view.decision = Some(decision);
        view.observed = Some(observed);
        view
    }

    fn memory(&mut self, pool: &PoolRef) -> &mut Memory {
        let prior = self.platform.startup_prior_ms();
        self.pools.entry(pool.clone()).or_insert_with(|| Memory {
            state: State::default(),
            startup: Startup::new(prior),
            last_scale_ms: None,
        })
    }

    /// Decides for one pool and carries it out; the text tells what went wrong.
    async fn turn(&mut self, turn: &Turn<'_>) -> (Decision, Option<String>) {
        let Turn { spec, plan, stats, observed, now_ms } = *turn;
        let memory = self.memory(&spec.pool);
        let startup = memory.startup.ms();
        let sample = sampler::sample(stats, spec, &plan.pools, &plan.policy, observed, startup);
        memory.startup.see(observed.replicas, sample.ready, now_ms);
        let (decision, state) = decide(&spec.scale_policy(&plan.policy), &sample, &memory.state, now_ms);
        if decision.replicas == observed.replicas {
            memory.state = state;
            return (decision, None);
        }
        let scale = Scale {
            from: observed.replicas,
            to: decision.replicas,
            version: observed.version.clone(),
            idle: stats.map(|s| sampler::idle(s, &spec.pool)).unwrap_or_default(),
        };
        match within(spec, "scale", self.platform.scale(&spec.pool, &scale)).await {
            Ok(Scaled::Done) => {
                let memory = self.memory(&spec.pool);
                memory.state = state;
                memory.startup.scaled(scale.to, sample.ready, now_ms);
                memory.last_scale_ms = Some(clock::wall_ms());
                self.announce(spec, &scale, &decision);
                (decision, None)
            }
            // What was decided rests on figures that no longer hold: forget it and look again.
            Ok(Scaled::Conflict) => {
                (decision, Some("replicas changed while deciding; looking again".to_owned()))
            }
            Err(error) => {
                self.out.metrics.platform_failed();
                tracing::warn!(pool = %spec.pool, %error, to = scale.to, "scaling failed");
                (decision, Some(error.to_string()))
            }
        }
    }

    fn announce(&self, spec: &PoolSpec, scale: &Scale, decision: &Decision) {
        let event = ScaleEvent {
            pool: spec.pool.clone(),
            from: scale.from,
            to: scale.to,
            reason: decision.reason,
            message: decision.message.clone(),
            at_ms: clock::wall_ms(),
        };
        tracing::info!(
            pool = %event.pool, from = event.from, to = event.to, reason = %event.reason, "{}", event.message
        );
        self.out.metrics.scaled(&event);
        // No receiver is no error: nobody listens.
        let _ = self.out.changes.send(event);
    }
}

/// A call of the platform, given up after [`PLATFORM_TIMEOUT`].
async fn within<T>(
    spec: &PoolSpec,
    doing: &'static str,
    call: impl Future<Output = Result<T, PlatformError>>,
) -> Result<T, PlatformError> {
    match tokio::time::timeout(PLATFORM_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(elapsed) => {
            Err(PlatformError::Failed { doing, pool: spec.pool.clone(), source: Box::new(elapsed) })
        }
    }
}
