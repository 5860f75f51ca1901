//! Sweeps a queue: due jobs come up, leases of dead workers return, old records go, also when no worker lives.

use std::collections::HashSet;
use std::time::Duration;

use lanekeeper_api::policy::QueuePolicy;
use lanekeeper_queue::types::{Expired, Settlement, WorkerIdentity};
use lanekeeper_queue::{Queue, QueueName, RedisOptions, takeover};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::runner::Plan;
use crate::metrics::LoopMetrics;

/// Bounds of the time between two sweeps.
const PERIOD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Most jobs that one call looks at.
const BATCH: u32 = 100;
/// Most calls in a row: whatever is left is the next sweep's.
const CALLS: usize = 50;
/// A sweep that takes longer is given up; what it took over lapses again and comes back.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sweeps one queue.
struct Sweeper {
    redis: RedisOptions,
    name: QueueName,
    identity: WorkerIdentity,
    metrics: LoopMetrics,
    queue: Option<Queue>,
    /// The policy in Redis, by its version.
    policy: Option<(QueuePolicy, u64)>,
}

/// Sweeps until cancelled.
pub(super) async fn run(
    redis: RedisOptions,
    name: QueueName,
    identity: WorkerIdentity,
    plan: watch::Receiver<Plan>,
    metrics: LoopMetrics,
    cancel: CancellationToken,
) {
    let mut sweeper = Sweeper { redis, name, identity, metrics, queue: None, policy: None };
    loop {
        let pause = period(plan.borrow().policy.lease_ms);
        let swept = tokio::select! {
            () = cancel.cancelled() => return,
            swept = tokio::time::timeout(TIMEOUT, sweeper.sweep()) => swept,
        };
        match swept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(queue = %sweeper.name, %error, "sweep failed"),
            Err(_) => tracing::debug!(queue = %sweeper.name, "sweep took too long"),
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A quarter of a lease: a sweep that comes later than half a lease after the one before takes the time
/// between for an outage and expires nothing.
fn period(lease_ms: u64) -> Duration {
    Duration::from_millis(lease_ms / 4).clamp(PERIOD.0, PERIOD.1)
}

impl Sweeper {
    async fn sweep(&mut self) -> lanekeeper_queue::Result<()> {
        for _ in 0..CALLS {
            let queue = self.queue().await?;
            let reply = queue.sweep(&self.identity, BATCH).await?;
            if !reply.expired.is_empty() {
                let policy = self.policy(&queue, reply.policy_version).await?;
                let alive = alive(&queue, policy.as_ref().map_or(0, |(policy, _)| policy.lease_ms)).await;
                let settlements = settle(policy, &reply.expired, &alive, reply.now_ms);
                queue.settle(&self.identity, &settlements).await?;
                self.metrics.took_over(settlements.len());
            }
            if !reply.more {
                break;
            }
        }
        Ok(())
    }

    async fn queue(&mut self) -> lanekeeper_queue::Result<Queue> {
        if let Some(queue) = &self.queue {
            return Ok(queue.clone());
        }
        let queue = Queue::connect(&self.redis, self.name.clone()).await?;
        self.queue = Some(queue.clone());
        Ok(queue)
    }

    /// The policy of that version, read when another is known. `None`: it changed again meanwhile.
    async fn policy(
        &mut self,
        queue: &Queue,
        version: u64,
    ) -> lanekeeper_queue::Result<&Option<(QueuePolicy, u64)>> {
        if self.policy.as_ref().is_none_or(|(_, known)| *known != version) {
            self.policy = queue.policy().await?;
        }
        Ok(&self.policy)
    }
}

/// Who is alive; nobody when that cannot be read.
async fn alive(queue: &Queue, lease_ms: u64) -> HashSet<String> {
    match queue.stats().await {
        Ok(stats) => takeover::alive(stats, lease_ms),
        Err(error) => {
            tracing::debug!(queue = %queue.name(), %error, "who is alive cannot be read");
            HashSet::new()
        }
    }
}

/// One settlement per lease that expired.
fn settle(
    policy: &Option<(QueuePolicy, u64)>,
    expired: &[Expired],
    alive: &HashSet<String>,
    now_ms: u64,
) -> Vec<Settlement> {
    let settlement = |lost: &Expired| {
        let job_type = policy.as_ref().and_then(|(policy, _)| policy.job_types.get(&lost.job.job_type));
        let never_started = alive.contains(&lost.lost_by.boot);
        Settlement {
            id: lost.job.id.clone(),
            token: lost.job.token,
            key: lost.job.key.clone(),
            outcome: takeover::verdict(lost, job_type, never_started, rand::random(), now_ms),
            policy_version: policy.as_ref().map_or(0, |(_, version)| *version),
            note: None,
        }
    };
    expired.iter().map(settlement).collect()
}
