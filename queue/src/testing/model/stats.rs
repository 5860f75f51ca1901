//! `stats`.

use super::state::{Model, Place};
use crate::types::{LaneStats, Stats, TypeStats, WorkerInfo};

/// Policy leases within which a worker must have been seen to count as alive.
const ALIVE_LEASES: u64 = 3;

impl Model {
    pub(super) fn stats(&self, now_us: u64) -> Stats {
        let now_ms = now_us / 1_000;
        let policy = self.policy();
        let mut lanes: Vec<LaneStats> =
            policy.lanes.iter().map(|lane| LaneStats { name: lane.name.clone(), types: vec![] }).collect();
        for name in self.types.keys() {
            let lane = self.rules(name).lane.map_or("", |lane| &lane.name);
            let figures = self.type_stats(name, now_ms);
            match lanes.iter_mut().find(|known| known.name == lane) {
                Some(known) => known.types.push(figures),
                None => lanes.push(LaneStats { name: lane.to_owned(), types: vec![figures] }),
            }
        }
        let alive = |worker: &&WorkerInfo| worker.seen_ms + ALIVE_LEASES * policy.lease_ms >= now_ms;
        let mut workers: Vec<WorkerInfo> = self.workers.values().filter(alive).cloned().collect();
        workers.sort_by_key(|worker| (worker.identity.name.clone(), worker.identity.boot.clone()));
        Stats {
            now_ms,
            policy_version: self.version(),
            paused: policy.paused || self.paused_by_hand(),
            closed: policy.closed.clone(),
            dead: self.jobs.values().filter(|job| job.place == Place::Dead).count() as u64,
            next_due_ms: self.next_due(),
            lanes,
            damaged: self.damaged,
            workers,
            gates: self.closed_gates(now_us),
            records: self.jobs.len() as u64,
            bytes: None,
            full: self.is_full(),
        }
    }

    fn type_stats(&self, name: &str, now_ms: u64) -> TypeStats {
        let counters = &self.types[name];
        let mut figures = TypeStats {
            name: name.to_owned(),
            enqueued_total: counters.enqueued,
            succeeded_total: counters.succeeded,
            failed_total: counters.failed,
            died_total: counters.died,
            cancelled_total: counters.cancelled,
            attempts_total: counters.attempts,
            busy_ms_total: counters.busy_ms,
            ..TypeStats::default()
        };
        for job in self.jobs.values().filter(|job| job.job_type == name) {
            let first = |known: Option<u64>| Some(known.map_or(job.line_ms, |due| due.min(job.line_ms)));
            match job.place {
                Place::Schedule if job.line_ms > now_ms => {
                    figures.scheduled += 1;
                    figures.next_due_ms = first(figures.next_due_ms);
                }
                Place::Line | Place::Schedule => {
                    figures.ready += 1;
                    figures.oldest_due_ms = first(figures.oldest_due_ms);
                }
                Place::Leased => figures.running += 1,
                Place::Dead => figures.dead += 1,
                Place::Succeeded | Place::Cancelled | Place::Discarded => {}
            }
        }
        figures
    }
}
