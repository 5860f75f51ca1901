//! The claiming half of `settle_and_claim`.

use std::collections::BTreeMap;

use lanekeeper_api::policy::LanePolicy;

use super::given::Given;
use super::state::{Job, Lease, Model, Place};
use crate::types::{ClaimReply, ClaimRequest, Claimed, WorkerIdentity};

/// Most jobs that one claim puts into their lines.
const PROMOTE: usize = 200;

impl Model {
    pub(super) fn claim(
        &mut self,
        worker: &WorkerIdentity,
        want: &ClaimRequest,
        now_us: u64,
        given: &Given,
    ) -> ClaimReply {
        let now_ms = now_us / 1_000;
        let said = want.offer.as_ref();
        // What was handed to the worker and it has not heard of takes up room.
        let unheard = said.map_or(0, |said| self.offers.unheard(&worker.boot, said));
        let unheard = u32::try_from(unheard).unwrap_or(u32::MAX);
        let slots = want.slots.min(200).saturating_sub(unheard) as usize;
        let mut limits = want.type_limits.clone();
        limits.values_mut().for_each(|most| *most = most.saturating_sub(unheard));
        let held = self.held();
        let (mut jobs, mut opens, mut waits) = (Vec::new(), None, true);
        if slots > 0 && held.is_none() {
            self.promote(PROMOTE, now_ms);
            self.regard_groups(now_us, false);
            let mut visited = Vec::new();
            for name in &want.lanes {
                let Some(lane) = self.policy().lane(name).cloned() else { continue };
                if jobs.len() < slots {
                    self.claim_lane(worker, &lane, slots - jobs.len(), &mut limits, now_us, given, &mut jobs);
                    visited.push(lane);
                }
            }
            visited.retain(|lane| !self.lane_line(&lane.name).is_empty());
            waits = !visited.is_empty();
            let (again, sure): (Vec<_>, Vec<_>) = visited
                .iter()
                .partition(|lane| self.lane_room(lane, 1, now_us).is_ok() && self.looks_again(&lane.name));
            let first = |lanes: Vec<&LanePolicy>| {
                lanes.into_iter().filter_map(|lane| self.lane_opens(lane, now_us)).min()
            };
            // Who is sent for another look is told no time.
            opens =
                first(sure).into_iter().chain(first(again).filter(|at| given.next_due_ms == Some(*at))).min();
        }
        let next = self.next_due().into_iter().chain(opens).min();
        let next_due_ms = if jobs.len() < slots { next } else { None };
        if let Some(said) = said {
            self.keep_offer(worker, want, said, slots - jobs.len(), limits, now_ms);
        }
        self.touch(now_ms);
        ClaimReply { now_ms, policy_version: self.version(), jobs, next_due_ms, held, waits }
    }

    /// Where time alone keeps the jobs of a lane that wait in line, until when.
    fn lane_opens(&self, lane: &LanePolicy, now_us: u64) -> Option<u64> {
        match self.lane_room(lane, 1, now_us) {
            Ok(_) => self.groups_open(&lane.name, now_us),
            Err((_, till_ms)) => till_ms,
        }
    }

    /// Adds to `jobs` what the lane's gates let through.
    #[allow(clippy::too_many_arguments, reason = "the claim's own state, used once")]
    fn claim_lane(
        &mut self,
        worker: &WorkerIdentity,
        lane: &LanePolicy,
        most: usize,
        limits: &mut BTreeMap<String, u32>,
        now_us: u64,
        given: &Given,
        jobs: &mut Vec<Claimed>,
    ) {
        let room = self.lane_room(lane, most, now_us).unwrap_or(0);
        let wanted = given.claimed.get(jobs.len()..).unwrap_or_default();
        let ids = self.heads(&lane.name, room, limits, now_us, wanted);
        for id in &ids {
            jobs.push(self.lease(worker, &lane.name, id, now_us / 1_000, given));
            limits.entry(self.jobs[id].job_type.clone()).and_modify(|room| *room -= 1);
        }
        if let Some(last) = ids.last() {
            self.lane_spent(lane, ids.len(), last, now_us);
        }
    }

    /// All jobs in line in a lane, in order.
    pub(super) fn lane_line(&self, lane: &str) -> Vec<(&String, &Job)> {
        let policy = self.policy();
        let Some(found) = policy.lane(lane) else { return Vec::new() };
        let of_lane = |job: &Job| policy.job_types.get(&job.job_type).is_some_and(|kind| kind.lane == lane);
        let mut line: Vec<_> =
            self.jobs.iter().filter(|(_, job)| job.place == Place::Line && of_lane(job)).collect();
        line.sort_by_cached_key(|(id, job)| (self.order.rank(job, Some(found)), (*id).clone()));
        line
    }

    pub(super) fn lease(
        &mut self,
        worker: &WorkerIdentity,
        lane: &str,
        id: &str,
        now_ms: u64,
        given: &Given,
    ) -> Claimed {
        let token = self.new_token(id, given.tokens.get(id));
        let lease = Lease {
            token,
            since_ms: now_ms,
            expires_ms: now_ms + self.lease_ms(now_ms),
            holder: worker.clone(),
            cancel: None,
            lost: None,
        };
        self.leases.insert(id.to_owned(), lease);
        if let Some(job) = self.jobs.get_mut(id) {
            job.place = Place::Leased;
        }
        let left = self.jobs[id].checkpoint.as_ref().map(|(left, _)| left.clone());
        Claimed { checkpoint: left, ..self.claimed(id, lane) }
    }

    /// A leased job as its worker sees it.
    pub(super) fn claimed(&self, id: &str, lane: &str) -> Claimed {
        let (job, lease) = (&self.jobs[id], &self.leases[id]);
        Claimed {
            id: id.to_owned(),
            token: lease.token,
            job_type: job.job_type.clone(),
            lane: lane.to_owned(),
            payload: job.payload.clone(),
            attempt: job.attempts + 1,
            tries: job.tries,
            crashes: job.crashes,
            enqueued_ms: job.asked_ms.max(job.replayed_ms),
            due_ms: job.due_ms,
            claimed_ms: lease.since_ms,
            key: job.key.clone(),
            meta: job.meta.clone(),
            checkpoint: None,
        }
    }
}
