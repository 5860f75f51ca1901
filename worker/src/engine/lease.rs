//! Keeps leases: one heartbeat for everything this worker holds, every third of a lease and every five seconds at least.
//!
//! It runs on the engine's own thread, so no handler can hold it up, however it blocks. What the reply says of lost
//! leases and cancelled jobs reaches the handlers from here, and so does the end of handlers that outstay their timeout
//! without ever giving the thread back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanekeeper_queue::types::{HeartbeatReply, Held, WorkerInfo};

use super::Shared;
use super::executor::Ended;
use super::health::{Backoff, bounded};
use crate::handler::Cause;

/// Heartbeats before there is a policy that says how long a lease is.
const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// No policy makes the worker spin.
const MIN_LEASE: Duration = Duration::from_millis(300);
/// However long leases are: heartbeats also say that the worker lives, what was cancelled, and which policy is in force.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// The executor drops handlers in time; one that is this much later blocks its thread.
const BLOCKED_SLACK: Duration = Duration::from_secs(3);

/// Renews for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
    loop {
        let pause = if beat(&shared).await {
            backoff.reset();
            third(&shared).min(MOST_PAUSE)
        } else {
            backoff.pause()
        };
        write_off_blocked(&shared);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.heartbeat.notified() => {}
        }
    }
}

/// A third of a lease.
pub(super) fn third(shared: &Shared) -> Duration {
    let lease = shared.policy().map_or(DEFAULT_LEASE, |policy| policy.lease);
    lease.max(MIN_LEASE) / 3
}

/// One heartbeat; false when Redis did not take it.
async fn beat(shared: &Shared) -> bool {
    let (held, busy) = {
        let table = shared.table();
        (table.held(), table.busy())
    };
    let info = WorkerInfo {
        identity: shared.options.identity.clone(),
        lanes: shared.options.lanes.clone(),
        slots: shared.options.slots,
        busy: u32::try_from(busy).unwrap_or(u32::MAX),
        draining: shared.options.shutdown.drain.is_cancelled(),
        // The server fills these in.
        seen_ms: 0,
        started_ms: 0,
    };
    match bounded(shared.queue.extend(&info, &held)).await {
        Ok(reply) => {
            shared.health.answered();
            shared.saw_version(reply.policy_version);
            obey(shared, &held, &reply);
            true
        }
        Err(error) => {
            // Without a policy there is nothing to hold and nothing wrong; the claim loop says so.
            if !error.no_policy() {
                shared.health.failed("heartbeat", &error, &shared.metrics);
            }
            false
        }
    }
}

/// Stops the handlers that the reply names. Tokens are compared: by now the same job may be back here under a new lease.
fn obey(shared: &Shared, held: &[Held], reply: &HeartbeatReply) {
    if reply.lost.is_empty() && reply.cancelled.is_empty() {
        return;
    }
    let tokens: HashMap<&str, u64> = held.iter().map(|h| (h.id.as_str(), h.token)).collect();
    for (ids, cause) in [(&reply.lost, Cause::LeaseLost), (&reply.cancelled, Cause::Cancelled)] {
        let named = ids.iter().filter_map(|id| Some((id.as_str(), *tokens.get(id.as_str())?))).collect();
        let stopped = shared.table().stop(&named, cause);
        if stopped > 0 {
            tracing::warn!(jobs = stopped, cause = cause.as_str(), "stopping handlers");
        }
    }
}

/// Attempts whose handlers block are settled over their heads; their slots stay taken until the thread comes back.
fn write_off_blocked(shared: &Shared) {
    let overdue = shared.table().write_off_overdue(Instant::now(), BLOCKED_SLACK);
    for (ctx, entry) in overdue {
        tracing::error!(
            job = ctx.job.id,
            r#type = ctx.job.job_type,
            attempt = ctx.job.attempt,
            trace = ctx.trace_id(),
            "the handler blocks its thread beyond the timeout: the attempt counts as timed out, its slot is lost until it returns"
        );
        shared.conclude(&ctx, &entry, Ended::Abandoned, ctx.started.elapsed());
    }
    shared.engine.notify_one();
}
