//! Sweep duty: every worker now and then collects expired leases, decides what becomes of their jobs, and settles them
//! under the takeover token. No leader is needed; the sweep itself hands each lease to one sweeper.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper_queue::takeover;
use lanekeeper_queue::types::{Expired, Settlement};

use super::health::{Backoff, bounded};
use super::{Shared, decide};

/// Leases taken over in one call.
const BATCH: u32 = 100;
/// Consecutive calls while there is more, before others get their turn.
const ROUNDS: usize = 20;
/// Tries to settle what was taken over; after that its takeover lease lapses and the next sweep has it.
const TRIES: usize = 5;

/// Sweeps until the drain begins.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut first = true;
    loop {
        // At least every quarter or so of a lease: the sweep takes half a lease without any call for an outage.
        let third = super::lease::third(&shared);
        let spread = if first { 0.0..0.8 } else { 0.5..0.8 };
        first = false;
        let pause = third.mul_f64(rand::random_range(spread));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.options.shutdown.drain.cancelled() => return,
        }
        if shared.policy().is_some() {
            sweep(&shared).await;
        }
    }
}

async fn sweep(shared: &Shared) {
    for _ in 0..ROUNDS {
        let _gate = shared.sweeping.lock().await;
        let reply = match bounded(shared.queue.sweep(&shared.options.identity, BATCH)).await {
            Ok(reply) => reply,
            Err(error) => {
                if !error.no_policy() {
                    shared.health.failed("sweep", &error, &shared.metrics);
                }
                return;
            }
        };
        shared.health.answered();
        shared.saw_version(reply.policy_version);
        if reply.rearmed > 0 {
            tracing::info!(leases = reply.rearmed, "leases that lapsed in an outage were renewed");
        }
        settle(shared, &reply.expired, reply.now_ms).await;
        if !reply.more {
            return;
        }
    }
}

async fn settle(shared: &Shared, expired: &[Expired], now_ms: u64) {
    if expired.is_empty() {
        return;
    }
    shared.metrics.taken_over.inc_by(expired.len() as u64);
    let alive = alive(shared).await;
    let settlements: Vec<_> = expired.iter().map(|expired| decide(shared, expired, &alive, now_ms)).collect();
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for _ in 0..TRIES {
        match bounded(shared.queue.settle(&shared.options.identity, &settlements)).await {
            Ok(_) => return shared.health.answered(),
            Err(error) => shared.health.failed("settle", &error, &shared.metrics),
        }
        tokio::time::sleep(backoff.pause()).await;
    }
}

/// Who is alive; nobody when that cannot be read.
async fn alive(shared: &Shared) -> HashSet<String> {
    let lease = shared.policy().map_or(0, |policy| crate::handler::millis(policy.lease));
    match bounded(shared.queue.stats()).await {
        Ok(stats) => takeover::alive(stats, lease),
        Err(error) => {
            shared.health.failed("stats", &error, &shared.metrics);
            HashSet::new()
        }
    }
}

fn decide(shared: &Shared, expired: &Expired, alive: &HashSet<String>, now_ms: u64) -> Settlement {
    let (job, lost_by) = (&expired.job, &expired.lost_by);
    let policy = shared.policy();
    let entry = policy.as_ref().and_then(|policy| policy.types.get(&job.job_type));
    // A job this process runs although its lease expired was frozen with it: that is as good as a crash.
    let never_started = alive.contains(&lost_by.boot) && !shared.table().knows(&job.id);
    let job_type = entry.map(|entry| &entry.policy);
    let outcome = takeover::verdict(expired, job_type, never_started, rand::random(), now_ms);
    tracing::warn!(
        job = job.id,
        r#type = job.job_type,
        attempt = job.attempt,
        lost_by = lost_by.name,
        outcome = decide::ending(&outcome, None).as_str(),
        "took over an expired lease"
    );
    let policy_version = policy.map_or(0, |policy| policy.version);
    Settlement {
        id: job.id.clone(),
        token: job.token,
        key: job.key.clone(),
        outcome,
        policy_version,
        note: None,
    }
}
