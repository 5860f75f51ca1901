//! Why the jobs of a lane wait.

use super::gates;
use super::pool::trouble;
use super::words::{count, duration};
use super::{Cause, Explanation, PoolView, Scene};
use crate::types::WorkerInfo;

/// Explains a lane: what keeps its jobs, or that they flow.
#[must_use]
pub fn lane(name: &str, scene: &Scene<'_>) -> Explanation {
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
        let sentence = if running == 0 {
            format!("Nothing waits in lane {name}.")
        } else {
            format!("Nothing waits in lane {name}; {} running.", count(running, "job"))
        };
        return Explanation::new(if running == 0 { Cause::Idle } else { Cause::Working }, name, sentence);
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
    if age > policy.start_within_ms {
        return Explanation::new(
            Cause::Late,
            name,
            format!("{waiting} Workers have free slots and take them."),
        )
        .advice("If this stays so, a job type's perWorker bound may be too low for what comes in.");
    }
    Explanation::new(Cause::Working, name, waiting)
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

/// The slots of workers that jobs of a lane may have.
struct Slots {
    busy: u64,
    open: u64,
    /// Those that are free and kept for critical lanes.
    kept: u64,
}

impl Slots {
    fn of(lane: &str, workers: &[&WorkerInfo], scene: &Scene<'_>) -> Self {
        let is_critical = |name: &str| scene.policy.lane(name).is_some_and(|lane| lane.critical);
        let runs_critical = scene
            .policy
            .lanes
            .iter()
            .filter(|lane| lane.critical)
            .any(|lane| scene.types_in(&lane.name).any(|t| t.running > 0));
        let (busy, slots) = usage(workers.iter().copied());
        // Which worker runs the jobs of critical lanes is not told: where there are any, the slot they are for may be theirs.
        let keeps = |worker: &&&WorkerInfo| {
            !worker.draining && worker.slots > 1 && worker.lanes.iter().any(|name| is_critical(name))
        };
        let kept =
            if is_critical(lane) || runs_critical { 0 } else { workers.iter().filter(keeps).count() as u64 };
        Self { busy, open: slots.saturating_sub(kept), kept }
    }

    fn are_busy(&self) -> bool {
        self.busy >= self.open
    }

    /// That nobody has a slot free.
    fn full(&self, workers: usize, lane: &str) -> String {
        let (slots, workers) = (self.open, count(workers as u64, "worker"));
        let busy = match slots {
            1 => format!("The only slot of the {workers} of lane {lane} is busy"),
            _ => format!("All {slots} slots of the {workers} of lane {lane} are busy"),
        };
        match self.kept {
            0 => busy,
            1 => format!("{busy}, beside one that is kept for critical lanes"),
            kept => format!("{busy}, beside {kept} that are kept for critical lanes"),
        }
    }
}

/// Busy slots and slots in all; a draining worker has none free.
pub(super) fn usage<'a>(workers: impl Iterator<Item = &'a WorkerInfo>) -> (u64, u64) {
    workers.fold((0, 0), |(busy, slots), worker| {
        let open = if worker.draining { worker.busy } else { worker.slots };
        (busy + u64::from(worker.busy), slots + u64::from(open))
    })
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
