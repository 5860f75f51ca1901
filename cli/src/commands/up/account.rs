//! From what the local mode knows to what others read.

use std::collections::BTreeMap;

use lanekeeper_operator::local::{LocalPhase, LocalSnapshot, PoolSnapshot};
use lanekeeper_queue::{Queue, QueueName, RedisOptions};

use crate::human::count;
use crate::local::state::{PoolState, UpState, WorkerState};
use crate::pools::problem_view;

/// The state that is published.
pub(super) fn state(snapshot: &LocalSnapshot, redis: &str) -> UpState {
    let queue_redis = snapshot.queues.iter().filter(|(_, queue)| queue.redis_url != redis);
    UpState {
        pid: std::process::id(),
        redis: redis.to_owned(),
        ready: snapshot.phase == LocalPhase::Running,
        phase: format!("{:?}", snapshot.phase),
        queues: snapshot
            .queues
            .iter()
            .map(|(name, queue)| (name.clone(), queue.stats.as_deref().cloned()))
            .collect(),
        queue_redis: queue_redis.map(|(name, queue)| (name.clone(), queue.redis_url.clone())).collect(),
        pools: snapshot.pools.iter().map(|(name, pool)| (name.clone(), pool_state(pool))).collect(),
    }
}

fn pool_state(pool: &PoolSnapshot) -> PoolState {
    PoolState {
        queue: pool.queue.clone(),
        lanes: pool.lanes.clone(),
        replicas: pool.replicas,
        ready: pool.ready,
        desired: pool.desired,
        max: pool.max,
        busy: pool.busy,
        reason: pool.reason.map(|reason| reason.to_string()).unwrap_or_default(),
        message: pool.message.clone(),
        problems: pool.problems.iter().map(problem_view).collect(),
        workers: pool
            .workers
            .iter()
            .filter_map(|w| Some(WorkerState { name: w.name.clone(), pid: w.pid? }))
            .collect(),
    }
}

/// Reads the figures once more: after the last settlement the local mode may not have looked again.
pub(super) async fn refresh(state: &mut UpState, redis: &RedisOptions) {
    for (name, stats) in &mut state.queues {
        if state.queue_redis.contains_key(name) {
            continue;
        }
        let Ok(name) = name.parse::<QueueName>() else { continue };
        // Older figures are better than none where this fails.
        if let Ok(queue) = Queue::connect(redis, name).await
            && let Ok(fresh) = queue.stats().await
        {
            *stats = Some(fresh);
        }
    }
}

/// Why a queue's figures are not fresh, by queue.
pub(super) fn errors(snapshot: &LocalSnapshot) -> BTreeMap<String, String> {
    let failing =
        snapshot.queues.iter().filter_map(|(name, queue)| Some((name.clone(), queue.error.clone()?)));
    failing.collect()
}

/// What a drain still waits for.
pub(super) fn left(state: &UpState) -> String {
    let workers: usize = state.pools.values().map(|pool| pool.workers.len()).sum();
    // By the queues' own count: a heartbeat knows of a job that has just started seconds later.
    let at_work = |queue: &String| state.pools.values().any(|p| p.queue == *queue && !p.workers.is_empty());
    let stats =
        state.queues.iter().filter(|(queue, _)| at_work(queue)).filter_map(|(_, stats)| stats.as_ref());
    let running: u64 = stats.flat_map(|s| &s.lanes).flat_map(|lane| &lane.types).map(|t| t.running).sum();
    format!("draining: {} left, {} running", count(workers as u64, "worker"), count(running, "job"))
}
