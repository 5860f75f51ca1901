//! Slots of workers, busy and free.

use super::Scene;
use super::words::count;
use crate::types::WorkerInfo;

/// The slots of workers that jobs of a lane may have.
pub(super) struct Slots {
    busy: u64,
    open: u64,
    /// Those that are free and kept for critical lanes.
    kept: u64,
}

impl Slots {
    pub(super) fn of(lane: &str, workers: &[&WorkerInfo], scene: &Scene<'_>) -> Self {
        let is_critical = |name: &str| scene.policy.lane(name).is_some_and(|lane| lane.critical);
        let runs_critical = scene
            .policy
            .lanes
            .iter()
            .filter(|lane| lane.critical)
            .any(|lane| scene.types_in(&lane.name).any(|t| t.running > 0));
        let (busy, slots) = usage(workers, scene);
        // Which worker runs the jobs of critical lanes is not told: where there are any, the slot they are for may be theirs.
        let keeps = |worker: &&&WorkerInfo| {
            !worker.draining && worker.slots > 1 && worker.lanes.iter().any(|name| is_critical(name))
        };
        let kept =
            if is_critical(lane) || runs_critical { 0 } else { workers.iter().filter(keeps).count() as u64 };
        Self { busy, open: slots.saturating_sub(kept), kept }
    }

    pub(super) fn are_busy(&self) -> bool {
        self.busy >= self.open
    }

    /// That nobody has a slot free.
    pub(super) fn full(&self, workers: usize, lane: &str) -> String {
        let (slots, workers) = (self.open, count(workers as u64, "worker"));
        let busy = match slots {
            0 => format!("No slot of the {workers} of lane {lane} is open: they drain"),
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

/// Busy slots and slots in all; a draining worker has none free. Heartbeats are older than the other figures: no more slots are
/// busy than jobs run that may be in them, those of types that no lane claims any more included.
pub(super) fn usage(workers: &[&WorkerInfo], scene: &Scene<'_>) -> (u64, u64) {
    let served =
        |lane: &str| lane.is_empty() || workers.iter().any(|worker| worker.lanes.iter().any(|l| l == lane));
    let lanes = scene.stats.lanes.iter().filter(|lane| served(&lane.name));
    let running: u64 = lanes.flat_map(|lane| &lane.types).map(|t| t.running).sum();
    let sum = |draining: bool, of: fn(&WorkerInfo) -> u32| -> u64 {
        workers.iter().filter(|worker| worker.draining == draining).map(|worker| u64::from(of(worker))).sum()
    };
    let busy = sum(false, |worker| worker.busy).min(running);
    let leaving = sum(true, |worker| worker.busy).min(running - busy);
    (busy + leaving, sum(false, |worker| worker.slots) + leaving)
}
