//! What a generator of operations may want to know of the state.

use std::collections::BTreeSet;

use lanekeeper_api::policy::QueuePolicy;

use super::groups::Group;
use super::state::{Job, Model, Place};
use crate::types::{JobState, WorkerIdentity};

impl Model {
    /// The policy, if there is one.
    #[must_use]
    pub fn present_policy(&self) -> Option<&QueuePolicy> {
        self.stored.as_ref().map(|stored| &stored.policy)
    }

    /// The leases: job, token, holder.
    pub fn leases(&self) -> impl Iterator<Item = (&str, u64, &WorkerIdentity)> {
        self.leases.iter().map(|(id, lease)| (id.as_str(), lease.token, &lease.holder))
    }

    /// The idempotency keys that stand, and those of the jobs whose records stand.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<&String> {
        self.keys.keys().chain(self.jobs.values().filter_map(|job| job.key.as_ref())).collect()
    }

    /// The lanes whose jobs somebody must be awake for.
    #[must_use]
    pub fn waiting_lanes(&self) -> Vec<String> {
        let Some(policy) = self.present_policy() else { return Vec::new() };
        if self.held().is_some() {
            return Vec::new();
        }
        // Nobody is woken for a gate that time opens: who claimed in vain knows when.
        let open = policy.lanes.iter().filter(|lane| self.open_for_good(lane));
        let goes = |lane: &str| self.lane_line(lane).iter().any(|(_, job)| self.goes_for_good(job));
        open.filter(|lane| goes(&lane.name)).map(|lane| lane.name.clone()).collect()
    }

    /// Types that have a concurrency key.
    #[must_use]
    pub fn keyed_types(&self) -> Vec<String> {
        let Some(policy) = self.present_policy() else { return Vec::new() };
        let keyed = policy.job_types.iter().filter(|(_, spec)| spec.concurrency_key.is_some());
        keyed.map(|(name, _)| name.clone()).collect()
    }

    /// Jobs in line that have a concurrency key.
    #[must_use]
    pub fn keyed_jobs(&self) -> Vec<String> {
        let keyed = |job: &Job| job.place == Place::Line && matches!(job.group, Group::Of(_));
        self.jobs.iter().filter(|(_, job)| keyed(job)).map(|(id, _)| id.clone()).collect()
    }

    /// The jobs whose records stand, in a state or in any.
    #[must_use]
    pub fn jobs_in(&self, state: Option<JobState>, now_ms: u64) -> Vec<String> {
        self.jobs
            .iter()
            .filter(|(id, job)| state.is_none_or(|state| self.state_of(id, job, now_ms) == state))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Every id that a job ever had.
    pub fn known_ids(&self) -> impl Iterator<Item = &String> {
        self.ids.iter()
    }

    /// The last token of a job, and those of its earlier attempts.
    #[must_use]
    pub fn tokens_of(&self, id: &str) -> Vec<u64> {
        let earlier = self.jobs.get(id).into_iter().flat_map(|job| job.history.iter().map(|a| a.token));
        self.tokens.get(id).copied().into_iter().chain(earlier).collect()
    }

    /// Moments at which something becomes due or over, ms; past ones among them.
    #[must_use]
    pub fn moments(&self, now_ms: u64) -> Vec<u64> {
        if self.stored.is_none() {
            return Vec::new();
        }
        let lease = self.lease_ms(now_ms);
        let mut moments = vec![self.outage_ms + lease];
        moments.extend(self.served_ms.map(|at| at + lease / 2));
        moments.extend(self.longer.map(|(_, until)| until));
        moments.extend(self.leases.values().map(|lease| lease.expires_ms));
        moments.extend(self.key_checks.values());
        moments.extend(self.gate_moments());
        moments.extend(self.group_moments());
        moments.extend(self.workers.values().map(|worker| worker.seen_ms + 3 * self.policy().lease_ms));
        for job in self.jobs.values() {
            match (job.place, job.finished_ms) {
                (Place::Schedule, _) => moments.push(job.line_ms),
                (Place::Succeeded | Place::Cancelled, Some(at)) => {
                    moments.push(at + self.rules(&job.job_type).completed.for_ms);
                }
                (Place::Discarded, Some(at)) => {
                    moments.extend(self.rules(&job.job_type).keep_reviewed_ms.map(|keep| at + keep));
                }
                _ => {}
            }
        }
        moments
    }
}
