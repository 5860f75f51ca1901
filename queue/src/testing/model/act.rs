//! The operator's hand: `cancel`, `dead_replay`, `dead_delete`.

use std::collections::BTreeSet;

use super::state::{Job, Model, Owner, Place};
use super::waiting::clip;
use crate::types::{Acted, Attempt, JobState};

/// Bytes kept of the name of who asked.
const BY_MOST: usize = 128;

fn acted(id: &str, outcome: &str, state: Option<JobState>) -> Acted {
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
fn once(ids: &[String]) -> Vec<&String> {
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

    pub(super) fn replay(&mut self, ids: &[String], by: &str, now_ms: u64) -> Vec<Acted> {
        once(ids).into_iter().map(|id| self.replay_one(id, by, now_ms)).collect()
    }

    fn replay_one(&mut self, id: &str, by: &str, now_ms: u64) -> Acted {
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        if job.place != Place::Dead {
            return acted(id, "wrong-state", Some(self.state_of(id, job, now_ms)));
        }
        if job.key.as_ref().is_some_and(|key| self.taken(id, key, now_ms)) {
            return acted(id, "key-conflict", Some(JobState::Dead));
        }
        let mut job = job.clone();
        job.remember(by_hand("replay", &job, by, self.version(), now_ms));
        (job.tries, job.crashes, job.finished_ms, job.reason) = (0, 0, None, None);
        job.replayed_ms = now_ms;
        job.wait(now_ms, now_ms);
        if let Some(key) = &job.key {
            self.keys.insert(key.clone(), Owner { id: id.to_owned(), until_ms: None });
        }
        self.jobs.insert(id.to_owned(), job);
        acted(id, "replayed", Some(JobState::Ready))
    }

    /// Whether another job that counts holds the key.
    fn taken(&self, id: &str, key: &str, now_ms: u64) -> bool {
        let Some(owner) = self.keys.get(key).filter(|owner| owner.id != id) else { return false };
        match owner.until_ms {
            Some(until_ms) => until_ms > now_ms,
            None => self.jobs.get(&owner.id).is_some_and(|other| other.place != Place::Cancelled),
        }
    }

    pub(super) fn delete(&mut self, ids: &[String], now_ms: u64) -> Vec<Acted> {
        once(ids).into_iter().map(|id| self.delete_one(id, now_ms)).collect()
    }

    fn delete_one(&mut self, id: &str, now_ms: u64) -> Acted {
        let Some(job) = self.jobs.get(id) else { return acted(id, "not-found", None) };
        if job.place != Place::Dead {
            return acted(id, "wrong-state", Some(self.state_of(id, job, now_ms)));
        }
        let key = job.key.clone();
        self.free_key(id, key.as_deref());
        self.jobs.remove(id);
        acted(id, "deleted", None)
    }
}
