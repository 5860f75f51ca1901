//! The operator's hand: `cancel`; dead letters see `dead.rs`.

use std::collections::BTreeSet;

use super::dead::BY_MOST;
use super::state::{Job, Model, Place};
use super::waiting::clip;
use crate::types::{Acted, Attempt, JobState};

pub(super) fn acted(id: &str, outcome: &str, state: Option<JobState>) -> Acted {
    Acted { id: id.to_owned(), outcome: outcome.to_owned(), state }
}

/// What the history says of a person's act.
fn by_hand(outcome: &str, job: &Job, by: &str, policy_version: u64, now_ms: u64) -> Attempt {
    Attempt {
        number: job.attempts,
        started_ms: now_ms,
        ended_ms: now_ms,
        worker: clip(by, BY_MOST),
        node: String::new(),
        token: 0,
        policy_version,
        outcome: outcome.to_owned(),
        error: None,
    }
}

/// The ids, each once.
pub(super) fn once(ids: &[String]) -> Vec<&String> {
    let mut seen = BTreeSet::new();
    ids.iter().filter(|id| seen.insert(*id)).collect()
}

impl Model {
    pub(super) fn cancel(&mut self, ids: &[String], by: &str, now_ms: u64) -> Vec<Acted> {
        let mut kept = Vec::new();
        let all = once(ids).into_iter().map(|id| self.cancel_one(id, by, now_ms, &mut kept)).collect();
        self.trim_after(&kept);
        all
    }

    /// Adds the type of a job that this call finished and whose record stays to `kept`.
    fn cancel_one(&mut self, id: &str, by: &str, now_ms: u64, kept: &mut Vec<String>) -> Acted {
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        if !job.place.is_live() {
            return acted(id, "wrong-state", Some(self.state_of(id, job, now_ms)));
        }
        if let Some(lease) = self.leases.get_mut(id) {
            // Who asks again changes nothing.
            lease.cancel.get_or_insert_with(|| clip(by, BY_MOST));
            return acted(id, "cancelling", Some(JobState::Running));
        }
        let mut job = job.clone();
        job.remember(by_hand("cancel", &job, by, self.version(), now_ms));
        self.finish(id, job, Place::Cancelled, now_ms, kept);
        acted(id, "cancelled", Some(JobState::Cancelled))
    }
}
