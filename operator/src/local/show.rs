//! Builds snapshots.

use std::collections::BTreeMap;

use lanekeeper_queue::QueueName;
use lanekeeper_queue::types::Stats;

use super::engine::Engine;
use super::plan::DesiredPool;
use super::{LocalPhase, LocalSnapshot, PoolSnapshot, QueueSnapshot, WorkerSnapshot};
use crate::autoscale::{PoolView, QueueView};
use crate::platform::PoolRef;
use crate::platform::host::HostWorker;

/// Everything as it stands now.
pub(super) fn snapshot(engine: &Engine) -> LocalSnapshot {
    let desired = engine.desired();
    let views: BTreeMap<&QueueName, QueueView> = desired
        .queues
        .keys()
        .filter_map(|name| Some((name, engine.fleet.view(name)?.borrow().clone())))
        .collect();
    let queues = desired.queues.iter().map(|(name, queue)| {
        let view = views.get(name).cloned().unwrap_or_default();
        let shown = QueueSnapshot {
            name: name.to_string(),
            redis_url: queue.redis.url.clone(),
            stats: view.stats,
            read_ms: view.read_ms,
            error: view.error,
        };
        (name.to_string(), shown)
    });
    let pools = desired.pools.iter().map(|(pool, wanted)| {
        let view = views.get(&wanted.spec.queue);
        (pool.to_string(), pool_snapshot(pool, wanted, view, &engine.host.workers(pool)))
    });
    let read = views.values().all(|v| v.stats.is_some()) && views.len() == desired.queues.len();
    let phase = match engine.phase() {
        LocalPhase::Starting if read => LocalPhase::Running,
        phase => phase,
    };
    LocalSnapshot { phase, queues: queues.collect(), pools: pools.collect() }
}

fn pool_snapshot(
    pool: &PoolRef,
    wanted: &DesiredPool,
    view: Option<&QueueView>,
    workers: &[HostWorker],
) -> PoolSnapshot {
    let spec = &wanted.spec;
    let stats = view.and_then(|v| v.stats.as_deref());
    let seen: PoolView = view.and_then(|v| v.pools.get(pool)).cloned().unwrap_or_default();
    let workers_shown: Vec<_> = workers.iter().map(|w| worker(w, pool, stats)).collect();
    // A pool that drains is no longer scaled, so nobody but its workers knows what it does.
    let beating = workers_shown.iter().map(|w| w.busy).sum();
    let staying = workers.iter().filter(|w| !w.draining);
    let replicas = count(staying.clone().count());
    PoolSnapshot {
        namespace: pool.namespace.clone(),
        name: pool.name.clone(),
        queue: spec.queue.to_string(),
        lanes: spec.lanes.clone(),
        slots: spec.slots,
        max: spec.max,
        replicas,
        ready: count(staying.filter(|w| w.pid.is_some()).count()),
        desired: seen.decision.as_ref().map_or(replicas, |d| d.replicas),
        busy: view.and_then(|v| v.pools.get(pool)).map_or(beating, |p| p.busy),
        oldest_age_ms: seen.oldest_age_ms,
        reason: seen.decision.as_ref().map(|d| d.reason),
        message: seen.decision.as_ref().map(|d| d.message.clone()).unwrap_or_default(),
        limited_by: seen.decision.as_ref().and_then(|d| d.limited_by),
        problems: seen.observed.map(|o| o.problems).unwrap_or_default(),
        last_scale_ms: seen.last_scale_ms,
        workers: workers_shown,
    }
}

fn worker(of: &HostWorker, pool: &PoolRef, stats: Option<&Stats>) -> WorkerSnapshot {
    let beats = stats.into_iter().flat_map(|s| &s.workers);
    let beat = beats.into_iter().find(|w| w.identity.pool == pool.name && w.identity.name == of.name);
    WorkerSnapshot {
        name: of.name.clone(),
        pid: of.pid,
        busy: beat.map_or(0, |b| b.busy),
        draining: of.draining,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
