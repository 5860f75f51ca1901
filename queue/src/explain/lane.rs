//! Why the jobs of a lane wait.

use super::gates;
use super::job::{Place, held};
use super::per_worker;
use super::pool::trouble;
use super::slots::Slots;
use super::words::{count, duration};
use super::{Cause, Explanation, PoolView, Scene};
use crate::types::Job;

/// A worker with a free slot takes a job at once: what has waited longer beside one is held, or the figures are behind.
const AT_ONCE_MS: u64 = 1_000;

/// Explains a lane: what keeps its jobs, or that they flow. `first` is the job that is first in line, and where it stands.
#[must_use]
pub fn lane(name: &str, first: Option<(&Job, &Place)>, scene: &Scene<'_>) -> Explanation {
    let Some(policy) = scene.policy.lane(name) else {
        let known: Vec<&str> = scene.policy.lanes.iter().map(|lane| lane.name.as_str()).collect();
        return Explanation::new(
            Cause::Unknown,
            name,
            format!("Queue {} has no lane {name}.", scene.policy.queue),
        )
        .advice(format!("Its lanes are {}.", known.join(", ")));
    };
    let (ready, running) =
        scene.types_in(name).fold((0, 0), |(ready, running), t| (ready + t.ready, running + t.running));
    let oldest = scene.types_in(name).filter_map(|t| t.oldest_due_ms).min();
    let age = oldest.map_or(0, |due| scene.stats.now_ms.saturating_sub(due));
    if ready == 0 {
        return nothing_waits(name, running, scene);
    }
    let waiting = format!(
        "{} of lane {name} {}, the oldest for {} (promised: {}), {running} running.",
        count(ready, "job"),
        if ready == 1 { "waits" } else { "wait" },
        duration(age),
        duration(policy.start_within_ms),
    );
    if let Some(mut found) = hindrance(name, name, scene) {
        found.sentence = format!("{waiting} {}", found.sentence);
        return found;
    }
    if let Some(mut found) = per_worker::of_lane(name, scene) {
        found.sentence = format!("{waiting} {}", found.sentence);
        return found;
    }
    if age <= AT_ONCE_MS {
        return Explanation::new(Cause::Working, name, waiting);
    }
    let late = age > policy.start_within_ms;
    beside_free_slots(name, &waiting, late, first, scene)
}

/// Nothing is due, which is so of a lane that would not let anything go as well: who asks may ask for that.
fn nothing_waits(name: &str, running: u64, scene: &Scene<'_>) -> Explanation {
    let mut found = if running == 0 {
        Explanation::new(Cause::Idle, name, format!("Nothing waits in lane {name}."))
    } else {
        let sentence = format!("Nothing waits in lane {name}; {} running.", count(running, "job"));
        Explanation::new(Cause::Working, name, sentence)
    };
    // Bounds that the lane's own jobs have filled say nothing of the next one.
    let busy = |cause| matches!(cause, Cause::LaneAtConcurrency | Cause::LaneRateSpent);
    if let Some(gate) = gated(name, name, scene).filter(|gate| !busy(gate.cause)) {
        let waits = if next_probes(name, scene) { "" } else { "What comes now would wait. " };
        found.also.push(format!("{waits}{}", gate.sentence));
        found.also.extend(gate.also);
        found.advice = gate.advice;
    }
    if scene.stats.full {
        found.also.push("The queue is full by its spec.capacity: new jobs are refused.".to_owned());
    }
    found
}

/// Whether what comes now would be let through, as a probe.
fn next_probes(lane: &str, scene: &Scene<'_>) -> bool {
    let mut gates = scene.stats.gates.iter().filter(|gate| gate.lane.as_deref() == Some(lane));
    !scene.stats.paused && gates.all(|gate| gate.next_probes(scene.stats.now_ms))
}

/// Workers have room and jobs wait all the same: what is known of the first in line, and where to look.
fn beside_free_slots(
    name: &str,
    waiting: &str,
    late: bool,
    first: Option<(&Job, &Place)>,
    scene: &Scene<'_>,
) -> Explanation {
    if let Some((job, mut found)) = first.and_then(|(job, place)| Some((job, held(job, place, name, scene)?)))
    {
        let id = &job.id;
        found.sentence =
            format!("{waiting} Workers have free slots. First in line is job {id}: {}", found.sentence);
        found.also.push("Other jobs of the lane may go, or be held in the same way.".to_owned());
        return found;
    }
    let cause = if late { Cause::Late } else { Cause::JobsHeld };
    let sentence = format!(
        "{waiting} Workers have free slots, so jobs may be held by their concurrency keys or by `perWorker` of their types."
    );
    let advice = match first {
        Some((job, _)) => format!("Ask about the first in line: `lanekeeper why {}`.", job.id),
        None => "Ask about one of them: `lanekeeper why JOB`.".to_owned(),
    };
    Explanation::new(cause, name, sentence).advice(advice)
}

/// What keeps due jobs of a lane from starting, most basic first; none when workers have room.
pub(super) fn hindrance(lane: &str, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    gated(lane, subject, scene).or_else(|| unserved(lane, subject, scene))
}

/// What holds due jobs of a lane back whatever workers there are.
pub(super) fn gated(lane: &str, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    gates::of_queue(subject, scene).or_else(|| gates::of_lane(lane, subject, scene))
}

/// Why no worker takes jobs of a lane that may go.
pub(super) fn unserved(lane: &str, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    match scene.pools_of(lane) {
        Some(pools) if pools.is_empty() => {
            let found =
                Explanation::new(Cause::NoPool, subject, format!("No WorkerPool serves lane {lane}."));
            Some(found.advice(format!("Apply a WorkerPool with `queue` and `lanes: [{{name: {lane}}}]`.")))
        }
        Some(pools) => without_room(lane, subject, &pools, scene),
        None => without_workers(lane, subject, scene),
    }
}

/// Only Redis is at hand: what heartbeats tell.
fn without_workers(lane: &str, subject: &str, scene: &Scene<'_>) -> Option<Explanation> {
    let workers = scene.workers_of(lane);
    if workers.is_empty() {
        let sentence = format!("No live worker takes jobs of lane {lane}.");
        return Some(Explanation::new(Cause::NoWorker, subject, sentence).advice(
            "Ask again where the pools can be seen (by kubeconfig or in the local mode), or start a worker for the lane.",
        ));
    }
    let room = Slots::of(lane, &workers, scene);
    room.are_busy()
        .then(|| Explanation::new(Cause::SlotsBusy, subject, format!("{}.", room.full(workers.len(), lane))))
}

/// The lane has pools: whether they have workers, and those room.
fn without_room(lane: &str, subject: &str, pools: &[&PoolView], scene: &Scene<'_>) -> Option<Explanation> {
    let workers = scene.workers_of(lane);
    let room = Slots::of(lane, &workers, scene);
    if !workers.is_empty() && !room.are_busy() {
        return None;
    }
    let names = pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(found) = pools.iter().find_map(|pool| trouble(pool, subject)) {
        return Some(found);
    }
    if workers.is_empty() {
        let found = if pools.iter().all(|pool| pool.desired == 0 && pool.replicas == 0) {
            Explanation::new(Cause::PoolAtZero, subject, format!("Pool {names} has no replicas, and none is wanted yet."))
                .advice(if pools.iter().all(|pool| pool.max == 0) {
                    "Its maximum is 0: raise `scaling.maxReplicas`, or `replicas` where scaling is Manual."
                } else {
                    "The operator scales it up as soon as it sees the job; if it does not, look at its logs and at `RedisReachable`."
                })
        } else {
            let wanted: u32 = pools.iter().map(|pool| pool.desired).sum();
            Explanation::new(
                Cause::PoolStarting,
                subject,
                format!("Pool {names} is starting {}.", count(wanted.into(), "replica")),
            )
        };
        return Some(found);
    }
    let full = room.full(workers.len(), lane);
    let at_max = pools.iter().all(|pool| pool.desired >= pool.max);
    Some(if at_max {
        let max: u32 = pools.iter().map(|pool| pool.max).sum();
        let sentence =
            format!("{full}, and pool {names} is at its maximum of {}.", count(max.into(), "replica"));
        Explanation::new(Cause::PoolAtMax, subject, sentence)
            .advice("Raise `scaling.maxReplicas` or `concurrency`, or find out why its jobs take so long.")
    } else {
        Explanation::new(Cause::SlotsBusy, subject, format!("{full}; pool {names} may still grow."))
    })
}
