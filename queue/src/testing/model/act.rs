//! The operator's hand: `cancel`; dead letters see `dead.rs`.

use std::collections::BTreeSet;

use super::state::{Model, Place};
use crate::types::{Acted, JobState};

pub(super) fn acted(id: &str, outcome: &str, state: Option<JobState>) -> Acted {
    Acted { id: id.to_owned(), outcome: outcome.to_owned(), state }
}

/// The ids, each once.
pub(super) fn once(ids: &[String]) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    ids.iter().filter(|id| seen.insert(*id)).collect()
}

impl Model {
    pub(super) fn cancel(&mut self, ids: &[String], now_ms: u64) -> Vec<Acted> {
        let mut kept = Vec::new();
        let all = once(ids).into_iter().map(|id| self.cancel_one(id, now_ms, &mut kept)).collect();
        self.trim_after(&kept);
        all
    }

    /// Adds the type of a job that this call finished and whose record stays to `kept`.
    fn cancel_one(&mut self, id: &str, now_ms: u64, kept: &mut Vec<String>) -> Acted {
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        if !job.place.is_live() {
            return acted(id, "wrong-state", Some(self.state_of(id, job, now_ms)));
        }
        if let Some(lease) = self.leases.get_mut(id) {
            lease.cancel = true;
            return acted(id, "cancelling", Some(JobState::Running));
        }
        let job = job.clone();
        self.finish(id, job, Place::Cancelled, now_ms, kept);
        acted(id, "cancelled", Some(JobState::Cancelled))
    }
}
