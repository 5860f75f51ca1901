//! Keeps leases: one heartbeat for everything this worker holds, every third of a lease and every five seconds at least. What
//! handlers tell of their jobs goes with it, and makes it come earlier, though not more than once a second.
//!
//! It runs on the engine's own thread, so no handler can hold it up, however it blocks. What the reply says of lost
//! leases and cancelled jobs reaches the handlers from here, and so does the end of handlers that outstay their timeout
//! without ever giving the thread back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lanekeeper_queue::MAX_NOTES;
use lanekeeper_queue::types::{HeartbeatReply, Held, Note, WorkerInfo};

use super::Shared;
use super::executor::Ended;
use super::health::{Backoff, bounded};
use super::offers::ON_ITS_WAY;
use crate::handler::{Cause, JobContext};

/// Heartbeats before there is a policy that says how long a lease is.
const DEFAULT_LEASE: Duration = Duration::from_secs(15);
/// No policy makes the worker spin.
const MIN_LEASE: Duration = Duration::from_millis(300);
/// However long leases are: heartbeats also say that the worker lives, what was cancelled, and which policy is in force.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// Shortest time between two heartbeats because of what handlers told.
const TOLD_PAUSE: Duration = Duration::from_secs(1);
/// The executor drops handlers in time; one that is this much later blocks its thread.
const BLOCKED_SLACK: Duration = Duration::from_secs(3);

/// Renews for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
    loop {
        let pause = if beat(&shared).await {
            backoff.reset();
            let pause = third(&shared).min(MOST_PAUSE);
            if shared.ears.misses() { pause.min(ON_ITS_WAY) } else { pause }
        } else {
            backoff.pause()
        };
        write_off_blocked(&shared);
        let told = async {
            tokio::join!(shared.told.notified(), tokio::time::sleep(TOLD_PAUSE));
        };
        tokio::select! {
            () = told => {}
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
    let (held, speakers, busy) = {
        let table = shared.table();
        let (held, speakers) = table.held_and_speakers();
        (held, speakers, table.busy())
    };
    let notes = take_notes(shared, &speakers);
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
    match bounded(shared.queue.extend_telling(&info, &held, &notes)).await {
        Ok(reply) => {
            speakers.iter().for_each(|(_, ctx)| ctx.notes.arrived());
            shared.health.answered();
            shared.saw_version(reply.policy_version);
            if let Some((epoch, handed)) = reply.handed {
                shared.ears.told(epoch, handed, Instant::now());
            }
            obey(shared, &held, &reply);
            true
        }
        Err(error) => {
            speakers.iter().for_each(|(_, ctx)| ctx.notes.failed());
            // Without a policy there is nothing to hold and nothing wrong; the claim loop says so.
            if !error.no_policy() {
                shared.health.failed("heartbeat", &error, &shared.metrics);
            }
            false
        }
    }
}

/// What handlers told since the last heartbeat, by the place of their leases; what finds no room waits for the next one.
fn take_notes(shared: &Shared, speakers: &[(usize, Arc<JobContext>)]) -> Vec<(usize, Note)> {
    let (mut notes, mut room) = (Vec::new(), MAX_NOTES);
    for (at, ctx) in speakers {
        match ctx.notes.take(room) {
            Some(note) => {
                room -= note.weight();
                notes.push((*at, note));
            }
            None => shared.told.notify_one(),
        }
    }
    notes
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
