//! Sweeps a queue: due jobs come up, leases of dead workers return, old records go, also when no worker lives.

use std::time::Duration;

use lanekeeper_queue::client::RedisOptions;
use lanekeeper_queue::types::WorkerIdentity;
use lanekeeper_queue::{Queue, QueueName};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::runner::Plan;

/// Bounds of the time between two sweeps.
const PERIOD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Most jobs that one call looks at.
const BATCH: u32 = 100;

/// Sweeps until cancelled.
pub(super) async fn run(
    redis: RedisOptions,
    name: QueueName,
    sweeper: WorkerIdentity,
    plan: watch::Receiver<Plan>,
    cancel: CancellationToken,
) {
    let mut queue: Option<Queue> = None;
    loop {
        let period = period(plan.borrow().policy.lease_ms);
        let swept = async {
            let connected = match &mut queue {
                Some(queue) => queue,
                None => queue.insert(Queue::connect(&redis, name.clone()).await?),
            };
            sweep(connected, &sweeper, &plan).await
        };
        let swept = tokio::select! {
            () = cancel.cancelled() => return,
            swept = swept => swept,
        };
        if let Err(error) = swept {
            tracing::debug!(queue = %name, %error, "sweep failed");
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// A quarter of a lease: a sweep that comes later than half a lease after the one before takes the time
/// between for an outage and expires nothing.
fn period(lease_ms: u64) -> Duration {
    Duration::from_millis(lease_ms / 4).clamp(PERIOD.0, PERIOD.1)
}

async fn sweep(
    queue: &Queue,
    sweeper: &WorkerIdentity,
    _plan: &watch::Receiver<Plan>,
) -> lanekeeper_queue::client::Result<()> {
    loop {
        let reply = queue.sweep(sweeper, BATCH).await?;
        if !reply.more {
            return Ok(());
        }
    }
}
